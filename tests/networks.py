"""What tests ask about parameters."""

import torch
from torch import Tensor, nn


def copies(network: nn.Module) -> list[Tensor]:
    """Its parameters as they are now."""
    return [p.detach().clone() for p in network.parameters()]


def unchanged(network: nn.Module, before: list[Tensor]) -> bool:
    """Whether its parameters equal earlier copies, bit for bit."""
    return all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
