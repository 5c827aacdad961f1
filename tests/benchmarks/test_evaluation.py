"""Evaluations: what a memory keeps, which seeds are played, and what stays as it was."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.benchmarks.training import evaluation
from rlbench.benchmarks.training.evaluation import MAX_ENVS, EpisodesEvaluator
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, Spec, State
from rlbench.seeding import derive


class Lasting(gym.Env[Any, Any]):
    """The seed decides how many steps an episode has, 2 to 6; the reward is the action."""

    observation_space: gym.Space[Any] = gym.spaces.Box(-1e9, 1e9, (2,))
    action_space: gym.Space[Any] = gym.spaces.Box(-1e9, 1e9, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        assert seed is not None
        self.left = length(seed)
        return np.array([self.left, seed % 1000], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.array([self.left, 0], np.float32), float(action[0]), self.left == 0, False, {}


def length(seed: int) -> int:
    return 2 + seed % 5


class Counts(Agent):
    """Its action is the number of steps that its memory knows of, and noise where it explores."""

    Config = dict
    consumes = Transitions

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        before = torch.zeros(len(obs), 1) if state is None else state["steps"]
        noise = torch.rand(before.shape, generator=self.act_generator) if explore else 0.0
        return Action(before + noise, state={"steps": before + 1})

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        return {}


def agent() -> Counts:
    return Counts({}, Spec.of(Lasting()))


@pytest.mark.parametrize("episodes", [1, 3, MAX_ENVS, 3 * MAX_ENVS + 1])
def test_a_memory_is_empty_where_an_episode_begins(episodes: int) -> None:
    """Also where it follows another one in the same environment, while others are in the middle."""
    seeds, returns = EpisodesEvaluator(Task("lasting", Lasting), episodes).returns(agent(), seed=3)
    # Actions 0, 1, 2, ... add up to n (n - 1) / 2 over n steps.
    assert returns.tolist() == [length(s) * (length(s) - 1) / 2 for s in seeds]
    assert len({length(s) for s in seeds}) > 2 or episodes < 5


def test_the_seeds_are_those_of_the_episodes_and_the_evaluation() -> None:
    evaluator = EpisodesEvaluator(Task("lasting", Lasting), 12)
    seeds, _ = evaluator.returns(agent(), seed=3)
    assert seeds == [derive(3, "episode", i) for i in range(12)]
    assert len(set(seeds)) == 12
    assert not set(seeds) & set(evaluator.returns(agent(), seed=4)[0])


def test_draws_depend_on_the_seed_alone_and_leave_the_agent_as_it_was() -> None:
    evaluator, player = EpisodesEvaluator(Task("lasting", Lasting), 4), agent()
    _, first = evaluator.returns(player, seed=3, explore=True)
    before = torch.rand(5, generator=player.act_generator)
    state = player.act_generator.get_state()
    _, again = evaluator.returns(player, seed=3, explore=True)
    assert first.tolist() == again.tolist()
    assert torch.equal(player.act_generator.get_state(), state)
    fresh = agent()
    assert torch.equal(torch.rand(5, generator=fresh.act_generator), before)
    _, quiet = evaluator.returns(player, seed=3)
    assert (quiet % 1 == 0).all(), "no exploration unless it is asked for"
    assert not (first % 1 == 0).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_return_that_is_not_finite_is_an_error(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = EpisodesEvaluator(Task("lasting", Lasting), 3)
    monkeypatch.setattr(evaluation, "play", lambda *_, **__: np.array([1.0, wrong, 2.0]))
    with pytest.raises(UserError, match=f"the return of lasting is {wrong}"):
        evaluator.returns(agent(), seed=0)


def test_an_agent_is_as_it_was_even_if_its_environment_fails() -> None:
    class Failing(Lasting):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            raise RuntimeError("broken")

    player = agent()
    before = player.act_generator.get_state()
    with pytest.raises(Exception, match="broken"):
        EpisodesEvaluator(Task("failing", Failing), 2).returns(player, seed=0, explore=True)
    assert torch.equal(player.act_generator.get_state(), before)
