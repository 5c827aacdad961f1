"""The cost of a network: its parameters, and its multiply-adds for one input."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Numbers of parameters and of multiply-adds."""

    parameters: int
    multiply_adds: int
    """Of all linear layers and convolutions that are called as modules; as is usual, biases, normalisation and
    activations are not counted."""


def cost(network: nn.Module, x: Tensor) -> Cost:
    """The cost of a network for one input, found by a pass over a batch x, [B, ...].

    The pass is in evaluation mode and changes nothing.
    """
    work: list[int] = []
    hooks = [
        layer.register_forward_hook(partial(_count, work))
        for layer in network.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]
    modes = {layer: layer.training for layer in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mode in modes.items():
            layer.training = mode
    return Cost(sum(p.numel() for p in network.parameters()), sum(work) // len(x))


def _count(work: list[int], layer: Any, inputs: tuple[Tensor, ...], out: Tensor) -> None:
    """Adds the multiply-adds of one layer: each of its weights times the places at which it is used."""
    if isinstance(layer, nn.Linear):
        work.append(out.numel() * layer.in_features)
    else:  # Each output pixel of a convolution uses all weights once, as does each input pixel of a transposed one.
        pixels = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else out)[:, 0].numel()
        work.append(pixels * layer.weight.numel())
