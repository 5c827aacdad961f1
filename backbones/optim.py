"""Optimisers, step sizes, gradient steps and target networks."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlbench.state import capture, restore

WARM_UP = 0.3
"""Share of the updates in which the step size rises."""
FIRST, LAST = 1 / 25, 1e-4 / 25
"""First and last step size, as shares of the largest."""

RISE = 0.1
"""Share of the updates in which the step size rises in `warm_up_and_decay`."""


class Adam:
    """Adam with PyTorch's constants, without the overhead of `torch.optim.Adam` around its fused kernel.

    Kingma & Ba, 2015, algorithm 1. For small networks this overhead (hooks, groups, a counter for
    each parameter, stored gradients) costs more than the step itself.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        *,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
    ) -> None:
        """For parameters on one device; their moments begin at 0.

        Args:
            parameters: Parameters to optimise.
            learning_rate: Step size (paper: alpha).
            epsilon: Added to the root of the second moment.
            momentum: Decay rate of the first moment (paper: beta_1).
            weight_decay: This times each parameter is added to its gradient.
        """
        self.parameters = list(parameters)
        self._constants = epsilon, weight_decay, momentum
        sizes = [p.numel() for p in self.parameters]
        device = self.parameters[0].device
        self.learning_rate = torch.tensor(learning_rate, device=device)
        self.steps = torch.zeros((), device=device)
        self.means, self.squares = (torch.zeros(sum(sizes), device=device) for _ in range(2))
        self._means, self._squares = (
            [x.view(p.shape) for x, p in zip(flat.split(sizes), self.parameters, strict=True)]
            for flat in (self.means, self.squares)
        )

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        """Moves the parameters against their gradients."""
        self.steps += 1
        # The kernel reads memory in order, and convolutions give gradients in their inputs' order.
        gradients = tuple(x.contiguous() for x in gradients)
        torch._fused_adam_(
            self.parameters, gradients, self._means, self._squares, [],
            [self.steps] * len(self.parameters),
            lr=self.learning_rate, beta1=self._constants[2], beta2=0.999, eps=self._constants[0],
            weight_decay=self._constants[1], amsgrad=False, maximize=False,
        )  # fmt: skip

    @property
    def second_moments(self) -> list[Tensor]:
        """Running mean of the squared gradients of each parameter, without its bias towards 0; 0 before the first step."""
        share = 1 - 0.999 ** self.steps.clamp(min=1)
        return [x / share for x in self._squares]

    def state_dict(self) -> dict[str, Any]:
        """Moments, number of steps and learning rate."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)


class AdamW(Adam):
    """Adam with weight decay that does not pass through the moments (Loshchilov & Hutter, 2019).

    p <- (1 - learning_rate * decay) p before each step, for matrices and embeddings only, as in BERT's code.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        *,
        epsilon: float = 1e-8,
        decay: float = 0.0,
    ) -> None:
        """See `Adam`; `decay` is the weight decay."""
        super().__init__(parameters, learning_rate, epsilon=epsilon)
        self._decay = decay
        self._matrices = [p for p in self.parameters if p.dim() > 1]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        """Shrinks the matrices, then moves all parameters against their gradients."""
        if self._decay and self._matrices:
            torch._foreach_mul_(self._matrices, 1 - self.learning_rate * self._decay)
        super().step(gradients)


class Snapshot:
    """A copy of an optimiser's parameters, moments and step count, to be restored later.

    Also of the network's buffers, such as the running statistics of a normalisation.
    """

    def __init__(self, optimizer: Adam, network: nn.Module) -> None:
        """Copies them as they are now."""
        own = (optimizer.means, optimizer.squares, optimizer.steps)
        self._live = [*optimizer.parameters, *own, *network.buffers()]
        self._copies = [x.detach().clone() for x in self._live]

    @torch.no_grad()
    def restore(self) -> None:
        """Restores the copies."""
        torch._foreach_copy_(self._live, self._copies)


class SGD:
    """Gradient descent with momentum (Polyak, 1964).

    v = momentum * v + gradient + weight_decay * parameter;   parameter -= learning_rate * v
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """For parameters on one device; their velocities begin at 0."""
        self.parameters = list(parameters)
        sizes = [p.numel() for p in self.parameters]
        self.learning_rate, self.momentum = learning_rate, momentum
        self.weight_decay = weight_decay
        self.velocities = torch.zeros(sum(sizes), device=self.parameters[0].device)
        parts = zip(self.velocities.split(sizes), self.parameters, strict=True)
        self._velocities = [x.view(p.shape) for x, p in parts]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        """Moves the parameters against their gradients."""
        torch._foreach_mul_(self._velocities, self.momentum)
        torch._foreach_add_(self._velocities, gradients)
        if self.weight_decay:
            torch._foreach_add_(self._velocities, self.parameters, alpha=self.weight_decay)
        torch._foreach_add_(self.parameters, self._velocities, alpha=-self.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """Velocities and settings."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)


def one_cycle(progress: float) -> float:
    """Step size as a share of the largest, at a share of all updates from 0 to 1.

    It rises and then falls, along half a cosine each, with PyTorch's defaults (Smith & Topin, 2019,
    https://arxiv.org/abs/1708.07120).
    """
    if progress < WARM_UP:
        low, high, share = FIRST, 1.0, progress / WARM_UP
    else:
        low, high, share = 1.0, LAST, min(1.0, (progress - WARM_UP) / (1 - WARM_UP))
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2


def warm_up_and_decay(progress: float) -> float:
    """Step size as a share of the largest, at a share of all updates from 0 to 1.

    It rises along a line in the first tenth and then falls along a line to 0, as in BERT's code.
    """
    return min(progress / RISE, max(0.0, (1 - progress) / (1 - RISE)))


def gradient_step(optimizer: Adam | SGD, loss: Tensor, max_norm: float | None = None) -> Tensor:
    """One step down `loss` for the optimiser's own parameters; others get no gradient.

    Args:
        optimizer: Takes the step.
        loss: A scalar.
        max_norm: The gradient is scaled down to this norm if it is larger.

    Returns:
        The loss, detached.
    """
    gradients = torch.autograd.grad(loss, optimizer.parameters)
    if max_norm is not None:
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    optimizer.step(gradients)
    return loss.detach()


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Moves the target's parameters towards the source's: t = (1 - rate) t + rate s.

    Buffers, such as the running statistics of a normalisation, are copied.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
    if buffers := list(source.buffers()):
        torch._foreach_copy_(list(target.buffers()), buffers)
