"""Returns, targets and losses that agents share, as pure functions."""

import math

import torch
from torch import Tensor

from rlbench.checks import same_shape

SMALLEST_WEIGHT = torch.finfo(torch.float32).tiny
"""Replaces a weight of 0 whose logarithm is stored, because a checkpoint needs finite numbers."""
SMALLEST_DEVIATION = 0.03
"""Lower bound for the standard deviation of advantages, as a share of the returns. While an agent learns
CartPole, Pendulum or MuJoCo tasks, the share is 0.04 or more; once MiniGrid-Empty-5x5-v0 is solved it is
0.001, which is the error of the value estimates."""


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
    time limit the value replaces the remaining rewards; after a true end there are none.

    Args:
        reward: Rewards, [T, B].
        terminated: 1.0 where the episode terminated, [T, B].
        truncated: 1.0 where a time limit cut the episode, [T, B].
        next_value: V of the observation that each step led to, before any reset, [T, B].
        discount: Discount of one step.
        mixing: lambda; 0 gives one-step targets, 1 sums rewards to the end.
    """
    same_shape(reward, terminated, truncated, next_value)
    # G_t = a_t + b_t G_t+1: a and b are computed for all steps at once.
    reach = discount * (1.0 - terminated)
    b = reach * mixing * (1.0 - truncated)
    a = reward + (reach - b) * next_value
    following, returns = next_value[-1], []
    for a_t, b_t in zip(reversed(a.unbind()), reversed(b.unbind()), strict=True):
        following = torch.addcmul(a_t, b_t, following)
        returns.append(following)
    return torch.stack(returns[::-1])


def normalise_advantage(advantage: Tensor, target: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1, less if they are small compared with the returns.

    They are divided by their standard deviation, but by no less than `SMALLEST_DEVIATION` times the root
    mean square of the returns. A single advantage becomes 0.

    Args:
        advantage: Advantages of a minibatch, [...].
        target: Returns that the values are trained on, of the same shape.

    >>> normalise_advantage(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([9.0, 9.0, 9.0]))
    tensor([-1.,  0.,  1.])
    >>> normalise_advantage(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([200.0, 200.0, 200.0]))
    tensor([-0.3333,  0.0000,  0.3333])
    """
    same_shape(advantage, target)
    centred = advantage - advantage.mean()
    if advantage.numel() == 1:
        return centred
    floor = SMALLEST_DEVIATION * target.square().mean().sqrt()
    return centred / torch.maximum(advantage.std() + 1e-8, floor)


def clipped_exp(x: Tensor, largest: float) -> Tensor:
    """min(exp(x), largest), elementwise; x is bounded first, because exp can overflow."""
    return x.clamp(max=math.log(largest)).exp()


def td_target(
    reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float | Tensor
) -> Tensor:
    """Target r + discount * V(s'), [B]; only a true end stops the bootstrap. The discount may differ by row, [B]."""
    same_shape(reward, terminated, next_value)
    return reward + discount * (1.0 - terminated) * next_value


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """Squared errors of values [E, B] against one target [B]: mean over B, sum over E."""
    same_shape(values[0], target)
    return (values - target).square().mean(dim=1).sum()


def best_value(values: Tensor, soft_clip: float) -> Tensor:
    """Value of the best sample, [B], between smallest and largest critic; values [K, B, p]."""
    mixed = soft_clip * values.amin(dim=0) + (1 - soft_clip) * values.amax(dim=0)
    return mixed.amax(dim=-1)


def likelihood_loss(log_prob: Tensor, weight: Tensor) -> Tensor:
    """Weighted negative log-likelihood of the actions of the data; both inputs have shape [B]."""
    same_shape(log_prob, weight)
    return -(weight * log_prob).mean()
