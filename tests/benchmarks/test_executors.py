"""The same jobs on this machine, on a Ray cluster that loses a worker, and through SLURM's client."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlbench.benchmarks.tables import executors
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.jobs import Job, Outcome
from rlbench.benchmarks.training.config import RunConfig
from rlbench.errors import UserError


def jobs(folder: Path, count: int = 3, updates: int = 20) -> list[Job]:
    lengths: dict[str, Any] = {"updates": updates, "data_size": 300, "eval_every": 0}
    return [
        Job(
            "bc",
            {"hidden": (4,), "batch_size": 4},
            RunConfig(
                env="point-random", seed=seed, out=folder / str(seed), eval_episodes=2,
                checkpoint_every=200, **lengths,
            ),
        )
        for seed in range(count)
    ]  # fmt: skip


def run_all(todo: list[Job], count: int = 1, **where: Any) -> list[Outcome]:
    outcomes: list[Outcome] = []
    executors.run_all(todo, Execution(jobs=count, **where), outcomes.append)
    return outcomes


def test_one_process_does_all_jobs(tmp_path: Path) -> None:
    todo = jobs(tmp_path)
    assert {outcome.job.config.seed for outcome in run_all(todo)} == {0, 1, 2}
    assert all(job.complete() for job in todo)
    assert "update 20: score" in (tmp_path / "0" / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_saves_what_runs_and_begins_nothing_more(tmp_path: Path, count: int) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from rlbench.benchmarks.tables import executors\n"
        "from tests.benchmarks.test_executors import jobs\n"
        "if __name__ == '__main__':\n"
        f"    todo = jobs(Path({str(tmp_path)!r}), count=6, updates=200_000)\n"
        f"    executors.run_all(todo, executors.Execution({count}), print)\n"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, script], stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as parent:
        while len(list(tmp_path.glob("*/checkpoint/*.json"))) < count:
            assert parent.poll() is None
            time.sleep(0.05)
        os.killpg(parent.pid, signal.SIGINT)  # The terminal sends it to all.
        parent.communicate(timeout=30)
    begun = [path.parent for path in tmp_path.glob("*/config.json")]
    assert len(begun) == count
    assert not any(job.complete() for job in jobs(tmp_path, count=6, updates=200_000))
    newest = [max(folder.glob("checkpoint/*.json")).stem for folder in begun]
    assert any(int(name.rpartition("-")[2]) % 200 for name in newest)  # saved on the spot


def test_a_package_that_is_missing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(executors, "import_module", missing)
    for executor in ("ray", "slurm"):
        with pytest.raises(UserError, match=rf"pip install 'rlbench\[{executor}\]'"):
            run_all(jobs(tmp_path), executor=executor)


def test_slurm_without_slurm_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "which", lambda name: None)
    with pytest.raises(UserError, match="there is no SLURM here"):
        run_all(jobs(tmp_path), executor="slurm")


@pytest.mark.slow
def test_two_processes_do_all_jobs(tmp_path: Path) -> None:
    todo = jobs(tmp_path, count=4)
    run_all(todo, count=2)
    assert all(job.complete() for job in todo)


@pytest.mark.slow
def test_slurms_client_does_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no SLURM here: its client's local mode starts the same scripts itself.
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(executors, "which", lambda name: "/usr/bin/srun")
    monkeypatch.setattr(submitit, "AutoExecutor", partial(submitit.AutoExecutor, cluster="local"))
    todo = jobs(tmp_path, count=2)
    assert [outcome.error for outcome in run_all(todo, executor="slurm")] == ["", ""]
    assert all(job.complete() for job in todo)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds Ray's workers in /proc")
def test_a_ray_cluster_that_loses_a_worker_finishes_all_jobs(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    todo, killed = jobs(tmp_path, updates=4_000), list[int]()

    def kill_a_worker() -> None:
        while not killed:
            time.sleep(0.05)
            begun = any(tmp_path.glob("*/checkpoint/*.json"))
            found = subprocess.run(
                ["pgrep", "-f", "ray::execute"], capture_output=True, text=True, check=False
            )
            if begun and (pids := found.stdout.split()):
                os.kill(int(pids[0]), signal.SIGKILL)
                killed.append(int(pids[0]))

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    outcomes = run_all(todo, count=2, executor="ray")
    assert killed
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    assert all(job.complete() for job in todo)
