"""Compiles a whole update into one program.

`compiled_learn(learner)` is called like `learner.learn`. Once for each phase of the learner, a trial update
is traced: forward and backward passes, optimisers, targets. The compiled program of these operations then
does the updates. Small networks gain most because the overhead of an operation costs more than the
operation itself; on a GPU the kernels of an update, including random numbers, become one CUDA graph.

Random numbers are still drawn from the learner's generators in the same order: a compiled learner gets the
same noise, and its results differ only by rounding.
"""

import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, fx, nn

from rlbench.accelerate.graphs import CapturedUpdate, Program, captured
from rlbench.accelerate.precision import with_products_in
from rlbench.accelerate.trace import Draw, Trace, trace
from rlbench.errors import UserError
from rlbench.experience import columns_of
from rlbench.interface import Learn, Learner
from rlbench.meta_learner import MetaLearner

Backend = Callable[[fx.GraphModule, list[Tensor]], Callable[..., Sequence[Tensor]]]
"""Makes a function of tensors from a graph and examples of its inputs."""


def why_not(learner: Learner) -> str | None:
    """Why the learner cannot be compiled here, as a clause; None if it can."""
    name = type(learner).__name__
    if learner.phase() is None:
        some = "" if type(learner).phase is Learner.phase else " with these settings"
        return f"{name} has no compiled form{some}"
    if not is_one_program(learner):
        return f"the encoder of {name} does other operations for other images (padding)"
    if isinstance(learner, MetaLearner) and learner.device.type != "cuda":
        return f"{name} has no compiled form on the device {learner.device}, only on a CUDA GPU"
    if learner.device.type not in ("cpu", "cuda"):
        return f"there is no compiled form on the device {learner.device}"
    if learner.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        return "no C++ compiler (g++, clang++ or cl) was found"
    return None


def is_one_program(learner: Learner) -> bool:
    """Whether the networks do the same operations for all observations."""
    networks = [x for x in vars(learner).values() if isinstance(x, nn.Module)]
    return all(getattr(layer, "one_program", True) for x in networks for layer in x.modules())


def inductor(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """PyTorch's compiler; on a CPU it turns the whole graph into one C++ function."""
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    on_cpu = inputs[0].device.type == "cpu"
    options: dict[str, Any] = {
        "cpp_wrapper": on_cpu,
        "compile_threads": 1,  # Starting a pool takes longer than it saves for one or two programs.
        "cpp.threads": torch.get_num_threads(),  # The default; explicit as part of the cache key.
    }
    # Required by the compiler's cache, in which the next run of the same update finds the program.
    fake = FakeTensorMode(shape_env=ShapeEnv())
    examples = [fake.from_tensor(x, static_shapes=True) for x in inputs]
    with config.patch(options), tracing(TracingContext(fake)), catch_warnings():
        # It advises to round products.
        filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        try:
            function: Any = compile_fx(graph, examples)
        except Exception as error:  # Any fault of a user's compiler.
            if not on_cpu:
                # Unfused kernels still make one CUDA graph, which gives most of the gain.
                return interpreted(graph, inputs)
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"the update could not be compiled ({told}); start the run with --compile off"
            ) from error
    return cast(Callable[..., Sequence[Tensor]], function)


def interpreted(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """No compiler: the recorded operations one by one."""
    return graph.forward


def compiled_learn(
    learner: Learner, backend: Backend = inductor, precision: str = "float32"
) -> Learn:
    """`learner.learn` with compiled updates; `Learner.phase` lists the requirements.

    Args:
        learner: The learner to update.
        backend: The compiler; updates of a meta-learner are only captured.
        precision: Precision of matrix products, as in `with_products_in`.
    """

    def compiler(update: Learn) -> Learn:
        update = with_products_in(precision, update)
        if isinstance(learner, MetaLearner):
            return CapturedUpdate(learner, update)
        return Compiled(learner, update, backend)

    return learner.compiled(compiler)


class Compiled:
    """Updates a learner, from a dataclass of tensors to metrics."""

    def __init__(self, learner: Learner, update: Learn, backend: Backend) -> None:
        """Compiles nothing yet.

        Args:
            learner: Its state changes in place, as by `update`.
            update: `learner.learn` or a part of it.
            backend: The compiler.
        """
        self._learner = learner
        self._update = update
        self._backend = backend
        self._programs: dict[Hashable, tuple[Trace, Program]] = {}

    def __call__(self, experience: Any) -> Mapping[str, Tensor]:
        """One update."""
        columns = list(columns_of(experience).values())
        key = (self._learner.phase(), *(x.shape for x in columns))
        if key not in self._programs:
            new = trace(self._learner, self._update, experience)
            run = program(new.graph, columns, new.state, new.draws, self._backend)
            self._programs[key] = new, run
        traced, run = self._programs[key]
        traced.count(self._learner)
        return dict(zip(traced.metrics, run(*columns), strict=True))


def program(
    graph: fx.GraphModule,
    columns: Sequence[Tensor],
    state: Sequence[Tensor],
    draws: Sequence[Draw],
    backend: Backend,
) -> Program:
    """A compiled graph with its state and random numbers.

    Args:
        graph: A graph with the inputs columns, state and noise.
        columns: Example inputs.
        state: Tensors that the program changes in place; unchanged here.
        draws: Generate the noise.
        backend: The compiler.
    """
    function = backend(graph, [*columns, *state, *(draw.example for draw in draws)])

    def run(*columns: Tensor) -> Sequence[Tensor]:
        return function(*columns, *state, *(draw.again() for draw in draws))

    if state[0].device.type != "cuda":
        return run
    generators = {generator for draw in draws for generator in draw.generators}
    return captured(run, columns, state, generators)
