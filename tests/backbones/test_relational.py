"""Relational forward models, their ablations and their baselines."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers._relational import Relational, Shape, with_context
from rlbench.backbones.layers.graph import connect
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.noise import gumbel
from rlbench.backbones.layers.relational import NETWORKS, RFM, make_relational
from rlbench.backbones.layers.relational_baselines import (
    TEMPERATURE,
    attention,
    type_divergence,
    windows,
)
from rlbench.errors import UserError

T, B, A, S, D = 6, 3, 3, 4, 5
SHAPE = Shape(A, S, D, out=2)
RESIZABLE = [name for name in NETWORKS if name != "mlp-lstm"]
WITH_MEMORY = [name for name in NETWORKS if name != "rfm-ff"]


def made(name: str, shape: Shape = SHAPE, **options: Any) -> Relational:
    torch.manual_seed(0)
    return make_relational(name, shape, **options)


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def sequence(nodes: int = A + S, batch: int = B) -> tuple[Tensor, Tensor]:
    """Nodes, and resets at the first step and once more in the middle of the second row."""
    reset = torch.zeros(T, batch)
    reset[0] = 1
    reset[3, 1] = 1
    return torch.randn(T, batch, nodes, D), reset


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_equal_the_unrolled_sequence(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    whole = network(nodes, reset)
    assert whole.out.shape == (T, B, A, 2)
    state = None
    for t in range(T):
        out, state, edges = network.step(nodes[t], reset[t], state)
        same(out, whole.out[t])
        for layer, x in edges.items():
            same(x, whole.edges[layer][t])
    assert state is not None
    assert state.keys() == whole.state.keys()
    for part, x in state.items():
        assert len(x) == B
        same(x, whole.state[part])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reset_discards_the_state(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    whole = network(nodes, reset).out
    same(whole[3:, 1], network(nodes[3:, 1:2], torch.zeros(3, 1)).out[:, 0])
    # In the other rows the second half depends on the first, if the network has a memory.
    afresh = network(nodes[3:], torch.zeros(3, B)).out[:, [0, 2]]
    assert torch.allclose(whole[3:, [0, 2]], afresh, atol=1e-5) == (name == "rfm-ff")


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_do_not_see_the_future(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    later = nodes.clone()
    later[4:] += 1
    first, second = network(nodes, reset).out, network(later, reset).out
    same(first[:4], second[:4])
    assert not torch.allclose(first[4:], second[4:], atol=1e-4)


@pytest.mark.parametrize("name", RESIZABLE)
def test_permuted_nodes_permute_predictions(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    agents, entities = torch.tensor([2, 0, 1]), torch.tensor([1, 3, 0, 2])
    out = network(nodes, reset).out
    order = torch.cat([torch.arange(A), A + entities])
    same(network(nodes[:, :, order], reset).out, out)
    order = torch.cat([agents, torch.arange(A, A + S)])
    same(network(nodes[:, :, order], reset).out, out[:, :, agents])


@pytest.mark.parametrize("name", RESIZABLE)
def test_padding_changes_nothing(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    out = network(nodes, reset).out
    padded = torch.cat([nodes, 9 * torch.randn(T, B, 2, D)], dim=2)
    mask = torch.ones(T, B, A + S + 2)
    mask[:, :, A + S :] = 0
    same(network(padded, reset, mask=mask).out, out)
    assert not torch.allclose(network(padded, reset).out, out, atol=1e-4) or name == "rfm-norel"
    # One more agent, before the entities.
    padded = torch.cat([nodes[:, :, :A], padded[:, :, -1:], nodes[:, :, A:]], dim=2)
    mask = torch.ones(T, B, A + S + 1)
    mask[:, :, A] = 0
    same(network(padded, reset, agents=A + 1, mask=mask).out[:, :, :A], out)


def test_an_mlp_does_not_read_padding_and_accepts_one_number_of_nodes() -> None:
    network, (nodes, reset) = made("mlp-lstm"), sequence()
    mask = torch.ones(T, B, A + S)
    mask[..., -1] = 0
    other = nodes.clone()
    other[..., -1, :] += 1
    same(network(nodes, reset, mask=mask).out, network(other, reset, mask=mask).out)
    assert not torch.allclose(network(nodes, reset).out, network(other, reset).out)
    with pytest.raises(ValueError, match="expected 3 agents and 4 entities"):
        network(nodes, reset, agents=2)


@pytest.mark.parametrize("name", RESIZABLE)
def test_the_same_weights_fit_other_numbers_of_nodes(name: str) -> None:
    network, other = made(name), make_relational(name, SHAPE._replace(agents=2, entities=6))
    other.load_state_dict(network.state_dict())
    nodes, reset = sequence(8)
    same(network(nodes, reset, agents=2).out, other(nodes, reset).out)


def moved_by(network: Relational, node: int) -> list[bool]:
    """For each agent, whether its prediction changes with a node's features at the first step."""
    nodes, reset = sequence()
    other = nodes.clone()
    other[0, :, node] += 1
    gap = (network(nodes, reset).out - network(other, reset).out).abs()
    return [bool(x > 1e-5) for x in gap.amax(dim=(0, 1, 3))]


