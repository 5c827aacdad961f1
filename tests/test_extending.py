"""The worked examples in docs/extending: their diffs apply, change at most two lines elsewhere, and run."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from rlbench import checkpoint, experience
from rlbench.cli import main
from rlbench.custom import needed
from rlbench.interface import Agent

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page for page in (ROOT / "docs" / "extending").glob("*.md") if "```diff" in page.read_text()
)


def block(page: Path, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    assert found is not None, f"{page} has no {language} block"
    return found[1]


def test_there_are_four_worked_examples() -> None:
    assert [page.stem for page in PAGES] == ["agent", "encoder", "examples", "paper"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_worked_example_changes_at_most_two_existing_places(page: Path) -> None:
    files = re.split(r"^--- ", block(page, "diff"), flags=re.MULTILINE)[1:]
    changed = [text for text in files if not text.startswith("/dev/null")]
    assert len(files) - len(changed) == 1, "one new file"
    assert sum(len(re.findall(r"^@@", text, re.MULTILINE)) for text in changed) <= 2
    assert not any(re.search(r"^-", text, re.MULTILINE) for text in changed)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_worked_example_applies_and_runs(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("agents", "backbones", "benchmarks", "envs", "offline_data"):
        shutil.copytree(ROOT / folder, copy / "rlbench" / folder)
    for file in (ROOT / "rlbench").iterdir():
        if file.suffix == ".py":
            shutil.copy(file, copy / "rlbench")
    shutil.copytree(ROOT / "rlbench" / "accelerate", copy / "rlbench" / "accelerate")
    diff = block(page, "diff")
    for folder in ("agents", "backbones", "benchmarks", "envs"):
        diff = re.sub(
            rf"^(--- a|\+\+\+ b)/{folder}/", rf"\1/rlbench/{folder}/", diff, flags=re.MULTILINE
        )
    subprocess.run(["git", "apply"], input=diff, text=True, cwd=copy, check=True)
    words = shlex.split(block(page, "bash"))[1:]
    done = subprocess.run(
        [sys.executable, "-m", "rlbench", *words],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "kept in" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_environment_with_an_image_a_text_and_numbers_trains(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending" / "environment.md").read_text()
    text = re.search(r"```python\n# sides\.py\n(.*?)```", page, re.DOTALL)
    commands = re.search(r"<!-- parts -->\n```bash\n(.*?)```", page, re.DOTALL)
    assert text is not None
    assert commands is not None
    (tmp_path / "sides.py").write_text(text[1])
    lines = commands[1].replace("\\\n", "").splitlines()
    assert len(lines) == 2
    for line in lines:
        words = re.sub(r"--updates \d+", "--updates 1", line).split()
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def python_block(page: str, name: str) -> str:
    found = re.search(rf"```python\n# {name}\.py\n(.*?)```", page, re.DOTALL)
    assert found is not None, f"there is no {name}.py"
    return found[1]


@pytest.mark.parametrize(
    ("kind", "name", "figure"),
    [("offline", "my_cloning", "score"), ("online", "my_reinforce", "return")],
)
def test_the_templates_of_agents_train_as_printed(
    kind: str, name: str, figure: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "path", [*sys.path])
    page = (ROOT / "docs" / "extending" / "agent.md").read_text()
    text = python_block(page, name)
    Path(f"{name}.py").write_text(text)
    command = re.search(rf"<!-- {kind} -->\n```bash\nrlbench (.+)\n```", page)
    assert command is not None
    short = re.sub(r"--updates \d+", "--updates 4 --log-every 1", command[1]).split()
    assert main([*short, "--eval-episodes", "2", "--out", "run"]) == 0
    assert f"done: {figure} " in capsys.readouterr().out
    assert main([*short, "--eval-episodes", "2", "--out", "again"]) == 0
    one, other = (Path(run, "metrics.jsonl").read_bytes() for run in ("run", "again"))
    assert one == other, "it draws from its own generators alone"


def test_the_settings_that_drivers_read_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "extending" / "agent.md").read_text()
    for consumes, explores, words in re.findall(
        r"^\| `(T\w+)` \| (yes|no) \| (.+) \|$", page, re.MULTILINE
    ):
        kind: Any = type(
            "Kind",
            (Agent,),
            {"consumes": getattr(experience, consumes), "explores": explores == "yes"},
        )
        assert set(needed(kind)) == {*re.findall(r"`(\w+)`", words)} - {"steps_per_update"}


def test_the_task_of_an_entry_point_runs_as_printed(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "extending" / "environment.md").read_text()
    Path("my_tasks.py").write_text(python_block(page, "my_tasks"))
    points = re.search(r'entry-points\."(rlbench\.tasks)"\]\n(\S+) = "(\S+)"', page)
    assert points is not None
    group, name, place = points.groups()
    information = Path("my_tasks-1.dist-info")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {place}\n")
    monkeypatch.syspath_prepend(str(in_folder))
    small = ["--rollout-steps", "8", "--batch-size", "4", "--updates", "1", "--eval-episodes", "2"]
    assert main(["run", "ppo", "--env", name, *small]) == 0
    assert re.search("done: score .*, solved 0 %", capsys.readouterr().out)


def test_the_model_of_the_page_of_models_runs(tmp_path: Path) -> None:
    page = ROOT / "docs" / "models.md"
    (tmp_path / "my_model.py").write_text(block(page, "python"))
    command = re.search(r"<!-- own command -->\n```bash\nrlbench (.+)\n```", page.read_text())
    assert command is not None
    done = subprocess.run(
        [sys.executable, "-m", "rlbench", *command[1].split()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done: accuracy 0.9" in done.stdout


@pytest.mark.parametrize(
    ("name", "told", "written"),
    [
        ("patience", "a callback ended the run after update", None),
        ("best", "done: score", "worst_return"),
        ("halving", "done: score", "learning_rate"),
        ("message", "done: score", None),
        ("printed", r"100 updates: -?\d+\.\d\d\n", None),
    ],
)
def test_the_callbacks_and_loggers_of_their_pages_run_as_printed(
    name: str, told: str, written: str | None, in_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "path", [*sys.path])
    page = ROOT / "docs" / ("loggers.md" if name == "printed" else "extending/callbacks.md")
    Path(f"{name}.py").write_text(python_block(page.read_text(), name))
    command = re.search(rf"^rlbench (run .* {name}:\w+.*)$", _after(page, name), re.MULTILINE)
    assert command is not None
    posted: list[bytes] = []
    with _server(posted) as address:
        monkeypatch.setenv("MESSAGE_URL", address)
        words = command[1].split()
        assert main(words if "--out" in words else [*words, "--out", "runs/own"]) == 0
    assert re.search(told, capsys.readouterr().out)
    (run,) = Path("runs").iterdir()
    if written is not None:
        found = [json.loads(line)[written] for line in (run / "callbacks.jsonl").open()]
        assert len(found) == 4
    if name == "halving":
        assert found == pytest.approx([3e-4, 1.5e-4, 1.5e-4, 7.5e-5])
    if name == "best":
        Path("load_best.py").write_text(python_block(page.read_text(), "load_best"))
        space = runpy.run_path("load_best.py")
        state = checkpoint.load(Path("runs/best/best"))["learner"]["policy"]
        own = space["agent"].agent.policy.state_dict()
        assert all(torch.equal(own[key], value) for key, value in state.items())
    if name == "message":
        assert re.fullmatch(rb'{"text": "own: return -?\d+\.\d"}', b"".join(posted))
    else:
        assert posted == []


def test_callbacks_are_given_in_python_as_printed(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/extending/callbacks.md").read_text()
    for name in ("patience", "in_python"):
        Path(f"{name}.py").write_text(python_block(page, name))
    monkeypatch.setattr(sys, "path", [str(in_folder), *sys.path])
    assert runpy.run_path("in_python.py")["run"].folder.stopped() is not None


def _after(page: Path, name: str) -> str:
    """The page after a Python block."""
    return page.read_text().partition(f"# {name}.py\n")[2]


@contextmanager
def _server(posted: list[bytes]) -> Iterator[str]:
    """The address of a web server on this machine, which keeps what is posted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *given: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
