"""The transformer: against an independent implementation, positions, padding, learned tokens."""

from typing import Any

import pytest
import torch
from torch import nn

from rlbench.backbones.layers.transformer import Transformer, TransformerBlock
from rlbench.backbones.memories.transformer import BigBirdMemory, TransformerMemory
from rlbench.errors import UserError

FORMS = [
    (kind, causal) for kind in ("full", "window", "big-bird", "etc") for causal in (False, True)
]


def made(**options: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"width": 8, "layers": 2, "heads": 2, "feed_forward": 16, "max_length": 48}
    return Transformer(**{**sizes, "block": 4, **options})


@pytest.mark.parametrize(("attention", "causal"), FORMS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_padding_changes_no_other_output(attention: str, causal: bool, norm: str) -> None:
    network = made(attention=attention, causal=causal, norm=norm)
    x = torch.randn(2, 40, 8)
    padding = torch.zeros(2, 40, dtype=torch.bool)
    padding[1, 30:] = True
    out = network(x, padding)
    assert out.shape == x.shape
    assert out.isfinite().all()
    changed = network(x.masked_fill(padding[..., None], 7.0), padding)
    torch.testing.assert_close(out[~padding], changed[~padding])


@pytest.mark.parametrize("attention", ["full", "window", "big-bird", "etc"])
def test_a_causal_prefix_has_the_outputs_of_the_whole(attention: str) -> None:
    network = made(attention=attention, causal=True, random=1)
    x = torch.randn(2, 48, 8)
    whole = network(x)
    for length in (1, 5, 30):
        torch.testing.assert_close(network(x[:, :length]), whole[:, :length], rtol=1e-5, atol=1e-5)


def test_positions_make_a_difference() -> None:
    network = made()
    x = torch.randn(1, 1, 8).expand(1, 3, 8)
    out = network(x)
    assert not torch.allclose(out[:, 0], out[:, 1])
    network.positions.data.zero_()
    out = network(x)
    torch.testing.assert_close(out[:, 0], out[:, 1])


def test_far_positions_meet_through_the_learned_tokens() -> None:
    """Two layers suffice: global tokens read the one and are read by the other."""

    def reached(attention: str) -> bool:
        network = made(attention=attention, random=0, window=1)
        x = torch.randn(1, 48, 8, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(x)[0, 40, 0], x)
        return bool(gradient[0, 20].abs().sum() > 0)

    assert reached("etc")
    assert reached("big-bird")
    assert not reached("window")


@pytest.mark.parametrize(("attention", "causal"), FORMS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_an_output_belongs_to_its_position_and_is_normalised(
    attention: str, causal: bool, norm: str
) -> None:
    network = made(attention=attention, causal=causal, norm=norm)
    x = torch.randn(1, 40, 8, requires_grad=True)
    out = network(x)
    torch.testing.assert_close(network(x, torch.zeros(1, 40, dtype=torch.bool)), out)
    torch.testing.assert_close(out.mean(-1), torch.zeros(1, 40), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.square().mean(-1), torch.ones(1, 40), rtol=0, atol=0.05)
    for block in network.blocks:
        block.attention.outputs.weight.data.zero_()  # type: ignore[union-attr, operator]
    (gradient,) = torch.autograd.grad(network(x)[0, 30, 0], x)
    assert gradient.abs().sum(-1).nonzero().tolist() == [[0, 30]]


def test_initial_weights() -> None:
    network = made(width=64, feed_forward=256, heads=4, attention="etc")
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            assert parameter.abs().max() <= 0.04
            assert 0.015 < parameter.std() < 0.02, name
        elif "norm" not in name:
            assert not parameter.any()
    blocks = network.blocks
    assert not torch.equal(blocks[0].attention.ranks, blocks[1].attention.ranks)  # type: ignore[union-attr, arg-type]


def test_dropout_is_off_in_evaluation() -> None:
    network, x = made(dropout=0.3), torch.randn(1, 5, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_too_long_sequences_are_refused() -> None:
    with pytest.raises(UserError, match="has 49 positions, but the transformer takes at most 48"):
        made()(torch.zeros(1, 49, 8))


def copied(theirs: Any, network: Transformer) -> None:
    """The weights of BERT or Big Bird of the package transformers, put into ours."""
    embeddings = theirs.embeddings
    embeddings.token_type_embeddings.weight.data.zero_()
    network.positions.data.copy_(embeddings.position_embeddings.weight)
    network.norm.load_state_dict(embeddings.LayerNorm.state_dict())
    for block, layer in zip(network.blocks, theirs.encoder.layer, strict=True):
        read = layer.attention.self
        for part in ("weight", "bias"):
            joined = [getattr(getattr(read, name), part) for name in ("query", "key", "value")]
            getattr(block.attention.inputs, part).data.copy_(torch.cat(joined))  # type: ignore[union-attr]
        for mine, other in (
            (block.attention.outputs, layer.attention.output.dense),  # type: ignore[union-attr]
            (block.norms[0], layer.attention.output.LayerNorm),  # type: ignore[index]
            (block.widen, layer.intermediate.dense),
            (block.narrow, layer.output.dense),
            (block.norms[1], layer.output.LayerNorm),  # type: ignore[index]
        ):
            mine.load_state_dict(other.state_dict())  # type: ignore[union-attr]


def shaken(theirs: nn.Module) -> Any:
    """Weights far from the initial ones, in which biases are 0 and norms 1."""
    for parameter in theirs.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return theirs.eval()


SIZES = {
    "vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 48, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 0,
}  # fmt: skip


def test_post_norm_is_bert() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = shaken(transformers.BertModel(transformers.BertConfig(**SIZES)))
    network = made(norm="post")
    copied(theirs, network)
    x, padding = torch.randn(3, 20, 8), torch.zeros(3, 20, dtype=torch.bool)
    padding[1, 7:] = True
    wanted = theirs(inputs_embeds=x, attention_mask=(~padding).long()).last_hidden_state
    torch.testing.assert_close(
        network(x, padding)[~padding], wanted[~padding], rtol=1e-5, atol=1e-5
    )


def test_sparse_attention_is_big_bird(monkeypatch: pytest.MonkeyPatch) -> None:
    """With our random blocks in place of its own, which it replaces by the first block in evaluation."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BigBirdConfig(
        **SIZES, block_size=4, num_random_blocks=2, attention_type="block_sparse", bos_token_id=1,
        eos_token_id=2, sep_token_id=3,
    )  # fmt: skip
    theirs = shaken(transformers.BigBirdModel(config))
    network = made(norm="post", attention="big-bird", random=2)
    copied(theirs, network)
    for block, layer in zip(network.blocks, theirs.encoder.layer, strict=True):
        read = block.attention._blocks_read(12).clone()  # type: ignore[union-attr, operator]
        for i in range(1, 11):
            read[:, i, [0, i - 1, i, i + 1, 11]] = False
        drawn = [head[1:-1].nonzero()[:, 1].view(10, 2).numpy() for head in read]
        monkeypatch.setattr(
            layer.attention.self, "_bigbird_block_rand_mask_with_head",
            lambda *_, drawn=drawn, **__: drawn,
        )  # fmt: skip
    x, padding = torch.randn(3, 48, 8), torch.zeros(3, 48, dtype=torch.bool)
    padding[1, 31:] = True
    padding[2, 6:] = True
    wanted = theirs(inputs_embeds=x, attention_mask=(~padding).long()).last_hidden_state
    torch.testing.assert_close(
        network(x, padding)[~padding], wanted[~padding], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", [TransformerMemory, BigBirdMemory])
def test_a_memory_is_the_transformer_over_the_last_inputs(kind: Any) -> None:
    torch.manual_seed(0)
    options = {} if kind is TransformerMemory else {"block": 2, "window": 1, "random": 1}
    memory = kind(3, 8, length=6, heads=2, **options)
    x = torch.randn(11, 1, 3)
    out, state = memory.unroll(x, memory.initial_state(1, torch.device("cpu")), torch.zeros(11, 1))
    # Before the seventh and the tenth input the older three of six are dropped.
    for first, end in ((0, 6), (3, 9), (6, 11)):
        wanted = memory.transformer(memory.embed(x[first:end, 0])[None])[0]
        shown = slice(max(first + 3, end - 3) if first else 0, end)
        torch.testing.assert_close(out[shown, 0], wanted[shown.start - first :])
    assert state["count"].tolist() == [5]
    assert torch.equal(state["inputs"][0, :5], x[6:, 0])
    assert not state["inputs"][0, 5:].any()


def test_a_memory_reads_long_sequences_in_few_passes() -> None:
    """About two positions for each step, whatever the length of the history."""
    memory = TransformerMemory(3, 8, length=16, heads=2)
    read: list[int] = []
    memory.transformer.register_forward_pre_hook(
        lambda _, given: read.append(given[0].shape[:2].numel())
    )
    state = memory.initial_state(4, torch.device("cpu"))
    memory.unroll(torch.randn(128, 4, 3), state, torch.zeros(128, 4))
    assert read == [15 * 16 * 4]


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("attention", ["full", "etc"])
def test_the_attention_shown_is_that_of_the_last_block(attention: str, norm: str) -> None:
    network, x = made(attention=attention, norm=norm), torch.randn(2, 48, 8)
    with (
        torch.no_grad()
    ):  # With its initial weights, the attention of all blocks is nearly uniform.
        for weights in network.parameters():
            weights.mul_(30 if weights.dim() > 1 else 1)
    seen: list[torch.Tensor] = []
    last = network.blocks[-1]
    assert isinstance(last, TransformerBlock)
    last.attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(x)
    extra = seen[0].shape[1] - 48
    assert extra == (0 if attention == "full" else 4)
    expected = last.attention.weights(seen[0]).mean(1)[:, extra:, extra:]
    torch.testing.assert_close(network.attention(x), expected)
    if not extra:
        torch.testing.assert_close(network.attention(x).sum(-1), torch.ones(2, 48))
