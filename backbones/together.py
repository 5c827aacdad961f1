"""Agents that differ in their seeds alone, learning as one batched program.

The update of one agent is recorded and batched over all of them (torch.func.vmap): each product
becomes a batch of products, which a GPU does in little more time than one. Noise still comes from each
agent's own generators, so an agent differs by rounding only from one that learns by itself.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from rlbench.backbones.compiled import Backend, Program, inductor, program
from rlbench.backbones.recording import Recording, columns_of, plain, record
from rlbench.interface import Agent


class Together:
    """S agents of one class with the same settings.

    While they learn, their state lies in stacked tensors; `write_back` brings it to the agents.
    """

    def __init__(self, agents: Sequence[Agent], backend: Backend = inductor) -> None:
        """Begins with the agents as they are; they must be in the same phase at all times."""
        self._agents = agents
        self._backend = backend
        self._programs: dict[Hashable, tuple[list[Recording], Program]] = {}
        self._stacks: dict[Hashable, tuple[Tensor, list[Tensor]]] = {}
        """Stacked state, [S, ...], and the agents' own tensors."""

    def learn(self, experience: Sequence[Any]) -> list[Mapping[str, Tensor]]:
        """One update of each agent, from its own experience; the metrics of each."""
        each = [list(columns_of(x).values()) for x in experience]
        columns = [torch.stack(x) for x in zip(*each, strict=True)]
        key = (self._agents[0].phase(), *(x.shape for x in columns))
        if key not in self._programs:
            self._programs[key] = self._record(experience, columns)
        recordings, run = self._programs[key]
        for agent, recording in zip(self._agents, recordings, strict=True):
            recording.count(agent)
        noise = [
            torch.stack([draw() for draw in x]) for x in _across([r.draws for r in recordings])
        ]
        metrics = run(*columns, *noise)
        rows = zip(*(x.unbind() for x in metrics), strict=True)
        return [dict(zip(recordings[0].metrics, row, strict=True)) for row in rows]

    @torch.no_grad()
    def write_back(self) -> None:
        """Gives the agents the state that they have learned."""
        for stack, own in self._stacks.values():
            torch._foreach_copy_(own, list(stack.unbind()))

    def _record(
        self, experience: Sequence[Any], columns: list[Tensor]
    ) -> tuple[list[Recording], Program]:
        # Tensors that an earlier phase has not changed are stacked now, from the agents.
        recordings = [
            record(agent, agent.learn, x) for agent, x in zip(self._agents, experience, strict=True)
        ]
        state = [self._stack(own) for own in _across([r.state for r in recordings])]
        noise = [torch.stack(x) for x in _across([r.noise for r in recordings])]
        before = [x.clone() for x in state]
        batched = make_fx(torch.func.vmap(recordings[0].graph))(*columns, *state, *noise)
        torch._foreach_copy_(state, before)
        return recordings, program(plain(batched), columns, state, noise, self._backend)

    def _stack(self, own: list[Tensor]) -> Tensor:
        """The stacked tensor of one tensor of each agent; two phases share it."""
        key = (own[0].data_ptr(), own[0].shape, own[0].stride())
        if key not in self._stacks:
            self._stacks[key] = torch.stack(own), own
        return self._stacks[key][0]


def _across(lists: Sequence[list[Any]]) -> list[list[Any]]:
    """Lists of the agents' first, second, ... entries."""
    return [list(entries) for entries in zip(*lists, strict=True)]
