"""A whole update as one compiled program.

`compiled_learn(agent)` is called like `agent.learn`. Once for each phase of the agent, an update runs
on trial while its operations are written down: forward and backward passes, optimisers, targets. A
compiled program of them then does the updates. Small networks gain most, for there the surroundings
of an operation cost more than the operation itself.

Random numbers are still drawn from the agent's generators in the same order: a compiled agent sees
the same noise, and differs by rounding only.
"""

import copy
import dataclasses
import functools
import math
import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from rlbench.errors import UserError
from rlbench.interface import Agent, Learn

Backend = Callable[[fx.GraphModule, list[Tensor]], Callable[..., Sequence[Tensor]]]
"""Makes a function of tensors from a graph and examples of its inputs."""


def why_not(agent: Agent) -> str | None:
    """Why the agent cannot be compiled here, as a clause; None where it can."""
    if agent.phase() is None:
        return f"{type(agent).__name__} has no compiled form"
    if agent.device.type not in ("cpu", "cuda"):
        return f"there is no compiled form on the device {agent.device}"
    if agent.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        return "no C++ compiler (g++, clang++ or cl) is to be found"
    return None


def inductor(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """PyTorch's compiler; on a CPU it makes one C++ function of the whole graph."""
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    # A pool of compilers costs more to start than a program or two could gain.
    with config.patch(cpp_wrapper=inputs[0].device.type == "cpu", compile_threads=1):
        try:
            function: Any = compile_fx(graph, inputs)
        except Exception as error:  # Whatever is wrong with a user's compiler.
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"the update could not be compiled ({told}); start the run with --compile off"
            ) from error
    return cast(Callable[..., Sequence[Tensor]], function)


def compiled_learn(agent: Agent, backend: Backend = inductor) -> Learn:
    """`agent.learn` with its updates compiled; `Agent.phase` says what that asks of an agent."""
    return agent.compiled(lambda update: Compiled(agent, update, backend))


class Compiled:
    """A function that updates an agent, from a dataclass of tensors to metrics."""

    def __init__(self, agent: Agent, update: Learn, backend: Backend) -> None:
        """Compiles nothing yet.

        Args:
            agent: Its state changes in place, as by `update`.
            update: `agent.learn` or a part of it.
            backend: The compiler.
        """
        self._agent = agent
        self._update = update
        self._backend = backend
        self._programs: dict[Hashable, _Program] = {}

    def __call__(self, experience: Any) -> Mapping[str, Tensor]:
        """One update."""
        values = {f.name: getattr(experience, f.name) for f in dataclasses.fields(experience)}
        columns = {name: x for name, x in values.items() if isinstance(x, Tensor)}
        key = (self._agent.phase(), *(x.shape for x in columns.values()))
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = self._record(experience, columns)
        for name, step in program.counted.items():
            setattr(self._agent, name, getattr(self._agent, name) + step)
        noise = [draw() for draw in program.draws]
        outputs = program.function(*columns.values(), *program.state, *noise)
        return dict(zip(program.metrics, outputs, strict=True))

    def _record(self, experience: Any, columns: dict[str, Tensor]) -> "_Program":
        """The program of an update; the agent is left as it was.

        A run that is resumed records anew: were its first update the recorded one, it would differ
        from that of a run that went on.
        """
        metrics: Mapping[str, Tensor] = {}

        def update(*values: Tensor) -> list[Tensor]:
            nonlocal metrics
            given = dict(zip(columns, values, strict=True))
            metrics = self._update(dataclasses.replace(experience, **given))
            return list(metrics.values())

        before, state_before = dict(vars(self._agent)), copy.deepcopy(self._agent.state_dict())
        graph = make_fx(update, decomposition_table=_DECOMPOSED)(*columns.values())
        counted = _counted(self._agent, before)
        self._agent.load_state_dict(state_before)
        state, noise, draws = _lift(graph)
        function = self._backend(
            fx.GraphModule({}, graph.graph), [*columns.values(), *state, *noise]
        )
        return _Program(function, list(metrics), state, draws, counted)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The updates of one phase."""

    function: Callable[..., Sequence[Tensor]]
    """Of the experience's columns, the state and the noise; gives the metrics."""
    metrics: list[str]
    """Their names."""
    state: list[Tensor]
    """Every tensor of the agent that an update reads or writes."""
    draws: list[Callable[[], Tensor]]
    """The random numbers of an update, in order."""
    counted: dict[str, int]
    """How far an update moves the agent's counters."""


