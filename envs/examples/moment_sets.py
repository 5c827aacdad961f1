"""Sets of observations of one moment each: do two observations come from nearby steps of one episode?

    obs     8 consecutive observations
    label   the moment: 0 to 299 in training, 300 to 399 in tests

Actions are uniformly random. Every moment is in an episode of its own, after up to `LONGEST_LEAD` steps, and training and tests have
different episodes. If a task has a single level or observations look alike, some pairs of different moments cannot be told apart.

After the comparison of nearby observations of Savinov et al., 2019, https://arxiv.org/abs/1810.02274, section 2.1.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.contract import Checked, made
from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.trajectories import random_action
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.seeding import derive

OBSERVATIONS = 8
"""Observations of a set."""
LONGEST_LEAD = 30
"""Largest number of steps before the first of them."""
MOST_ATTEMPTS = 1_000
"""Episodes in a row that end too early, after which the task is refused."""
MOMENTS: Mapping[Split, int] = {"train": 300, "test": 100}


class MomentSets(Source):
    """Sets of observations [8, ...] and the moment of each set."""

    kind = "generated"
    cached = True

    def __init__(self, name: str) -> None:
        """Prepares the moments of a task.

        Raises:
            UserError: Its observations are not arrays, or its actions are neither numbers nor vectors.
        """
        self._task = find_task(name)
        with closing(made(name, self._task.make)) as env:
            seen, self._actions = env.observation_space, env.action_space
        if not isinstance(seen, spaces.Box) or not isinstance(
            self._actions, spaces.Box | spaces.Discrete
        ):
            raise UserError(
                f"{name} has the observations {seen} and the actions {self._actions}; moments need observations in a Box space, "
                "and actions in a Box or Discrete space, so give a task such as MiniGrid-DoorKey-5x5-v0"
            )
        self._seen = seen

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        low, high = (np.stack([x] * OBSERVATIONS) for x in (self._seen.low, self._seen.high))
        return {
            "obs": spaces.Box(low, high, dtype=self._seen.dtype.type),
            "label": spaces.Discrete(sum(MOMENTS.values())),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return MOMENTS

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        label = np.arange(size) + (0 if split == "train" else MOMENTS["train"])
        return {"obs": self._moments(split, size, seed), "label": label}

    def _moments(self, split: Split, size: int, seed: int) -> Array:
        """The observations of the first moments of a split, [size, 8, ...]."""
        name = self._task.name
        with closing(Checked(made(name, self._task.make), name)) as env:
            sets = [self._moment(env, derive(seed, "moment-sets", split, i)) for i in range(size)]
        return np.stack(sets)

    def _moment(self, env: Checked, seed: int) -> Array:
        """The observations of one moment, [8, ...]."""
        for attempt in range(MOST_ATTEMPTS):
            found = self._attempted(env, derive(seed, attempt))
            if found is not None:
                return found
        raise UserError(
            f"{MOST_ATTEMPTS:,} episodes of {self._task.name} in a row ended within {OBSERVATIONS + LONGEST_LEAD} steps; give a task "
            "with longer episodes"
        )

    def _attempted(self, env: Checked, seed: int) -> Array | None:
        """The observations of a moment of one episode; None if it ends too early."""
        rng = np.random.default_rng(seed)
        lead = int(rng.integers(LONGEST_LEAD + 1))
        obs = [env.reset(seed)]
        for _ in range(lead + OBSERVATIONS - 1):
            after, _, terminated, truncated = env.step(random_action(self._actions, rng))
            obs.append(after)
            if terminated or truncated:
                return None
        return np.stack(obs[lead:])
