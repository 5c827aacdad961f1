"""CRR with memories: it recalls what it saw, forgets at ends, and acts as it learned."""

from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents.recurrent_crr import RecurrentCRR, RecurrentCRRConfig
from rlbench.backbones.memories import forget
from rlbench.backbones.memories.lstm import LSTM
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_crr
from tests.agents.case import Case
from tests.probe_envs import UNIT, random_trajectories

CASE = Case(
    "recurrent-crr",
    small={"hidden": (16,), "memory_size": 8},
    changes={**test_crr.CASE.changes, "memory": ("gru", {})},
)


def agent(spec: Spec = UNIT, **settings: Any) -> RecurrentCRR:
    return RecurrentCRR(RecurrentCRRConfig(**{"hidden": (8,), "memory_size": 8, **settings}), spec)


def recall(envs: int, length: int, seed: int) -> Trajectories:
    """The first observation is a sign; at the last step the action that repeats it earns 1."""
    generator = torch.Generator().manual_seed(seed)
    sign = torch.randint(2, (envs,), generator=generator) * 2.0 - 1
    obs = torch.zeros(length, envs, 2)
    obs[0, :, 0] = sign
    obs[-1, :, 1] = 1.0
    action = torch.rand(length, envs, 1, generator=generator) * 2 - 1
    reward, terminated = torch.zeros(length, envs), torch.zeros(length, envs)
    reward[-1] = action[-1, :, 0] * sign
    terminated[-1] = 1.0
    final_obs = torch.cat([obs[1:], torch.zeros(1, envs, 2)])
    return Trajectories(obs, action, reward, terminated, torch.zeros(length, envs), final_obs)


def twice(one: Trajectories) -> Trajectories:
    """Two episodes one after the other, because the last step of a stretch is never learned from."""
    fields = ("obs", "action", "reward", "terminated", "truncated", "final_obs")
    obs, action, reward, terminated, truncated, final_obs = (
        torch.cat([getattr(one, name)] * 2) for name in fields
    )
    return Trajectories(obs, action, reward, terminated, truncated, final_obs)


def test_a_memory_recalls_the_first_observation() -> None:
    spec = Spec(Box(-1, 1, (2,)), Box(-1, 1, (1,)), discount=0.9)
    crr = agent(spec, hidden=(32,), memory_size=16, learning_rate=1e-2, beta=0.2, target_rate=0.1)
    for seed in range(150):
        crr.learn(twice(recall(32, 4, seed)))
    test = recall(64, 4, 999)
    state = None
    for obs in test.obs:
        chosen = crr.act(obs, state=state)
        state = chosen.state
    assert (chosen.action[:, 0] * test.obs[0, :, 0]).mean() > 0.6


def test_the_memory_forgets_at_ends_of_either_kind() -> None:
    crr, batch = agent(), random_trajectories(UNIT, steps=6, envs=2)
    state = crr._initial_state(2)
    for t in range(6):
        over = torch.maximum(batch.terminated, batch.truncated)
        fresh = torch.ones(2) if t == 0 else over[t - 1]
        state = forget(state, fresh)
        x = torch.cat([batch.obs[t], state["action"]], dim=-1)
        out, hidden = crr.policy_memory.step(
            x, {"hidden": state["policy hidden"], "cell": state["policy cell"]}
        )
        state |= {f"policy {name}": value for name, value in hidden.items()}
        state["action"] = batch.action[t]
    seen: list[Tensor] = []
    crr.policy.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    crr.learn(batch)
    torch.testing.assert_close(seen[-1][-2:], out)


def test_acting_step_by_step_is_what_a_stretch_is_learned_from() -> None:
    memory = LSTM(3, 5)
    x, reset = torch.randn(6, 2, 3), torch.zeros(6, 2)
    reset[3, 1] = 1.0
    whole, last = memory.unroll(x, memory.initial_state(2, torch.device("cpu")), reset)
    alone, _ = memory.unroll(x[3:, 1:], memory.initial_state(1, torch.device("cpu")), reset[3:, 1:])
    torch.testing.assert_close(whole[3:, 1:], alone)
    torch.testing.assert_close(last["hidden"], whole[-1])
    assert not torch.equal(whole[3:, :1], alone)


def test_steps_before_a_time_limit_have_no_target() -> None:
    crr, batch = agent(), random_trajectories(UNIT, steps=5, envs=3)
    counted: list[int] = []
    target = crr._target

    def counting(reward: Tensor, *rest: Tensor) -> Tensor:
        counted.append(len(reward))
        return target(reward, *rest)

    crr._target = counting  # type: ignore[method-assign, assignment]
    crr.learn(batch)
    assert counted == [int((batch.truncated[:-1] == 0).sum())]


def test_a_batch_of_time_limits_only_leaves_the_critics_as_they_are() -> None:
    crr, batch = agent(), random_trajectories(UNIT, steps=2, envs=1)
    batch = Trajectories(**{**vars(batch), "truncated": torch.ones(2, 1)})
    critic, policy = ([x.clone() for x in net.parameters()] for net in (crr.critic, crr.policy))
    metrics = crr.learn(batch)
    assert "critic_loss" not in metrics
    assert all(value.isfinite() for value in metrics.values())
    assert all(map(torch.equal, crr.critic.parameters(), critic))
    assert not all(map(torch.equal, crr.policy.parameters(), policy))


def test_choices_work_too() -> None:
    spec = Spec(Box(-1, 1, (2,)), Discrete(3))
    crr, batch = agent(spec), random_trajectories(UNIT)
    number = torch.randint(3, batch.reward.shape)
    crr.learn(Trajectories(**{**vars(batch), "action": number}))
    chosen = crr.act(torch.zeros(4, 2))
    assert chosen.action.dtype == torch.int64
    assert chosen.state is not None
    assert chosen.state["action"].sum() == 4


def test_a_memory_is_not_exported() -> None:
    with pytest.raises(UserError, match="cannot be exported"):
        agent().decide(torch.zeros(1, 2))
