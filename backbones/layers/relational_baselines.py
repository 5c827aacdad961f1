"""Networks with which relational forward models are compared: MLP + LSTM, VAIN and NRI.

MLP + LSTM reads all nodes as one vector in a fixed order, so its weights do not fit other numbers of nodes.

VAIN (vertex attention): each agent reads a mean of the codes of all other nodes, weighted by the distances of their keys:

    e^s_i = E_s(x_i),   (e^c_i, a_i) = E_c(x_i)
    P_i = sum_{j != i} w_ij e^c_j,   w_ij = softmax_j(-||a_i - a_j||^2),   prediction: D([P_i, e^s_i])

Hoshen, 2017, https://arxiv.org/abs/1706.06122; a gated recurrent unit on [P_i, e^s_i] is our addition; without it,
the comparison would mainly test memory.

NRI (neural relational inference): each edge has one of K types, inferred from a window of past steps by
messages from nodes to edges to nodes to edges; a type z selects the function that computes the edge's message:

    q(z_k | window) = softmax(GN_2(GN_1(embedding)).e_k),   m_i = sum_{k: r_k = i} sum_z q_k(z) f_z([h_{r_k}, h_{s_k}])
    h_i <- GRU([m_i, x_i], h_i),   prediction: D(h_i),   penalty: KL(q | uniform)

Kipf et al., 2018, https://arxiv.org/abs/1802.04687, and the authors' code. Differences from it: types are inferred anew
at each step, only from the window that ends there, so that no prediction sees the future; nodes are connected as in
the relational forward model; in the inference of types, a node also reads itself, not only its messages;
layers are narrower; predictions are logits or returns instead of positions.
"""

import math

import torch
from torch import Tensor, nn

from rlbench.backbones.layers._relational import Prediction, Relational, Shape, with_context
from rlbench.backbones.layers.graph import (
    Graph,
    GraphBlock,
    Links,
    Widths,
    absent,
    arriving,
    unroll,
)
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.noise import gumbel
from rlbench.interface import State

KEY = 10
"""Length of VAIN's keys; our choice, like all sizes of VAIN here."""
TEMPERATURE = 0.5
"""Temperature of the sampled edge types, as in the code of NRI."""


class MLPLSTM(Relational):
    """An MLP with two layers, an LSTM and a linear layer, over all nodes together."""

    def __init__(self, shape: Shape, *, hidden: int = 64, size: int = 128) -> None:
        """For graphs of this shape.

        Args:
            shape: Numbers of nodes and lengths of vectors.
            hidden: Units of each of the two layers.
            size: Units of the memory.
        """
        super().__init__(shape)
        nodes = shape.agents + shape.entities
        self.encoder = MLP(nodes * shape.features + shape.context, (hidden,), hidden)
        self.cell = nn.LSTMCell(hidden, size)
        self.head = nn.Linear(size, shape.agents * shape.out)

    def initial_state(self, batch: int, agents: int, links: Links, like: Tensor) -> State:
        """See `Relational`."""
        return {name: like.new_zeros(batch, self.cell.hidden_size) for name in ("hidden", "cell")}

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
        """See `Relational`; there are no edges."""
        if (agents, nodes.shape[2] - agents) != self.shape[:2]:
            raise ValueError(
                f"expected {self.shape.agents} agents and {self.shape.entities} entities: an MLP "
                "reads one number of nodes only"
            )
        exist = nodes if mask is None else nodes * mask[..., None]
        read = self.encoder(torch.cat([exist.flatten(2), context], dim=-1)).relu()
        hidden, cell, outputs = state["hidden"], state["cell"], []
        for at, kept in zip(read.unbind(), keep[..., None].unbind(), strict=True):
            hidden, cell = self.cell(at, (hidden * kept, cell * kept))
            outputs.append(hidden)
        out = self.head(torch.stack(outputs)).unflatten(-1, (agents, self.shape.out))
        return Prediction(out, {"hidden": hidden, "cell": cell}, {})


class VAIN(Relational):
    """Vertex attention."""

    def __init__(
        self, shape: Shape, *, recurrent: bool = True, hidden: int = 64, size: int = 48
    ) -> None:
        """For graphs of this shape.

        Args:
            shape: Numbers of nodes and lengths of vectors.
            recurrent: Whether a gated recurrent unit follows the attention.
            hidden: Units of the hidden layer of each function.
            size: Length of the codes.
        """
        super().__init__(shape)
        width, self.size = shape.features + shape.context, size
        self.own = MLP(width, (hidden,), size)
        self.communicated = MLP(width, (hidden,), size + KEY)
        self.cell = nn.GRUCell(2 * size, 2 * size) if recurrent else None
        self.decoder = MLP(2 * size, (hidden,), shape.out)

    def initial_state(self, batch: int, agents: int, links: Links, like: Tensor) -> State:
        """See `Relational`; empty without memory."""
        if self.cell is None:
            return {}
        return {"hidden": like.new_zeros(batch, agents, self.cell.hidden_size)}

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
        """See `Relational`; `edges` has the weights, "attention" [T, B, A, N], instead of activations."""
        nodes = with_context(nodes, context)
        code, key = self.communicated(nodes).split([self.size, KEY], dim=-1)
        weights = attention(key, agents, mask)
        read = torch.cat([weights @ code, self.own(nodes[:, :, :agents])], dim=-1)
        if self.cell is not None:
            product = nn.functional.linear(read, self.cell.weight_ih, self.cell.bias_ih)
            past = state["hidden"].transpose(0, 1)
            hidden = unroll(self.cell, product.transpose(1, 2), past, keep)
            state = {"hidden": hidden[-1].transpose(0, 1)}
            read = hidden.transpose(1, 2)
        return Prediction(self.decoder(read), state, {"attention": weights})


