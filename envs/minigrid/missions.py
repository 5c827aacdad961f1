"""MiniGrid's whole observation: the view, the direction and the words of the mission."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from rlbench.envs.minigrid.words import LONGEST, WORDS, encode
from rlbench.sequences import TokenSequence


class Missions(gym.ObservationWrapper[dict[str, Any], Any, Any]):
    """Replaces the text of the mission with the numbers of its words."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wraps an environment of the package minigrid."""
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        parts = {**env.observation_space.spaces, "mission": TokenSequence(WORDS, LONGEST)}
        self.observation_space = spaces.Dict(parts)
        self._last: tuple[str, Any] = ("", encode(""))

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with the numbers of the words, uint8 [L]."""
        mission = observation["mission"]
        if mission != self._last[0]:
            self._last = mission, encode(mission)
        return {**observation, "mission": self._last[1]}
