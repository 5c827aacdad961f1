"""Lifetimes: a batch of agents, each in its own world with several workers.

A lifetime ends after a fixed number of environment steps; then a new agent begins in a new world.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlbench.envs.grids.worlds import Worlds
from rlbench.experience import Lifetimes, LifetimesSpec, Trajectories
from rlbench.state import capture, restore


class WorldLifetimes(Lifetimes):
    """The lifetimes of agents in the worlds of a batched engine."""

    def __init__(
        self,
        worlds: Worlds,
        length: int,
        *,
        staggered: bool = False,
        look: Callable[[], object] | None = None,
    ) -> None:
        """Begins all lifetimes.

        Args:
            worlds: One for each lifetime, N.
            length: Steps of each worker in one lifetime.
            staggered: Whether the first lifetimes have different ages, as if some had begun earlier.
            look: Called before each step, for example to stop on request.
        """
        self.worlds, self.length, self._look = worlds, length, look
        count = worlds.shape[0]
        self.begun = torch.ones(count, dtype=torch.bool, device=worlds.device)
        self.age = torch.zeros(count, dtype=torch.int64, device=worlds.device)
        if staggered:
            self.age = torch.arange(count, device=worlds.device) * length // count

    @property
    def spec(self) -> LifetimesSpec:
        """See `Lifetimes`."""
        worlds = self.worlds
        return LifetimesSpec(
            worlds.shape, worlds.states, worlds.obs_size, worlds.actions, worlds.valued
        )

    def renew(self) -> None:
        """Replaces the worlds of lifetimes that are over."""
        self.begun = self.age >= self.length
        if self.begun.any():
            self.age = self.age.masked_fill(self.begun, 0)
            self.worlds.renew(self.begun.nonzero().squeeze(1))

    def restart(self) -> None:
        """See `Lifetimes`."""
        self.begun, self.age = torch.ones_like(self.begun), torch.zeros_like(self.age)
        self.worlds.restart()

    def redraw(self, copies: int = 1) -> None:
        """See `Lifetimes`."""
        self.worlds.renew(torch.arange(self.worlds.shape[0], device=self.begun.device), copies)
        self.begun, self.age = torch.ones_like(self.begun), torch.zeros_like(self.age)

    def values(self, policy: Tensor, discount: float) -> Tensor:
        """See `Lifetimes`."""
        found = self.worlds.values(policy, discount) if self.worlds.valued else None
        return super().values(policy, discount) if found is None else found

    def rollout(self, act: Callable[[Tensor], Tensor], steps: int) -> Trajectories:
        """See `Lifetimes`."""
        worlds = self.worlds
        chance = worlds.chance(steps)
        obs, action, reward, over, final = [], [], [], [], []
        for step in range(steps):
            if self._look is not None:
                self._look()
            obs.append(worlds.obs())
            action.append(act(obs[-1]))
            r, d, after = worlds.step(action[-1], chance[step])
            reward.append(r)
            over.append(d)
            final.append(after)
        self.age = self.age + steps
        actions = torch.stack(action)
        if self.unchecked is None:
            self.check(actions)
        else:
            self.unchecked.append(actions)
        ended = torch.stack(over)
        return Trajectories(
            obs=torch.stack(obs),
            action=actions,
            reward=torch.stack(reward),
            terminated=ended,
            truncated=torch.zeros_like(ended),
            final_obs=torch.stack(final),
        )

    def state_dict(self) -> dict[str, Any]:
        """Ages and worlds."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        restore(self, state)
