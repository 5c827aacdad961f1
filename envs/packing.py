"""Environments with Dict observations as environments with one vector per step."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.errors import UserError
from rlbench.packed import Packed


class Packing(gym.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Packs the Dict observations of an environment; see `rlbench.packed.Packed`."""

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        """Wraps an environment whose observation space is a Dict.

        Args:
            env: The environment.
            name: Its name in errors.

        Raises:
            UserError: The Dict has a part of an unsupported kind, no parts, or two of the same name.
        """
        super().__init__(env)
        self._name = name
        assert isinstance(env.observation_space, spaces.Dict)
        try:
            self._packed = Packed(env.observation_space)
        except TypeError as error:
            raise UserError(
                f"in the observations of {name}, {error}; expected Box, Discrete, MultiDiscrete, MultiBinary or Dict, or "
                "rlbench.sequences.TokenSequence for a text, so convert it in a wrapper "
                "(gymnasium.wrappers.TransformObservation)"
            ) from None
        except ValueError as error:
            raise UserError(
                f"the observation space of {name} has {error}; correct the keys of its Dict"
            ) from None
        self.observation_space: Any = self._packed

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """The packed observation, [D].

        Raises:
            UserError: It does not fit the observation space.
        """
        try:
            return self._packed.pack(observation)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self._name} returned {error}; expected the parts of its observation space, so correct the "
                "environment"
            ) from error
