"""Trajectories of uniformly random actions as sequences of tokens, from which a model can learn how a task behaves.

    obs     [CLS] s_0 a_0 r_0 s_1 a_1 r_1 ... s_{T-2} [MASK] r_{T-2} s_{T-1}
    label   the hidden action a_{T-2}, for tasks with discrete actions

A state s has one token for each number of the observation, an action has one token or one for each of its numbers, and a
reward has one token. Numbers are sorted into 16 bins, which were equally frequent in 2,000 other steps. A model that predicts hidden tokens learns
the dynamics, and the hidden action is a class for `sequence-classifier`.

Windows do not cross episodes. Training and test windows are from different episodes.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.contract import Checked, made
from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.seeding import derive
from rlbench.sequences import CLS, MASK, SPECIAL, TokenSequence

STEPS = 8
"""States of a window, T."""
BINS = 16
FOR_BINS = 2_000
"""Steps whose numbers determine the bins."""
MOST_ATTEMPTS = 1_000
"""Episodes in a row without a whole window after which the task is refused."""
WIDEST = 1e3
"""Random actions without bounds are drawn between minus this and this."""


class Trajectories(Source):
    """Windows of T states, and the hidden action if actions are discrete."""

    kind = "generated"
    cached = True

    def __init__(self, name: str) -> None:
        """Trajectories of the task of a name.

        Raises:
            UserError: Its observations are not vectors, or its actions are neither numbers nor vectors.
        """
        self._task = find_task(name)
        with closing(made(name, self._task.make)) as env:
            seen, self._actions = env.observation_space, env.action_space
        for what, space, fits in (
            ("observations", seen, isinstance(seen, spaces.Box) and len(seen.shape) == 1),
            ("actions", self._actions, isinstance(self._actions, spaces.Box | spaces.Discrete)),
        ):
            if not fits:
                raise UserError(
                    f"the {what} of {name} are {space}; trajectories need observations that are vectors, and actions in "
                    "a Box or Discrete space, so give a task such as CartPole-v1"
                )
        self._states = len(np.reshape(np.zeros(seen.shape or ()), -1))
        self._actors = len(np.reshape(np.zeros(self._actions.shape or ()), -1))

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        obs = TokenSequence(self.words, self._length)
        if isinstance(self._actions, spaces.Discrete):
            return {"obs": obs, "label": spaces.Discrete(int(self._actions.n))}
        return {"obs": obs}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 5_000, "test": 1_000}

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: the bins of each number of a step."""
        names = (
            [f"s{i}" for i in range(self._states)] + [f"a{i}" for i in range(self._actors)] + ["r"]
        )
        counted = zip(names, self._bins, strict=True)
        return (*SPECIAL, *(f"{name}={b}" for name, bins in counted for b in range(bins)))

    @property
    def _bins(self) -> list[int]:
        """The number of bins of each number of a step; every discrete action has a bin of its own."""
        discrete = isinstance(self._actions, spaces.Discrete)
        actions = [int(self._actions.n)] if discrete else [BINS] * self._actors  # type: ignore[attr-defined]
        return [*[BINS] * self._states, *actions, BINS]

    @property
    def _length(self) -> int:
        """[CLS], whole steps, and a last state."""
        return 1 + (STEPS - 1) * len(self._bins) + self._states

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`.

        Raises:
            UserError: Episodes are shorter than a window.
        """
        name = self._task.name
        with closing(Checked(made(name, self._task.make), name)) as env:
            edges = self._edges(env, derive(seed, "trajectories", "bins"))
            windows = self._windows(env, derive(seed, "trajectories", split))
            rows = np.stack(list(islice(windows, size)))
        tokens = tokens_of(rows, edges)[:, : self._length - 1]
        obs = np.concatenate([np.full((size, 1), CLS), tokens], axis=1)
        if not isinstance(self._actions, spaces.Discrete):
            return {"obs": obs}
        hidden = self._length - self._states - 2
        label = rows[:, -2, self._states].astype(np.int64) - int(self._actions.start)
        obs[:, hidden] = MASK
        return {"obs": obs, "label": label}

    def _edges(self, env: Checked, seed: int) -> list[Array]:
        """The bounds between the bins of each number of a step."""
        steps = np.concatenate(list(islice(self._windows(env, seed), FOR_BINS // STEPS)))
        shares = np.arange(1, BINS) / BINS
        edges = list(np.quantile(steps, shares, axis=0).T)
        if isinstance(self._actions, spaces.Discrete):
            edges[self._states] = self._actions.start + np.arange(1, int(self._actions.n))
        return edges

    def _windows(self, env: Checked, seed: int) -> Iterator[Array]:
        """Windows [T, D + A + 1] of state, action and reward, without end."""
        episode, without = 0, 0
        while without < MOST_ATTEMPTS:
            rng = np.random.default_rng(derive(seed, "actions", episode))
            obs = env.reset(derive(seed, "episode", episode))
            steps: list[Array] = []
            episode, without, ended = episode + 1, without + 1, False
            while not ended:
                action = random_action(self._actions, rng)
                after, reward, terminated, truncated = env.step(action)
                steps.append(np.concatenate([obs, np.reshape(action, -1), [reward]]))
                obs, ended = after, bool(terminated or truncated)
                if len(steps) == STEPS:
                    yield np.stack(steps)
                    steps, without = [], 0
        raise UserError(
            f"{MOST_ATTEMPTS:,} episodes of {self._task.name} in a row had fewer than {STEPS} steps; give a task with "
            "longer episodes"
        )


def random_action(space: Any, rng: np.random.Generator) -> Any:
    """A uniformly random action of a Box or Discrete space."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n)
    low, high = np.maximum(space.low, -WIDEST), np.minimum(space.high, WIDEST)
    return rng.uniform(low, high).astype(np.float32)


def tokens_of(rows: Array, edges: list[Array]) -> Array:
    """Tokens, int64 [N, T C], of numbers [N, T, C].

    Args:
        rows: Numbers of steps.
        edges: The bounds between the bins of each of the C numbers; a number on a bound is in the bin above it.
    """
    columns, first = [], len(SPECIAL)
    for c, bounds in enumerate(edges):
        columns.append(first + np.searchsorted(bounds, rows[..., c], side="right"))
        first += len(bounds) + 1
    return np.stack(columns, axis=-1).reshape(len(rows), -1)
