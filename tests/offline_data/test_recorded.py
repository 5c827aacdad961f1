"""Runs on data whose recorder left Ant's contact forces at 0 are evaluated without contact forces."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console

from rlbench.agents.bc import BCConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.d4rl.names import D4RLName
from rlbench.envs.d4rl.vector_locomotion import Walkers
from rlbench.envs.episodes import make_envs
from rlbench.envs.tasks import Task, find_task
from rlbench.offline_data import Provenance, as_recorded, check_data, open_data
from rlbench.offline_data.formats import d4rl, hdf5
from tests.data_files import Array, write

MISSING = Provenance("d4rl", "ant-medium-v2", "", "", {"contact_forces": "missing"})
ANT = find_task("ant-medium")


def ant_file(path: Path, contacts: float) -> Path:
    """Two episodes of random numbers whose contact forces are 0, except for one number."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((40, 111)).astype(np.float32)
    obs[:, 27:] = 0
    obs[30, 110] = contacts
    ends = np.isin(np.arange(40), (15, 39))
    return write(
        path,
        {
            "observations": obs,
            "actions": rng.uniform(-1, 1, (40, 8)).astype(np.float32),
            "rewards": np.ones(40, np.float32),
            "terminals": ends,
            "timeouts": np.zeros(40, bool),
        },
    )


def walked(env: gym.Env[Any, Any]) -> list[tuple[Array, float, float]]:
    """Observations and rewards of steps that touch the ground, and the rewards by hand."""
    env.reset(seed=0)
    world: Any = env.unwrapped
    action, steps = np.full(8, 0.5, np.float32), []
    for _ in range(30):
        before = world.get_body_com("torso")[0].copy()
        obs, reward, terminated, *_ = env.step(action)
        assert not terminated
        forward = (world.get_body_com("torso")[0] - before) / world.dt
        # 1 for being healthy and half of eight times 0.25 for the action
        steps.append((obs, float(reward), float(forward + 1 - 1)))
    return steps


def feels(task: Task) -> bool:
    """Whether its environment computes contact forces."""
    return any(obs[27:].any() for obs, *_ in walked(task.make()))


def test_contact_forces_that_the_data_lack_are_zero_and_cost_nothing() -> None:
    felt = False
    for (obs, reward, wanted), (usual, charged, _) in zip(
        walked(as_recorded(ANT, MISSING).make()), walked(ANT.make()), strict=True
    ):
        assert np.array_equal(obs[:27], usual[:27])
        assert len(obs) == 111
        assert not obs[27:].any()
        assert reward == pytest.approx(wanted, abs=1e-12)
        cost = 5e-4 * np.square(usual[27:]).sum()
        assert charged == pytest.approx(wanted - cost, abs=1e-12)
        felt |= bool(cost > 0)
    assert felt


def test_such_environments_still_step_as_a_batch() -> None:
    assert isinstance(make_envs(as_recorded(ANT, MISSING).make, 2), Walkers)


def test_other_data_leave_the_task_as_it_is() -> None:
    assert as_recorded(ANT, Provenance("generated", "ant-medium", "")) is ANT


@pytest.mark.parametrize(("contacts", "missing"), [(0.0, True), (1e-3, False)])
def test_one_contact_force_other_than_0_shows_that_they_were_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contacts: float, missing: bool
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", 16)
    file = ant_file(tmp_path / "mine.hdf5", contacts)
    provenance = open_data(ANT, str(file)).provenance
    assert ("contact_forces" in provenance.details) == missing
    assert feels(as_recorded(ANT, provenance)) != missing
    said = [x.text for x in check_data(str(file), ANT)]
    assert any("contact forces are 0" in text for text in said) == missing


def test_a_run_on_d4rls_own_file_is_played_resumed_and_loaded_without_contact_forces(
    tmp_path: Path,
) -> None:
    target = d4rl.target(D4RLName("ant", "medium"))
    target.parent.mkdir(parents=True)
    ant_file(target, 0.0)
    config = RunConfig(env="ant-medium", updates=1, eval_episodes=1, out=tmp_path / "run")
    run = Run("bc", BCConfig(hidden=(8,), batch_size=4), config, Console(quiet=True))
    run.start()
    assert not feels(run.task)
    assert not feels(Run.resume(tmp_path / "run", Console(quiet=True)).task)
    assert not feels(load_run(tmp_path / "run")[1])
    assert feels(find_task("ant-medium"))