@pytest.mark.parametrize("name", NETWORKS)
def test_which_features_change_which_predictions(name: str) -> None:
    network = made(name)
    alone = [True, False, False]
    assert moved_by(network, 0) == (alone if name in ("rfm-norel", "rfm-noaa") else [True] * A)
    assert moved_by(network, A) == [name != "rfm-norel"] * A


def test_agents_without_edges_between_them_still_share_a_context() -> None:
    assert moved_by(made("rfm-noaa", pooled=True), 0) == [True] * A
    assert moved_by(made("rfm-norel", pooled=True), A) == [True] * A


def test_without_messages_in_the_core_the_other_blocks_still_pass_them() -> None:
    assert moved_by(made("rfm", core="independent", pooled=False), A) == [True] * A


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("rfm", "core", "independent"), ("rfm", "core", "none"),
        ("rfm", "relations", "entities"), ("rfm", "relations", "none"),
        ("rfm", "pooled", False), ("rfm", "to_entities", True), ("rfm", "reducer", "mean"),
        ("rfm", "hidden", 16), ("rfm", "size", 16),
        ("mlp-lstm", "hidden", 16), ("mlp-lstm", "size", 16),
        ("vain", "recurrent", False), ("vain", "hidden", 16), ("vain", "size", 16),
        ("nri", "types", 3), ("nri", "window", 2), ("nri", "hidden", 16),
    ],
)  # fmt: skip
def test_every_option_has_an_effect(name: str, option: str, value: Any) -> None:
    nodes, reset = sequence()
    usual, other = made(name), made(name, **{option: value})
    assert not torch.allclose(usual(nodes, reset).out, other(nodes, reset).out, atol=1e-5)


