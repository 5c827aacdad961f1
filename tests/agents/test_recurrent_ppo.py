"""PPO with a memory: what it remembers, where it forgets, and a task that needs it."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.recurrent_ppo import Columns, RecurrentPPO, RecurrentPPOConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import Task, find_task
from rlbench.experience import Trajectories, columns_of
from rlbench.interface import Spec, State
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.agents.test_ppo_by_hand import Watched
from tests.networks import equal

CASE = Case(
    "recurrent-ppo",
    small={"hidden": (8,), "memory_size": 6, "batch_size": 12, "epochs": 2, **ROLLOUT},
    changes={**test_ppo.CASE.changes, "memory": ("gru", {})},
    spaces=(Box, Discrete),
)

SPEC = Spec(Box(-np.inf, np.inf, (2,)), Discrete(3))


def agent(**settings: Any) -> RecurrentPPO:
    small: dict[str, Any] = {"memory_size": 5, "hidden": (4,), "envs": 4, "rollout_steps": 6}
    return RecurrentPPO(RecurrentPPOConfig(**small | settings), SPEC)


def played(player: RecurrentPPO, seed: int = 0) -> Trajectories:
    given = experience(player, seed)
    assert isinstance(given, Trajectories)
    return given


def test_at_the_first_pass_the_ratio_is_one() -> None:
    """What acting remembered step by step, learning finds again in one go."""
    player = agent(batch_size=None, epochs=1, normalise_obs=True)
    for seed in range(3):
        metrics = player.learn(played(player, seed))
        assert abs(float(metrics["kl"])) < 1e-12


def test_an_update_begins_where_the_rollout_did() -> None:
    player = agent(batch_size=None, epochs=1, rollout_steps=3, envs=1)
    player.network.head.out.weight.data.mul_(100)  # A policy that heeds what it remembers.
    before = player.act(torch.ones(1, 2), explore=True).state
    assert before is not None
    assert abs(float(player.learn(rollout(player, before))["kl"])) < 1e-12


def test_values_by_hand() -> None:
    player = agent(discount=0.5, gae_lambda=0.0, rollout_steps=3, envs=1)
    step = player.act(torch.zeros(1, 2), explore=True)
    before = step.state
    assert before is not None
    given = rollout(player, before)
    network = player.network
    with torch.no_grad():
        (m0, s0) = network.remember(given.obs[0], before)
        after_end, _ = network.remember(given.obs[1], zeros(before))
        m2, s2 = network.remember(given.obs[2], network.remember(given.obs[1], zeros(before))[1])
        last, _ = network.remember(given.final_obs[2], s2)
        wanted = [
            given.reward[0],  # a true end
            given.reward[1] + 0.5 * network.value(m2),
            given.reward[2] + 0.5 * network.value(last),
        ]
        values = [network.value(m) for m in (m0, after_end, m2)]
    flat = player._batch(given)
    torch.testing.assert_close(flat.target, torch.stack(wanted))
    torch.testing.assert_close(flat.value, torch.stack(values))
    assert flat.reset[:, 0].tolist() == [0, 1, 0]
    assert not torch.equal(s0["hidden"], s2["hidden"])


def test_after_a_cut_the_memory_goes_on_to_the_last_observation() -> None:
    player = agent(discount=0.5, gae_lambda=0.0, rollout_steps=3, envs=1)
    before = player.act(torch.zeros(1, 2), explore=True).state
    assert before is not None
    given = rollout(player, before)
    given = dataclasses.replace(given, terminated=given.truncated, truncated=given.terminated)
    with torch.no_grad():
        _, after = player.network.remember(given.obs[0], before)
        value = player.network.value(player.network.remember(given.final_obs[0], after)[0])
        next_value = player.network.value(player.network.remember(given.obs[1], zeros(before))[0])
    batch = player._batch(given)
    torch.testing.assert_close(batch.target[0], given.reward[0] + 0.5 * value)
    torch.testing.assert_close(batch.value[1], next_value)


def test_environments_cut_at_different_steps_are_judged_like_each_alone() -> None:
    player = agent()
    given = played(player)
    assert given.truncated.any(0).sum() == 3
    whole = player._batch(given)
    for row in range(4):
        columns = {name: x[:, row : row + 1] for name, x in columns_of(given).items()}
        extras = {name: x[:, row : row + 1] for name, x in given.extras.items()}
        alone = player._batch(Trajectories(**columns, extras=extras, state=None))
        torch.testing.assert_close(alone.target, whole.target[:, row : row + 1])


def rollout(player: RecurrentPPO, state: State) -> Trajectories:
    """Three steps of one environment from a state; the first ends an episode."""
    obs, final_obs = torch.randn(2, 3, 1, 2)
    steps, start = [], state
    for t in range(3):
        steps.append(player.act(obs[t], explore=True, state=state))
        state = zeros(state) if t == 0 else steps[-1].state or {}
    extras = {k: torch.stack([step.extras[k] for step in steps]) for k in steps[0].extras}
    ends = torch.tensor([[1.0], [0.0], [0.0]])
    action = torch.stack([step.action for step in steps])
    zero = torch.zeros(3, 1)
    return Trajectories(obs, action, torch.randn(3, 1), ends, zero, final_obs, extras, start)


def zeros(state: State) -> State:
    return {name: torch.zeros_like(x) for name, x in state.items()}


def test_gradients_reach_back_in_time_but_not_into_another_episode() -> None:
    player = agent()
    obs = torch.randn(5, 1, 2, requires_grad=True)
    state = player.network.memory.initial_state(1, player.device)
    reset = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])[:, None]
    features, _ = player.network.unroll(obs, state, reset)
    (gradient,) = torch.autograd.grad(features[-1].sum(), obs)
    assert (gradient.abs().sum((1, 2)) > 0).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(None, [4]), (12, [2, 2]), (13, [2, 2]), (1, [1] * 4)]
)
def test_minibatches_are_whole_columns(batch_size: int | None, sizes: list[int]) -> None:
    player, step = agent(batch_size=batch_size, epochs=1), Watched()
    # As if the episodes had begun before the rollout.
    state = {name: torch.randn(4, 5) for name in ("hidden", "cell")}
    given = dataclasses.replace(played(player), state=state)
    batch = player._batch(given)
    player._learn(step, given)
    parts = step.batches
    assert [part.reset.shape for part in parts] == [(6, size) for size in sizes]
    assert all(isinstance(part, Columns) for part in parts)
    found = torch.cat([part.target for part in parts], dim=1)
    order = [int(x) for x in (found.T[:, None] == batch.target.T).all(-1).int().argmax(1)]
    assert sorted(order) == [0, 1, 2, 3]
    states = torch.cat([part.state["hidden"] for part in parts])
    assert torch.equal(states, batch.state["hidden"][order])


class Recall(gym.Env[Any, Any]):
    """A cue of +1 or -1, then two empty observations; the last action must be the cue's."""

    observation_space: gym.Space[Any] = Box(-1, 1, (2,))
    action_space: gym.Space[Any] = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 1], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t == 3
        reward = float(over and int(action) == self.cue)
        return np.zeros(2, np.float32), reward, over, False, {}


