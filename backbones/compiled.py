"""A whole update as one compiled program.

`compiled_learn(agent)` is called like `agent.learn`. Once for each phase of the agent, an update runs
on trial while its operations are written down: forward and backward passes, optimisers, targets. A
compiled program of them then does the updates. Small networks gain most, for there the surroundings
of an operation cost more than the operation itself; on a GPU the kernels of an update become one CUDA
graph, which is launched as a whole.

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
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.overrides import TorchFunctionMode

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
    with (
        config.patch(cpp_wrapper=inputs[0].device.type == "cpu", compile_threads=1),
        catch_warnings(),
    ):
        # It advises to round products.
        filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        try:
            function: Any = compile_fx(graph, inputs)
        except Exception as error:  # Whatever is wrong with a user's compiler.
            if inputs[0].device.type == "cuda":
                # Unfused kernels still make one CUDA graph, which is most of what there is to gain.
                return graph.forward
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
        outputs = program.function(*columns.values(), *noise)
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
        with _Draws() as noise:
            graph = make_fx(update, decomposition_table=_DECOMPOSED)(*columns.values())
        counted = _counted(self._agent, before)
        state = _lift(graph, noise.drawn)
        compiled = self._backend(
            fx.GraphModule({}, graph.graph), [*columns.values(), *state, *noise.drawn]
        )

        def function(*given: Tensor) -> Sequence[Tensor]:
            return compiled(*given[: len(columns)], *state, *given[len(columns) :])

        if self._agent.device.type == "cuda":
            function = captured(function, [*columns.values(), *noise.drawn])
        self._agent.load_state_dict(state_before)
        return _Program(function, list(metrics), noise.draws, counted)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The updates of one phase."""

    function: Callable[..., Sequence[Tensor]]
    """Of the experience's columns and the noise; gives the metrics."""
    metrics: list[str]
    """Their names."""
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


def captured(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """A function of tensors on a GPU to scalars, as one CUDA graph.

    Args:
        function: It is run a few times, and may change tensors that it holds.
        inputs: Examples; shapes may not change.
    """
    # Strides too are as in the examples, for the compiler counts on them.
    held = [
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)
        for x in inputs
    ]
    # Libraries get ready at their first call, which may not be captured.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scalars = torch.stack([x.float() for x in function(*held)])

    def replay(*given: Tensor) -> Sequence[Tensor]:
        torch._foreach_copy_(held, given)
        graph.replay()
        return scalars.clone().unbind()

    return replay


class _Draws(TorchFunctionMode):
    """While it is entered, random numbers are drawn as ever, but no recording sees them drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Callable[[], Tensor]] = []
        """Each draws again from its generator, in order."""
        self.drawn: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return func(*args, **kwargs)
        self.draws.append(functools.partial(func, *args, **kwargs))
        with disable_proxy_modes_tracing():
            self.drawn.append(self.draws[-1]())
        return self.drawn[-1]


def _lift(graph: fx.GraphModule, last: Sequence[Tensor]) -> list[Tensor]:
    """Turns the tensors that a graph holds into its last inputs.

    Args:
        graph: Changed in place.
        last: Those of them, or unused ones, that shall come last, in this order.

    Returns:
        The others, which come before.
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
    for node in graph.graph.nodes:
        # What the recording saw belongs to it alone; the compiler finds its own shapes.
        node.meta.clear()
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
