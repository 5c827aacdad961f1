"""One-page environments, as data: each asks one thing of an agent.

Observations have two numbers, because a network with one input is a special case.
"""

import dataclasses
from dataclasses import dataclass

import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Agent, Spec

UNIT = Spec(Box(-1, 1, (2,)), Box(-1, 1, (2,)), discount=0.5)


@dataclass(frozen=True)
class Probe:
    """Transitions with the values that a critic must find."""

    data: Transitions
    value: Tensor
    """Q(s, a) of each row, [N]."""


def transitions(
    obs: Tensor,
    action: Tensor,
    reward: Tensor,
    *,
    next_obs: Tensor | None = None,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
) -> Transitions:
    """Rows that end where nothing else is said."""
    return Transitions(
        obs,
        action,
        reward,
        obs if next_obs is None else next_obs,
        torch.ones(len(obs)) if terminated is None else terminated,
        torch.zeros(len(obs)) if truncated is None else truncated,
    )


def _random(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (rows, 2), generator=generator) * 2.0 - 1
    return signs, torch.rand(rows, 2, generator=generator) * 2 - 1


def constant_reward(rows: int = 128) -> Probe:
    """Reward 1, then the end: Q = 1 everywhere."""
    obs, action = _random(rows)
    return Probe(transitions(obs, action, torch.ones(rows)), torch.ones(rows))


def reward_is_observation(rows: int = 128) -> Probe:
    """The first number of the observation is the reward: Q = s."""
    obs, action = _random(rows)
    return Probe(transitions(obs, action, obs[:, 0]), obs[:, 0])


def reward_one_step_later(rows: int = 128) -> Probe:
    """First s = +1 with reward 0, then s = -1 with reward 1 and the end; discount 0.5."""
    obs, action = _random(rows)
    first = obs[:, 0] > 0
    next_obs = torch.where(first[:, None], torch.tensor([-1.0, 1.0]), obs)
    data = transitions(
        obs, action, (~first).float(), next_obs=next_obs, terminated=(~first).float()
    )
    return Probe(data, torch.where(first, 0.5, 1.0))


def reward_is_action(rows: int = 128) -> Probe:
    """The first number of the action is the reward: Q = a, the best action is +1."""
    obs, action = _random(rows)
    return Probe(transitions(obs, action, action[:, 0]), action[:, 0])


def action_is_observation(rows: int = 128) -> Probe:
    """The demonstrator answers s with 0.7 s: for cloning."""
    obs, _ = _random(rows)
    return Probe(transitions(obs, 0.7 * obs, torch.zeros(rows)), torch.zeros(rows))


def random_trajectories(spec: Spec, steps: int = 8, envs: int = 4, seed: int = 0) -> Trajectories:
    """The same in order: each observation is the one that the step before led to."""
    flat = random_batch(spec, steps * envs, seed)
    fold = {
        name: getattr(flat, name).unflatten(0, (steps, envs))
        for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs")
    }
    final_obs = torch.cat([fold["obs"][1:], fold.pop("next_obs")[-1:]])
    return in_episodes(Trajectories(**fold, final_obs=final_obs))


def in_episodes(batch: Trajectories) -> Trajectories:
    """The same as stretches of a data set: with times and returns-to-go, as if nothing came before or after."""
    over = torch.maximum(batch.terminated, batch.truncated)
    time, to_go = torch.zeros_like(over), batch.reward.clone()
    for t in range(1, len(over)):
        time[t] = (time[t - 1] + 1) * (1 - over[t - 1])
    for t in reversed(range(len(over) - 1)):
        to_go[t] += to_go[t + 1] * (1 - over[t])
    return dataclasses.replace(batch, time=time.long(), return_to_go=to_go)


def random_experience(agent: Agent, seed: int = 0) -> Transitions | Trajectories:
    """What the agent learns from."""
    make = random_batch if agent.consumes is Transitions else random_trajectories
    return make(agent.spec, seed=seed)


def random_batch(spec: Spec, rows: int = 32, seed: int = 0) -> Transitions:
    """Noise that fits a spec, a third of it ending, a third cut."""
    generator = torch.Generator().manual_seed(seed)
    box = spec.action_space
    assert isinstance(box, Box)
    assert spec.observation_space.shape is not None
    size = spec.observation_space.shape[0]
    low, high = torch.as_tensor(box.low), torch.as_tensor(box.high)
    return Transitions(
        torch.randn(rows, size, generator=generator),
        low + (high - low) * torch.rand(rows, len(low), generator=generator),
        torch.randn(rows, generator=generator),
        torch.randn(rows, size, generator=generator),
        (torch.arange(rows) % 3 == 0).float(),
        (torch.arange(rows) % 3 == 1).float(),
    )
