"""Seeds that learn together: folders, exact resume, what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rlbench.agents import load_agent
from rlbench.benchmarks.commands import run as commands
from rlbench.benchmarks.training import seed_batch
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.interrupt import Interrupt
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.seed_batch import SeedBatchRun
from rlbench.errors import Interrupted, UserError
from tests.kill_and_resume import assert_equal
from tests.run_files import edit

QUIET = Console(quiet=True)


def config(out: Path, **options: Any) -> RunConfig:
    usual: dict[str, Any] = {
        "env": "point-random", "data_size": 500, "updates": 12, "eval_every": 6, "log_every": 3,
        "eval_episodes": 2, "checkpoint_every": 4, "seed": 5, "seeds": 2, "compile": "off",
    }  # fmt: skip
    return RunConfig(**usual | options, out=out)


def settings(agent: str) -> Any:
    return load_agent(agent).Config(hidden=(8,), batch_size=16)


def begun(out: Path, agent: str = "bc", **options: Any) -> SeedBatchRun:
    return SeedBatchRun.begin(agent, settings(agent), config(out, **options), QUIET)


def test_each_seed_has_the_folder_and_nearly_the_figures_of_a_run_alone(tmp_path: Path) -> None:
    begun(tmp_path / "both", "td3-bc").start()
    for seed in (5, 6):
        alone = config(tmp_path / f"alone-{seed}", seeds=1, seed=seed)
        Run("td3-bc", settings("td3-bc"), alone, QUIET).start()
        mine, other = (RunFolder(tmp_path / name) for name in (f"both/s{seed}", f"alone-{seed}"))
        assert mine.config()["run"]["seed"] == seed
        assert mine.evaluations()["update"].tolist() == [6, 12]
        assert np.array_equal(mine.evaluations()["seed"], other.evaluations()["seed"])
        np.testing.assert_allclose(
            mine.evaluations()["return"], other.evaluations()["return"], rtol=1e-3
        )
        assert mine.checkpoints() == [12]
    agent, _ = load_run(tmp_path / "both" / "s6")
    assert agent.state_dict()["updates"] == 12


def test_a_resume_goes_on_from_the_last_checkpoint_of_all_bit_for_bit(tmp_path: Path) -> None:
    begun(tmp_path / "whole").start()
    both = begun(tmp_path / "cut", updates=8)
    both.start()
    # As if killed between the checkpoints of the two seeds, with 12 updates before them.
    for seed in (5, 6):
        edit(tmp_path / f"cut/s{seed}", lambda config: config["run"].update(updates=12))
    shutil.rmtree(tmp_path / "cut/s6/checkpoint")
    assert SeedBatchRun.resume(tmp_path / "cut", QUIET).finish() == 12
    for seed in (5, 6):
        assert_equal(tmp_path / f"whole/s{seed}", tmp_path / f"cut/s{seed}")


def test_seeds_that_were_killed_while_their_folders_were_made_resume(tmp_path: Path) -> None:
    begun(tmp_path / "whole").start()
    begun(tmp_path / "cut").start()
    # As if killed after the first folder was begun: no seed has a checkpoint.
    shutil.rmtree(tmp_path / "cut/s6")
    for file in (tmp_path / "cut/s5").iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name != "config.json":
            file.unlink()
    with pytest.raises(
        UserError, match=r"already contains runs; continue them with .* --resume .*cut`"
    ):
        begun(tmp_path / "cut").start()
    commands.resume(tmp_path / "cut")
    for seed in (5, 6):
        assert_equal(tmp_path / f"whole/s{seed}", tmp_path / f"cut/s{seed}")
        config = (tmp_path / f"cut/s{seed}/config.json").read_bytes()
        assert config == (tmp_path / f"whole/s{seed}/config.json").read_bytes()


def test_all_seeds_are_saved_when_a_person_stops_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "whole").start()

    class Once(Interrupt):
        asked = 0

        @property
        def requested(self) -> bool:
            Once.asked += 1
            return Once.asked == 7

        @requested.setter
        def requested(self, value: bool) -> None: ...

    monkeypatch.setattr(seed_batch, "Interrupt", Once)
    with pytest.raises(Interrupted, match=r"stopped and saved at update 7; .* --resume .*both`"):
        begun(tmp_path / "both").start()
    assert [RunFolder(tmp_path / f"both/s{s}").checkpoints() for s in (5, 6)] == [[4, 7], [4, 7]]
    commands.resume(tmp_path / "both")
    for seed in (5, 6):
        assert_equal(tmp_path / f"whole/s{seed}", tmp_path / f"both/s{seed}")


def test_other_runs_in_a_folder_are_no_seeds(tmp_path: Path) -> None:
    for name in ("sac-a-s0", "s10", "s9", "s1-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert [path.name for path in seed_batch.members(tmp_path)] == ["s9", "s10"]


def test_what_cannot_learn_together_is_refused(tmp_path: Path) -> None:
    for agent, env in (("awr", "point-random"), ("sac", "Pendulum-v1")):
        asked = config(tmp_path / agent, env=env)
        with pytest.raises(
            UserError, match=r"cannot learn several seeds .*\(rlbench sweep --seeds\)"
        ):
            SeedBatchRun.begin(agent, settings(agent), asked, QUIET)
    with pytest.raises(UserError, match="seeds is 0"):
        commands.run("bc", settings("bc"), config(tmp_path, seeds=0))
    begun(tmp_path / "both").start()
    with pytest.raises(UserError, match="is one of 2 seeds that learn together"):
        commands.resume(tmp_path / "both" / "s5")
    shutil.rmtree(tmp_path / "both" / "s6")
    with pytest.raises(UserError, match="contains 1 of 2 seeds"):
        commands.resume(tmp_path / "both")
