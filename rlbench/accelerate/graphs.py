"""Updates captured as one CUDA graph: a replay launches all their kernels with the same memory, without Python.

A meta-update acts in lifetimes, and both the learner and the lifetimes replace tensors instead of changing them in place.
Therefore `CapturedUpdate` copies the new tensors into the old ones at the end of the graph.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from rlbench.checks import same_shape
from rlbench.experience import Lifetimes
from rlbench.interface import Learn
from rlbench.meta_learner import MetaLearner
from rlbench.state import Stateful

Program = Callable[..., Sequence[Tensor]]
"""A function from the columns of an experience to metrics, which also changes a state in place."""


def captured(
    function: Program,
    columns: Sequence[Tensor],
    state: Sequence[Tensor],
    generators: Collection[torch.Generator],
) -> Program:
    """A function from GPU tensors to scalar metrics, as one CUDA graph.

    Args:
        function: The function, which is run a few times.
        columns: Example inputs; shapes must not change.
        state: Tensors that the function changes in place; restored afterwards.
        generators: Random generators that it uses; restored afterwards.
    """
    before, drawn = [x.clone() for x in state], [x.get_state() for x in generators]
    # The compiled function also relies on the strides of its inputs.
    held = [
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)
        for x in columns
    ]
    # Libraries initialise in their first call, which must not be captured.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        metrics = torch.stack([x.float() for x in function(*held)])
    torch._foreach_copy_(list(state), before)
    for generator, place in zip(generators, drawn, strict=True):
        generator.set_state(place)

    def replay(*columns: Tensor) -> Sequence[Tensor]:
        if held:
            torch._foreach_copy_(held, columns)
        graph.replay()
        return metrics.clone().unbind()

    return replay


class CapturedUpdate:
    """Updates a meta-learner, from lifetimes to metrics; the first call with each `Lifetimes` captures its graph."""

    def __init__(self, learner: MetaLearner, update: Learn) -> None:
        """Stores the learner and the update; captures nothing yet.

        Args:
            learner: Its tensors change in place or are replaced by others of the same shapes.
            update: `learner.learn` or a part of it, without control flow that depends on tensors.
        """
        self._learner, self._update = learner, update
        self._programs: dict[Lifetimes, tuple[list[Tensor], list[str], list[Tensor], Program]] = {}
        """Tensors of the state, names of the metrics, actions of the last update, and the graph."""

    def __call__(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """One update."""
        if lifetimes not in self._programs:
            self._programs[lifetimes] = self._captured(lifetimes)
        held, names, actions, run = self._programs[lifetimes]
        settle((self._learner, lifetimes), held)
        metrics = run()
        for x in actions:
            lifetimes.check(x)
        return dict(zip(names, metrics, strict=True))

    def _captured(
        self, lifetimes: Lifetimes
    ) -> tuple[list[Tensor], list[str], list[Tensor], Program]:
        names: list[str] = []
        actions: list[Tensor] = []
        owners = (self._learner, lifetimes)
        held = [parts[name] for parts, name in places(self._learner, Tensor)]
        # Copies, because tensors of the lifetimes may share memory at first.
        held += [parts[name].clone() for parts, name in places(lifetimes, Tensor)]

        def function() -> list[Tensor]:
            lifetimes.unchecked = []
            metrics = self._update(lifetimes)
            settle(owners, held)
            # The last call is captured; later replays write to the tensors of this call.
            names[:], actions[:] = metrics, lifetimes.unchecked
            lifetimes.unchecked = None
            return list(metrics.values())

        settle(owners, held)
        generators = [parts[name] for x in owners for parts, name in places(x, torch.Generator)]
        run = captured(function, (), [x.detach() for x in held], generators)
        return held, names, actions, run


def places(owner: Any, kind: type) -> list[tuple[dict[Any, Any], Any]]:
    """Where an object and its parts keep values of a type: pairs of a dict (of attributes or items) and a key, in fixed order."""
    parts = owner if isinstance(owner, dict) else vars(owner)
    found = []
    for key, x in parts.items():
        if isinstance(x, kind):
            found.append((parts, key))
        elif isinstance(x, dict | Stateful) or is_dataclass(x):
            found += places(x, kind)
    return found


@torch.no_grad()
def settle(owners: Sequence[object], held: Sequence[Tensor]) -> None:
    """Copies tensors that were replaced into the earlier tensors, and puts these back in their places.

    Args:
        owners: The objects that replaced some of their tensors.
        held: The earlier tensors of all `places`.
    """
    found = [place for owner in owners for place in places(owner, Tensor)]
    # All copies come first, because a new tensor may share memory with an earlier one.
    replaced = [
        (old, parts[key].clone())
        for old, (parts, key) in zip(held, found, strict=True)
        if parts[key] is not old
    ]
    for old, new in replaced:
        same_shape(old, new)
        old.copy_(new)
    for old, (parts, key) in zip(held, found, strict=True):
        parts[key] = old