def attention(key: Tensor, agents: int, mask: Tensor | None) -> Tensor:
    """VAIN's weights of all nodes for each agent, [..., A, N]; 0 for the agent itself.

    Args:
        key: Keys, [..., N, K].
        agents: Number of agents, A, which are the first nodes.
        mask: 1.0 for nodes that exist, [..., N]; None if all do.
    """
    distance = (key[..., :agents, None, :] - key[..., None, :, :]).square().sum(-1)
    other = 1 - torch.eye(key.shape[-2], device=key.device)[:agents]
    other = other if mask is None else other * mask[..., None, :]
    # Not minus infinity: if there is no other node, the softmax would not be defined.
    return (-distance).masked_fill(other == 0, -1e9).softmax(-1) * other


class NRI(Relational):
    """Neural relational inference, with edge types inferred from the past at each step."""

    def __init__(self, shape: Shape, *, types: int = 2, window: int = 10, hidden: int = 64) -> None:
        """For graphs of this shape.

        Args:
            shape: Numbers of nodes and lengths of vectors.
            types: Number of edge types, K.
            window: Steps from which the types are inferred, W.
            hidden: Units of all layers (256 in the authors' code).
        """
        super().__init__(shape, {})
        width, self.window = shape.features + shape.context, window
        self.embedding = MLP(window * width, (hidden,), hidden)
        self.first = GraphBlock(Widths(0, hidden, 0), Widths(hidden, hidden, 0), hidden)
        self.second = GraphBlock(Widths(hidden, hidden, 0), Widths(types, 0, 0), hidden)
        self.messages = nn.ModuleList(
            GraphBlock(Widths(0, hidden, 0), Widths(hidden, 0, 0), hidden) for _ in range(types)
        )
        self.cell = nn.GRUCell(hidden + width, hidden)
        self.decoder = MLP(hidden, (hidden,), shape.out)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the noise for one step of one row, (E, K)."""
        return len(self.links.senders), len(self.messages)

    def initial_state(self, batch: int, agents: int, links: Links, like: Tensor) -> State:
        """See `Relational`: the recurrent state and the past part of the window."""
        nodes, width = len(links.degrees), self.shape.features + self.shape.context
        return {
            "hidden": like.new_zeros(batch, nodes, self.cell.hidden_size),
            "past": like.new_zeros(batch, self.window - 1, nodes, width),
        }

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
        """See `Relational`; `edges` has the logits of the edge "types", [T, B, E, K]."""
        nodes = with_context(nodes, context)
        mask = None if mask is None else mask.transpose(1, 2)
        seen = windows(nodes, state["past"].transpose(0, 1), keep)
        none = nodes.new_zeros(*nodes.shape[:2], 0)
        embedded = self.embedding(seen.movedim(0, -2).flatten(-2)).transpose(1, 2)
        edges = absent(embedded, len(links.senders))
        logits = self.second(
            self.first(Graph(edges, embedded, none), links, mask), links, mask
        ).edges
        types = logits.softmax(-1)
        if noise is not None:
            types = ((logits + gumbel(noise.transpose(1, 2))) / TEMPERATURE).softmax(-1)
        hidden, outputs = state["hidden"].transpose(0, 1), []
        for t, x in enumerate(nodes.transpose(1, 2).unbind()):
            hidden = hidden * keep[t][:, None]
            before = Graph(edges[t], hidden, none[t])
            message = sum(
                message(before, links).edges * share[..., None]
                for message, share in zip(self.messages, types[t].unbind(-1), strict=True)
            )
            assert isinstance(message, Tensor)
            at = None if mask is None else mask[t]
            read = torch.cat([arriving(message, links, at, "sum"), x], dim=-1)
            hidden = self.cell(read.flatten(0, 1), hidden.flatten(0, 1)).view_as(hidden)
            outputs.append(hidden[:agents])
        out = self.decoder(torch.stack(outputs)).transpose(1, 2)
        past = seen[1:, -1].transpose(0, 1)
        new = {"hidden": hidden.transpose(0, 1), "past": past}
        return Prediction(out, new, {"types": logits.transpose(1, 2)})


def windows(nodes: Tensor, past: Tensor, keep: Tensor) -> Tensor:
    """The last W steps at each step, zeros before the first step of the episode, [W, T, B, N, D].

    Args:
        nodes: [T, B, N, D].
        past: The W - 1 steps before, zeros if they are not of the same episode, [W - 1, B, N, D].
        keep: 0.0 where an episode begins, else 1.0, [T, B].
    """
    time, before = len(nodes), len(past)
    joined = torch.cat([past, nodes])
    episode = torch.cat([keep.new_zeros(before, keep.shape[1]), (1 - keep).cumsum(0)])
    parts = []
    for start in range(before + 1):
        same = episode[start : start + time] == episode[before:]
        parts.append(joined[start : start + time] * same[..., None, None])
    return torch.stack(parts)


def type_divergence(logits: Tensor) -> Tensor:
    """KL divergence, in nats, of the types of each edge from uniform ones, [...], from logits [..., K]."""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * log_q).sum(-1) + math.log(logits.shape[-1])
