"""Records the operations between an input of a network and its outputs, and carries values back along them by other rules than the chain rule.

    tape = Tape(x)
    with tape:
        scores = network(x)
    relevance = tape.back(scores, start, rule)

A network needs no change for this: `torch.overrides.TorchFunctionMode` sees each function of PyTorch that it calls. `rule` computes the values of a
step's inputs from the values of its outputs; if several steps use an input, its values are added. The recorded outputs stay functions of x in
autograd's graph, so that rules that use them can be differentiated with respect to x.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELU = ("relu", "relu_")
LAYERS = ("linear", "conv1d", "conv2d")
"""Functions of an input, a weight and a bias."""
Values = Sequence[Tensor | None]
"""Values that belong to several tensors; None stands for 0."""
Rule = Callable[["Step", Values], Values]
"""From a step and the values of its outputs to the values of its inputs."""


def name_of(function: Any) -> str:
    """The name of a function of PyTorch, the same for `torch.relu`, `Tensor.relu` and `F.relu`."""
    return str(getattr(function, "__name__", function))


class Smooth(TorchFunctionMode):
    """Replaces every ReLU by softplus(beta x) / beta, which is smooth, and a ReLU in the limit of a large beta."""

    def __init__(self, beta: float | None = None) -> None:
        """None keeps ReLUs."""
        super().__init__()
        self.beta = beta

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        """Calls a function, or softplus in place of a ReLU."""
        if name_of(func) in RELU:
            x = args[0] if args else (kwargs or {})["input"]
            return self.rectified(x)
        return func(*args, **(kwargs or {}))

    def rectified(self, x: Tensor) -> Tensor:
        """The activation in place of a ReLU; never in place, because rules need its input."""
        return torch.relu(x) if self.beta is None else F.softplus(x, self.beta)


@dataclass(frozen=True)
class Step:
    """A function that was called with values that depend on x."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    """Arguments that depend on x."""
    aliases: tuple[Tensor, ...]
    """What stands for them in `args` and `kwargs`: equal tensors that only this step uses."""
    outputs: tuple[Tensor, ...]
    beta: float | None
    """See `Smooth`."""

    def again(self, *values: Tensor) -> Any:
        """The function of other values of its inputs."""
        new = dict(zip(map(id, self.aliases), values, strict=True))
        return self.function(*_replaced(self.args, new), **_replaced(self.kwargs, new))

    @property
    def weight(self) -> Tensor:
        """Weight of one of `LAYERS`."""
        found: Tensor = self.args[1] if len(self.args) > 1 else self.kwargs["weight"]
        return found.detach()

    def without_bias(self, x: Tensor, weight: Tensor) -> Tensor:
        """One of `LAYERS` with another weight and no bias."""
        given = {
            name: x for name, x in self.kwargs.items() if name not in ("weight", "bias", "input")
        }
        found: Tensor = self.function(x, weight, None, *self.args[3:], **given)
        return found

    def derivatives(self, values: Values) -> Values:
        """The rule of the gradient: products with the transposed Jacobian."""
        pairs = [(x, r) for x, r in zip(self.outputs, values, strict=True) if r is not None]
        outputs, given = zip(*pairs, strict=True)
        return torch.autograd.grad(
            outputs, self.aliases, given, create_graph=True, allow_unused=True
        )


class Tape(Smooth):
    """The steps from x to the outputs of a network."""

    def __init__(self, x: Tensor, beta: float | None = None) -> None:
        """Follows x, which must require gradients."""
        super().__init__(beta)
        self.x = x
        self.steps: list[Step] = []
        # Tensors are kept, so that no other one gets the same id.
        self._depends: dict[int, Tensor] = {id(x): x}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        """Calls a function and records it if a differentiable result depends on x."""
        name, kwargs = name_of(func), kwargs or {}
        inputs = {id(x): x for x in _tensors((args, kwargs)) if id(x) in self._depends}
        if not inputs:
            return func(*args, **kwargs)
        if name in RELU:
            args, kwargs, func = (*inputs.values(),), {}, self.rectified
        aliases = {key: x.view_as(x) for key, x in inputs.items()}
        given: tuple[Any, ...] = _replaced(tuple(args), aliases)
        kwargs = _replaced(kwargs, aliases)
        out = func(*given, **kwargs)
        outputs = tuple(x for x in _tensors(out) if x.requires_grad)
        if outputs:
            step = Step("relu" if name in RELU else name, func, given, kwargs, (*inputs.values(),), (*aliases.values(),), outputs, self.beta)  # fmt: skip
            self.steps.append(step)
            self._depends |= {id(x): x for x in outputs}
        return out

    def back(self, scores: Tensor, start: Tensor, rule: Rule, steps: Sequence[Step] | None = None) -> Tensor:  # fmt: skip
        """Values of x, in its shape, from the values of the outputs.

        Args:
            scores: Outputs of the network.
            start: Their values, like `scores`.
            rule: Gives the values of the inputs of a step.
            steps: The steps, if they are not the recorded ones.
        """
        found: dict[int, Tensor] = {id(scores): start}
        for step in reversed(self.steps if steps is None else steps):
            given = [found.pop(id(x), None) for x in step.outputs]
            if all(x is None for x in given):
                continue
            for x, value in zip(step.inputs, rule(step, given), strict=True):
                if value is not None:
                    found[id(x)] = found[id(x)] + value if id(x) in found else value
        return found.get(id(self.x), torch.zeros_like(self.x))


def folded(steps: Sequence[Step]) -> list[Step]:
    """Steps in which batch normalisation with running statistics is part of the layer before it, if nothing else uses that layer's output."""
    uses: dict[int, int] = {}
    for x in (x for step in steps for x in step.inputs):
        uses[id(x)] = uses.get(id(x), 0) + 1
    found: list[Step] = []
    place: dict[int, int] = {}
    """Where in `found` each output of a layer is made."""
    for step in steps:
        before = place.get(id(step.inputs[0]))
        if step.name == "batch_norm" and before is not None and uses[id(step.inputs[0])] == 1:
            layer = found[before]
            weight = layer.weight * _slope(step).view(-1, *[1] * (layer.weight.dim() - 1))
            found[before] = replace(
                layer, args=(layer.args[0], weight, None, *layer.args[3:]), outputs=step.outputs,
                kwargs={k: x for k, x in layer.kwargs.items() if k not in ("weight", "bias")},
            )  # fmt: skip
            continue
        if step.name in LAYERS:
            place[id(step.outputs[0])] = len(found)
        found.append(step)
    return found


def _slope(step: Step) -> Tensor:
    """The factor of each channel in batch normalisation with running statistics, [C]."""
    # The function is affine in each channel, so two constant inputs show its slope.
    like = step.inputs[0][:1].detach()
    ones, zeros = torch.ones_like(like), torch.zeros_like(like)
    change = step.again(ones) - step.again(zeros)
    found: Tensor = change.movedim(1, 0).flatten(1)[:, 0].detach()
    return found


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [x for part in value for x in _tensors(part)] if isinstance(value, (tuple, list)) else []


def _replaced(value: Any, new: Mapping[int, Tensor]) -> Any:
    """Nested tuples, lists and dicts with other tensors, by the id of the old ones."""
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    if isinstance(value, Mapping):
        return {name: _replaced(x, new) for name, x in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_replaced(x, new) for x in value)
    return value
