"""Recurrent agents with every memory: they learn from what they acted on, and resume exactly."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from rlbench.agents.recurrent_crr import RecurrentCRR, RecurrentCRRConfig
from rlbench.agents.recurrent_ppo import RecurrentPPO, RecurrentPPOConfig
from rlbench.backbones.memories import forget
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.tasks import find_task
from rlbench.interface import Spec
from tests.backbones.test_memories import NAMES
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import equal
from tests.probe_envs import UNIT, random_trajectories


def player(memory: str, **settings: Any) -> RecurrentPPO:
    """PPO for CartPole, whose time limit is far away."""
    small: dict[str, Any] = {"memory_size": 8, "envs": 3, "rollout_steps": 9, "epochs": 2}
    config = RecurrentPPOConfig(memory=memory, **{**small, "batch_size": 9, **settings})
    return RecurrentPPO(config, Spec.of(gym.make("CartPole-v1")))


def driver(agent: RecurrentPPO) -> RolloutDriver:
    return RolloutDriver(agent, find_task("CartPole-v1"), seed=0)


@pytest.mark.parametrize("memory", NAMES)
def test_at_the_first_pass_the_ratio_is_one(memory: str) -> None:
    """Over rollouts that begin within episodes, and after updates."""
    agent = player(memory, batch_size=None, epochs=1, learning_rate=1e-2, kl_limit=None)
    agent.network.head.out.weight.data.mul_(30)  # A policy that heeds what it remembers.
    steps = driver(agent)
    for _ in range(4):
        assert abs(float(steps.update()["first_kl"])) < 1e-8  # Far below float32's rounding.


@pytest.mark.parametrize("memory", NAMES)
def test_environments_do_not_depend_on_each_other(memory: str) -> None:
    agent = player(memory)
    driver(agent).update()
    together, alone = (agent.network.memory.initial_state(n, agent.device) for n in (3, 1))
    for obs in 3 * torch.randn(4, 3, 4):
        with torch.no_grad():
            all_features, together = agent.network.remember(obs, together)
            features, alone = agent.network.remember(obs[1:2], alone)
        torch.testing.assert_close(all_features[1:2], features)


@pytest.mark.parametrize("memory", NAMES)
def test_ppo_resumes_bit_for_bit(memory: str) -> None:
    whole, first, rest = player(memory), player(memory), player(memory)
    one, begun, resumed = driver(whole), driver(first), driver(rest)
    for _ in range(5):
        one.update()
    for _ in range(2):
        begun.update()
    state = begun.state_dict()
    rest.load_state_dict(first.state_dict())
    resumed.load_state_dict(state)
    assert any(x.any() for x in state["state"].values())
    for _ in range(3):
        resumed.update()
    assert equal(whole, rest)


@pytest.mark.parametrize("memory", NAMES)
def test_crr_resumes_bit_for_bit_and_acts_as_it_learned(memory: str) -> None:
    def agent() -> RecurrentCRR:
        return RecurrentCRR(RecurrentCRRConfig(hidden=(8,), memory_size=8, memory=memory), UNIT)

    whole, first, rest = agent(), agent(), agent()
    batches = [random_trajectories(UNIT, steps=9, envs=4) for _ in range(4)]
    for batch in batches:
        whole.learn(batch)
    for batch in batches[:2]:
        first.learn(batch)
    rest.load_state_dict(first.state_dict())
    for batch in batches[2:]:
        rest.learn(batch)
    assert equal(whole, rest)
    batch, state = batches[0], whole._initial_state(4)
    seen: list[torch.Tensor] = []
    whole.policy.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    acted = []
    for t in range(9):
        after = whole.act(batch.obs[t], state=state).state
        assert after is not None
        acted.append(seen.pop())
        over = torch.maximum(batch.terminated[t], batch.truncated[t])
        state = forget({**after, "action": whole.form.to_unit(batch.action[t])}, over)
    whole.learn(batch)
    torch.testing.assert_close(seen[-1], torch.cat(acted), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("memory", NAMES)
def test_a_run_killed_twice_ends_as_one_never_killed(memory: str, tmp_path: Path) -> None:
    words = (
        f"recurrent-ppo --env CartPole-v1 --memory {memory} --memory-size 8 --updates 40 --eval-every 20 "
        "--eval-episodes 2 --checkpoint-every 5 --envs 2 --rollout-steps 16 --device cpu"
    )
    killed_equals_unkilled(words.split(), tmp_path, kills=2, seed=1)
