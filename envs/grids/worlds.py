"""The interface of batched worlds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlbench.state import capture, restore


class Worlds(ABC):
    """N worlds with W workers each, stepped together as tensors.

    Observations are state indices, int64 [N, W], or vectors, float [N, W, D].
    """

    shape: tuple[int, int]
    """Numbers of worlds and of workers in each, (N, W)."""
    states: int | None = None
    """Number of states; None if observations are vectors."""
    obs_size: int | None = None
    """Length of the vectors, D; None if observations are state indices."""
    actions: int
    """Number of actions."""
    valued: bool = False
    """Whether exact values are known; then `values` never returns None."""
    draws: int
    """Random numbers that one worker needs for one step."""
    generator: torch.Generator
    """Source of new worlds and of `chance`."""

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.generator.device

    def chance(self, steps: int) -> Tensor:
        """Uniform random numbers for some steps, [steps, N, W, draws]."""
        return self._uniform(steps, *self.shape, self.draws)

    def step(self, action: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps every worker; workers whose episode ends begin a new one.

        Args:
            action: Actions, int64 [N, W].
            chance: Random numbers of this step, from `chance`.

        Returns:
            Rewards [N, W]; ends [N, W], 1.0 where an episode ended, including by its time limit; and observations
            before any new episode.
        """
        reward, terminated, truncated = self.advance(action, chance)
        over = terminated | truncated
        final = self.obs()
        self.begin(over, chance)
        return reward, over.float(), final

    def restart(self) -> None:
        """Begins a new episode for every worker."""
        every = torch.ones(self.shape, dtype=torch.bool, device=self.device)
        self.begin(every, self.chance(1)[0])

    @abstractmethod
    def renew(self, rows: Tensor, copies: int = 1) -> None:
        """Replaces the worlds `rows`, int64 [M], by M / copies new ones in turn, and begins their episodes."""

    def values(self, policy: Tensor, discount: float) -> Tensor | None:
        """Exact values of policies; see `Lifetimes.values`. None if they are not known."""
        return None

    @abstractmethod
    def obs(self) -> Tensor:
        """Observations of all workers."""

    @abstractmethod
    def advance(self, action: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps every worker without beginning new episodes.

        Returns:
            Rewards [N, W], whether an episode terminated and whether it reached its time limit, bool [N, W].
        """

    @abstractmethod
    def begin(self, over: Tensor, chance: Tensor) -> None:
        """Begins new episodes for the workers in `over`, bool [N, W]; `chance` may be that of the previous step."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)

    def _uniform(self, *size: int) -> Tensor:
        return torch.rand(size, generator=self.generator, device=self.device)

    def _workers_of(self, rows: Tensor) -> Tensor:
        """Mask of the workers in the worlds `rows`, int64 [M], as bool [N, W]."""
        chosen = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        return chosen.index_fill(0, rows, True)
