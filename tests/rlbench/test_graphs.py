"""Captured meta-updates equal `learn`, bit for bit; a recording on the CPU stands in for the CUDA graph."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.accelerate import graphs
from rlbench.accelerate.compile import compiled_learn, why_not
from rlbench.accelerate.graphs import CapturedUpdate, places, settle
from rlbench.agents.lpg_meta import LPGMeta, LPGMetaConfig
from rlbench.benchmarks.training import choices
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.grids.lifetimes import WorldLifetimes
from rlbench.envs.grids.make import make_lifetimes
from rlbench.errors import UserError
from tests.networks import same, tensors
from tests.recording import recorded

SMALL: dict[str, Any] = {
    "lifetimes": 4, "workers": 3, "rollout_steps": 5, "agent_updates": 2, "hidden": 6, "prediction_size": 3,
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    ("grid-levels-small", {}),
    ("grid-levels-small", {"bandit": True, "decay_updates": 4}),
    ("grid-longer", {"prediction": "mse", "detach_predictions": True}),
    ("chain-distractor", {"agent_hidden": (5,), "policy_rate": 0.01, "bandit": True}),
]
"""A task and settings; lifetimes end during these updates."""
UPDATES = 6


class Pair:
    """A learner and its lifetimes."""

    def __init__(self, task: str, seed: int = 0, **settings: Any) -> None:
        self.lifetimes = make_lifetimes(task, 4, 3, seed=seed, staggered=True)
        self.lifetimes.length = 40
        self.learner = LPGMeta(LPGMetaConfig(**SMALL | settings), self.lifetimes.spec, seed=seed)

    def state(self) -> dict[str, Any]:
        state = {"learner": self.learner.state_dict(), "lifetimes": self.lifetimes.state_dict()}
        return copy.deepcopy(state)

    def load(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.lifetimes.load_state_dict(state["lifetimes"])

    def update(self, learn: Callable[[Any], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        self.lifetimes.renew()
        return learn(self.lifetimes)


def again(function: Callable[[], Any], *unused: Any) -> Callable[[], Any]:
    """Another stand-in, for worlds that look at tensors on a CPU alone: calls the function."""
    return function


def compare(task: str, settings: dict[str, Any]) -> None:
    plain, twin = Pair(task, **settings), Pair(task, **settings)
    learn = compiled_learn(twin.learner)
    for _ in range(UPDATES):
        wanted, got = plain.update(plain.learner.learn), twin.update(learn)
        assert list(got) == list(wanted)
        assert same(dict(got), dict(wanted))
        assert not any(x.requires_grad for x in got.values())
        assert same(tensors(plain.state()), tensors(twin.state()))


@pytest.mark.parametrize(("task", "settings"), CASES)
def test_captured_updates_equal_those_of_learn(
    task: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "captured", recorded)
    compare(task, settings)


def test_worlds_whose_objects_move_are_copied_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "captured", again)
    compare("grid-rand-small", {"agent_hidden": (5,), "policy_rate": 0.01})


def test_a_resumed_learner_equals_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "captured", recorded)
    whole, other = Pair("grid-levels-small"), Pair("grid-levels-small", seed=1)
    learn, resumed = compiled_learn(whole.learner), compiled_learn(other.learner)
    other.update(resumed)  # A state may also be loaded after the capture.
    for update in range(UPDATES):
        if update == UPDATES // 2:
            other.load(whole.state())
        whole.update(learn)
        if update >= UPDATES // 2:
            other.update(resumed)
    assert same(tensors(whole.state()), tensors(other.state()))


def test_each_lifetimes_are_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    captures = []

    def counted(*arguments: Any) -> Any:
        captures.append(arguments)
        return again(*arguments)

    monkeypatch.setattr(graphs, "captured", counted)
    first, second = Pair("grid-levels-small"), Pair("grid-levels-small", seed=1)
    learn = compiled_learn(first.learner)
    for lifetimes in (first, second, first, second):
        lifetimes.update(learn)
    assert len(captures) == 2


def test_wrong_actions_are_refused_after_a_captured_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "captured", recorded)
    pair, action = Pair("chain-short"), torch.zeros((4, 3), dtype=torch.int64)

    def update(lifetimes: WorldLifetimes) -> dict[str, Tensor]:
        rollouts = [lifetimes.rollout(lambda _: action.clone(), 2) for _ in range(2)]
        return {"reward": rollouts[0].reward.mean()}

    learn = CapturedUpdate(pair.learner, update)
    for _ in range(2):
        learn(pair.lifetimes)
    action[3, 2] = 7
    with pytest.raises(UserError, match="took the action 7, expected whole numbers from 0 to 1"):
        learn(pair.lifetimes)
    # Other rollouts are checked at once.
    with pytest.raises(UserError, match="took the action 7"):
        update(pair.lifetimes)


def test_a_tensor_with_another_shape_is_refused() -> None:
    lifetimes = Pair("chain-short").lifetimes
    held = [parts[key] for parts, key in places(lifetimes, Tensor)]
    lifetimes.age = torch.zeros(())
    with pytest.raises(ValueError, match="shape"):
        settle([lifetimes], held)


def test_tensors_that_change_places_keep_their_values() -> None:
    a, b = torch.tensor(1.0), torch.tensor(2.0)
    parts = {"a": b, "b": a, "other": 3}
    settle([parts], [a, b])
    assert parts["a"] is a
    assert (float(a), float(b)) == (2.0, 1.0)


def test_reasons_why_meta_training_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    evolving = Pair("chain-short", method="evolution").learner
    assert why_not(evolving) == "LPGMeta has no compiled form with these settings"
    learner = Pair("chain-short").learner
    assert why_not(learner) == "LPGMeta has no compiled form on the device cpu, only on a CUDA GPU"
    learner.device = torch.device("cuda")
    assert why_not(learner) is None


def run(folder: Path, **options: Any) -> Run:
    config = RunConfig(env="grid-levels-small", out=folder, **options)
    return Run("lpg-meta", LPGMetaConfig(**SMALL), config)


def test_the_driver_of_a_run_captures_its_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = []

    def counted(*arguments: Any) -> Any:
        captures.append(arguments)
        return recorded(*arguments)

    monkeypatch.setattr(graphs, "captured", counted)
    monkeypatch.setattr(choices, "why_not", lambda learner: None)
    states = []
    for option in ("on", "off"):
        made = run(tmp_path, updates=3, compile=option)
        driver = made.make_driver()
        for _ in range(3):
            driver.update()
        states.append({"learner": made.learner.state_dict(), "driver": driver.state_dict()})
    assert len(captures) == 1
    assert same(*map(tensors, states))
