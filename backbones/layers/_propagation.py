"""Rules that carry values from a network's outputs back to its inputs, for explanations; see `attributions.py` for the equations."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlbench.backbones.layers._recording import LAYERS, Step, Tape, Values, folded
from rlbench.errors import UserError

EPSILON = 1e-9
"""Added to denominators of LRP."""
UNCHANGED = (
    "relu",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "batch_norm",
    "dropout",
)
"""Element-wise functions, through which relevance passes unchanged; batch normalisation is one if it is not part of a layer."""
ARITHMETIC = ("add", "sub", "mul", "div", "neg", "__radd__", "__rsub__", "__rmul__")
"""If the other operand is a constant, relevance passes through unchanged; a sum of two values shares it."""
MOVING = (
    "view", "view_as", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "contiguous", "float", "to", "squeeze", "unsqueeze",
    "__getitem__", "cat", "stack", "split", "chunk", "unbind", "clone", "expand", "pad", "max_pool2d",
)  # fmt: skip
"""Functions each of whose outputs is an input or 0: relevance goes where the gradient goes."""
POOLING = ("avg_pool2d", "adaptive_avg_pool2d", "mean", "sum")
"""Sums with positive weights."""


def guided(step: Step, values: Values) -> Values:
    """Guided backpropagation: the gradient, of which a ReLU lets only positive values pass.

    The second derivative needs a smooth gate, but not a smooth maximum of the values: a softplus of them would depend on their scale.
    """
    (value,) = values if len(values) == 1 else (None,)
    if step.name != "relu" or value is None:
        return step.derivatives(values)
    x, beta = step.inputs[0], step.beta
    gate = (x > 0).to(x.dtype) if beta is None else (beta * x).sigmoid()
    return [value.relu() * gate]


class Relevance:
    """Layer-wise relevance propagation: z^B in the layers that read x itself, z^+ in the others."""

    def __init__(self, tape: Tape, bounds: tuple[float, float] | None) -> None:
        """Finds the bounds of the inputs of the first layers.

        Args:
            tape: The recorded network.
            bounds: Smallest and largest value of x; None: z^+ in the first layers too.
        """
        self.steps = folded(tape.steps)
        self._bounds: dict[int, tuple[Tensor, Tensor]] = {}
        """Smallest and largest values by the id of each value that layers have not changed yet."""
        if bounds is None:
            return
        low, high = (torch.full_like(tape.x, x, requires_grad=False) for x in bounds)
        self._bounds[id(tape.x)] = low, high
        with torch.no_grad():
            for step in self.steps:
                ends = self._bounds.get(id(step.inputs[0]))
                if ends and len(step.inputs) == len(step.outputs) == 1 and step.name in (*MOVING, *ARITHMETIC):  # fmt: skip
                    found = [step.again(x) for x in ends]
                    smaller, larger = torch.minimum(*found), torch.maximum(*found)
                    self._bounds[id(step.outputs[0])] = smaller, larger

    def __call__(self, step: Step, values: Values) -> Values:
        """The relevance of the inputs of a step.

        Raises:
            UserError: There is no rule for the step.
        """
        if step.name in MOVING:
            return step.derivatives(values)
        x, value = step.inputs[0], values[0]
        if len(values) > 1 or value is None:
            raise _no_rule(step)
        if step.name in LAYERS:
            return [self._of_layer(step, value)]
        if step.name in POOLING:
            return [shared(step.again, [x.clamp(min=0)], value)]
        if len(step.inputs) == 1 and value.shape == x.shape and step.name in (*UNCHANGED, *ARITHMETIC):  # fmt: skip
            return [value]
        if step.name == "add" and all(other.shape == value.shape for other in step.inputs):
            parts = [other.clamp(min=0) for other in step.inputs]
            total = sum(parts) + EPSILON
            return [part / total * value for part in parts]
        raise _no_rule(step)

    def _of_layer(self, step: Step, value: Tensor) -> Tensor:
        x, weight = step.inputs[0], step.weight
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)

        def layer(one: Tensor, w: Tensor) -> Tensor:
            return step.without_bias(one, w)

        ends = self._bounds.get(id(x))
        if ends is not None:
            return shared(
                lambda x, low, high: layer(x, weight) - layer(low, positive) - layer(high, negative),
                [x, *ends], value,
            )  # fmt: skip
        if not (x < 0).any():
            return shared(lambda x: layer(x, positive), [x], value)
        return shared(
            lambda up, down: layer(up, positive) + layer(down, negative),
            [x.clamp(min=0), x.clamp(max=0)], value,
        )  # fmt: skip


def _no_rule(step: Step) -> UserError:
    return UserError(
        f"lrp has no rule for {step.name}, which the network uses; give --methods without lrp, or a run with another encoder or norm"
    )


def shared(total: Callable[..., Tensor], parts: Sequence[Tensor], value: Tensor) -> Tensor:
    """Relevance of the parts of linear sums, in proportion to their summands; the parts of each element are added.

    Args:
        total: A linear function of all parts.
        parts: Tensors of one shape.
        value: Relevance of the sums.
    """
    own = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in parts]
    sums = total(*own)
    gradients = torch.autograd.grad(sums, own, value / (sums + EPSILON), create_graph=True)
    found: Any = sum(x * gradient for x, gradient in zip(parts, gradients, strict=True))
    return found  # type: ignore[no-any-return]


class WithPatterns:
    """Pattern attribution: the gradient, with the weights of layers multiplied by their patterns."""

    def __init__(self, tape: Tape, patterns: Sequence[Tensor]) -> None:
        """Pairs the layers with their patterns."""
        self.steps = folded(tape.steps)
        layers = [step for step in self.steps if step.name in LAYERS]
        pairs = zip(layers, patterns, strict=True)
        self._weights = {id(step): step.weight * pattern for step, pattern in pairs}

    def __call__(self, step: Step, values: Values) -> Values:
        """Values of the inputs of a step."""
        weight = self._weights.get(id(step))
        if weight is None:
            return step.derivatives(values)
        x = step.aliases[0]
        return torch.autograd.grad(step.without_bias(x, weight), x, values, create_graph=True)


def estimated_patterns(scores: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> list[Tensor]:  # fmt: skip
    """The pattern of each layer, a = cov(x, y) / var(y) over its inputs x with an output y > 0, of the shape of the layer's weight.

    Args:
        scores: The network.
        batches: Inputs of the network, [B, ...] each.
    """
    moments: list[list[Tensor]] = []
    for batch in batches:
        with torch.enable_grad():
            tape = Tape(batch.detach().requires_grad_())
            with tape:
                scores(tape.x)
            layers = [step for step in folded(tape.steps) if step.name in LAYERS]
            found = [_moments(step) for step in layers]
        moments = [[a + b for a, b in zip(*two, strict=True)] for two in zip(moments, found, strict=True)] if moments else found  # fmt: skip
    return [_pattern(*sums) for sums in moments]


def _moments(step: Step) -> list[Tensor]:
    """Sums over the places with y > 0: their number, y and y^2, [O] each, and x and x y, like the weight."""
    x, y = step.inputs[0].detach().double(), step.outputs[0].detach().double()
    weight = step.weight.double().requires_grad_()
    linear = step.without_bias(x, weight)
    channel = y.dim() - 1 if step.name == "linear" else 1
    active = (y > 0).double()

    def over_places(values: Tensor) -> Tensor:
        return values.movedim(channel, 0).flatten(1).sum(1)

    # The gradient with respect to the weight sums inputs, weighted by what is sent back.
    sums = [torch.autograd.grad(linear, weight, active * z, retain_graph=True)[0] for z in (torch.ones_like(y), y)]  # fmt: skip
    return [*(over_places(active * z) for z in (torch.ones_like(y), y, y * y)), *sums]


def _pattern(count: Tensor, y: Tensor, yy: Tensor, x: Tensor, xy: Tensor) -> Tensor:
    """Covariance over variance, like x; 0 for an output that is never positive."""
    count = count.clamp(min=1)
    mean = y / count
    variance = yy / count - mean**2
    shape = (-1, *[1] * (x.dim() - 1))
    covariance = (xy - x * mean.view(shape)) / count.view(shape)
    constant = variance <= 1e-12 * (yy / count)
    scaled = covariance / variance.masked_fill(constant, 1.0).view(shape)
    return scaled.masked_fill(constant.view(shape), 0.0).float()
