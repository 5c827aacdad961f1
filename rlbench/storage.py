"""Transitions packed into one float32 table, so that a batch is one gather.

Data sets (memory-mapped) and replay buffers share this layout. Images are stored separately as bytes, each
only once: the observation after a step is also the one before the next step, unless the episode ended there.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from rlbench.experience import Transitions


@dataclass(frozen=True)
class Layout:
    """Positions of the columns of a transition in a row: obs, action, 3 scalars, next_obs."""

    obs_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    images: bool = False
    """Observations are bytes [*obs_shape], stored separately from the rows, in `Frames`."""

    @property
    def stored(self) -> "Layout":
        """The layout of the stored rows: without the observations if they are images."""
        return Layout((0,), self.action_shape) if self.images else self

    @property
    def widths(self) -> tuple[int, int, int, int, int, int]:
        """Width of obs, action, reward, terminated, truncated and next_obs."""
        obs, action = prod(self.obs_shape), prod(self.action_shape)
        return obs, action, 1, 1, 1, obs

    @property
    def width(self) -> int:
        """Width of a whole row."""
        return sum(self.widths)

    def unpack(self, rows: Tensor) -> Transitions:
        """Views of rows [..., B, width] as transitions."""
        obs, action, reward, terminated, truncated, next_obs = rows.split(self.widths, dim=-1)
        size = rows.shape[:-1]
        if len(self.obs_shape) != 1:
            obs, next_obs = (x.reshape(*size, *self.obs_shape) for x in (obs, next_obs))
        if len(self.action_shape) != 1:
            action = action.reshape(*size, *self.action_shape)
        reward, terminated, truncated = (x[..., 0] for x in (reward, terminated, truncated))
        return Transitions(obs, action, reward, next_obs, terminated, truncated)

    def pack(self, batch: Transitions) -> Tensor:
        """Rows [B, width] from transitions; the inverse of `unpack`."""
        columns = (
            batch.obs, batch.action, batch.reward, batch.terminated, batch.truncated, batch.next_obs
        )  # fmt: skip
        return torch.cat([x.flatten(1) if x.dim() > 1 else x[:, None] for x in columns], dim=1)


@dataclass(frozen=True)
class Frames:
    """The images before and after N transitions."""

    images: Tensor
    """The N observations, then the last images of episodes, uint8 [N + E, *obs_shape]."""
    after: Tensor
    """Index of the image after each transition, int64 [N]."""

    def to(self, device: torch.device) -> "Frames":
        """A copy on a device."""
        return Frames(self.images.to(device), self.after.to(device))


class TransitionTable:
    """A fixed set of transitions to sample from."""

    def __init__(self, rows: Tensor, layout: Layout, frames: Frames | None = None) -> None:
        """Wraps packed rows, [N, layout.stored.width], and images without copying them."""
        width = layout.stored.width
        if rows.dim() != 2 or rows.shape[1] != width:
            raise ValueError(f"rows have shape {tuple(rows.shape)}; expected [N, {width}]")
        self.rows = rows
        self.layout = layout
        self.frames = frames

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.rows)

    def take(self, index: Tensor) -> Transitions:
        """The transitions at integer positions [..., B]."""
        flat = index.flatten()
        found = self.layout.stored.unpack(self.rows.index_select(0, flat).view(*index.shape, -1))
        if self.frames is None:
            return found
        obs, next_obs = (
            self.frames.images.index_select(0, i).view(*index.shape, *self.layout.obs_shape)
            for i in (flat, self.frames.after.index_select(0, flat))
        )
        return replace(found, obs=obs, next_obs=next_obs)

    def to(self, device: torch.device) -> None:
        """Moves everything to a device."""
        self.rows = self.rows.to(device)
        if self.frames is not None:
            self.frames = self.frames.to(device)

    def places(self, size: int, generator: torch.Generator) -> Tensor:
        """Positions of `size` transitions, uniformly with replacement, [size]."""
        return torch.randint(len(self), (size,), generator=generator, device=self.rows.device)

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """`size` transitions, uniformly with replacement."""
        return self.take(self.places(size, generator))
