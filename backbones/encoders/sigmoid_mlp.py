"""Fully connected layers with sigmoids, with or without batch normalisation.

    h_l = sigmoid(BN(W_l h_{l-1})),   BN(x) = gamma (x - mean) / sqrt(variance + epsilon) + beta

where the mean and the variance of each unit are taken over the batch, and are running averages in evaluation. Without
normalisation, h_l = sigmoid(W_l h_{l-1} + b_l). A sigmoid saturates where |x| is large; normalisation keeps x out of
this range, so training is faster and works with larger step sizes.

Ioffe & Szegedy, 2015, https://arxiv.org/abs/1502.03167: the network of its first experiment, three layers of 100 units on
handwritten digits in batches of 60, with small Gaussian weights. As in the paper, a layer before a normalisation has
no bias, because beta takes its place.
"""

from typing import Literal
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Kind
from rlbench.errors import UserError

STD = 0.1
"""Standard deviation of the initial weights; "small random Gaussian values" in the paper."""


class Layer(nn.Module):
    """One layer, [B, D] to [B, units]; D is the length of its first input."""

    def __init__(self, units: int, *, normalised: bool) -> None:
        """A layer of `units` units."""
        super().__init__()
        self.linear = _Gaussian(units, bias=not normalised)
        self.norm = nn.BatchNorm1d(units) if normalised else nn.Identity()

    def before(self, x: Tensor) -> Tensor:
        """Inputs of the sigmoids, [B, units]."""
        read: Tensor = self.norm(self.linear(x))
        return read

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the sigmoids, [B, units]."""
        return torch.sigmoid(self.before(x))


class _Gaussian(nn.LazyLinear):
    """A linear map with Gaussian initial weights and zero initial biases."""

    def __init__(self, units: int, *, bias: bool) -> None:
        """A map to `units` units."""
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # PyTorch warns that lazy modules may change.
            super().__init__(units, bias=bias)

    def reset_parameters(self) -> None:
        """Draws the weights once their shape is known."""
        if not self.has_uninitialized_params() and self.in_features:
            nn.init.normal_(self.weight, std=STD)
            if self.bias is not None:
                nn.init.zeros_(self.bias)


class SigmoidMLP(nn.Sequential):
    """Layers over all values of an observation."""

    def before(self, x: Tensor) -> Tensor:
        """Inputs of the last layer's sigmoids, [B, units]."""
        *others, last = self
        for layer in others:
            x = layer(x)
        assert isinstance(last, Layer)
        return last.before(x)


def sigmoid_mlp_layers(
    channels: int, units: int = 100, layers: int = 3, norm: Literal["bn", "none"] = "none"
) -> nn.Module:
    """Flattens observations and applies `layers` layers of `units` units."""
    if units < 1 or layers < 1:
        raise UserError(f"units is {units} and layers is {layers}; give 1 or more of each")
    every = (Layer(units, normalised=norm == "bn") for _ in range(layers))
    return SigmoidMLP(nn.Flatten(), *every)


SIGMOID_MLP = Kind(sigmoid_mlp_layers, "anything", scale=1 / 255)
