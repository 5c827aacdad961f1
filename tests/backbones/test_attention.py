"""Attention: patterns by hand, and the gathered form against the dense mask."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.backbones.layers.attention import Attention, Pattern
from rlbench.errors import UserError

SPARSE = ("window", "big-bird", "etc")
FORMS = [(kind, causal) for kind in SPARSE for causal in (False, True)]


def made(kind: Any, causal: bool = False, length: int = 64, **options: Any) -> Attention:
    """Attention of two heads in blocks of four."""
    torch.manual_seed(0)
    return Attention(8, 2, length, Pattern(kind, causal, block=4, **options), seed=1)


def parts(attention: Attention, x: Tensor) -> list[Tensor]:
    """Queries, keys and values [B, H, L, d]."""
    split = attention.inputs(x).chunk(3, dim=-1)
    return [part.unflatten(2, (2, -1)).transpose(1, 2) for part in split]


def padded(length: int) -> Tensor:
    """Padding of three sequences: none, the second half, everything."""
    padding = torch.zeros(3, length, dtype=torch.bool)
    padding[1, length // 2 :] = True
    padding[2] = True
    return padding


@pytest.mark.parametrize(("kind", "causal"), FORMS)
@pytest.mark.parametrize("length", [37, 64])
@pytest.mark.parametrize("window", [1, 3])
def test_gathered_keys_give_what_a_dense_mask_gives(
    kind: str, causal: bool, length: int, window: int
) -> None:
    attention = made(kind, causal, window=window, random=2)
    assert attention._worth_gathering(length)
    x = torch.randn(3, length, 8, requires_grad=True)
    for padding in (None, padded(length)):
        found = []
        for form in (attention._dense, attention._gathered):
            query, key, value = parts(attention, x)
            out = form(query, key, value, padding)
            found.append((out, *torch.autograd.grad(out.square().sum(), x)))
        torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
        assert found[1][1].isfinite().all()


def test_full_attention_by_hand() -> None:
    attention = made("full")
    x = torch.randn(1, 3, 8)
    query, key, value = parts(attention, x)
    heads = []
    for h in range(2):
        rows = []
        for i in range(3):
            scores = [math.exp(query[0, h, i].dot(key[0, h, j]).item() / 2) for j in range(3)]
            rows.append(torch.tensor(scores) @ value[0, h] / sum(scores))
        heads.append(torch.stack(rows))
    wanted = attention.outputs(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x)[0], wanted, rtol=1e-5, atol=1e-6)


def test_the_window_by_hand() -> None:
    both = made("window", length=16)._blocks_read(4)[0].int().tolist()
    assert both == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    causal = made("window", causal=True, window=2, length=16)._blocks_read(4)[0].int().tolist()
    assert causal == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize(("kind", "everyone"), [("big-bird", [0, 15]), ("etc", [0])])
def test_blocks_that_are_read(kind: str, everyone: list[int]) -> None:
    attention = made(kind, random=2)
    read = attention._blocks_read(16)
    assert read[:, everyone].all()
    assert read[:, :, everyone].all()
    others = [i for i in range(16) if i not in everyone]
    for head in read:
        for i in others:
            fixed = {*everyone, i - 1, i, i + 1} & set(range(16))
            found = {int(j) for j in head[i].nonzero()}
            assert found > fixed
            assert len(found) == len(fixed) + 2
    assert not torch.equal(read[0], read[1])


@pytest.mark.parametrize("kind", SPARSE)
def test_the_causal_form_reads_nothing_later_and_random_blocks_from_the_past(kind: str) -> None:
    attention = made(kind, causal=True)
    mask = attention.mask(64)
    assert not mask.triu(1).any()
    assert mask.diagonal(dim1=1, dim2=2).all()
    assert mask[:, 40:, :4].all() == (kind != "window")
    counts = attention._blocks_read(16)[:, 7:].sum(-1)
    assert (counts == (3 if kind == "window" else 7)).all()
    x, other = torch.randn(2, 1, 64, 8)
    other[:, :50] = x[:, :50]
    torch.testing.assert_close(attention(x)[:, :50], attention(other)[:, :50])


@pytest.mark.parametrize(("kind", "causal"), [("full", False), ("full", True), *FORMS])
@pytest.mark.parametrize("length", [9, 40])
def test_padding_is_never_read(kind: str, causal: bool, length: int) -> None:
    attention = made(kind, causal)
    x, other = torch.randn(2, 3, length, 8)
    padding = padded(length)
    other = torch.where(padding[..., None], other, x)
    out, same = attention(x, padding), attention(other, padding)
    torch.testing.assert_close(out[~padding], same[~padding])
    # A causal query reads itself last, and nothing is there to be read in the third sequence.
    torch.testing.assert_close(out[2], attention.outputs.bias.expand(length, -1))
    if kind == "full":
        alone = attention(x[1:2, : length // 2])
        torch.testing.assert_close(out[1:2, : length // 2], alone)


def test_random_blocks_are_drawn_once_and_saved() -> None:
    first, other = made("big-bird"), made("big-bird")
    torch.manual_seed(5)
    x = torch.randn(1, 64, 8)
    assert torch.equal(first(x), first(x))
    assert torch.equal(first.ranks, other.ranks)
    drawn = Attention(8, 2, 64, first.pattern, seed=2)
    before = drawn(x)
    assert not torch.equal(drawn.mask(64), first.mask(64))
    drawn.load_state_dict(first.state_dict())
    assert torch.equal(drawn.mask(64), first.mask(64))
    assert torch.equal(drawn(x), first(x))
    assert not torch.equal(drawn(x), before)


def test_short_sequences_are_read_whole() -> None:
    x = torch.randn(2, 20, 8)
    torch.testing.assert_close(made("big-bird")(x), made("full")(x), rtol=1e-5, atol=1e-6)


def test_dropout_in_training_only() -> None:
    for kind in ("full", "big-bird"):
        attention = Attention(8, 2, 64, Pattern(kind, block=4), dropout=0.5)
        x = torch.randn(1, 64, 8)
        assert not torch.equal(attention(x), attention(x))
        attention.eval()
        assert torch.equal(attention(x), attention(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sparse"}, "there is no attention 'sparse'; give one of full, window"),
        ({"block": 0}, "block, window and random are 0, 3 and 3"),
        ({"random": -1}, "block, window and random are 16, 3 and -1"),
        ({"window": 2}, "window is 2; give an odd number"),
    ],
)
def test_patterns_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pattern(**options)


def test_the_width_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(UserError, match="the width is 8 and the number of heads 3"):
        Attention(8, 3, 4)


@pytest.mark.parametrize(("kind", "causal"), [*FORMS, ("full", False), ("full", True)])
def test_the_weights_give_the_outputs(kind: str, causal: bool) -> None:
    attention, x = made(kind, causal), torch.randn(3, 37, 8)
    for padding in (None, padded(37)):
        weights = attention.weights(x, padding)
        values = parts(attention, x)[2]
        out = attention.outputs((weights @ values).transpose(1, 2).flatten(2))
        torch.testing.assert_close(out, attention(x, padding), rtol=1e-5, atol=1e-5)
