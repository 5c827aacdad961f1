"""Explanations of a network's answer: how much each value of its input matters for one of its outputs.

    gradient                  dg_k / dx                                                 Simonyan et al., 2013, https://arxiv.org/abs/1312.6034
    gradient-times-input      x . dg_k / dx
    integrated-gradients      x . mean over a of dg_k / dx at a x,  0 < a < 1           Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365
    guided-backpropagation    the gradient; a ReLU lets positive values through         Springenberg et al., 2014, https://arxiv.org/abs/1412.6806
    lrp                       R_i = sum_j  x_i w_ij^+ / (sum_i' x_i' w_i'j^+)  R_j      Bach et al., 2015, https://doi.org/10.1371/journal.pone.0130140
    pattern-attribution       the gradient, with weights w . a,  a = cov(x, y) / var(y) Kindermans et al., 2017, https://arxiv.org/abs/1705.05598

LRP is layer-wise relevance propagation with alpha = 1 and beta = 0, and in the first layer the z^B rule for inputs from l to h (Montavon et al.,
2017, https://doi.org/10.1016/j.patcog.2016.11.008):

    R_i = sum_j  (x_i w_ij - l w_ij^+ - h w_ij^-) / (sum_i' x_i' w_i'j - l w_i'j^+ - h w_i'j^-)  R_j

Biases receive no relevance. The patterns a of a layer are estimated over inputs x with an output y > 0.

All of them are functions of x that can be differentiated, as the manipulation of explanations needs. They work for any network: `_recording.py` records
the operations between x and the outputs. A ReLU has no second derivative, so `beta` replaces it by softplus(beta x) / beta.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from rlbench.backbones.layers._propagation import (
    Relevance,
    WithPatterns,
    estimated_patterns,
    guided,
)
from rlbench.backbones.layers._recording import Smooth, Tape
from rlbench.backbones.layers.attacks import input_gradient

MethodName = Literal[
    "gradient", "gradient-times-input", "integrated-gradients", "guided-backpropagation", "lrp", "pattern-attribution",
]  # fmt: skip
METHODS: tuple[MethodName, ...] = get_args(MethodName)
POINTS = 30
"""Points on the way from the baseline 0 to x in integrated gradients."""
Scores = Callable[[Tensor], Tensor]
"""A network, from inputs [B, ...] to outputs [B, K]."""


@dataclass(frozen=True)
class Explained:
    """The network whose answers are explained."""

    scores: Scores
    """From inputs [B, ...] to outputs [B, K]."""
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """Smallest and largest value of an input (l and h); None: LRP uses z^+ in the first layer too."""
    patterns: Sequence[Tensor] = ()
    """Pattern of the weight of each layer, of its shape, as from `patterns`."""
    probabilities: bool = True
    """Whether integrated gradients explain the softmax of the outputs, as in Dombrowski et al.; the others always explain the outputs."""
    beta: float | None = None
    """Softplus in place of ReLUs; None: ReLUs."""


def explanation(method: MethodName, network: Explained, x: Tensor, index: Tensor) -> Tensor:
    """How much each value of x matters for one output, like x.

    Args:
        method: One of `METHODS`.
        network: The network.
        x: Inputs, [B, ...]; if they require gradients, the result is differentiable.
        index: The output of each input that is explained, int64 [B].

    Raises:
        UserError: The method does not work for a function of the network.
    """
    with torch.enable_grad():
        found = _METHODS[method](network, x, index)
    return found if x.requires_grad else found.detach()


def saliency(relevance: Tensor, channels: int) -> Tensor:
    """The map of an explanation: absolute values summed over the channels, divided by their sum, [B, H, W].

    Args:
        relevance: [B, C, H, W] or [B, H, W, C].
        channels: The dimension of the channels.

    >>> saliency(torch.tensor([[[[1.0, -1.0]], [[0.0, 2.0]]]]), 1).tolist()
    [[[0.25, 0.75]]]
    """
    found = relevance.abs().sum(channels)
    total: Tensor = found.sum((1, 2), keepdim=True)
    return found / total.clamp(min=torch.finfo(found.dtype).tiny)


def _chosen(network: Explained, index: Tensor, *, probabilities: bool = False) -> Callable[[Tensor], Tensor]:  # fmt: skip
    """The explained outputs, from [B, ...] to [B]."""

    def output(x: Tensor) -> Tensor:
        with Smooth(network.beta):
            scores = network.scores(x)
        scores = scores.softmax(1) if probabilities else scores
        return scores.gather(1, index[:, None])[:, 0]

    return output


def _gradient(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    return input_gradient(_chosen(network, index), x)


def _gradient_times_input(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    return x * _gradient(network, x, index)


def _integrated_gradients(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    """One derivative of a weighted sum, because the derivative of g(a x) / a with respect to x is the gradient of g at a x."""
    shares = (torch.arange(POINTS, dtype=x.dtype, device=x.device) + 0.5) / POINTS
    shape = (-1, *[1] * x.dim())

    def output(x: Tensor) -> Tensor:
        way = (shares.view(shape) * x).flatten(0, 1)
        chosen = _chosen(network, index.repeat(POINTS), probabilities=network.probabilities)
        each: Tensor = chosen(way).unflatten(0, (POINTS, -1)) / shares[:, None]
        return each.mean(0)

    return x * input_gradient(output, x)


def _recorded(network: Explained, x: Tensor) -> tuple[Tape, Tensor]:
    """The steps of the network, and its outputs."""
    tape = Tape(x if x.requires_grad else x.detach().requires_grad_(), network.beta)
    with tape:
        scores = network.scores(tape.x)
    return tape, scores


def _guided(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    tape, scores = _recorded(network, x)
    return tape.back(scores, _one_hot(scores, index), guided)


def _lrp(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    tape, scores = _recorded(network, x)
    rule = Relevance(tape, network.bounds)
    return tape.back(scores, scores * _one_hot(scores, index), rule, rule.steps)


def _pattern(network: Explained, x: Tensor, index: Tensor) -> Tensor:
    tape, scores = _recorded(network, x)
    rule = WithPatterns(tape, network.patterns)
    return tape.back(scores, scores * _one_hot(scores, index), rule, rule.steps)


def _one_hot(scores: Tensor, index: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter(1, index[:, None], 1.0)


_METHODS: Mapping[MethodName, Callable[[Explained, Tensor, Tensor], Tensor]] = {
    "gradient": _gradient, "gradient-times-input": _gradient_times_input, "integrated-gradients": _integrated_gradients,
    "guided-backpropagation": _guided, "lrp": _lrp, "pattern-attribution": _pattern,
}  # fmt: skip


def with_patterns(network: Explained, batches: Sequence[Tensor]) -> Explained:
    """The network with the patterns of its layers, estimated over inputs [B, ...]."""
    return replace(network, patterns=estimated_patterns(network.scores, batches))
