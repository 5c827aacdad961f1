"""Behaviour policies, which record the generated data sets."""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from rlbench.agents.sac import SAC, SACConfig
from rlbench.envs.point_navigation import GOAL
from rlbench.interface import Spec
from rlbench.offline_data.recording.mixtures import Controller
from rlbench.offline_data.recording.policy_cards import Weights, card

Array = NDArray[Any]


class Behaviour(Protocol):
    """A policy that takes its noise as an argument, so that each episode can have its own."""

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """Noise for the steps of one episode, float32 [T, A]."""

    def act(self, obs: Array, noise: Array) -> Array:
        """Actions, float32 [V, A], for observations [V, D] and noise [V, A]."""


class Uniform:
    """Uniform actions over the box; the noise is the action."""

    def __init__(self, box: spaces.Box) -> None:
        """Acts in `box`."""
        self._low = box.low.astype(np.float32)
        self._width = (box.high - box.low).astype(np.float32)

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """See `Behaviour`."""
        unit = generator.random((steps, *self._low.shape), dtype=np.float32)
        return self._low + self._width * unit

    def act(self, obs: Array, noise: Array) -> Array:
        """See `Behaviour`."""
        return noise


class Controlled:
    """A controller of the point task."""

    def __init__(self, controller: Controller) -> None:
        """Acts by `controller`."""
        self._controller = controller

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """See `Behaviour`."""
        return generator.standard_normal((steps, len(GOAL)), dtype=np.float32)

    def act(self, obs: Array, noise: Array) -> Array:
        """See `Behaviour`."""
        wanted = self._controller.gain * (GOAL - obs) + self._controller.noise * noise
        return np.clip(wanted, -1, 1).astype(np.float32)


def load(weights: Weights) -> dict[str, Tensor]:
    """The parameters of a policy, named as in SAC's policy network."""
    tensors = load_file(weights.file)
    if weights.rung is None:
        return tensors
    beginning = f"{weights.rung}/"
    return {k.removeprefix(beginning): x for k, x in tensors.items() if k.startswith(beginning)}


class Sampled:
    """Actions sampled from the policy of a SAC agent, as in D4RL's recordings."""

    def __init__(self, weights: Weights, observation_space: Space[Any], box: spaces.Box) -> None:
        """Loads the weights of a policy."""
        hidden = tuple(card(weights.file).settings["hidden"])
        self._agent = SAC(SACConfig(hidden=hidden), Spec(observation_space, box))
        self._agent.policy.load_state_dict(load(weights))

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """See `Behaviour`."""
        size = len(self._agent.box.half)
        return generator.standard_normal((steps, size), dtype=np.float32)

    @torch.no_grad()
    def act(self, obs: Array, noise: Array) -> Array:
        """See `Behaviour`."""
        mean, log_std = self._agent.policy(torch.from_numpy(obs.astype(np.float32)))
        raw = mean + log_std.exp() * torch.from_numpy(noise)
        action: Array = self._agent.box.from_unit(raw.tanh()).numpy()
        return action


class OnStates:
    """A policy that acts on the states behind pictures; see `rlbench.envs.mujoco_pixels`."""

    def __init__(self, behaviour: Behaviour, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """Acts by `behaviour` in environments with the attribute `state`."""
        self._behaviour, self._envs = behaviour, envs

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """See `Behaviour`."""
        return self._behaviour.draw(generator, steps)

    def act(self, obs: Array, noise: Array) -> Array:
        """See `Behaviour`; the observations are not read."""
        states = np.stack([env.get_wrapper_attr("state") for env in self._envs])
        return self._behaviour.act(states, noise)
