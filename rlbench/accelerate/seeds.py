"""Agents that differ only in their seeds, trained as one batched program.

The update of one learner is recorded and batched over all of them (torch.func.vmap): each product
becomes a batch of products, which takes a GPU little more time than one. Noise still comes from each
learner's own generators, so the results differ only by rounding from training it alone.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from rlbench.accelerate.compile import Backend, inductor, program
from rlbench.accelerate.graphs import Program
from rlbench.accelerate.precision import with_products_in
from rlbench.accelerate.trace import Draw, Trace, plain, trace
from rlbench.experience import columns_of, with_columns
from rlbench.interface import Learner


class SeedBatch:
    """S learners of one class with the same settings.

    During training their state is kept in stacked tensors; `write_back` copies it to the learners.
    """

    def __init__(
        self, learners: Sequence[Learner], backend: Backend = inductor, precision: str = "float32"
    ) -> None:
        """Starts from the present state of the learners.

        Args:
            learners: The learners; they must always be in the same phase.
            backend: The compiler.
            precision: Precision of matrix products, as in `with_products_in`.
        """
        self._learners = learners
        self._backend = backend
        self._precision = precision
        self._programs: dict[Hashable, tuple[list[Trace], Program]] = {}
        self._stacks: dict[Hashable, tuple[Tensor, list[Tensor]]] = {}
        """Stacked state, [S, ...], and the learners' own tensors."""

    def learn(self, experience: Any) -> list[Mapping[str, Tensor]]:
        """One update of each learner.

        Args:
            experience: An experience whose columns are [S, ...]: the learners' own, stacked.

        Returns:
            The metrics of each learner.
        """
        columns = columns_of(experience)
        key = (self._learners[0].phase(), *(x.shape for x in columns.values()))
        if key not in self._programs:
            self._programs[key] = self._trace(experience, columns)
        traces, run = self._programs[key]
        for learner, traced in zip(self._learners, traces, strict=True):
            traced.count(learner)
        metrics = run(*columns.values())
        rows = zip(*(x.unbind() for x in metrics), strict=True)
        return [dict(zip(traces[0].metrics, row, strict=True)) for row in rows]

    @torch.no_grad()
    def write_back(self) -> None:
        """Copies the learned state to the learners."""
        for stack, own in self._stacks.values():
            torch._foreach_copy_(own, list(stack.unbind()))

    def _trace(self, experience: Any, columns: Mapping[str, Tensor]) -> tuple[list[Trace], Program]:
        traces = []
        for i, learner in enumerate(self._learners):
            own = with_columns(experience, {name: x[i] for name, x in columns.items()})
            learn = with_products_in(self._precision, learner.learn)
            traces.append(trace(learner, learn, own))
        # Tensors that earlier phases did not change are stacked now, from the learners.
        state = [self._stack(own) for own in _across([r.state for r in traces])]
        draws = [_stacked(draws) for draws in _across([r.draws for r in traces])]
        given, noise = list(columns.values()), [draw.example for draw in draws]
        before = [x.clone() for x in state]
        batched = make_fx(torch.func.vmap(traces[0].graph))(*given, *state, *noise)
        torch._foreach_copy_(state, before)
        return traces, program(plain(batched), given, state, draws, self._backend)

    def _stack(self, own: list[Tensor]) -> Tensor:
        """The stack of one tensor of each learner; phases share it."""
        key = (own[0].data_ptr(), own[0].shape, own[0].stride())
        if key not in self._stacks:
            self._stacks[key] = torch.stack(own), own
        return self._stacks[key][0]


def _stacked(draws: Sequence[Draw]) -> Draw:
    """The random numbers of each learner, from its own generator."""
    return Draw(
        again=lambda: torch.stack([draw.again() for draw in draws]),
        generators=tuple(generator for draw in draws for generator in draw.generators),
        example=torch.stack([draw.example for draw in draws]),
    )


def _across(lists: Sequence[list[Any]]) -> list[list[Any]]:
    """Lists of the learners' first, second, ... entries."""
    return [list(entries) for entries in zip(*lists, strict=True)]