def test_the_mean_reducer_is_used_in_all_three_layers() -> None:
    nodes, reset = sequence()
    usual, means = made("rfm")(nodes, reset), made("rfm", reducer="mean")(nodes, reset)
    same(usual.edges["encoder"], means.edges["encoder"])
    for layer in ("core", "decoder"):
        assert not torch.allclose(usual.edges[layer], means.edges[layer], atol=1e-5)
    network: Any = made("rfm", reducer="mean")
    assert {network.encoder.reducer, network.core.reducer, network.decoder.reducer} == {"mean"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_context_is_read(name: str) -> None:
    network, (nodes, reset) = made(name, SHAPE._replace(context=2)), sequence()
    plain = network(nodes, reset)
    same(plain.out, network(nodes, reset, context=torch.zeros(T, B, 2)).out)
    context = torch.zeros(T, B, 2)
    context[4, 0] = 1
    other = network(nodes, reset, context=context)
    same(plain.out[:4], other.out[:4])
    assert not torch.allclose(plain.out[4, 0], other.out[4, 0], atol=1e-5)
    got = network.step(nodes[0], reset[0], context=context[4]).out
    assert not torch.allclose(got[0], plain.out[0, 0], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_all_parameters(name: str) -> None:
    network, (nodes, reset) = made(name), sequence()
    parameters = dict(network.named_parameters())
    out = network(nodes, reset).out
    gradients = torch.autograd.grad(out.square().sum(), list(parameters.values()))
    still = [n for n, x in zip(parameters, gradients, strict=True) if x.abs().sum() == 0]
    assert not still


@pytest.mark.parametrize(("entities", "features"), [(2, 11), (12, 13), (8, 12)])
def test_numbers_of_parameters(entities: int, features: int) -> None:
    def count(network: torch.nn.Module) -> int:
        return sum(x.numel() for x in network.parameters())

    shape = Shape(2, entities, features, out=5)
    size = count(make_relational("rfm", shape))
    for name in NETWORKS:
        found = count(make_relational(name, shape))
        assert size / 2 < found < size * 2
        assert 60_000 < found < 80_000 or not name.startswith("rfm")
    # The default size with an input for the context and a decoded context, which nothing would read.
    decoded = MLP(32 + 5 + 32, (64,), 1)
    whole = count(make_relational("rfm", shape._replace(context=1))) + count(decoded)
    assert 76_000 < whole < 77_500
    if entities == 2:
        assert round(count(make_relational("mlp-lstm", shape)), -3) == 108_000


def test_the_activations_of_edges_are_in_the_order_of_the_links() -> None:
    network, (nodes, reset) = made("rfm"), sequence()
    other = nodes.clone()
    other[:, :, A + 1] += 1
    first, second = network(nodes, reset).edges, network(other, reset).edges
    assert list(first) == ["encoder", "core", "decoder"]
    for layer in first:
        assert first[layer].shape == (T, B, len(network.links.senders), 32)
    changed = (first["encoder"] != second["encoder"]).any(-1)[0, 0]
    assert torch.equal(changed, network.links.senders == A + 1)


def test_the_features_of_edges_are_read() -> None:
    network, (nodes, reset) = made("rfm"), sequence()
    out = network(nodes, reset).out
    network.links.features.zero_()
    assert not torch.allclose(network(nodes, reset).out, out, atol=1e-5)


def test_attention_by_hand() -> None:
    # Squared distances from agent 0 to the others are 1 and 4, from agent 1 they are 1 and 1.
    key = torch.tensor([[0.0], [1.0], [2.0]])
    near, far = math.exp(-1), math.exp(-4)
    wanted = torch.tensor([[0, near / (near + far), far / (near + far)], [0.5, 0, 0.5]])
    same(attention(key, 2, None), wanted)
    mask = torch.tensor([1.0, 0.0, 1.0])
    same(attention(key, 1, mask), torch.tensor([[0.0, 0, 1]]))
    assert attention(key, 1, torch.tensor([1.0, 0, 0])).tolist() == [[0, 0, 0]]


def test_vain_equals_its_definition() -> None:
    network: Any = made("vain", recurrent=False)
    nodes, reset = sequence()
    got = network(nodes, reset)
    weights = got.edges["attention"][2, 1]
    for i in range(A):
        x = nodes[2, 1]
        code = sum(weights[i, j] * network.communicated(x[j])[: network.size] for j in range(A + S))
        same(got.out[2, 1, i], network.decoder(torch.cat([code, network.own(x[i])])))
    key = network.communicated(nodes[2, 1])[:, network.size :]
    assert key.shape[-1] == 10
    same(weights, attention(key, A, None))


def test_windows_by_hand() -> None:
    nodes, past = torch.tensor([1.0, 2, 3]), torch.tensor([-2.0, -1])
    keep = torch.tensor([[1.0], [0], [1]])
    got = windows(nodes[:, None, None, None], past[:, None, None, None], keep)
    assert got.flatten(1).tolist() == [[-2, 0, 0], [-1, 0, 2], [1, 2, 3]]


@pytest.mark.parametrize("noisy", [False, True])
def test_nri_equals_its_definition(noisy: bool) -> None:
    network: Any = made("nri", window=1)
    nodes, _ = sequence()
    hidden = torch.randn(B, A + S, 64)
    state = {"hidden": hidden, "past": torch.zeros(B, 0, A + S, D)}
    noise = torch.randn(B, *network.noise_shape) if noisy else None
    got = network.step(nodes[0], torch.zeros(B), state, noise=noise)
    links, b = connect(A, S), 1
    logits = got.edges["types"][b]
    share = (logits if noise is None else (logits + gumbel(noise[b])) / 0.5).softmax(-1)
    for i in range(A):
        total = torch.zeros(64)
        pairs = zip(links.senders.tolist(), links.receivers.tolist(), strict=True)
        for k, (sender, receiver) in enumerate(pairs):
            if receiver == i:
                read = torch.cat([hidden[b, receiver], hidden[b, sender]])
                for z, function in enumerate(network.messages):
                    total = total + share[k, z] * function.of_edges(read)
        read = torch.cat([total, nodes[0, b, i]])
        new = network.cell(read[None], hidden[b, i][None])[0]
        same(got.state["hidden"][b, i], new)
        same(got.out[b, i], network.decoder(new))


def test_types_of_edges_are_sampled_with_noise() -> None:
    network: Any = made("nri")
    nodes, reset = sequence()
    plain = network(nodes, reset)
    noise = torch.randn(T, B, *network.noise_shape)
    noisy = network(nodes, reset, noise=noise)
    same(plain.edges["types"], noisy.edges["types"])
    assert not torch.allclose(plain.out, noisy.out, atol=1e-5)
    # Large noise selects one random type: the other type's function is not used.
    noise[..., 0], noise[..., 1] = 5, -5
    sure = (plain.edges["types"] + gumbel(noise)) / TEMPERATURE
    assert (sure.softmax(-1)[..., 0] > 0.999).all()
    first = network(nodes, reset, noise=noise).out
    for parameter in network.messages[1].parameters():
        parameter.data.add_(0.1)
    torch.testing.assert_close(network(nodes, reset, noise=noise).out, first, atol=1e-3, rtol=0)
    assert not torch.allclose(network(nodes, reset).out, plain.out, atol=1e-3)


def test_divergence_of_types_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [50.0, -50.0]])
    uneven = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) + math.log(2)
    same(type_divergence(logits), torch.tensor([0.0, uneven, math.log(2)]))


def test_a_context_is_appended_to_all_nodes() -> None:
    got = with_context(torch.zeros(1, 1, 2, 1), torch.tensor([[[3.0]]]))
    assert got.tolist() == [[[[0, 3], [0, 3]]]]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="choose one of rfm, rfm-ff"):
        make_relational("rfn", SHAPE)
    assert isinstance(make_relational("rfm", SHAPE), RFM)
