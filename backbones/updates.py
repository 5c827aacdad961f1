"""What every update step shares: optimiser, gradient step, target networks, shape checks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


def adam(parameters: Iterable[Tensor], learning_rate: float) -> Adam:
    """Adam with PyTorch's other defaults, as one fused call."""
    return Adam(parameters, lr=learning_rate, fused=True)


def gradient_step(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """One step down `loss` for the optimiser's own parameters; others get no gradient.

    Returns:
        The loss, detached.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.autograd.backward(loss, inputs=parameters)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Moves the target's parameters towards the source's: t = (1 - rate) t + rate s."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)


def same_shape(*tensors: Tensor) -> None:
    """Raises a ValueError unless all shapes are equal: [B] times [B, 1] would be [B, B]."""
    shapes = [tuple(x.shape) for x in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(f"expected one shape, got {shapes}")


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """One-step target r + discount * V(s'), [B]; only a true end stops the bootstrap."""
    same_shape(reward, terminated, next_value)
    return reward + discount * (1.0 - terminated) * next_value


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """Squared errors of values [E, B] against one target [B]: mean over B, sum over E."""
    same_shape(values[0], target)
    return (values - target).square().mean(dim=1).sum()
