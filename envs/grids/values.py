"""Exact values of policies on tabular grids, from the model of the levels.

The time limit is ignored: it is not part of the state, so with it a state would have no single value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlbench.envs.grids.levels import Levels
from rlbench.envs.grids.tables import Tables

LARGEST = 2**25
"""Maximum number of entries of the transition matrices in memory at a time, unless one level has more."""


@dataclass(frozen=True)
class Model:
    """Transitions and rewards of policies in N levels."""

    transition: Tensor
    """Probability of each next state of the same episode, float64 [N, S, S]; rows sum to 1 minus
    the termination probability."""
    reward: Tensor
    """Expected reward of one step, float64 [N, S]."""


def exact_values(
    levels: Levels, shape: tuple[int, int], actions: int, policy: Tensor, discount: float
) -> Tensor:
    """Values of policies without a time limit, v = r + gamma P v.

    Args:
        levels: N levels.
        shape: Their rows and columns.
        actions: 5, 9 or 18.
        policy: Probabilities of the actions in each state, [N, S, A].
        discount: gamma, at least 0 and below 1.

    Returns:
        Values, float64 [N, S].

    Raises:
        ValueError: The discount is out of range, or the policy has the wrong shape.
    """
    if not 0 <= discount < 1:
        raise ValueError(
            f"discount is {discount}, expected a number that is at least 0 and below 1"
        )
    count, states, _ = policy.shape
    some = max(1, LARGEST // states**2)
    values = []
    for rows in torch.arange(count, device=policy.device).split(some):
        model = model_of(levels.take(rows), shape, actions, policy[rows])
        one = torch.eye(states, dtype=torch.float64, device=policy.device)
        values.append(torch.linalg.solve(one - discount * model.transition, model.reward))
    return torch.cat(values)


def model_of(levels: Levels, shape: tuple[int, int], actions: int, policy: Tensor) -> Model:
    """Transitions and rewards under policies [N, S, A]; see `exact_values` for the arguments.

    Raises:
        ValueError: The policy has the wrong shape.
    """
    count, (cells, slots) = len(levels), (shape[0] * shape[1], levels.cell.shape[1])
    states, subsets = cells << slots, 1 << slots
    if policy.shape != (count, states, actions):
        raise ValueError(
            f"policy has the shape {list(policy.shape)}, expected {[count, states, actions]}"
        )
    tables = Tables.of(levels, shape, actions)
    target = tables.next.view(count, cells, 1, actions)
    reach = target if tables.reach is None else tables.reach.view_as(target)
    slot = torch.arange(slots, device=policy.device)
    subset = torch.arange(subsets, device=policy.device)
    present = (subset[:, None] >> slot & 1).bool()
    # Collecting, [N, C, 2^O, A, O].
    at_object = reach[..., None] == levels.cell[:, None, None, None]
    taken = at_object & present[:, None] & levels.exists[:, None, None, None]
    gain = (taken * levels.reward.double()[:, None, None, None]).sum(-1)
    stays = (1 - taken * levels.ends.double()[:, None, None, None]).prod(-1)
    chosen = policy.double().view(count, cells, subsets, actions)
    reward = (chosen * gain).sum(-1).flatten(1)
    # Absent objects respawn independently, [N, 2^O, 2^O]; objects just collected are removed afterwards.
    back = (levels.returns * levels.exists).double()[:, None, None]
    later = present[None, None]
    comes = torch.where(later, back, 1 - back)
    bits = torch.where(present[:, None], later.double(), comes).prod(-1)
    left = ~(taken * (1 << slot)).sum(-1)
    transition = bits.new_zeros((count, states * states))
    first = torch.arange(states, device=policy.device).view(cells, subsets, 1) * states
    weight = chosen * stays
    for after in range(subsets):
        place = first + (target << slots) + (after & left)
        share = weight * bits[:, None, :, after, None]
        transition.scatter_add_(1, place.flatten(1), share.flatten(1))
    return Model(transition.view(count, states, states), reward)
