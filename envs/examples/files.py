"""Labelled examples in a user's file: .npz or HDF5, with one part for training and one for tests.

    np.savez("mine.npz", **{"train/obs": x, "train/label": y, "test/obs": u, "test/label": v})

An HDF5 file has the same names as groups and data sets. Further columns may have any names.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rlbench.envs.examples._base import SPLITS, Array, Arrays, Split
from rlbench.errors import UserError


class FileExamples(Arrays):
    """Examples from a file."""

    kind = "file"


def read(file: Path) -> FileExamples:
    """The source in a file.

    Raises:
        UserError: There is no such file, or it is not as described above.
    """
    try:
        columns = _npz(file) if file.suffix == ".npz" else _hdf5(file)
    except (FileNotFoundError, IsADirectoryError):
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

    found: dict[str, Array] = {}
    with h5py.File(file, "r") as opened:
        for split in SPLITS:
            group = opened.get(split)
            for name, column in group.items() if isinstance(group, h5py.Group) else ():
                if isinstance(column, h5py.Dataset) and column.shape is not None:
                    found[f"{split}/{name}"] = column[()]
    return found
