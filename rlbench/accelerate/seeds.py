"""Agents that differ in their seeds alone, learning as one batched program.

The update of one agent is recorded and batched over all of them (torch.func.vmap): each product
becomes a batch of products, which a GPU does in little more time than one. Noise still comes from each
agent's own generators, so an agent differs by rounding only from one that learns by itself.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from rlbench.accelerate.compile import Backend, Program, inductor, program
from rlbench.accelerate.precision import with_products_in
from rlbench.accelerate.trace import Draw, Trace, columns_of, plain, trace
from rlbench.interface import Agent


class SeedBatch:
    """S agents of one class with the same settings.

    While they learn, their state lies in stacked tensors; `write_back` brings it to the agents.
    """

    def __init__(
        self, agents: Sequence[Agent], backend: Backend = inductor, precision: str = "float32"
    ) -> None:
        """Begins with the agents as they are.

        Args:
            agents: In the same phase at all times.
            backend: The compiler.
            precision: Of matrix products, as in `with_products_in`.
        """
        self._agents = agents
        self._backend = backend
        self._precision = precision
        self._programs: dict[Hashable, tuple[list[Trace], Program]] = {}
        self._stacks: dict[Hashable, tuple[Tensor, list[Tensor]]] = {}
        """Stacked state, [S, ...], and the agents' own tensors."""

    def learn(self, experience: Any) -> list[Mapping[str, Tensor]]:
        """One update of each agent.

        Args:
            experience: A dataclass of tensors [S, ...]: the agents' own, stacked.

        Returns:
            The metrics of each.
        """
        columns = columns_of(experience)
        key = (self._agents[0].phase(), *(x.shape for x in columns.values()))
        if key not in self._programs:
            self._programs[key] = self._trace(experience, columns)
        traces, run = self._programs[key]
        for agent, traced in zip(self._agents, traces, strict=True):
            traced.count(agent)
        metrics = run(*columns.values())
        rows = zip(*(x.unbind() for x in metrics), strict=True)
        return [dict(zip(traces[0].metrics, row, strict=True)) for row in rows]

    @torch.no_grad()
    def write_back(self) -> None:
        """Gives the agents the state that they have learned."""
        for stack, own in self._stacks.values():
            torch._foreach_copy_(own, list(stack.unbind()))

    def _trace(self, experience: Any, columns: Mapping[str, Tensor]) -> tuple[list[Trace], Program]:
        traces = []
        for i, agent in enumerate(self._agents):
            own = dataclasses.replace(experience, **{name: x[i] for name, x in columns.items()})
            learn = with_products_in(self._precision, agent.learn)
            traces.append(trace(agent, learn, own))
        # Tensors that an earlier phase has not changed are stacked now, from the agents.
        state = [self._stack(own) for own in _across([r.state for r in traces])]
        draws = [_stacked(draws) for draws in _across([r.draws for r in traces])]
        given, noise = list(columns.values()), [draw.example for draw in draws]
        before = [x.clone() for x in state]
        batched = make_fx(torch.func.vmap(traces[0].graph))(*given, *state, *noise)
        torch._foreach_copy_(state, before)
        return traces, program(plain(batched), given, state, draws, self._backend)

    def _stack(self, own: list[Tensor]) -> Tensor:
        """The stacked tensor of one tensor of each agent; two phases share it."""
        key = (own[0].data_ptr(), own[0].shape, own[0].stride())
        if key not in self._stacks:
            self._stacks[key] = torch.stack(own), own
        return self._stacks[key][0]


def _stacked(draws: Sequence[Draw]) -> Draw:
    """What each agent draws, from its own generator."""
    return Draw(
        again=lambda: torch.stack([draw.again() for draw in draws]),
        generators=tuple(generator for draw in draws for generator in draw.generators),
        example=torch.stack([draw.example for draw in draws]),
    )


def _across(lists: Sequence[list[Any]]) -> list[list[Any]]:
    """Lists of the agents' first, second, ... entries."""
    return [list(entries) for entries in zip(*lists, strict=True)]
