"""Labelled examples of a task for the seed of a run: drawn or read, checked, and cached if this takes long."""

import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from rlbench import checkpoint
from rlbench.envs.examples._base import SPLITS, Array, Source, Split
from rlbench.envs.tasks import Task
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.experience import Examples
from rlbench.files import explaining_os_errors, only_one
from rlbench.offline_data.cache import entry
from rlbench.offline_data.dataset import Provenance
from rlbench.sequences import TokenSequence, padded_at_end


@dataclass(frozen=True)
class ExampleSet:
    """Training examples and test examples."""

    fields: Mapping[str, Space[Any]]
    """The space of each column of one example."""
    train: Examples
    test: Examples
    provenance: Provenance

    def to(self, device: torch.device) -> "ExampleSet":
        """The examples on a device."""
        return ExampleSet(self.fields, self.train.to(device), self.test.to(device), self.provenance)


Notify = Callable[[str], object]


def open_examples(
    task: Task, size: int, seed: int, notify: Notify = lambda text: None
) -> ExampleSet:
    """The examples of a task.

    Args:
        task: A task with a source.
        size: Largest number of training examples; all test examples are taken.
        seed: Decides the random draws of the source.
        notify: Called with a sentence if examples in the cache were changed, so that they are drawn again.

    Raises:
        UserError: The task has no examples, or they do not fit the fields of its source.
    """
    source = _source(task)
    if size < 1:
        raise UserError(f"{size} training examples were requested; give a data size of 1 or more")
    fields, most = _fields(source, task.name), _sizes(source, task.name)
    sizes = {"train": min(size, most["train"]), "test": most["test"]}
    parts: dict[Split, Examples] = {
        split: _part(source, task.name, fields, split, sizes[split], seed, notify)
        for split in SPLITS
    }
    details = {"transitions": sizes["train"], "test": sizes["test"], "score": None}
    details |= {"seeded": source.seeded}
    provenance = Provenance(source.kind, task.name, "the task itself", _sha256(parts), details)
    return ExampleSet(fields, parts["train"], parts["test"], provenance)


def fields_of(task: Task) -> dict[str, Space[Any]]:
    """The space of each column of one example of a task; no examples are made.

    Raises:
        UserError: The task has no examples, or its source does not name their spaces.
    """
    return _fields(_source(task), task.name)


def _source(task: Task) -> Source:
    if task.source is None:
        raise UserError(
            f"{task.name} has no labelled examples; give a source of them, such as digits or an .npz "
            "file (`rlbench list` shows all)"
        )
    return task.source()


@contextmanager
def _named_as_users(source: Source, name: str, where: str) -> Iterator[None]:
    """Reports errors of a custom source as the user's own."""
    try:
        yield
    except UserError:
        raise
    except FAILURES as error:
        if type(source).__module__.startswith("rlbench."):
            raise
        raise raised_by(name, where, error, "source") from error


def _fields(source: Source, name: str) -> dict[str, Space[Any]]:
    with _named_as_users(source, name, "fields"):
        fields = dict(source.fields)
    for field, space in fields.items():
        if not (isinstance(space, Space) and space.shape is not None and space.dtype is not None):
            raise UserError(
                f"the field {field!r} of {name} is {space}; expected a space of arrays, such as Box or "
                "Discrete of gymnasium.spaces"
            )
    return fields


def _sizes(source: Source, name: str) -> dict[Split, int]:
    with _named_as_users(source, name, "sizes"):
        sizes: dict[Split, int] = {split: operator.index(source.sizes[split]) for split in SPLITS}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} has no examples for {split}; give a source with at least one")
    return sizes


