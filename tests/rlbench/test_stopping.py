"""Every command stops at the first Ctrl-C or SIGTERM, with one sentence and exit code 130."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlbench import cli, stopping
from rlbench.cli import main
from rlbench.stopping import handling
from rlbench.workers import workers
from tests.benchmarks.test_executors import jobs

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda x: x.name)
def test_a_command_stops_at_either_signal_with_one_sentence(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(cli, "_list", lambda words: os.kill(os.getpid(), number))
    assert main(["list"]) == 130
    assert capsys.readouterr().err == ("rlbench: stopped; the same command can be run again\n")
    assert signal.getsignal(number) == before


def test_signals_in_quick_succession_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    with handling(lambda number, frame: seen.append(number)):
        for number in [*SIGNALS, *SIGNALS]:
            os.kill(os.getpid(), number)
        assert seen == [signal.SIGINT]
        monkeypatch.setattr(stopping, "ECHO", -1.0)
        os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGINT, signal.SIGTERM]


def test_other_threads_leave_signals_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def handle() -> None:
        with handling(print):
            found.extend(signal.getsignal(number) for number in SIGNALS)

    found: list[object] = []
    thread = threading.Thread(target=handle)
    thread.start()
    thread.join()
    assert found == before


def wait_in(folder: Path) -> None:
    """Says that it began, and lasts until it is interrupted."""
    try:
        (folder / f"{os.getpid()}.began").touch()
        time.sleep(300)
    finally:
        (folder / f"{os.getpid()}.cleaned").touch()


def wait_in_workers(folder: Path, calls: int) -> None:
    with workers(2) as submit:
        for future in [submit(wait_in, folder) for _ in range(calls)]:
            future.result()


def _stopped(
    script: str, begun: Callable[[], bool], number: int, tmp_path: Path, *, group: bool
) -> tuple[int, float, str]:
    """Exit code, seconds and error output of a script that is signalled once it has begun."""
    file = tmp_path / "parent.py"
    file.write_text(f"import sys\nfrom pathlib import Path\n{script}")
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, file], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=environment, start_new_session=True,
    ) as parent:  # fmt: skip
        while not begun():
            assert parent.poll() is None
            time.sleep(0.05)
        start = time.monotonic()
        (os.killpg if group else os.kill)(parent.pid, number)
        _, told = parent.communicate(timeout=60)
    return parent.returncode, time.monotonic() - start, told


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["the parent alone", "all processes"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda x: x.name)
def test_workers_clean_up_and_begin_nothing_more(
    number: signal.Signals, group: bool, tmp_path: Path
) -> None:
    script = (
        "from rlbench import cli\nfrom tests.rlbench.test_stopping import wait_in_workers\n"
        f"cli._list = lambda words: wait_in_workers(Path({str(tmp_path)!r}), 5)\n"
        "if __name__ == '__main__':\n    sys.exit(cli.main(['list']))\n"
    )

    def begun() -> bool:
        return len(list(tmp_path.glob("*.began"))) == 2

    code, seconds, told = _stopped(script, begun, number, tmp_path, group=group)
    assert (code, told) == (130, "rlbench: stopped; the same command can be run again\n")
    assert seconds < 20
    began = {file.stem for file in tmp_path.glob("*.began")}
    assert len(began) == 2
    assert {file.stem for file in tmp_path.glob("*.cleaned")} == began


def test_ctrl_c_while_the_command_line_is_loaded_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "rlbench", "list"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda x: x.name)
def test_a_signal_to_the_parent_alone_saves_every_run(
    number: signal.Signals, tmp_path: Path
) -> None:
    script = (
        "from rich.console import Console\n"
        "from rlbench import cli\nfrom rlbench.benchmarks.tables import executors\n"
        "from tests.benchmarks.test_executors import jobs\n"
        "def sweep(words):\n"
        f"    todo = jobs(Path({str(tmp_path)!r}), count=6, updates=200_000)\n"
        "    executors.run_missing(todo, executors.Execution(2), 'sweep', Console(quiet=True))\n"
        "cli._list = sweep\n"
        "if __name__ == '__main__':\n    sys.exit(cli.main(['list']))\n"
    )

    def begun() -> bool:
        return len({file.parent for file in tmp_path.glob("*/checkpoint/*.json")}) == 2

    code, _, told = _stopped(script, begun, number, tmp_path, group=False)
    assert code == 130
    assert told == (
        "rlbench: stopped; unfinished runs are saved, and the same command resumes them\n"
    )
    folders = [path.parent for path in tmp_path.glob("*/config.json")]
    assert len(folders) == 2, "no further run is begun"
    assert not any(job.complete() for job in jobs(tmp_path, count=6, updates=200_000))
    newest = [max(int(x.stem.split("-")[1]) for x in f.glob("checkpoint/*.json")) for f in folders]
    assert any(update % 200 for update in newest), "saved on the spot"
