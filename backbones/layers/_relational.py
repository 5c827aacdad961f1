"""The interface of networks that make predictions for each agent from sequences of graphs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlbench.backbones.layers.graph import Links, connect
from rlbench.interface import State

NO_EDGES = {"among_agents": False, "from_entities": False}


class Shape(NamedTuple):
    """What a network reads and predicts."""

    agents: int
    """Number of agents, A: the first nodes."""
    entities: int
    """Number of entities: the nodes after the agents."""
    features: int
    """Length of a node's vector, D."""
    out: int
    """Length of the prediction for each agent: number of actions for logits, 1 for a return."""
    context: int = 0
    """Length of the context, a vector for the whole graph such as the fraction of time that has passed; 0 for none."""


class Prediction(NamedTuple):
    """Predictions for each agent; a single step has no dimension T."""

    out: Tensor
    """[T, B, A, out]."""
    state: State
    """State after the last step, batch first."""
    edges: dict[str, Tensor]
    """Activations by layer, [T, B, E, ...] in the order of the network's `links`, for analysis."""


class Relational(nn.Module, ABC):
    """A network over sequences of graphs; its state is a flat dict of batch-first tensors."""

    def __init__(self, shape: Shape, connections: Mapping[str, bool] = NO_EDGES) -> None:
        """For graphs of this shape; `connections` are arguments of `connect`, which makes the edges."""
        super().__init__()
        self.shape = shape
        self.connections = dict(connections)
        # The edges for the network's own shape are made once: in a traced update they are constants.
        self.links = self.links_of(shape.agents, shape.entities)

    def links_of(self, agents: int, entities: int) -> Links:
        """The edges of graphs with these numbers of nodes."""
        return connect(agents, entities, **self.connections)

    @abstractmethod
    def initial_state(self, batch: int, agents: int, links: Links, like: Tensor) -> State:
        """The state before the first step of an episode: zeros of the type and device of `like`."""

    @abstractmethod
    def unroll(
        self,
        nodes: Tensor,
        context: Tensor,
        links: Links,
        agents: int,
        state: State,
        keep: Tensor,
        mask: Tensor | None,
        noise: Tensor | None,
    ) -> Prediction:
        """See `forward`.

        Args:
            nodes: [T, B, N, D].
            context: [T, B, C], with C = 0 if there is none.
            links: The edges of these graphs.
            agents: Number of agents, A.
            state: State before the first step.
            keep: 0.0 where an episode begins, else 1.0, [T, B].
            mask: 1.0 for nodes that exist, [T, B, N]; None if all do.
            noise: Standard normal noise, or None.
        """

    def forward(
        self,
        nodes: Tensor,
        reset: Tensor,
        state: State | None = None,
        *,
        agents: int | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Prediction:
        """Predictions for all agents at all steps, each from this step and those before it.

        Args:
            nodes: Features of the nodes, agents first, [T, B, N, D].
            reset: Above 0 where an episode begins, so that the state is reset before the step, [T, B].
            state: State before the first step; by default, the state at the start of an episode.
            agents: Number of agents, A, if it differs from the number that the network was made for.
            mask: 1.0 for nodes that exist, 0.0 for padding, [T, B, N]; None if all exist. The
                predictions for agents that do not exist are meaningless.
            context: [T, B, C], if the network's shape has a context.
            noise: Standard normal, [T, B, *noise_shape], for networks that sample edge types; without
                it they use probabilities.
        """
        time, batch, count, _ = nodes.shape
        agents = self.shape.agents if agents is None else agents
        links = self.links
        if (agents, count - agents) != self.shape[:2]:
            links = self.links_of(agents, count - agents).to(nodes.device)
        state = self.initial_state(batch, agents, links, nodes) if state is None else state
        if context is None:
            context = nodes.new_zeros(time, batch, self.shape.context)
        keep = (reset <= 0).to(nodes.dtype)
        return self.unroll(nodes, context, links, agents, state, keep, mask, noise)

    def step(
        self,
        nodes: Tensor,
        reset: Tensor,
        state: State | None = None,
        *,
        agents: int | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Prediction:
        """One step; see `forward`, without the dimension T."""
        out, state, edges = self(
            nodes[None],
            reset[None],
            state,
            agents=agents,
            mask=None if mask is None else mask[None],
            context=None if context is None else context[None],
            noise=None if noise is None else noise[None],
        )
        return Prediction(out[0], state, {name: x[0] for name, x in edges.items()})


def with_context(nodes: Tensor, context: Tensor) -> Tensor:
    """Node features with the context appended, [T, B, N, D + C], of [T, B, N, D] and [T, B, C]."""
    return torch.cat([nodes, context[:, :, None].expand(-1, -1, nodes.shape[2], -1)], dim=-1)