def _part(
    source: Source, name: str, fields: Mapping[str, Space[Any]], split: Split, size: int, seed: int,
    notify: Notify,
) -> Examples:  # fmt: skip
    """The examples of a split, from the cache if the source is slow."""
    if not source.cached:
        return _drawn(source, name, fields, split, size, seed)
    shown = {field: str(space) for field, space in fields.items()}
    key = {
        "split": split, "size": size, "seed": seed, "version": source.version, "fields": shown,
    }  # fmt: skip
    file = entry(name, key) / "examples"
    with only_one(file.parent.with_name(f".{file.parent.name}.lock"), "", wait=True):
        found = _kept(file, fields)
        if found is None:
            if file.parent.exists():
                notify(f"{file.parent} was changed or is damaged and will be made again")
            found = _drawn(source, name, fields, split, size, seed)
            with explaining_os_errors(file):
                checkpoint.save(file, {"columns": dict(found.columns)})
        return found


def _kept(file: Path, fields: Iterable[str]) -> Examples | None:
    """Examples from the cache; None if there are none, or they are damaged."""
    try:
        columns = checkpoint.load(file)["columns"]
        # In the order in which they were drawn, on which the hash of the examples depends.
        return Examples({name: columns[name] for name in fields})
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def _drawn(
    source: Source, name: str, fields: Mapping[str, Space[Any]], split: Split, size: int, seed: int
) -> Examples:
    columns = {}
    with _named_as_users(source, name, "sample"):
        given = dict(source.sample(split, size, seed))
        arrays = {field: np.asarray(column) for field, column in given.items() if field in fields}
    for field, space in fields.items():
        if field not in arrays:
            raise UserError(
                f"the {split} examples of {name} have no column {field!r}; let the source return every "
                "column that its fields name"
            )
        columns[field] = _column(arrays[field], space, size, f"{field} of {name}")
    return Examples(columns)


def _column(given: Array, space: Space[Any], size: int, name: str) -> torch.Tensor:
    """A column in the dtype of its space: int64 for classes and whole numbers, bytes, or float32."""
    shape = (size, *(space.shape or ()))
    if given.shape != shape:
        raise UserError(
            f"the column {name} has the shape {list(given.shape)}, expected {list(shape)}; correct the "
            "source or its fields"
        )
    if not given.size:
        raise UserError(f"the column {name} has no values; give 1 or more for each example")
    if given.dtype.kind not in "biuf":
        raise UserError(
            f"the column {name} has the type {given.dtype}; expected numbers, so convert it"
        )
    whole = np.issubdtype(space.dtype or np.float32, np.integer)
    if not whole:
        with np.errstate(over="ignore"):
            given = given.astype(np.float32)
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise UserError(
            f"the column {name} has values that are NaN or too large for float32; correct the source"
        )
    if whole and given.dtype.kind == "f" and (given != np.floor(given)).any():
        raise UserError(
            f"the column {name} has fractions, expected whole numbers of {space}; round them or correct "
            "the fields"
        )
    least, most = _bounds(space)
    if (given < least).any() or (given > most).any():
        what = "classes" if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else "values"
        raise UserError(
            f"the column {name} has {what} from {given.min()} to {given.max()}, expected {space}; correct "
            "the source or its fields"
        )
    if isinstance(space, TokenSequence) and not padded_at_end(given).all():
        raise UserError(
            f"the column {name} has tokens after padding, expected {space}; correct the source"
        )
    kind = np.uint8 if space.dtype == np.uint8 else np.int64 if whole else np.float32
    return torch.from_numpy(np.array(given, dtype=kind))


def _bounds(space: Space[Any]) -> tuple[Any, ...]:
    """Smallest and largest value, rounded like the values."""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.Box):
        with np.errstate(over="ignore"):
            whole = np.issubdtype(space.dtype, np.integer)
            return tuple(x if whole else x.astype(np.float32) for x in (space.low, space.high))
    return -np.inf, np.inf


def _sha256(parts: Mapping[Split, Examples]) -> str:
    digest = hashlib.sha256()
    for split, examples in parts.items():
        for name, column in examples.columns.items():
            digest.update(f"{split} {name} {column.dtype} {list(column.shape)}".encode())
            digest.update(column.numpy().tobytes())
    return digest.hexdigest()
