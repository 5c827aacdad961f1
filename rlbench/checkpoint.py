"""Checkpoints: tensors as safetensors, everything else as JSON, written atomically as a pair.

A checkpoint is a pair NAME.safetensors and NAME.json. The JSON file is written last and holds the
SHA-256 of both contents, so a pair counts only once it is complete, and corruption is detected.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes, save as tensors_to_bytes
from torch import Tensor

from rlbench.errors import UserError
from rlbench.files import write_atomically

FORMAT = 2
"""Format 1 hashed only the tensors."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes nested dicts of tensors and plain values.

    Args:
        path: Without extension; two files are made.
        state: String keys; tensors, numbers, strings, lists and dicts of them.
    """
    tensors: dict[str, Tensor] = {}
    plain = _split(state, "", tensors)
    blob = tensors_to_bytes(tensors)
    write_atomically(path.with_name(path.name + ".safetensors"), blob)
    head = {"format": FORMAT, "sha256": _digest(blob, plain), "state": plain}
    text = json.dumps(head, indent=1, sort_keys=True)
    write_atomically(path.with_name(path.name + ".json"), text.encode())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads what `save` wrote.

    Raises:
        UserError: A file is missing or was changed.
    """
    head_file = path.with_name(path.name + ".json")
    blob_file = path.with_name(path.name + ".safetensors")
    damaged = f"the checkpoint {path} is damaged"
    try:
        head = json.loads(head_file.read_bytes())
        written, expected, plain = head["format"], head["sha256"], head["state"]
        blob = blob_file.read_bytes()
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise UserError(
            f"there is no {missing} in {path.parent}; give the folder of a run"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{damaged}: {head_file.name} cannot be read; use an older one") from None
    if written not in (1, FORMAT):
        raise UserError(
            f"the checkpoint {path} has format {written}, but this version reads 1 to {FORMAT}; "
            "install the version named in the run's config.json"
        )
    digest = _digest(blob, plain) if written == FORMAT else hashlib.sha256(blob).hexdigest()
    if digest != expected:
        raise UserError(
            f"{damaged}: {blob_file.name} or {head_file.name} was changed after it was written; "
            "restore it from a backup or start a new run"
        )
    tensors = tensors_from_bytes(blob)
    whole = _join(plain, {name: x.to(device) for name, x in tensors.items()})
    return dict(whole)


def _digest(blob: bytes, plain: Any) -> str:
    """SHA-256 of the tensors and of everything else."""
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(blob + text.encode()).hexdigest()


def all_in(folder: Path) -> list[Path]:
    """The complete checkpoints by name, without extension."""
    return sorted(file.with_suffix("") for file in folder.glob("*.json"))


def remove(path: Path) -> None:
    """Deletes a pair, the JSON file first, so that an incomplete pair never counts."""
    for ending in (".json", ".safetensors"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


_TENSOR = "tensor"  # stands in the JSON where a tensor was


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of `value` to `tensors`, named by their path in it."""
    if isinstance(value, Tensor):
        # A view would save its whole storage, and two names may not share one.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {
            key: _split(x, f"{name}/{key}" if name else key, tensors) for key, x in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_split(x, f"{name}/{i}", tensors) for i, x in enumerate(value)]
    return value


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_split`."""
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _join(x, tensors) for key, x in value.items()}
    if isinstance(value, list):
        return [_join(x, tensors) for x in value]
    return value
