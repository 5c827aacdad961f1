"""Facts of environments of one's own, and the steps of agents that probes read."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlbench.backbones.analyses._base import Moments
from rlbench.backbones.layers.probes import decoded
from rlbench.benchmarks.training import playing
from rlbench.benchmarks.training.playing import moments
from rlbench.envs.facts import facts_of
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.agents.case import make


class World(gym.Env[Any, Any]):
    """Ends after some steps, and takes nothing but actions of the right type."""

    action_space: Any = gym.spaces.Discrete(3, start=5)

    def __init__(self, space: Any = None, length: int = 6, facts: Any = None) -> None:
        self.observation_space = space or gym.spaces.Box(-1, 1, (3,))
        self.length, self.known = length, facts

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert isinstance(action, np.int64)
        assert self.action_space.contains(action)
        self.time += 1
        return self.observation_space.sample(), 0.0, self.time == self.length, False, {}

    def facts(self) -> Any:
        return {"time": self.time} if self.known is None else self.known(self.time)


def steps_of(make_world: Callable[[], World], agent: str = "ppo", count: int = 30) -> Moments:
    task = Task("a-world", make_world)
    given = make(agent, Spec.of(make_world()))
    return moments(given, task, 0, count)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (lambda time: [time], "returned a list; let it return a dict"),
        (lambda time: None, "returned a NoneType; let it return a dict"),
        (lambda time: {3: time}, "returned 0 for 3"),
        (lambda time: {"x": "red"}, "returned 'red' for 'x'; let it return a text for each name, and"),
        (lambda time: {"x": float("nan")}, "returned nan for 'x'"),
        (lambda time: {"x": np.inf}, "returned inf for 'x'"),
        (lambda time: {"x": np.ones(2)}, r"returned array\(\[1., 1.\]\) for 'x'"),
        (lambda time: {"x": None}, "returned None for 'x'"),
        (lambda time: {"x": 10**30}, "for 'x'; let it return .* a whole number from 0 to 9,999"),
        (lambda time: {"x": 10_000}, "returned 10000 for 'x'"),
        (lambda time: {"x": 1 // time}, "World raised ZeroDivisionError in facts.*comes from your environment"),
    ],
)  # fmt: skip
def test_facts_that_are_no_numbers_are_refused(facts: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        steps_of(lambda: World(facts=facts))


def test_facts_are_classes_or_quantities() -> None:
    def facts(time: int) -> Any:
        return {
            "flag": time % 2 == 0, "bool": np.bool_(time % 2), "whole": np.int8(time), "place": time - 2, "size": np.float32(time),
            "mixed": time if time % 2 else time + 0.5, "array": np.array(time),
        }  # fmt: skip

    found = steps_of(lambda: World(facts=facts)).facts
    assert [name for name, x in found.items() if x.dtype == torch.int64] == ["flag", "bool", "whole", "array"]  # fmt: skip
    assert found["place"][:3].tolist() == [-2, -1, 0]
    assert found["mixed"][:2].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Box(-1, 1, (3,), np.float64), gym.spaces.Box(0, 255, (3,), np.uint8)],
    ids=["doubles", "bytes"],
)
def test_an_agent_sees_numbers_of_the_type_that_it_learned_from(space: Any) -> None:
    assert steps_of(lambda: World(space)).obs.dtype == torch.float32


def test_a_memory_has_no_steps_in_episodes_of_one_step() -> None:
    with pytest.raises(UserError, match="the episodes of a-world have one step, before which"):
        steps_of(lambda: World(length=1), "recurrent-ppo")
    assert len(steps_of(lambda: World(length=1)).obs) == 30


def test_episodes_without_an_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="30 steps of a-world are too few"):
        steps_of(lambda: World(length=10**9))
    monkeypatch.setattr(playing, "longest_episode", lambda limit: 7)
    assert steps_of(lambda: World(length=10**9)).train == 21


def test_an_environment_that_fails_is_named() -> None:
    class Fails(World):
        def step(self, action: Any) -> Any:
            raise KeyError("door")

    with pytest.raises(UserError, match="a-world raised KeyError in step: 'door'; this comes from"):
        steps_of(Fails)


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_scores_of_numbers_do_not_depend_on_their_unit(unit: float) -> None:
    z = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    score = decoded(z, unit * z[:, 0], 40, 0.0)
    assert float(score.mean()) == pytest.approx(1.0, abs=1e-4)


def test_facts_of_an_environment_in_wrappers() -> None:
    env = gym.wrappers.TimeLimit(World(), 3)
    env.reset(seed=0)
    assert facts_of(env) == {"time": 0}