def learned(player: PPO | RecurrentPPO) -> float:
    """Share of cues that are recalled after 20 updates."""
    driver = RolloutDriver(player, Task("recall", Recall), seed=0)
    for _ in range(20):
        driver.update()
    last = driver._rollout()
    return float(last.reward.sum() / last.terminated.sum())


def test_a_cue_is_recalled_with_a_memory_alone() -> None:
    settings: dict[str, Any] = {"envs": 8, "rollout_steps": 24, "learning_rate": 2e-2, "epochs": 4}
    spec = Spec.of(Recall())
    with_memory = RecurrentPPO(RecurrentPPOConfig(memory_size=8, batch_size=48, **settings), spec)
    without = PPO(PPOConfig(hidden=(8,), batch_size=48, **settings), spec)
    assert learned(with_memory) > 0.9
    assert learned(without) < 0.7


def test_a_run_goes_on_with_what_it_remembered(tmp_path: Path) -> None:
    def driver(player: RecurrentPPO) -> RolloutDriver:
        return RolloutDriver(player, find_task("CartPole-v1"), seed=0)

    def player() -> RecurrentPPO:
        config = RecurrentPPOConfig(memory_size=5, envs=3, rollout_steps=7, batch_size=7, epochs=2)
        return RecurrentPPO(config, Spec.of(gym.make("CartPole-v1")))

    whole, first, rest = player(), player(), player()
    one, begun, resumed = driver(whole), driver(first), driver(rest)
    for _ in range(6):
        one.update()
    for _ in range(3):
        begun.update()
    state = begun.state_dict()
    assert state["state"]["hidden"].abs().sum() > 0
    rest.load_state_dict(first.state_dict())
    resumed.load_state_dict(state)
    for _ in range(3):
        resumed.update()
    assert equal(whole, rest)


def test_the_command_line_runs_it(tmp_path: Path) -> None:
    config = RunConfig(env="CartPole-v1", updates=2, eval_episodes=2, out=tmp_path / "run")
    settings = RecurrentPPOConfig(rollout_steps=16, envs=2)
    run = Run("recurrent-ppo", settings, config)
    run.start()
    assert len(run.folder.evaluations()["return"]) == 1
