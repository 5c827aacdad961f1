"""Random numbers on the device of their generator, and other distributions from normal numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal noise on the generator's own device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def uniform(normal: Tensor) -> Tensor:
    """Uniform numbers in (0, 1) from standard normal ones, by their distribution function."""
    return (0.5 * (1 + torch.erf(normal / math.sqrt(2)))).clamp(1e-6, 1 - 1e-6)


def gumbel(normal: Tensor) -> Tensor:
    """Standard Gumbel numbers from standard normal ones: adding them to logits samples by argmax."""
    return -(-uniform(normal).log()).log()
