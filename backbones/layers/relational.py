"""Relational forward models (RFM), which predict each agent's next action or return from a graph.

Agents and entities are nodes. At each step

    G_enc = GN_enc(G_in[t]),   G_hid = GraphGRU(G_enc, G_hid),   G_out = GN_dec(G_hid)

and the prediction for agent i is v_i of G_out. Encoder and decoder are graph network blocks, see
`layers.graph`; they do not depend on the state, so both are computed for all steps at once. A message
crosses one edge in each of the three, and the weights fit any numbers of agents and entities. The norms of
the edge activations are an indication of what the prediction for an agent depends on.

The ablations have no memory (core "none"), no edges between agents (relations "entities") or no edges at all
(relations "none"). The last two also leave out the pooled context, through which an agent would
still receive means over the others.

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044. Only the abstract and introduction of the paper were available
to us, and public reviews, from which the three blocks are known. The sizes, the structure of the graph GRU and
the ablations are our choice.
"""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from rlbench.backbones.layers import graph as graphs
from rlbench.backbones.layers._relational import NO_EDGES, Prediction, Relational, Shape
from rlbench.backbones.layers.graph import Graph, GraphBlock, GraphGRU, Links, Reducer, Widths
from rlbench.backbones.layers.relational_baselines import MLPLSTM, NRI, VAIN
from rlbench.errors import UserError
from rlbench.interface import State

Relations = Literal["all", "entities", "none"]
_CONNECTIONS: dict[Relations, dict[str, bool]] = {
    "all": {},
    "entities": {"among_agents": False},
    "none": NO_EDGES,
}


class RFM(Relational):
    """A relational forward model."""

    def __init__(
        self,
        shape: Shape,
        *,
        core: graphs.Core | Literal["none"] = "gn",
        relations: Relations = "all",
        pooled: bool = True,
        to_entities: bool = False,
        reducer: Reducer = "sum",
        hidden: int = 64,
        size: int = 32,
    ) -> None:
        """For graphs of this shape.

        Args:
            shape: Numbers of nodes and lengths of vectors.
            core: The graph GRU: "gn" passes messages, "independent" does not; "none": no memory.
            relations: Incoming edges of agents: from "all" other nodes, from "entities" only, or "none".
            pooled: Whether there is a context, through which each node also receives means over all nodes.
            to_entities: Whether agents also have edges to entities.
            reducer: How incoming edges are combined; means do not grow with the number of nodes.
            hidden: Units of the hidden layers of encoder and decoder.
            size: Length of the vectors of edges, nodes and context between encoder and decoder.
        """
        super().__init__(shape, {**_CONNECTIONS[relations], "to_entities": to_entities})
        between = Widths(size if relations != "none" else 0, size, size if pooled else 0)
        given = Widths(1, shape.features, shape.context)
        self.encoder = GraphBlock(given, between, hidden, reducer)
        self.core = GraphGRU(between, between, core, reducer) if core != "none" else None
        # Nothing reads a context of the decoder, so it has none.
        read = between._replace(nodes=shape.out, context=0)
        self.decoder = GraphBlock(between, read, hidden, reducer)

    def initial_state(self, batch: int, agents: int, links: Links, like: Tensor) -> State:
        """See `Relational`; empty without memory."""
        if self.core is None:
            return {}
        state = self.core.initial_state(links, batch, like)
        return {part: x.movedim(-2, 0) for part, x in state.items()}

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
        """See `Relational`; `edges` has the activations of "encoder", "core" and "decoder"."""
        mask = None if mask is None else mask.transpose(1, 2)
        given = Graph(links.features[:, None], nodes.transpose(1, 2).contiguous(), context)
        encoded = self.encoder(given, links, mask)
        layers, hidden = {"encoder": encoded}, encoded
        if self.core is not None:
            past = {part: x.movedim(0, -2) for part, x in state.items()}
            hidden = layers["core"] = self.core(encoded, links, past, keep, mask)
            state = {part: getattr(hidden, part)[-1].movedim(-2, 0) for part in past}
        layers["decoder"] = self.decoder(hidden, links, mask, read=agents)
        edges = {name: layer.edges.transpose(1, 2) for name, layer in layers.items()}
        return Prediction(layers["decoder"].nodes.transpose(1, 2), state, edges)


NETWORKS: Mapping[str, tuple[type[Relational], Mapping[str, Any]]] = {
    "rfm": (RFM, {}),
    # The ablations are wider, so that all have between 60,000 and 80,000 parameters.
    "rfm-ff": (RFM, {"core": "none", "hidden": 96, "size": 48}),
    "rfm-norel": (RFM, {"relations": "none", "pooled": False, "hidden": 128, "size": 80}),
    "rfm-noaa": (RFM, {"relations": "entities", "pooled": False, "hidden": 80, "size": 40}),
    "mlp-lstm": (MLPLSTM, {}),
    "vain": (VAIN, {}),
    "nri": (NRI, {}),
}
"""Name to class and options: the model, its ablations and its baselines."""


def make_relational(name: str, shape: Shape, **options: Any) -> Relational:
    """The network of a name in `NETWORKS`; `options` take precedence over the options of the name.

    Raises:
        UserError: There is no such network.
    """
    if name not in NETWORKS:
        raise UserError(f"there is no network {name!r}; choose one of {', '.join(NETWORKS)}")
    kind, usual = NETWORKS[name]
    return kind(shape, **{**usual, **options})
