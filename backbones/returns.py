"""Returns of trajectories."""

import torch
from torch import Tensor

from rlbench.backbones.updates import same_shape


def lambda_returns(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    next_value: Tensor,
    discount: float,
    mixing: float,
) -> Tensor:
    """Returns of TD(lambda), [T, B]; minus V(s) they are the advantages of GAE.

    G_t = r_t + discount * ((1 - lambda) V(s_t+1) + lambda G_t+1): after the last step and after a
    time limit the value stands for the rest, after a true end nothing does.

    Args:
        reward: Rewards, [T, B].
        terminated: 1.0 where the world ended, [T, B].
        truncated: 1.0 where a time limit cut the episode, [T, B].
        next_value: V of the observation that each step led to, before any reset, [T, B].
        discount: Discount of one step.
        mixing: lambda; 0 gives one-step targets, 1 sums rewards to the end.
    """
    same_shape(reward, terminated, truncated, next_value)
    # G_t = a_t + b_t G_t+1: all that can be computed for all steps at once is.
    reach = discount * (1.0 - terminated)
    b = reach * mixing * (1.0 - truncated)
    a = reward + (reach - b) * next_value
    following, returns = next_value[-1], []
    for a_t, b_t in zip(reversed(a.unbind()), reversed(b.unbind()), strict=True):
        following = torch.addcmul(a_t, b_t, following)
        returns.append(following)
    return torch.stack(returns[::-1])
