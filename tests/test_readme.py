"""The README is right: its code runs as printed, and its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_acting import RECURRENT, trained
from tests.benchmarks.test_steps import PPO

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def command(name: str) -> str:
    """The command below the comment `<!-- name command -->`."""
    match = re.search(rf"<!-- {name} command -->\n```bash\n(.+)\n```", README)
    assert match, f"README.md has no {name} command"
    return match[1]


def run(words: str, folder: Path) -> str:
    """Runs `rlbench ...`, `pip ...` or `python ...` in a folder, and returns what it prints."""
    first, *others = shlex.split(words, comments=True)
    assert first in ("rlbench", "pip", "python"), words
    module = [] if first == "python" else ["-m", first]
    done = subprocess.run(
        [sys.executable, *module, *others],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stderr}"
    return done.stdout


BLOCKS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL))


def run_block(name: str, text: str, folder: Path) -> None:
    """Writes a Python file into a folder and runs it there."""
    (folder / name).write_text(text)
    run(f"python {name}", folder)


def test_the_readme_has_these_python_files() -> None:
    assert list(BLOCKS) == ["loop.py", "my_world.py", "record.py", "train.py"]


def test_the_first_loop_runs(tmp_path: Path) -> None:
    short = BLOCKS["loop.py"].replace("range(1_000)", "range(5)")  # As in the README, but shorter.
    assert short != BLOCKS["loop.py"]
    run_block("loop.py", short, tmp_path)


def test_a_custom_environment_and_a_custom_data_set_train_as_in_the_readme(tmp_path: Path) -> None:
    for name in ("my_world.py", "record.py", "train.py"):
        run_block(name, BLOCKS[name], tmp_path)
    assert (tmp_path / "my.hdf5").exists()
    assert "done: return" in run(command("own"), tmp_path)


def test_the_first_command_runs(tmp_path: Path) -> None:
    install, _, train = command("run").partition(" && ")
    assert install == "pip install ."
    # As in the README, but shorter.
    short = re.sub(r"--updates \d+ --data-size \d+", "--updates 20 --data-size 2000", train)
    assert short != train
    assert "done: score" in run(f"{short} --eval-episodes 1", tmp_path)


@pytest.mark.parametrize(
    ("page", "name", "settings"),
    [("README.md", "ppo", PPO), ("docs/tables.md", "recurrent-ppo", RECURRENT)],
)
def test_trained_agents_act_as_in_the_docs(
    page: str, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    trained(tmp_path / f"runs/{name}-CartPole-v1-s0", name, "CartPole-v1", settings)
    text = (ROOT / page).read_text()
    (block,) = (x for x in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ".load(" in x)
    run_block("use.py", f"import numpy as np\nobs = np.zeros(4)\n{block}", tmp_path)


def test_ci_runs_exactly_the_test_command() -> None:
    assert command("test") == "pip install -e '.[dev]' && make check"
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.slow
def test_recurrent_agents_learn_from_a_file_as_on_the_page_of_memories(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "papers" / "policy-memories.md").read_text()
    blocks = dict(re.findall(r"```(?:python|toml)\n# (\w+\.\w+)\n(.*?)```", page, re.DOTALL))
    run_block("record.py", blocks["record.py"].replace("20_000", "500"), tmp_path)
    short = blocks["offline.toml"].replace("1_500", "2").replace("seeds = 3", "seeds = 1")
    (tmp_path / "offline.toml").write_text(short)
    assert "recurrent CRR, transformer" in run("rlbench sweep offline.toml", tmp_path)
