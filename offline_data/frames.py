"""The files of a data set's images: each observation once, then the images that ended an episode.

frames.bin    uint8 [N + E, *obs_shape]
after.npy     index of the image after each transition, int64 [N]
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlbench.storage import Frames

Array = NDArray[Any]

IMAGES, ENDS, AFTER = "frames.bin", "ends.bin", "after.npy"


class FrameWriter:
    """Writes the images of consecutive transitions, block by block."""

    def __init__(self, folder: Path, size: int, hashed: Callable[[bytes], object]) -> None:
        """Creates the files for `size` transitions; `hashed` receives everything that is written."""
        self._folder, self._hashed = folder, hashed
        self._after = np.arange(1, size + 1)
        self._done = self._ended = 0
        self._last: Array | None = None
        self._images = open(folder / IMAGES, "wb")  # noqa: SIM115 (see `close`)
        self._ends = open(folder / ENDS, "wb")  # noqa: SIM115

    def append(self, obs: Array, next_obs: Array) -> None:
        """Adds the images [n, D] before and after the next transitions."""
        if not len(obs):
            return
        if self._last is not None and not np.array_equal(self._last, obs[0]):
            self._end(self._done - 1, self._last)
        apart = np.flatnonzero((next_obs[:-1] != obs[1:]).any(axis=1))
        for row in apart.tolist():
            self._end(self._done + row, next_obs[row])
        content = obs.tobytes()
        self._images.write(content)
        self._hashed(content)
        self._done += len(obs)
        self._last = next_obs[-1].copy()

    def finish(self) -> None:
        """Writes the image after the last transition, and appends the ends to the others."""
        if self._last is not None:
            self._end(self._done - 1, self._last)
        self._ends.close()
        with open(self._folder / ENDS, "rb") as ends:
            while content := ends.read(1 << 24):
                self._images.write(content)
        (self._folder / ENDS).unlink()
        self._images.close()
        np.save(self._folder / AFTER, self._after)

    def close(self) -> None:
        """Closes the files, finished or not."""
        self._images.close()
        self._ends.close()

    def _end(self, row: int, image: Array) -> None:
        """Adds the image after a transition that no next transition begins with."""
        self._after[row] = len(self._after) + self._ended
        self._ended += 1
        content = image.tobytes()
        self._ends.write(content)
        self._hashed(content)


def open_frames(folder: Path, obs_shape: tuple[int, ...]) -> Frames:
    """The images of a data set over a memory map.

    Raises:
        OSError, ValueError: A file is missing or damaged.
    """
    after = np.load(folder / AFTER)
    size = (folder / IMAGES).stat().st_size
    count = int(after.max(initial=0)) + 1
    if size != count * prod(obs_shape):
        raise ValueError(f"{folder / IMAGES} has {size} bytes; expected {count} images")
    # Copy-on-write, because PyTorch warns about read-only memory; nothing ever writes to it.
    images = np.memmap(folder / IMAGES, np.uint8, "c", shape=(count, *obs_shape))
    return Frames(torch.from_numpy(images), torch.from_numpy(after))
