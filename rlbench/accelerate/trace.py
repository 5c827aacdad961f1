"""Traces an update of a learner as a graph of operations.

Everything that the graph reads or changes is an input: columns of experience, the learner's state, random
numbers. It can therefore be compiled, and batched over learners that differ only in their seeds.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.overrides import TorchFunctionMode

from rlbench.accelerate.thin import THIN
from rlbench.experience import columns_of, with_columns
from rlbench.interface import Learn, Learner


@dataclasses.dataclass(frozen=True)
class Draw:
    """Random numbers of an update, which are drawn outside its graph."""

    again: Callable[[], Tensor]
    """Draws the next numbers."""
    generators: tuple[torch.Generator, ...]
    """The generators that it uses."""
    example: Tensor


@dataclasses.dataclass(frozen=True)
class Trace:
    """The traced update of one phase."""

    graph: fx.GraphModule
    """Takes columns, state and noise, in this order; changes the state and returns the metrics."""
    metrics: list[str]
    """Their names."""
    state: list[Tensor]
    """Every tensor of the learner that an update reads or changes."""
    draws: list[Draw]
    """The random numbers, in order."""
    counted: dict[str, int]
    """How much an update adds to the learner's counters."""

    def count(self, learner: Learner) -> None:
        """Advances the counters."""
        for name, step in self.counted.items():
            setattr(learner, name, getattr(learner, name) + step)


def trace(learner: Learner, update: Learn, experience: Any) -> Trace:
    """Traces a trial update; the learner is left unchanged.

    A resumed run traces again: if the trial were its first update, it would differ from the update of an
    uninterrupted run.

    Args:
        learner: The learner; see `Learner.phase` for the requirements.
        update: `learner.learn` or a part of it.
        experience: An example input.

    Raises:
        TypeError: The update gives an attribute of the learner a new value.
    """
    metrics: Mapping[str, Tensor] = {}
    columns = columns_of(experience)

    def function(*values: Tensor) -> list[Tensor]:
        nonlocal metrics
        given = dict(zip(columns, values, strict=True))
        metrics = update(with_columns(experience, given))
        return list(metrics.values())

    before, state_before = dict(vars(learner)), copy.deepcopy(learner.state_dict())
    replaced = _DECOMPOSED | (THIN if learner.device.type == "cpu" else {})
    with _Draws() as noise:
        graph = make_fx(function, decomposition_table=replaced)(*columns.values())
    counted = _counted(learner, before)
    state = _lift(graph, [draw.example for draw in noise.draws])
    learner.load_state_dict(state_before)
    return Trace(plain(graph), list(metrics), state, noise.draws, counted)


def plain(graph: fx.GraphModule) -> fx.GraphModule:
    """A graph without the values of its trace: a compiler finds its own shapes."""
    for node in graph.graph.nodes:
        node.meta.clear()
    return fx.GraphModule({}, graph.graph)


def _counted(learner: Learner, before: Mapping[str, Any]) -> dict[str, int]:
    """How much `learn` added to the counters; a TypeError if it reassigned another attribute."""
    counted = {}
    for name, value in vars(learner).items():
        old = before.get(name)
        if type(value) is int and type(old) is int:
            counted[name] = value - old
        elif value is not old:
            raise TypeError(
                f"{type(learner).__name__}.learn gives {name!r} a new value, which a compiled update "
                "cannot repeat; change a tensor in place, or let phase return None"
            )
    return {name: step for name, step in counted.items() if step}


class _Draws(TorchFunctionMode):
    """A context in which random numbers are drawn as usual but not traced."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Draw] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return func(*args, **kwargs)
        again = functools.partial(func, *args, **kwargs)
        with disable_proxy_modes_tracing():
            self.draws.append(Draw(again, (kwargs["generator"],), again()))
        return self.draws[-1].example


def _lift(graph: fx.GraphModule, last: Sequence[Tensor]) -> list[Tensor]:
    """Turns the tensors that a graph holds into its last inputs.

    Args:
        graph: Changed in place.
        last: The tensors, used or not, that must come last, in this order.

    Returns:
        The other tensors, which come before.
    """
    held: dict[int, tuple[Tensor, list[fx.Node]]] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(value := getattr(graph, node.target), Tensor):
            held.setdefault(id(value), (value, []))[1].append(node)
    at_end = [held.pop(id(x), (x, [])) for x in last]
    replaced = [*held.values(), *at_end]
    first = next(node for node in graph.graph.nodes if node.op != "placeholder")
    with graph.graph.inserting_before(first):
        lifted = [graph.graph.placeholder(f"lifted_{i}") for i in range(len(replaced))]
    for new, (_, nodes) in zip(lifted, replaced, strict=True):
        for node in nodes:
            node.replace_all_uses_with(new)
            graph.graph.erase_node(node)
    return [tensor.detach() for tensor, _ in held.values()]


def _plain_adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    _: list[Tensor],
    steps: list[Tensor],
    *,
    lr: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    **unused: object,
) -> None:
    """The fused kernel of `updates.Adam` as operations that a compiler can fuse with others."""
    # In double precision because 1 - beta2 is small; exp because Inductor computes it once and keeps it.
    step = steps[0].double()
    step_size = (lr / (1 - (step * math.log(beta1)).exp())).float()
    scale = (1 - (step * math.log(beta2)).exp()).rsqrt().float()
    for parameter, gradient, mean, square in zip(
        parameters, gradients, means, squares, strict=True
    ):
        slope = gradient + weight_decay * parameter if weight_decay else gradient
        # torch.func cannot batch lerp_ and addcmul_.
        mean.add_(slope - mean, alpha=1 - beta1)
        square.mul_(beta2).add_(slope * slope, alpha=1 - beta2)
        parameter.sub_(step_size * mean / (square.sqrt() * scale + eps))


def _plain_norms(tensors: list[Tensor], *unused: object) -> list[Tensor]:
    """Euclidean norms, for gradient clipping."""
    return [x.square().sum().sqrt() for x in tensors]


def _plain_lerp(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Linear interpolation between tensors."""
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.add_(end - tensor, alpha=weight)


def _one_by_one(name: str) -> Callable[..., None]:
    """An operation on lists, as a method call on each tensor; torch.func cannot batch lists."""
    method = getattr(Tensor, name)

    def each(tensors: list[Tensor], other: Any, *rest: Any, **options: Any) -> None:
        for i, tensor in enumerate(tensors):
            method(tensor, other[i] if isinstance(other, list) else other, *rest, **options)

    return each


_DECOMPOSED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._fused_adam_.tensor_lr: _plain_adam,
    torch.ops.aten._foreach_norm.Scalar: _plain_norms,
    torch.ops.aten._foreach_lerp_.Scalar: _plain_lerp,
    torch.ops.aten._foreach_mul_.Tensor: _one_by_one("mul_"),
    torch.ops.aten._foreach_mul_.Scalar: _one_by_one("mul_"),
    torch.ops.aten._foreach_add_.List: _one_by_one("add_"),
}
"""Replacements for operations that the compiler would not fuse."""
