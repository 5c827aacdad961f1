"""Recall: an agent sees pairs of a key and a value, then distractors, and is then asked for the values.

    steps         K pairs, with different keys; D distractors, each a value without a key; K questions, each a key of
                  a pair, in random order
    observation   float32 [13]: the key as one of 8, the value as one of 4, and 1 if it is a question; 0 where there is none
    actions       the 4 values; only the answers to questions count
    reward        1 / K for the value of the key that was asked for, else 0; the episode ends after the last question

The best return is 1. The values are uniform and independent, so without remembering the pairs no policy has an
expected return above 1/4. What an episode shows does not depend on the actions.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.envs.recall.names import KEYS, VALUES
from rlbench.envs.resets import episodes_to_begin

Array = NDArray[Any]
SIZE = KEYS + VALUES + 1
"""Length of an observation."""


def episode(pairs: int, distractors: int, seed: int) -> tuple[Array, Array]:
    """Everything that an episode shows, and the answers.

    Args:
        pairs: Number of pairs, K.
        distractors: Number of distractors, D.
        seed: Decides the episode.

    Returns:
        Observations float32 [K + D + K + 1, 13], of which the last one, after the end, is zeros; right answers
        int64 [K + D + K + 1], -1 where nothing is asked.
    """
    drawn = np.random.default_rng(seed)
    keys, values = drawn.permutation(KEYS)[:pairs], drawn.integers(VALUES, size=pairs)
    others, asked = drawn.integers(VALUES, size=distractors), drawn.permutation(pairs)
    shown = np.zeros((2 * pairs + distractors + 1, SIZE), np.float32)
    first = np.arange(pairs)
    shown[first, keys] = shown[first, KEYS + values] = 1
    shown[pairs + np.arange(distractors), KEYS + others] = 1
    questions = first + pairs + distractors
    shown[questions, keys[asked]] = shown[questions, -1] = 1
    answers = np.full(len(shown), -1)
    answers[questions] = values[asked]
    return shown, answers


class RecallVector(VectorEnv[Array, Array, Array]):
    """Environments of one task; the caller resets those whose episodes are over.

    `reset` and `step` behave as in `SyncVectorEnv(..., autoreset_mode=AutoresetMode.DISABLED)`.
    """

    def __init__(self, pairs: int, distractors: int, count: int) -> None:
        """`count` environments, V."""
        self.num_envs = count
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = Box(0, 1, (SIZE,), np.float32)
        self.single_action_space = Discrete(VALUES)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._pairs, self._distractors = pairs, distractors
        self._length = 2 * pairs + distractors
        self._shown = np.zeros((count, self._length + 1, SIZE), np.float32)
        self._answers = np.zeros((count, self._length + 1), np.int64)
        self._step = np.zeros(count, np.int64)
        self._all = np.arange(count)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes.

        Args:
            seed: Decides the episode: one for each environment, or the first of V consecutive ones; None draws.
            options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

        Returns:
            Observations of all environments, float32 [V, 13], and an empty dict.
        """
        mask, chosen = episodes_to_begin(self, seed, options)
        for row, own in zip(mask.nonzero()[0], chosen, strict=True):
            self._shown[row], self._answers[row] = episode(self._pairs, self._distractors, own)
            self._step[row] = 0
        return self._shown[self._all, self._step], {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment; the actions have shape [V]. Episodes that are over stay at their end."""
        reward = (self._answers[self._all, self._step] == actions) / self._pairs
        self._step = np.minimum(self._step + 1, self._length)
        over = self._step == self._length
        return self._shown[self._all, self._step], reward, over, np.zeros_like(over), {}


class Recall(gym.Env[Array, int]):
    """One environment: a vector of one."""

    def __init__(self, pairs: int, distractors: int) -> None:
        """See `RecallVector`."""
        self._one = RecallVector(pairs, distractors, 1)
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins the episode of a seed; without one, the next episode drawn from the last seed."""
        super().reset(seed=seed)
        own = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self._one.reset(seed=own)
        return obs[0], info

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        obs, reward, terminated, truncated, info = self._one.step(np.array([action]))
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info
