"""A replay buffer in a memory-mapped file, so that a checkpoint need not copy it.

Images are in a second file, one for each step: the image after a step is the image before the next one. Images
that ended an episode are in a third, sparse file.
"""

import hashlib
import os
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.backbones.encoders import Encoder
from rlbench.experience import Transitions
from rlbench.files import explaining_os_errors, refuse_without_space, sync_file
from rlbench.interface import Agent
from rlbench.storage import Layout

ROWS, IMAGES, ENDS = "replay.bin", "replay-images.bin", "replay-ends.bin"


class ReplayFile:
    """The last `capacity` of the transitions written; position in the file = step mod size."""

    def __init__(self, path: Path, layout: Layout, capacity: int, slack: int) -> None:
        """Opens the file, or makes one with room for capacity + slack transitions."""
        self.path, self._layout = path, layout
        self.capacity = capacity
        # One more for images, because the newest transition needs the image before the next step.
        self.size = capacity + slack + layout.images
        self._rows, self.fresh = _open(path, np.float32, (self.size, layout.stored.width))
        self._offsets = np.cumsum((0, *layout.stored.widths))
        self._hashes = np.zeros(self.size, np.uint64)
        """Hash of the transition at each place, for all steps before `_hashed` that `draw` can give."""
        self._hashed = 0
        self._images: np.memmap[Any, Any] | None = None
        if layout.images:
            shape = (self.size, *layout.obs_shape)
            self._images, fresh = _open(path.with_name(IMAGES), np.uint8, shape)
            self._ends = path.with_name(ENDS)
            with explaining_os_errors(self._ends), self._ends.open("ab"):
                self.fresh |= fresh

    def write(
        self, step: int, obs: Any, action: Any, reward: float, terminated: bool,
        truncated: bool, next_obs: Any,
    ) -> None:  # fmt: skip
        """Writes the transition of environment step `step`, counted from 0."""
        row = self._rows[step % self.size]
        _, a, r, _, _, n, end = self._offsets
        row[a:r] = np.ravel(action)
        row[r : r + 3] = reward, terminated, truncated
        if self._images is None:
            row[:a], row[n:end] = np.ravel(obs), np.ravel(next_obs)
            return
        self._images[step % self.size] = obs
        if terminated or truncated:
            image = np.ascontiguousarray(next_obs)
            with explaining_os_errors(self._ends), self._ends.open("r+b") as file:
                file.seek(step % self.size * image.nbytes)
                file.write(image.data)
        else:
            self._images[(step + 1) % self.size] = next_obs

    def draw(self, size: int, steps: int, generator: torch.Generator) -> Tensor:
        """Numbers of `size` steps, uniformly from the last `capacity` of `steps` steps, int64 [size]."""
        ages = torch.randint(
            min(steps, self.capacity), (size,), generator=generator, device=generator.device
        )
        return steps - 1 - ages

    def take(self, steps: Tensor, device: torch.device, last: Tensor | None = None) -> Transitions:
        """The transitions of steps, on a device.

        Args:
            steps: Their numbers, int64 [B].
            device: Where to put them.
            last: Numbers of later steps, [B]; each transition then leads to the observation after that step, and has
                that step's end of the episode. Rewards are those of `steps` in any case.
        """
        places = (steps % self.size).cpu()
        after = places if last is None else (last % self.size).cpu()
        found = self._stored(places, device)
        if last is not None:
            end = self._stored(after, device)
            found = replace(end, obs=found.obs, action=found.action, reward=found.reward)
        if self._images is None:
            return found
        obs = torch.from_numpy(self._images).index_select(0, places)
        next_obs = torch.from_numpy(self._images).index_select(0, (after + 1) % self.size)
        for row in torch.nonzero(found.terminated + found.truncated).flatten().tolist():
            next_obs[row] = torch.from_numpy(self._next_image(int(after[row])))
        return replace(found, obs=obs.to(device), next_obs=next_obs.to(device))

    def take_several(
        self, steps: Tensor, written: int, count: int, discount: float, device: torch.device
    ) -> Transitions:
        """Transitions of `count` steps, or of fewer if the episode or the steps written so far end before.

        Args:
            steps: Numbers of their first steps, int64 [B].
            written: How many steps have been written.
            count: Number of steps, n.
            discount: Discount of one step.
            device: Where to put them.

        Returns:
            From the observation before the first step to the one after the last of k steps, with the reward
            r_0 + discount * r_1 + ... + discount^(k-1) * r_(k-1), and with discount^k as the discount.
        """
        ahead = torch.arange(count)
        each = steps.cpu()[:, None] + ahead
        rows = self._stored((each % self.size).flatten(), torch.device("cpu"))
        over = (rows.terminated + rows.truncated).view(each.shape).bool() | (each >= written - 1)
        inside = over.cumsum(1) - over.long() == 0
        powers = torch.tensor(discount) ** torch.arange(count + 1)
        reward = (rows.reward.view(each.shape) * inside * powers[:-1]).sum(1)
        length = inside.sum(1)
        found = self.take(each[:, 0], device, each[:, 0] + length - 1)
        return replace(found, reward=reward.to(device), discount=powers[length].to(device))

    def _stored(self, places: Tensor, device: torch.device) -> Transitions:
        """The rows at places in the file, on a device; without observations if they are images."""
        rows = torch.from_numpy(self._rows).index_select(0, places)
        return self._layout.stored.unpack(rows.to(device))

    def outcome(self, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Action of a step, and the observation it led to."""
        place = step % self.size
        row = self._rows[place]
        _, a, r, _, _, n, end = self._offsets
        action = row[a:r].copy().reshape(self._layout.action_shape)
        if self._images is None:
            return action, row[n:end].copy().reshape(self._layout.obs_shape)
        return action, self._next_image(place)

    def _next_image(self, place: int) -> NDArray[Any]:
        """The image after the transition at a place in the file."""
        assert self._images is not None
        reward = self._offsets[2]
        if not self._rows[place, reward + 1 : reward + 3].any():
            found: NDArray[Any] = self._images[(place + 1) % self.size]
            return found
        length = prod(self._layout.obs_shape)
        with explaining_os_errors(self._ends), self._ends.open("rb") as file:
            file.seek(place * length)
            content = bytearray(length)  # Zeros where the file has no more bytes.
            file.readinto(content)
        return np.frombuffer(content, np.uint8).reshape(self._layout.obs_shape)

    def hash(self, steps: int) -> str:
        """Hash of all that `draw` can give after `steps` steps; reads only what was written since the last call."""
        first = max(0, steps - self.capacity)
        rows = np.asarray(self._rows)  # Faster to index than a memory map.
        for step in range(max(first, self._hashed), steps):
            place = step % self.size
            found = hashlib.sha256(step.to_bytes(8))
            found.update(rows[place].data)
            if self._images is not None:
                found.update(self._images[place].tobytes())
                found.update(self._next_image(place).tobytes())
            self._hashes[place] = int.from_bytes(found.digest()[:8])
        self._hashed = steps
        start, stop = first % self.size, steps % self.size
        parts = (
            (self._hashes[start:stop],)
            if start < stop
            else (self._hashes[start:], self._hashes[:stop])
        )
        # A sum takes a fraction of the time of a hash of a million hashes.
        return f"{sum(int(part.sum()) for part in parts) % 2**64:016x}"

    def remove(self) -> None:
        """Deletes the files, which are large."""
        remove_replay(self.path.parent)

    def flush(self) -> None:
        """Forces the content to disk."""
        self._rows.flush()
        if self._images is not None:
            self._images.flush()
            sync_file(self._ends)


def compact_encoder(agent: Agent) -> Encoder | None:
    """One of an agent's encoders if all of them are frozen up to the same compact form of an observation."""
    networks = (x for x in vars(agent).values() if isinstance(x, nn.Module))
    encoders = [x for network in networks for x in network.modules() if isinstance(x, Encoder)]
    shape = agent.spec.observation_space.shape or ()
    with torch.no_grad():
        forms = [x.compact(torch.zeros(1, *shape, device=agent.device)) for x in encoders]
    return encoders[0] if forms and all(x is not None for x in forms) else None


def remove_replay(folder: Path) -> None:
    """Deletes the files of a replay buffer, if there are any."""
    for name in (ROWS, IMAGES, ENDS):
        (folder / name).unlink(missing_ok=True)


def _open(path: Path, kind: Any, shape: tuple[int, ...]) -> tuple["np.memmap[Any, Any]", bool]:
    """A file as an array, and whether it was just created."""
    length = prod(shape) * np.dtype(kind).itemsize
    with explaining_os_errors(path):
        fresh = not path.exists() or path.stat().st_size != length
        if fresh:
            _reserve(path, length)
        return np.memmap(path, kind, "r+", shape=shape), fresh


def _reserve(path: Path, length: int) -> None:
    """Creates a file with all blocks allocated: a full disk raises an error now instead of crashing later."""
    refuse_without_space(path.parent, length, "the replay buffer", "give a smaller --replay-size")
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, length)
            else:
                file.truncate(length)
        except OSError:  # What it allocated before would keep the disk full.
            path.unlink()
            raise
