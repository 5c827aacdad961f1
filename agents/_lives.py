"""Whole lifetimes, from new agents to the rewards of their final policies, with a rule, A2C or random actions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlbench.agents._lifetimes import judged, normalised, policy_slope, sample
from rlbench.agents._populations import Part, Population
from rlbench.experience import Lifetimes, Trajectories

Learn = Callable[[Population, Trajectories], Population]
PARTS = 10
"""Number of parts of a lifetime for which rewards are recorded."""


@torch.no_grad()
def live(
    lifetimes: Lifetimes, agents: Population, learn: Learn, steps: int, generator: torch.Generator
) -> tuple[Population, Tensor]:
    """Agents after one lifetime in the same worlds, and their reward per step in each tenth of it, [N, 10].

    Args:
        lifetimes: The lifetimes, which are restarted.
        agents: New agents.
        learn: Makes one update from one rollout.
        steps: Steps in a rollout; at most the length of a lifetime is used.
        generator: Draws the actions.
    """
    lifetimes.restart()
    steps = min(steps, lifetimes.length)
    rewards = []
    for _ in range(lifetimes.length // steps):
        rollout = act(lifetimes, agents, steps, generator)
        agents = learn(agents, rollout)
        rewards.append(rollout.reward.mean((0, 2)))
    curve = [torch.stack(list(part)).mean(0) for part in parts(rewards)]
    return agents, torch.stack(curve, dim=1)


def parts(rows: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Splits rows into `PARTS` parts of nearly equal size; with fewer rows than parts, rows are in several parts."""
    count = len(rows)
    ends = [max(1, (i + 1) * count // PARTS) for i in range(PARTS)]
    return [rows[min(i * count // PARTS, end - 1) : end] for i, end in enumerate(ends)]


@torch.no_grad()
def act(
    lifetimes: Lifetimes, agents: Population, steps: int, generator: torch.Generator
) -> Trajectories:
    """A rollout of `steps` steps of all agents, [T, N, W]."""
    return lifetimes.rollout(lambda obs: sample(agents.outputs("policy", obs), generator), steps)


@torch.no_grad()
def final_reward(lifetimes: Lifetimes, agents: Population, generator: torch.Generator) -> Tensor:
    """Reward per step, [N], of policies that no longer learn, in new episodes, for a tenth of a lifetime."""
    lifetimes.restart()
    rollout = act(lifetimes, agents, max(1, lifetimes.length // PARTS), generator)
    return rollout.reward.mean((0, 2))


def a2c_update(
    agents: Population, rollout: Trajectories, discount: float, mixing: float, *,
    rate: float, entropy: float, critic_rate: float, max_norm: float,
) -> Population:  # fmt: skip
    """One update of advantage actor-critic, with the same kind of agents and optimiser as the rule.

    Args:
        agents: Agents with the parts `policy` and `value`.
        rollout: Their rollout, [T, N, W].
        discount: gamma.
        mixing: lambda of GAE.
        rate: Step size of the policy.
        entropy: Weight of the entropy.
        critic_rate: See `Population.valued`.
        max_norm: Largest gradient norm of an agent.
    """
    advantage, target = judged(agents, rollout, discount, mixing)
    logits = agents.outputs("policy", rollout.obs)
    slopes: dict[Part, Tensor] = {
        "policy": policy_slope(logits, rollout.action, normalised(advantage), entropy)
    }
    rates: dict[Part, Tensor] = {
        "policy": torch.full((rollout.obs.shape[1],), rate, device=rollout.reward.device)
    }
    return agents.moved(rollout.obs, slopes, rates, max_norm).valued(
        rollout.obs, target, critic_rate
    )
