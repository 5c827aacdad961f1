"""Examples with key points that need no simulator: a red head, two green hands of which each is to one side of it, and a stray green hand."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box

from rlbench.envs.examples._base import Source
from rlbench.experience import Examples

SIDE, POINTS = 32, 3
SPEC: dict[str, Any] = {
    "obs": Box(0, 255, (SIDE, SIDE, 3), np.uint8),
    "clean": Box(0, 255, (SIDE, SIDE, 3), np.uint8),
    "keypoints": Box(-np.inf, np.inf, (POINTS, 3)),
}
AROUND = np.array([[0, 0], [-6, 4], [6, 4]])
"""Column and row of the head and the hands relative to the head, in pixels."""


def columns(rows: int, seed: int) -> dict[str, Any]:
    """Black pictures with squares of 3x3 pixels; the key points are their middles."""
    rng = np.random.default_rng(seed)
    clean = np.zeros((rows, SIDE, SIDE, 3), np.uint8)
    keypoints = np.ones((rows, POINTS, 3), np.float32)
    obs = clean.copy()
    for row in range(rows):
        middle = AROUND + rng.integers(9, 21, 2)
        keypoints[row, :, :2] = middle + 0.5
        for k, (u, v) in enumerate(middle):
            clean[row, v - 1 : v + 2, u - 1 : u + 2, int(k > 0)] = 200
        obs[row] = clean[row]
        u, v = rng.integers(1, SIDE - 1, 2)
        obs[row, v - 1 : v + 2, u - 1 : u + 2] = 0, 200, 0
        near = np.abs(middle - (u, v)).max(axis=1) < 3
        keypoints[row, near, 2] = 0
    return {"obs": obs, "clean": clean, "keypoints": keypoints}


def examples(rows: int = 8, seed: int = 0) -> Examples:
    return Examples({k: torch.from_numpy(v) for k, v in columns(rows, seed).items()})


class Robots(Source):
    """A source for runs: 24 pictures for training and 8 for tests."""

    fields = SPEC
    sizes = {"train": 24, "test": 8}  # noqa: RUF012

    def sample(self, split: Any, size: int, seed: int) -> Any:
        found = columns(24, seed + (split == "test"))
        return {name: x[:size] for name, x in found.items()}


class HeadLeftOrRight(gym.Env[Any, Any]):
    """One step in two frames of a robot; the action should be the head's column, from -1 to 1."""

    observation_space = Box(0, 255, (SIDE, SIDE, 6), np.uint8)
    action_space = Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        found = columns(2, int(self.np_random.integers(2**31)))
        self.obs = np.concatenate([*found["obs"]], axis=2)
        self.wanted = found["keypoints"][1, 0, 0] / SIDE * 2 - 1
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.obs, -abs(float(action[0]) - self.wanted), True, False, {}
