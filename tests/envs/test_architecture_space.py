"""MnasNet's search space: sizes, round trips, and sequences that describe the same network."""

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlbench.architecture import MNASNET_A1, Architecture, live
from rlbench.envs.architectures.space import SPACES, USUAL, Space, find_space
from rlbench.errors import UserError

ALL = [space for each in SPACES.values() for space in (each, each.cell())]
EVERY = pytest.mark.parametrize("space", ALL, ids=lambda space: space.name)


def drawn(space: Space, count: int = 50) -> list[tuple[int, ...]]:
    rng = random.Random(0)
    return [tuple(rng.randrange(n) for n in space.choices) for _ in range(count)]


def middle(space: Space, **values: Any) -> list[int]:
    """The reference network, with other values of some tokens, such as `layers=-1`, in all blocks."""
    wanted = {"op": "mbconv6", "kernel": 3} | USUAL | values
    return [label.values.index(wanted.get(label.field, label.values[0])) for label in space.labels]


@pytest.mark.parametrize(
    ("name", "blocks", "tokens", "size"),
    [
        ("mnas-full", 7, 42, 432**7),
        ("mnas-mini", 4, 24, 432**4),
        ("mnas-nano", 3, 18, 432**3),
        ("nas-tiny", 2, 6, 576),
        ("rl-encoder", 3, 19, 3 * 432**3),
        # Operation, kernel, squeeze-and-excitation and skip once: 4 * 2 * 2 * 3; filters and layers of each block.
        ("mnas-full-cell", 7, 18, 48 * 9**7),
        ("mnas-nano-cell", 3, 10, 48 * 9**3),
        ("nas-tiny-cell", 2, 3, 24),
        ("rl-encoder-cell", 3, 11, 3 * 48 * 9**3),
    ],
)
def test_sizes_of_the_spaces(name: str, blocks: int, tokens: int, size: int) -> None:
    space = find_space(name)
    assert (space.name, len(space.blocks), len(space.choices), space.size) == (
        name, blocks, tokens, size,
    )  # fmt: skip
    assert len(space.labels) == tokens


def test_the_choices_of_a_block_are_the_papers_432() -> None:
    space = SPACES["mnas-full"]
    assert space.choices[:6] == (4, 2, 2, 3, 3, 3)
    assert [str(label) for label in space.labels[5:8]] == [
        "layers of block 1", "op of block 2", "kernel of block 2",
    ]  # fmt: skip
    assert [str(x) for x in SPACES["rl-encoder"].labels[-1:]] == ["size of the network"]


