"""Minari's data sets, read from its own HDF5 format without its package.

A data set is a folder with `data/metadata.json` and `data/main_data.hdf5`; each group `episode_<i>`
of the latter holds one episode, its observations one longer than the rest, so every s' is known.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.offline_data.dataset import Columns, Provenance, Recording
from rlbench.offline_data.hdf5 import column_fits, opened, read_rows
from rlbench.offline_data.reading import Checker, World
from rlbench.offline_data.transitions import Mode

Array = NDArray[Any]


def find(dataset_id: str) -> Path:
    """The file of a downloaded data set.

    Raises:
        UserError: It is not there, or is stored in another format.
    """
    root = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
    file = Path(root) / dataset_id / "data" / "main_data.hdf5"
    if not file.is_file():
        raise UserError(
            f"the Minari data set {dataset_id!r} is not in {root} as HDF5; "
            f"`minari download {dataset_id}` fetches it"
        )
    return file
