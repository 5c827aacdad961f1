"""Checkpoints: what is saved comes back, and what is damaged is refused."""

from pathlib import Path

import pytest
import torch

from rlbench import checkpoint
from rlbench.errors import UserError

STATE = {
    "update": 3,
    "rate": 0.1,
    "big": 2**127 + 1,
    "names": ["a", {"b": torch.arange(3)}],
    "part": {"weight": torch.eye(2, dtype=torch.float64), "scalar": torch.tensor(7.0)},
}


def test_round_trip_keeps_values_types_and_shapes(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", STATE)
    back = checkpoint.load(tmp_path / "c")
    assert (back["update"], back["rate"], back["big"]) == (3, 0.1, 2**127 + 1)
    assert back["names"][0] == "a"
    assert torch.equal(back["names"][1]["b"], torch.arange(3))
    assert back["part"]["weight"].dtype == torch.float64
    assert back["part"]["scalar"].shape == ()


def test_views_and_shared_tensors_are_saved_by_value(tmp_path: Path) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    checkpoint.save(tmp_path / "c", {"column": x[:, 1], "whole": x, "again": x})
    back = checkpoint.load(tmp_path / "c")
    assert back["column"].tolist() == [1.0, 4.0]
    assert torch.equal(back["whole"], back["again"])


def test_newest_ignores_a_pair_without_its_json(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "update-1", STATE)
    checkpoint.save(tmp_path / "update-2", STATE)
    (tmp_path / "update-2.json").unlink()
    assert checkpoint.all_in(tmp_path) == [tmp_path / "update-1"]
    checkpoint.remove(tmp_path / "update-1")
    assert checkpoint.all_in(tmp_path) == []


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_flipped_byte_is_noticed(tmp_path: Path, position: int) -> None:
    checkpoint.save(tmp_path / "c", STATE)
    blob = bytearray((tmp_path / "c.safetensors").read_bytes())
    blob[position] ^= 1
    (tmp_path / "c.safetensors").write_bytes(blob)
    with pytest.raises(UserError, match="was changed after it was written"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "cannot be read"), ("{}", "cannot be read"),
     ('{"format": 99, "sha256": "", "state": {}}', "has format 99")],
)  # fmt: skip
def test_a_damaged_head_is_refused(tmp_path: Path, text: str, message: str) -> None:
    checkpoint.save(tmp_path / "c", STATE)
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path / "c")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", STATE)
    (tmp_path / "c.safetensors").unlink()
    with pytest.raises(UserError, match=r"no c\.safetensors"):
        checkpoint.load(tmp_path / "c")
