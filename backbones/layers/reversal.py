"""Gradient reversal: the layers before it learn the opposite of what the layers after it learn.

    forward  y = x,     backward  dx = -weight dy

Ganin & Lempitsky, 2015, https://arxiv.org/abs/1409.7495, section 3.2
"""

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reversed_gradient(x: Tensor, weight: float) -> Tensor:
    """The same values; in the backward pass the gradient is multiplied by -weight.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> reversed_gradient(x, 0.5).square().sum().backward()
    >>> x.grad
    tensor([-1., -2.])
    """
    reversed_: Tensor = _Reversal.apply(x, weight)  # type: ignore[no-untyped-call]
    return reversed_
