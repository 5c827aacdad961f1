"""Labelled examples in a user's file: .npz or HDF5, with one part for training and one for tests.

    np.savez("mine.npz", **{"train/obs": x, "train/label": y, "test/obs": u, "test/label": v})

An HDF5 file has the same names as groups and data sets. Further columns may have any names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlbench.envs.examples._base import SPLITS, Array, Arrays, Split
from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file


class FileExamples(Arrays):
    """Examples from a file."""

    kind = "file"


def read(file: Path) -> FileExamples:
    """The source in a file.

    Raises:
        UserError: There is no such file, or it is not as described above.
    """
    refuse_other_than_file(file)
    try:
        file.stat()  # Each format would name a missing file in its own words.
        columns = _npz(file) if file.suffix == ".npz" else _hdf5(file)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(
            f"there is no file {file}; give the path of an .npz or HDF5 file of examples"
        ) from None
    except Exception as error:  # Damaged files raise many kinds of exceptions.
        raise UserError(f"{file} cannot be read ({error}); give an .npz or HDF5 file") from error
    parts: dict[Split, dict[str, Array]] = {
        split: {
            name.removeprefix(f"{split}/"): column
            for name, column in columns.items()
            if name.startswith(f"{split}/") and column.ndim > 0
        }
        for split in SPLITS
    }
    if not parts["train"] or parts["train"].keys() != parts["test"].keys():
        raise UserError(
            f"{file} has the arrays {', '.join(sorted(columns)) or 'none'}; expected the same names in "
            "two parts, such as train/obs, train/label, test/obs and test/label"
        )
    try:
        return FileExamples(parts["train"], parts["test"])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _npz(file: Path) -> Mapping[str, Array]:
    saved = np.load(file, allow_pickle=False)
    if not isinstance(saved, np.lib.npyio.NpzFile):
        raise TypeError("it holds a single array, as np.save writes it")
    with saved:
        return dict(saved)


def _hdf5(file: Path) -> Mapping[str, Array]:
    import h5py

    from rlbench.hdf5 import member, opened, refuse_overclaimed

    found: dict[str, Any] = {}
    with opened(file) as content:
        for split in SPLITS:
            group = member(file, content, split)
            for name in group if isinstance(group, h5py.Group) else ():
                column = member(file, group, name)
                if isinstance(column, h5py.Dataset) and column.shape is not None:
                    found[f"{split}/{name}"] = column
        refuse_overclaimed(file, found.values())
        return {name: column[()] for name, column in found.items()}
