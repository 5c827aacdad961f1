"""Encoders of sequences of tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.backbones.encoders import make_encoder
from rlbench.errors import UserError
from rlbench.sequences import CLS, SPECIAL, TokenSequence

SPACE = TokenSequence((*SPECIAL, *"abcd"), 8)
TRANSFORMER = "transformer:width=8,layers=2,heads=2"
SPARSE = f"{TRANSFORMER},attention=big-bird,block=2,random=1"
NAMES = ("bag-of-words:width=8", "token-gru:width=8", TRANSFORMER, f"{TRANSFORMER},reads=past", SPARSE)  # fmt: skip


def tokens(*rows: str, length: int = 8) -> Tensor:
    found = torch.zeros(len(rows), length, dtype=torch.uint8)
    found[:, 0] = CLS
    for row, text in zip(found, rows, strict=True):
        row[1 : 1 + len(text)] = torch.tensor([SPACE.words.index(x) for x in text])
    return found


def made(name: str) -> Any:
    torch.manual_seed(0)
    return make_encoder(name, SPACE).eval()


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_padding_or_on_the_other_sequences(name: str) -> None:
    encoder, both = made(name), tokens("ab", "abcdab")
    torch.testing.assert_close(encoder(both)[:1], encoder(both[:1]))
    if "big-bird" not in name:  # Its last block, which everything reads, depends on the length.
        longer = make_encoder(name, TokenSequence(SPACE.words, 8))
        longer.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(encoder(both[:1, :3]), encoder(both[:1]))
    assert encoder(both).shape == (2, encoder.size) == (2, 8)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_bag_of_words_ignores_the_order(name: str) -> None:
    first, second = made(name)(tokens("abc", "cba"))
    assert torch.allclose(first, second, atol=1e-6) == name.startswith("bag")


def test_a_bag_of_words_is_the_mean_of_its_vectors() -> None:
    encoder = made("bag-of-words:width=3")
    vectors = encoder.layers.embedding.weight
    expected = (vectors[CLS] + vectors[3] + vectors[3]) / 3
    torch.testing.assert_close(encoder(tokens("aa"))[0], expected)


def test_recurrent_units_read_the_last_token_of_each_sequence() -> None:
    encoder, text = made("token-gru:width=4"), tokens("ab", "abcd")
    gru, vectors = encoder.layers.gru, encoder.layers.embedding.weight
    for row, length in ((0, 3), (1, 5)):
        expected = gru(vectors[text[row, :length].long()][None])[1][0, 0]
        torch.testing.assert_close(encoder(text)[row], expected)


@pytest.mark.parametrize(("reads", "later"), [("both", True), ("past", False)])
def test_only_a_bidirectional_transformer_reads_later_tokens(reads: str, later: bool) -> None:
    layers = made(f"{TRANSFORMER},reads={reads}").layers
    first, second = layers.places(tokens("abc", "abd").long())
    assert torch.equal(first[2], second[2]) != later
    assert not torch.equal(first[3], second[3])


def test_the_feature_of_a_transformer_is_the_output_at_the_token_that_read_everything() -> None:
    text = tokens("abc").long()
    both, causal = (made(f"{TRANSFORMER},pool=token{x}") for x in ("", ",reads=past"))
    torch.testing.assert_close(both(text), both.layers.places(text)[:, 0])
    torch.testing.assert_close(causal(text), causal.layers.places(text)[:, 3])
    mean = made(TRANSFORMER)
    torch.testing.assert_close(mean(text), mean.layers.places(text)[:, :4].mean(1))


def test_a_whole_network_of_fixed_length_is_one_program() -> None:
    assert made(SPARSE).layers.one_program
    assert not made(TRANSFORMER).layers.one_program


@pytest.mark.parametrize(
    ("name", "observations", "message"),
    [
        ("token-gru", (8,), r"token-gru takes sequences of tokens, but the observations are \(8,\)"),
        ("token-gru:width=0", SPACE, "width of the encoder of tokens is 0"),
        ("transformer:width=6,heads=4", SPACE, "6"),
        ("transformer:reads=up", SPACE, "give one of both, past"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name: str, observations: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_encoder(name, observations)
