"""Graph networks: values by hand, and equality with definitions that loop over edges."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.backbones.layers.graph import (
    Core,
    Graph,
    GraphBlock,
    GraphGRU,
    Links,
    Reducer,
    Widths,
    arriving,
    connect,
    pooled,
)

IN, OUT = Widths(2, 3, 4), Widths(5, 6, 7)
LINKS = [connect(2, 3), connect(3, 2, among_agents=False), connect(2, 2, to_entities=True)]


def graph_for(links: Links, *leading: int, batch: int = 3) -> Graph:
    edges, nodes = len(links.senders), len(links.degrees)
    return Graph(
        torch.randn(*leading, edges, batch, IN.edges),
        torch.randn(*leading, nodes, batch, IN.nodes),
        torch.randn(*leading, batch, IN.context),
    )


def reduced(vectors: list[Tensor], reducer: Reducer, size: int) -> Tensor:
    total = sum(vectors, torch.zeros(size))
    return total / max(len(vectors), 1) if reducer == "mean" else total


def slow(
    functions: Any, graph: Graph, links: Links, mask: Tensor, reducer: Reducer, out: Widths
) -> Graph:
    """One block on the graph of each row, edge by edge; `functions` get the row, part and index."""
    edges, nodes, context = (torch.zeros(*x.shape[:-1], n) for x, n in zip(graph, out, strict=True))
    senders, receivers = links.senders.tolist(), links.receivers.tolist()
    for b in range(graph.context.shape[0]):
        e, v, u = graph.edges[:, b], graph.nodes[:, b], graph.context[b]
        there = [k for k in range(len(e)) if mask[senders[k], b] and mask[receivers[k], b]]
        for k in range(len(e)):
            read = torch.cat([e[k], v[receivers[k]], v[senders[k]], u])
            edges[k, b] = functions(b, "edges", k, read)
        for i in range(len(v)):
            m = reduced([edges[k, b] for k in there if receivers[k] == i], reducer, out.edges)
            nodes[i, b] = functions(b, "nodes", i, torch.cat([m, v[i], u]))
        all_edges = reduced([edges[k, b] for k in there], "mean", out.edges)
        all_nodes = [nodes[i, b] for i in range(len(v)) if mask[i, b]]
        read = torch.cat([all_edges, reduced(all_nodes, "mean", out.nodes), u])
        context[b] = functions(b, "context", 0, read)
    return Graph(edges, nodes, context)


def some_mask(links: Links) -> Tensor:
    """All nodes exist in the first row, all but the last in the second, only one in the third."""
    mask = torch.ones(len(links.degrees), 3)
    mask[-1, 1] = 0
    mask[1:, 2] = 0
    return mask


def fill(linear: Any, *weights: float) -> None:
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([weights]))
        linear.bias.zero_()


def test_a_block_by_hand() -> None:
    # One edge, from node 0 to node 1; the weights of every function are 1, 10, 100, 1000.
    links = Links([0], [1], 2, torch.zeros(1, 1))
    block: Any = GraphBlock(Widths(1, 1, 1), Widths(1, 1, 1), hidden=1)
    for function, parts in ((block.of_edges, 4), (block.of_nodes, 3), (block.of_context, 3)):
        fill(function[0], *(10.0**i for i in range(parts)))
        fill(function[2], 1.0)
    graph = Graph(torch.tensor([[[2.0]]]), torch.tensor([[[3.0]], [[5.0]]]), torch.tensor([[7.0]]))
    edges, nodes, context = block(graph, links)
    assert edges.flatten().tolist() == [2 + 10 * 5 + 100 * 3 + 1000 * 7]
    assert nodes.flatten().tolist() == [0 + 10 * 3 + 100 * 7, 7352 + 10 * 5 + 100 * 7]
    assert context.flatten().tolist() == [7352 + 10 * (730 + 8102) / 2 + 100 * 7]


def test_edges_by_hand() -> None:
    links = connect(2, 2)
    pairs = list(zip(links.senders.tolist(), links.receivers.tolist(), strict=True))
    assert pairs == [(1, 0), (2, 0), (3, 0), (0, 1), (2, 1), (3, 1)]
    assert links.features.flatten().tolist() == [1, 0, 0, 1, 0, 0]
    assert links.degrees.tolist() == [3, 3, 0, 0]
    both = connect(2, 1, to_entities=True, among_agents=False)
    pairs = list(zip(both.senders.tolist(), both.receivers.tolist(), strict=True))
    assert pairs == [(2, 0), (2, 1), (0, 2), (1, 2)]
    assert len(connect(2, 2, among_agents=False, from_entities=False).senders) == 0
    # A (A - 1) + S A
    assert len(connect(4, 15).senders) == 4 * 3 + 15 * 4


def test_sums_at_nodes_equal_index_add() -> None:
    links = Links([1, 2, 0, 3, 0, 1], [0, 0, 2, 2, 2, 4], 6, torch.zeros(6, 1))
    edges = torch.randn(2, 6, 3, 4)
    wanted = torch.zeros(2, 6, 3, 4).index_add(1, links.receivers, edges)
    torch.testing.assert_close(links.arriving(edges), wanted)


def test_edges_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order of their receivers"):
        Links([0, 1], [1, 0], 2, torch.zeros(2, 1))


def test_means_by_hand() -> None:
    links = Links([1, 2, 0], [0, 0, 1], 3, torch.zeros(3, 1))
    edges, nodes = torch.tensor([2.0, 4.0, 10.0]), torch.tensor([1.0, 3.0, 8.0])
    x, v = edges[:, None, None], nodes[:, None, None]
    assert arriving(x, links, None, "mean").flatten().tolist() == [3, 10, 0]
    torch.testing.assert_close(pooled(x, v, links, None), torch.tensor([[16 / 3, 4.0]]))
    # Without node 2, its edge with value 4 does not count.
    mask = torch.tensor([[1.0], [1.0], [0.0]])
    assert arriving(x, links, mask, "mean").flatten().tolist() == [2, 10, 0]
    assert pooled(x, v, links, mask).flatten().tolist() == [6, 2]


@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("reducer", ["sum", "mean"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_equals_its_definition(links: Links, reducer: Reducer, masked: bool) -> None:
    block = GraphBlock(IN, OUT, 8, reducer)
    graph = graph_for(links)
    mask = some_mask(links) if masked else torch.ones(len(links.degrees), 3)

    def function(b: int, part: str, i: int, read: Tensor) -> Tensor:
        of_part: Any = getattr(block, f"of_{part}")
        out: Tensor = of_part(read)
        return out

    wanted = slow(function, graph, links, mask, reducer, OUT)
    for got, part in zip(block(graph, links, mask if masked else None), wanted, strict=True):
        torch.testing.assert_close(got, part, atol=1e-5, rtol=1e-5)


def test_nodes_that_nothing_reads_are_left_out() -> None:
    links, block = LINKS[0], GraphBlock(IN, OUT._replace(context=0), 8)
    graph = graph_for(links)
    torch.testing.assert_close(block(graph, links, read=2).nodes, block(graph, links).nodes[:2])
    with pytest.raises(ValueError, match="only without a function for the context"):
        GraphBlock(IN, OUT, 8)(graph, links, read=2)


@pytest.mark.parametrize("core", ["gn", "independent"])
@pytest.mark.parametrize("reducer", ["sum", "mean"])
def test_a_graph_gru_equals_its_definition(core: Core, reducer: Reducer) -> None:
    links, time = LINKS[2], 4
    gru: Any = GraphGRU(IN, OUT, core, reducer)
    graph = graph_for(links, time)
    mask = some_mask(links).expand(time, -1, -1)
    keep = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    state = {n: torch.randn_like(x) for n, x in gru.initial_state(links, 3, graph.nodes).items()}
    got = gru(graph, links, state, keep, mask)
    past = Graph(**{name: x.clone() for name, x in state.items()})
    for t in range(time):
        now = Graph(*(x[t] for x in graph))

        def unit(b: int, part: str, i: int, read: Tensor, t: int = t, past: Graph = past) -> Tensor:
            own, before = getattr(graph, part)[t], getattr(past, part)
            own, before = (x[b] if part == "context" else x[i, b] for x in (own, before))
            read = read if core == "gn" else own
            cell: nn.GRUCell = getattr(gru, f"of_{part}")
            new: Tensor = cell(read[None], before[None] * keep[t, b])[0]
            return new

        past = slow(unit, now, links, mask[t], reducer, OUT)
        for whole, part in zip(got, past, strict=True):
            torch.testing.assert_close(whole[t], part, atol=1e-5, rtol=1e-5)


def test_parts_of_width_0_are_left_out() -> None:
    links = LINKS[0]
    given = graph_for(links)
    got = GraphBlock(IN, Widths(0, 6, 0), 8)(given, links)
    assert [x.shape[-1] for x in got] == [0, 6, 0]
    # With no edges and no context, the new node depends only on the node itself.
    moved = given.nodes.clone()
    moved[1] += 1
    block = GraphBlock(Widths(0, 3, 0), Widths(0, 6, 0), 8)
    alone = given._replace(context=given.context[..., :0])
    first, second = (block(alone._replace(nodes=x), links).nodes for x in (given.nodes, moved))
    assert torch.equal(first[[0, 2, 3, 4]], second[[0, 2, 3, 4]])
    assert not torch.equal(first[1], second[1])
    gru = GraphGRU(IN, Widths(0, 6, 0))
    state = gru.initial_state(links, 3, given.nodes)
    assert list(state) == ["nodes"]
    time = Graph(*(x[None] for x in given))
    assert [x.shape[-1] for x in gru(time, links, state, torch.ones(1, 3))] == [0, 6, 0]
    assert GraphBlock(IN, Widths(5, 0, 0), 8)(given, links).nodes.shape[-1] == 0


def test_gradients_reach_all_parts() -> None:
    links = LINKS[0]
    encoder = GraphBlock(IN, Widths(4, 4, 4), 8)
    core = GraphGRU(Widths(4, 4, 4), Widths(4, 4, 4))
    given = graph_for(links, 2)
    state = core.initial_state(links, 3, given.nodes)
    out = core(encoder(given, links), links, state, torch.ones(2, 3))
    parameters = [*encoder.parameters(), *core.parameters()]
    loss = sum((x.square().sum() for x in out), torch.zeros(()))
    gradients = torch.autograd.grad(loss, parameters)
    assert all(x.abs().sum() > 0 for x in gradients)
