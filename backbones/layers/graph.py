"""Graph networks: networks for graphs of any size, with weights shared by all nodes.

A graph has edges e_k from node s_k to node r_k, nodes v_i and a context u. A block updates them in this order:

    e'_k = phi_e([e_k, v_{r_k}, v_{s_k}, u])
    m_i  = sum_{k: r_k = i} e'_k                    sum (or mean) over the incoming edges of node i
    v'_i = phi_v([m_i, v_i, u])
    u'   = phi_u([mean_k e'_k, mean_i v'_i, u])

In a graph GRU the three functions are gated recurrent units with a state for each edge, each node and
the context. The inputs of a unit come from the current graph and from the new states of the level below
(edges, nodes, context), never from the previous state of another level. So the edges can be unrolled over
all steps, then the nodes, then the context, and the input products are computed for all steps at once.

The product of a weight with [e_k, v_{r_k}, v_{s_k}, u] is a sum of four products, of which those with nodes
are computed once per node instead of once per edge. A part of width 0 is left out together with its function.

In these tensors the batch dimension follows the nodes, [..., N, B, D]: gathering the senders of edges then copies
long rows, which takes half as long as with [..., B, N, D].

Battaglia et al., 2018, https://arxiv.org/abs/1806.01261, and the defaults of its library, graph_nets, except that the
context reads means instead of sums: with sums over all edges, which are large, networks learned half as fast. The graph
GRU is ours and follows the pattern of the library's recurrent blocks.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers.mlp import MLP

Core = Literal["gn", "independent"]
Reducer = Literal["sum", "mean"]


class Graph(NamedTuple):
    """Graphs with the same connectivity; leading dimensions, such as time, are the same for all parts."""

    edges: Tensor
    """[..., E, B, De]."""
    nodes: Tensor
    """[..., N, B, Dv]."""
    context: Tensor
    """[..., B, Du]."""


class Widths(NamedTuple):
    """Lengths of the vectors of edges, nodes and context; 0 if a graph has none."""

    edges: int
    nodes: int
    context: int


class Links(nn.Module):
    """The connectivity of a graph: which nodes its edges connect."""

    senders: Tensor
    receivers: Tensor
    degrees: Tensor
    features: Tensor

    def __init__(
        self, senders: Sequence[int], receivers: Sequence[int], nodes: int, features: Tensor
    ) -> None:
        """Edges sorted by receiver.

        Args:
            senders: The node at which each edge starts.
            receivers: The node at which each edge ends, in ascending order.
            nodes: Number of nodes, N.
            features: Features of each edge, the same at all steps, [E, De].
        """
        super().__init__()
        if list(receivers) != sorted(receivers):
            raise ValueError("expected edges in the order of their receivers")
        arrive = torch.tensor(receivers, dtype=torch.int64)
        degrees = arrive.bincount(minlength=nodes)
        # Indices follow from the number of nodes, so checkpoints do not need them.
        self.register_buffer("senders", torch.tensor(senders, dtype=torch.int64), persistent=False)
        self.register_buffer("receivers", arrive, persistent=False)
        self.register_buffer("degrees", degrees, persistent=False)
        self.register_buffer("features", features, persistent=False)
        # Nodes from this one on have no incoming edges; products for receivers leave them out.
        self.reached = max(receivers, default=-1) + 1
        # Consecutive nodes with equally many incoming edges: their sums are one sum over a view, which is
        # several times faster than `index_add`.
        counts, lengths = degrees.unique_consecutive(return_counts=True)
        self.rows: list[tuple[int, int]] = list(zip(lengths.tolist(), counts.tolist(), strict=True))

    def between(self, nodes: Tensor) -> Tensor:
        """1.0 for edges between nodes that exist, [..., E, B]; `nodes` is 1.0 for nodes that exist, [..., N, B]."""
        return nodes.index_select(-2, self.senders) * nodes.index_select(-2, self.receivers)

    def arriving(self, edges: Tensor) -> Tensor:
        """Sums over the incoming edges of each node: [..., E, B, D] to [..., N, B, D]."""
        sums, start = [], 0
        for nodes, degree in self.rows:
            part = edges.narrow(-3, start, nodes * degree)
            sums.append(part.unflatten(-3, (nodes, degree)).sum(-3))
            start += nodes * degree
        return torch.cat(sums, dim=-3)


def connect(
    agents: int,
    entities: int,
    *,
    among_agents: bool = True,
    from_entities: bool = True,
    to_entities: bool = False,
) -> Links:
    """Edges between agents, which are the first nodes, and entities, which follow.

    The feature of an edge is 1 between agents, which form one team, else 0.

    Args:
        agents: Number of agents, A.
        entities: Number of entities.
        among_agents: Whether each agent has an edge to each other agent.
        from_entities: Whether each entity has an edge to each agent.
        to_entities: Whether each agent has an edge to each entity.
    """
    nodes = agents + entities
    pairs = []
    for receiver in range(nodes):
        senders = range(agents, nodes) if from_entities else range(0)
        if receiver >= agents:
            senders = range(agents) if to_entities else range(0)
        elif among_agents:
            pairs += [(sender, receiver) for sender in range(agents) if sender != receiver]
        pairs += [(sender, receiver) for sender in senders]
    one_team = [[float(s < agents and r < agents)] for s, r in pairs]
    features = torch.tensor(one_team).reshape(-1, 1)
    return Links([s for s, _ in pairs], [r for _, r in pairs], nodes, features)


def edge_product(weight: Tensor, bias: Tensor, graph: Graph, links: Links) -> Tensor:
    """The product weight [e_k, v_{r_k}, v_{s_k}, u] + bias for all edges, [..., E, B, out]."""
    edges, nodes, context = graph
    sizes = [edges.shape[-1], nodes.shape[-1], nodes.shape[-1], context.shape[-1]]
    of_edge, of_receiver, of_sender, of_context = weight.split(sizes, dim=1)
    # The context is the same for all receivers, so it is added to them, which are fewer than the edges.
    received = F.linear(nodes.narrow(-3, 0, links.reached), of_receiver, bias)
    if sizes[3]:
        received = received + F.linear(context, of_context).unsqueeze(-3)
    out = received.index_select(-3, links.receivers)
    out = out.add_(F.linear(nodes, of_sender).index_select(-3, links.senders))
    return out.add_(F.linear(edges, of_edge)) if sizes[0] else out


def node_product(
    weight: Tensor, bias: Tensor, arrived: Tensor, nodes: Tensor, context: Tensor
) -> Tensor:
    """The product weight [m_i, v_i, u] + bias for all nodes, [..., N, B, out]; `arrived` is m, [..., N, B, D]."""
    own = torch.cat([arrived, nodes], dim=-1)
    of_own, of_context = weight.split([own.shape[-1], context.shape[-1]], dim=1)
    out = F.linear(own, of_own, bias)
    return out.add_(F.linear(context, of_context).unsqueeze(-3)) if context.shape[-1] else out


def arriving(edges: Tensor, links: Links, mask: Tensor | None, reducer: Reducer) -> Tensor:
    """m: sums or means over the incoming edges of each node, [..., N, B, D].

    Args:
        edges: [..., E, B, D].
        links: Connectivity of the graph.
        mask: 1.0 for nodes that exist, [..., N, B]; None if all do.
        reducer: Sum or mean; the mean over no edges is 0.
    """
    exist = None if mask is None else links.between(mask)[..., None]
    total = links.arriving(edges if exist is None else edges * exist)
    if reducer == "sum":
        return total
    counts = links.degrees[:, None, None] if exist is None else links.arriving(exist)
    return total / counts.clamp(min=1)


def pooled(edges: Tensor, nodes: Tensor, links: Links, mask: Tensor | None) -> Tensor:
    """Concatenated means over all edges and over all nodes, [..., B, De + Dv]; see `arriving` for the arguments."""
    masks = (None, None) if mask is None else (links.between(mask)[..., None], mask[..., None])
    parts = []
    for x, exist in zip((edges, nodes), masks, strict=True):
        counts = torch.ones_like(x[..., :1]) if exist is None else exist
        parts.append((x * counts).sum(-3) / counts.sum(-3).clamp(min=1))
    return torch.cat(parts, dim=-1)


class GraphBlock(nn.Module):
    """One graph network block; its functions have one hidden layer with ReLU and a linear output."""

    def __init__(self, widths: Widths, out: Widths, hidden: int, reducer: Reducer = "sum") -> None:
        """From graphs of `widths` to graphs of widths `out`.

        Args:
            widths: Lengths of the vectors of its input.
            out: Lengths of the vectors of its output; a part of width 0 has no function.
            hidden: Units of the hidden layer of each function.
            reducer: How incoming edges are combined.
        """
        super().__init__()
        self.reducer = reducer
        functions = [
            MLP(read, (hidden,), size) if size else None
            for read, size in zip(inputs(widths, out), out, strict=True)
        ]
        self.of_edges, self.of_nodes, self.of_context = functions

    def forward(
        self, graph: Graph, links: Links, mask: Tensor | None = None, read: int | None = None
    ) -> Graph:
        """The new graph.

        Args:
            graph: Edges [..., E, B, De], nodes [..., N, B, Dv], context [..., B, Du].
            links: Connectivity of the graph.
            mask: 1.0 for nodes that exist, [..., N, B]; None if all do.
            read: How many of the first nodes are updated; all by default. The others are left out, so this
                is only for blocks without a function for the context, which reads all nodes.
        """
        if read is not None and self.of_context is not None:
            raise ValueError("expected `read` only without a function for the context")
        edges = absent(graph.nodes, len(links.senders))
        if self.of_edges is not None:
            first = _first(self.of_edges)
            edges = _rest(self.of_edges, edge_product(first.weight, first.bias, graph, links))
        nodes, context = graph.nodes.narrow(-3, 0, read or graph.nodes.shape[-3]), graph.context
        if self.of_nodes is not None:
            first = _first(self.of_nodes)
            arrived = arriving(edges, links, mask, self.reducer).narrow(-3, 0, nodes.shape[-3])
            product = node_product(first.weight, first.bias, arrived, nodes, context)
            nodes = _rest(self.of_nodes, product)
        else:
            nodes = nodes[..., :0]
        if self.of_context is None:
            return Graph(edges, nodes, context[..., :0])
        summed = pooled(edges, nodes, links, mask)
        return Graph(edges, nodes, self.of_context(torch.cat([summed, context], dim=-1)))


class GraphGRU(nn.Module):
    """A gated recurrent unit for each part of a graph.

    The core "gn" is a graph network block whose functions are such units:

        h^e_k <- GRU_e([e_k, v_{r_k}, v_{s_k}, u], h^e_k)
        h^v_i <- GRU_v([sum_{k: r_k = i} h^e_k, v_i, u], h^v_i)
        h^u   <- GRU_u([mean_k h^e_k, mean_i h^v_i, u], h^u)

    In the core "independent" each unit reads only its own part: e_k, v_i or u.
    """

    def __init__(
        self, widths: Widths, out: Widths, core: Core = "gn", reducer: Reducer = "sum"
    ) -> None:
        """From graphs of `widths` to states of widths `out`; edges or a context of width 0 have no unit."""
        super().__init__()
        self.core, self.reducer = core, reducer
        edges, nodes, context = inputs(widths, out) if core == "gn" else widths
        self.of_edges = nn.GRUCell(edges, out.edges) if out.edges else None
        self.of_nodes = nn.GRUCell(nodes, out.nodes)
        self.of_context = nn.GRUCell(context, out.context) if out.context else None

    def initial_state(self, links: Links, batch: int, like: Tensor) -> dict[str, Tensor]:
        """The state before the first step of an episode: zeros of the type and device of `like`.

        Returns:
            "edges" [E, B, H], "nodes" [N, B, H] and "context" [B, H], for the parts that have a unit.
        """
        units = {
            "edges": (self.of_edges, (len(links.senders), batch)),
            "nodes": (self.of_nodes, (len(links.degrees), batch)),
            "context": (self.of_context, (batch,)),
        }
        return {
            part: like.new_zeros(*shape, unit.hidden_size)
            for part, (unit, shape) in units.items()
            if unit is not None
        }

    def forward(
        self,
        graph: Graph,
        links: Links,
        state: Mapping[str, Tensor],
        keep: Tensor,
        mask: Tensor | None = None,
    ) -> Graph:
        """The states after each step.

        Args:
            graph: Edges [T, E, B, De], nodes [T, N, B, Dv], context [T, B, Du].
            links: Connectivity of the graph.
            state: The state before the first step, see `initial_state`.
            keep: 0.0 where an episode begins, so that the state is reset before the step, else 1.0,
                [T, B].
            mask: 1.0 for nodes that exist, [T, N, B]; None if all do.
        """
        gn, (edges, nodes, context) = self.core == "gn", graph
        if (unit := self.of_edges) is not None:
            weight, bias = unit.weight_ih, unit.bias_ih
            read = edge_product(weight, bias, graph, links) if gn else F.linear(edges, weight, bias)
            edges = unroll(unit, read, state["edges"], keep)
        else:
            edges = edges[..., :0]
        unit = self.of_nodes
        weight, bias = unit.weight_ih, unit.bias_ih
        if gn:
            arrived = arriving(edges, links, mask, self.reducer)
            read = node_product(weight, bias, arrived, nodes, context)
        else:
            read = F.linear(nodes, weight, bias)
        nodes = unroll(unit, read, state["nodes"], keep)
        if (unit := self.of_context) is None:
            return Graph(edges, nodes, context[..., :0])
        if gn:
            summed = pooled(edges, nodes, links, mask)
            context = torch.cat([summed, context], dim=-1)
        read = F.linear(context, unit.weight_ih, unit.bias_ih)
        return Graph(edges, nodes, unroll(unit, read, state["context"], keep))


def _first(function: MLP) -> nn.Linear:
    """The first layer of a function, whose product is computed in parts."""
    first = function[0]
    assert isinstance(first, nn.Linear)
    return first


def _rest(function: MLP, product: Tensor) -> Tensor:
    """The output of a function, from the product of its first layer."""
    for layer in list(function)[1:]:
        product = layer(product)
    return product


def inputs(widths: Widths, out: Widths) -> Widths:
    """Input lengths of the three functions of a block that maps `widths` to `out`."""
    edges, nodes, context = widths
    return Widths(
        edges + 2 * nodes + context,
        out.edges + nodes + context,
        out.edges + out.nodes + context,
    )


def absent(nodes: Tensor, edges: int) -> Tensor:
    """Vectors of length 0 for edges, [..., E, B, 0], in graphs with the nodes [..., N, B, D]."""
    return nodes.new_zeros(*nodes.shape[:-3], edges, nodes.shape[-2], 0)


def unroll(cell: nn.GRUCell, read: Tensor, state: Tensor, keep: Tensor) -> Tensor:
    """States of a gated recurrent unit after each step, as `nn.GRUCell` computes them, from its input products.

    Args:
        cell: The unit.
        read: weight_ih x + bias_ih of the inputs, [T, ..., B, 3 H].
        state: State before the first step, [..., B, H].
        keep: 0.0 where an episode begins, else 1.0, [T, B].

    Returns:
        States, [T, ..., B, H].
    """
    size = cell.hidden_size
    states = []
    for at, kept in zip(read.unbind(), keep.unbind(), strict=True):
        state = state * kept[:, None]
        gates, new = at.split([2 * size, size], dim=-1)
        past = F.linear(state, cell.weight_hh, cell.bias_hh)
        past_gates, past_new = past.split([2 * size, size], dim=-1)
        reset, update = (gates + past_gates).sigmoid_().chunk(2, dim=-1)
        state = torch.lerp(torch.addcmul(new, reset, past_new).tanh_(), state, update)
        states.append(state)
    return torch.stack(states)