def _counted(agent: Agent, before: Mapping[str, Any]) -> dict[str, int]:
    """How far `learn` moved the counters; a TypeError where it gave another attribute a new value."""
    counted = {}
    for name, value in vars(agent).items():
        old = before.get(name)
        if type(value) is int and type(old) is int:
            counted[name] = value - old
        elif value is not old:
            raise TypeError(
                f"{type(agent).__name__}.learn gives {name!r} a new value, which a compiled update "
                "cannot repeat; change a tensor in place, or let phase return None"
            )
    return {name: step for name, step in counted.items() if step}


def _lift(
    graph: fx.GraphModule,
) -> tuple[list[Tensor], list[Tensor], list[Callable[[], Tensor]]]:
    """Turns the tensors that a graph holds and the noise that it draws into its last inputs.

    Returns:
        The tensors, noise of the same shapes as the graph's, and what draws such noise.
    """
    held: dict[int, tuple[Tensor, list[fx.Node]]] = {}
    drawn: list[fx.Node] = []
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(value := getattr(graph, node.target), Tensor):
            held.setdefault(id(value), (value, []))[1].append(node)
        elif "generator" in node.kwargs:
            drawn.append(node)
    draws = [_draw(graph, node) for node in drawn]
    shapes = [node.meta["val"] for node in drawn]
    noise = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in shapes]

    replaced = [*(nodes for _, nodes in held.values()), *([node] for node in drawn)]
    first = next(node for node in graph.graph.nodes if node.op != "placeholder")
    with graph.graph.inserting_before(first):
        lifted = [graph.graph.placeholder(f"lifted_{i}") for i in range(len(replaced))]
    for new, nodes in zip(lifted, replaced, strict=True):
        for node in nodes:
            node.replace_all_uses_with(new)
            graph.graph.erase_node(node)
    for node in graph.graph.nodes:
        # What the recording saw belongs to it alone; the compiler finds its own shapes.
        node.meta.clear()
        if node.op == "get_attr" and not node.users:  # A generator.
            graph.graph.erase_node(node)
    return [tensor.detach() for tensor, _ in held.values()], noise, draws


def _draw(graph: fx.GraphModule, node: Any) -> Callable[[], Tensor]:
    """What a node draws, without the graph around it."""
    generator = getattr(graph, node.kwargs["generator"].target)
    return functools.partial(node.target, *node.args, **{**node.kwargs, "generator": generator})


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
    # In double precision, for 1 - beta2 is small; exp, because Inductor computes it once and keeps it.
    step = steps[0].double()
    step_size = (lr / (1 - (step * math.log(beta1)).exp())).float()
    scale = (1 - (step * math.log(beta2)).exp()).rsqrt().float()
    for parameter, gradient, mean, square in zip(
        parameters, gradients, means, squares, strict=True
    ):
        slope = gradient + weight_decay * parameter if weight_decay else gradient
        mean.lerp_(slope, 1 - beta1)
        square.mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
        parameter.sub_(step_size * mean / (square.sqrt() * scale + eps))


def _plain_norms(tensors: list[Tensor], *unused: object) -> list[Tensor]:
    """Euclidean norms, for the shortening of gradients."""
    return [x.square().sum().sqrt() for x in tensors]


_DECOMPOSED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._fused_adam_.tensor_lr: _plain_adam,
    torch.ops.aten._foreach_norm.Scalar: _plain_norms,
}
"""Operations that the compiler would leave as they are."""