def test_the_reference_of_the_full_space_is_mobilenet_v2() -> None:
    space = SPACES["mnas-full"]
    made = space.decode(middle(space, skip="identity"))
    table = [(16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
    assert [(x.filters, x.layers, x.stride) for x in made.blocks] == table
    assert (made.first, made.stem, made.last, made.size) == (32, 2, 1280, 0)
    assert {x.op for x in made.blocks} == {"mbconv6"}


def test_tokens_by_hand() -> None:
    space = SPACES["mnas-mini"]
    made = space.decode((0, 1, 1, 0, 0, 0) + (3, 0, 0, 1, 2, 2) + (1, 0, 0, 2, 1, 1) * 2)
    # 0.75 * 16 = 12; 1.25 * 24 = 30, to a multiple of 4: 32. One layer less than one is one.
    assert [str(x) for x in made.blocks] == [
        "conv_r1_k5_s1_o12_se0.25_pool",
        "mbconv6_r3_k3_s2_o32_identity",
        "dwconv_r2_k3_s2_o32_none",
        "dwconv_r2_k3_s1_o48_none",
    ]
    assert (made.space, made.first, made.stem, made.last) == ("mnas-mini", 16, 1, 0)


def test_the_last_token_is_the_size_of_the_output() -> None:
    space = SPACES["rl-encoder"]
    tokens = middle(space)
    assert [space.decode([*tokens[:-1], x]).size for x in range(3)] == [64, 128, 256]


def test_all_blocks_of_a_cell_space_share_their_operation() -> None:
    space = find_space("mnas-mini-cell")
    made = space.decode((3, 1, 0, 1) + (0, 2) + (1, 1) * 3)
    assert [str(x) for x in made.blocks] == [
        "mbconv6_r2_k5_s1_o12_identity",
        "mbconv6_r2_k5_s2_o24_identity",
        "mbconv6_r2_k5_s2_o32_identity",
        "mbconv6_r2_k5_s1_o48_identity",
    ]


@EVERY
def test_architectures_and_tokens_are_translated_into_each_other(space: Space) -> None:
    for tokens in drawn(space):
        made = space.decode(tokens)
        assert made.space == space.name
        assert space.decode(space.encode(made)) == made
        assert Architecture.from_json(made.to_json()) == made
        canonical = space.canonical(tokens)
        assert space.encode(space.decode(canonical)) == canonical
        assert space.decode(np.array(tokens)) == made  # type: ignore[arg-type]


@EVERY
def test_a_canonical_sequence_describes_the_same_network_and_stays(space: Space) -> None:
    for tokens in drawn(space):
        canonical = space.canonical(tokens)
        assert live(space.decode(canonical)) == live(space.decode(tokens))
        assert space.canonical(canonical) == canonical


@EVERY
def test_neighbours_with_the_same_network_have_the_same_canonical_sequence(space: Space) -> None:
    alike = 0
    for tokens in drawn(space, 2):
        network, canonical = live(space.decode(tokens)), space.canonical(tokens)
        for other in space.neighbours(tokens):
            same = live(space.decode(other)) == network
            assert (space.canonical(other) == canonical) == same
            alike += same
    assert (alike == 0) == space.name.startswith("nas-tiny")


def test_no_choice_of_the_tiny_space_is_dead() -> None:
    # Its networks are trained one by one, so each should be another one.
    space = SPACES["nas-tiny"]
    every = list(itertools.product(*(range(n) for n in space.choices)))
    assert all(space.canonical(tokens) == tokens for tokens in every)
    assert len({live(space.decode(tokens)) for tokens in every}) == 576


def test_dead_choices_by_hand() -> None:
    space = SPACES["mnas-full"]
    identity, none, pool = (middle(space, skip=x) for x in ("identity", "none", "pool"))
    skips = [i for i, label in enumerate(space.labels) if label.field == "skip"]
    # Blocks 1 and 7 have one layer and change the channels.
    wanted = [none[i] if i in (skips[0], skips[6]) else x for i, x in enumerate(identity)]
    assert space.canonical(identity) == tuple(wanted)
    assert space.canonical(pool) == tuple(pool)
    fewer = space.canonical(middle(space, layers=-1))
    layers = [label.values[x] for label, x in zip(space.labels, fewer, strict=True)][5::6]
    assert layers == [0, -1, -1, -1, -1, -1, 0]
    # 0.75 * 16 = 12 rounds to 16, and 0.75 * 24 = 18 to 24, because 16 is below 90 %.
    thin = space.canonical(middle(space, filters=0.75))
    filters = [label.values[x] for label, x in zip(space.labels, thin, strict=True)][4::6]
    assert filters == [1.0, 1.0, 0.75, 0.75, 0.75, 0.75, 0.75]


def test_a_shared_skip_is_dead_only_if_it_is_dead_in_all_blocks() -> None:
    space = find_space("rl-encoder-cell")
    one_layer = middle(space, skip="identity", layers=-1)
    assert space.canonical(one_layer)[3] == middle(space, skip="none")[3]
    two_layers = middle(space, skip="identity")
    assert space.canonical(two_layers)[3] == two_layers[3]


@EVERY
def test_neighbours_differ_in_one_token(space: Space) -> None:
    (tokens,) = drawn(space, 1)
    found = space.neighbours(tokens)
    assert len(set(found)) == len(found) == sum(n - 1 for n in space.choices)
    for other in found:
        space.decode(other)
        assert sum(a != b for a, b in zip(tokens, other, strict=True)) == 1


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ((0, 0, 0), "there are 3 tokens; give 6 for an architecture of nas-tiny"),
        ((0,) * 7, "there are 7 tokens; give 6"),
        ((4, 0, 0, 0, 0, 0), "the token for the op of block 1 is 4; give 0 to 3"),
        ((0, 0, 0, 0, -1, 0), "the token for the kernel of block 2 is -1; give 0 to 1"),
        ((0, 0, 0.5, 0, 0, 0), "give whole numbers"),
    ],
)
def test_wrong_tokens_are_refused(tokens: Any, sentence: str) -> None:
    space = SPACES["nas-tiny"]
    for use in (space.decode, space.canonical, space.neighbours):
        with pytest.raises(UserError, match=sentence):
            use(tokens)


def test_architectures_outside_the_space_are_refused() -> None:
    nano, tiny = SPACES["mnas-nano"], SPACES["nas-tiny"]
    made = nano.decode(middle(nano))
    others = [
        MNASNET_A1,  # 112 filters are no multiple of a reference's.
        replace(made, first=8),
        replace(made, size=64),
        replace(made, space="mnas-mini"),
        replace(made, blocks=made.blocks[:2]),
        replace(made, blocks=(*made.blocks[:2], replace(made.blocks[2], filters=64))),
        replace(made, blocks=(*made.blocks[:2], replace(made.blocks[2], kernel=7))),
    ]
    for other in others:
        with pytest.raises(UserError, match="is not in the space mnas-nano"):
            nano.encode(other)
    with pytest.raises(UserError, match="is not in the space nas-tiny"):
        tiny.encode(made)
    mixed = nano.decode([0, *middle(nano)[1:]])
    with pytest.raises(UserError, match="is not in the space mnas-nano-cell"):
        nano.cell().encode(replace(mixed, space="mnas-nano-cell"))


def test_an_unknown_space_is_refused() -> None:
    for name in ("mnas", "-cell", "mnas-nano-cell-cell"):
        with pytest.raises(
            UserError, match=r"there is no space .*; give one of mnas-full, mnas-mini"
        ):
            find_space(name)
