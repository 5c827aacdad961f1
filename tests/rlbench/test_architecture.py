"""Architectures as plain data: notation, files, widths, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rlbench.architecture import (
    MNASNET_A1,
    MNASNET_B1,
    MNASNET_SMALL,
    Architecture,
    Block,
    live,
    read_architecture,
    rounded,
    scaled,
)  # fmt: skip
from rlbench.errors import UserError

BLOCK = Block("mbconv6", 5, 0.25, "identity", 24, 2, 2)
TWO = Architecture("", 8, 1, (BLOCK, Block("conv", 3, 0.0, "none", 12, 1, 1)), last=16, size=32)
PLAIN: dict[str, Any] = {
    "space": "", "first": 8, "stem": 1, "last": 16, "size": 32,
    "blocks": ["mbconv6_r2_k5_s2_o24_se0.25_identity", "conv_r1_k3_s1_o12_none"],
}  # fmt: skip


def test_the_notation_of_a_block_is_the_one_of_the_authors_code() -> None:
    assert str(BLOCK) == "mbconv6_r2_k5_s2_o24_se0.25_identity"
    assert Block.parse(str(BLOCK)) == BLOCK
    plain = dataclasses.replace(BLOCK, se=0.0, skip="pool")
    assert str(plain) == "mbconv6_r2_k5_s2_o24_pool"
    assert Block.parse(str(plain)) == plain


def test_a_dictionary_holds_the_whole_architecture() -> None:
    assert TWO.to_json() == PLAIN
    for made in (TWO, MNASNET_A1, MNASNET_B1, MNASNET_SMALL):
        assert Architecture.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 3}, "has the fields space, first, stem, blocks, last, size, but this one has"),
        ({"space": None}, "space is None; give the name of a space"),
        ({"blocks": "conv_r1_k3_s1_o12_none"}, "blocks is 'conv_.*'; give a list"),
        ({"blocks": [3]}, "give a list of texts"),
        ({"blocks": []}, "has no blocks; give at least one"),
        ({"blocks": ["conv_r1_k3_s1_o12"]}, "'conv_r1_k3_s1_o12' describes no block"),
        ({"blocks": ["conv_r1_k4_s1_o12_none"]}, "kernel of a block is 4; give an odd number"),
        ({"blocks": ["conv_r0_k3_s1_o12_none"]}, "layers of a block is 0; give a whole number, 1 or"),
        ({"blocks": ["conv_r1_k3_s1_o12_se2_none"]}, "se of a block is 2.0; give a number from 0 to 1"),
        ({"first": 0}, "first of an architecture is 0; give a whole number, 1 or more"),
        ({"first": True}, "first of an architecture is True"),
        ({"stem": 1.0}, "stem of an architecture is 1.0"),
        ({"last": -1}, "last of an architecture is -1; give a whole number, 0 or more"),
        ({"size": "64"}, "size of an architecture is '64'"),
    ],
)  # fmt: skip
def test_wrong_fields_are_refused_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Architecture.from_json(PLAIN | change)


@pytest.mark.parametrize("saved", [None, [], 3, {}, {"space": ""}])
def test_what_is_no_architecture_is_refused(saved: Any) -> None:
    with pytest.raises(UserError, match="an architecture has the fields"):
        Architecture.from_json(saved)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"op": "mbconv4"}, "op of a block is 'mbconv4'; give one of conv, dwconv, mbconv3, mbconv6"),
        ({"skip": "sum"}, "skip of a block is 'sum'; give one of pool, identity, none"),
        ({"stride": 0}, "stride of a block is 0"),
        ({"filters": 0}, "filters of a block is 0"),
    ],
)  # fmt: skip
def test_blocks_that_no_network_has_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(BLOCK, **change)


def test_a_file_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    with pytest.raises(UserError, match=r"cannot read the architecture .*found.json"):
        read_architecture(file)
    file.write_text("{")
    with pytest.raises(UserError, match=r"found\.json is no JSON file"):
        read_architecture(file)
    file.write_text("[]")
    with pytest.raises(UserError, match=r"found\.json: an architecture has the fields"):
        read_architecture(file)
    file.write_text(json.dumps(PLAIN))
    assert read_architecture(file) == TWO


def test_filters_are_multiples_and_never_below_nine_tenths() -> None:
    for channels in (3.0, 4.2, 5.0, 11.2, 18.0, 19.9, 30.0, 100.0):
        for divisor in (4, 8):
            found = rounded(channels, divisor)
            assert found % divisor == 0
            assert max(divisor, 0.9 * channels) <= found <= max(divisor, channels + divisor)
    assert [rounded(18, 4), rounded(5, 4), rounded(18), rounded(19.9)] == [20, 8, 24, 24]


def test_a_width_scales_filters_except_the_last_in_multiples_that_width_one_leaves_alone() -> None:
    half = scaled(MNASNET_A1, 0.5)
    assert (half.first, half.last) == (16, 1280)
    assert [block.filters for block in half.blocks] == [8, 16, 24, 40, 56, 80, 160]
    assert dataclasses.replace(half.blocks[2], filters=40) == MNASNET_A1.blocks[2]
    for made in (TWO, MNASNET_A1, MNASNET_B1, MNASNET_SMALL):
        assert scaled(made, 1.0) == made
    # 8, 24 and 12 are multiples of 4.
    assert [block.filters for block in scaled(TWO, 0.6).blocks] == [16, 8]
    for width in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="give a number above 0"):
            scaled(TWO, width)


def test_only_identities_that_can_never_be_added_are_dead() -> None:
    def skips(*blocks: str) -> list[str]:
        made = Architecture("", 8, 1, tuple(Block.parse(block) for block in blocks))
        return [block.skip for block in live(made).blocks]

    assert skips("conv_r1_k3_s1_o8_identity", "conv_r1_k3_s1_o8_pool") == ["identity", "pool"]
    assert skips("conv_r1_k3_s2_o8_identity", "conv_r1_k3_s1_o16_identity") == ["none", "none"]
    # A second layer has stride 1 and as many channels as the first one gives.
    assert skips("conv_r2_k3_s2_o16_identity", "conv_r1_k3_s2_o16_pool") == ["identity", "pool"]
    # The input of a block has the filters of the one before.
    assert skips("conv_r1_k3_s1_o16_none", "conv_r1_k3_s1_o16_identity") == ["none", "identity"]
