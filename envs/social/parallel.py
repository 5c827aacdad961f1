"""Multi-agent games as PettingZoo environments, in which the user controls all agents."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlbench.entities import ACTIONS
from rlbench.envs.social.engine import COLOURS, GridGame
from rlbench.envs.social.names import COIN
from rlbench.envs.social.picture import draw, in_words
from rlbench.envs.social.views import observation_space, observe
from rlbench.errors import UserError

Array = NDArray[Any]


def _parallel_env() -> Any:
    """PettingZoo's base class; `object` if the package is missing, which the constructor reports."""
    try:
        return importlib.import_module("pettingzoo").ParallelEnv
    except ModuleNotFoundError:
        return object


_ParallelEnv: Any = _parallel_env()


class SocialParallelEnv(_ParallelEnv):  # type: ignore[misc]
    """One environment of a game as a `pettingzoo.ParallelEnv`; the same episodes as `GridGame` for the same seeds.

    The time limit truncates an episode; covering both tiles of Cooperative Navigation terminates it. Episodes end for all
    agents at the same time; then `agents` is empty.
    """

    def __init__(self, name: str, obs_mode: str = "vector", render_mode: str | None = None) -> None:
        """Makes the environment.

        Args:
            name: A name in `rlbench.envs.social.names.GAMES`.
            obs_mode: vector, grid or graph, see `views`.
            render_mode: rgb_array, ansi or None.

        Raises:
            UserError: PettingZoo is not installed.
        """
        if _ParallelEnv is object:
            raise UserError(
                f"{name} as a ParallelEnv needs the package pettingzoo; install it with "
                "pip install 'rlbench[pettingzoo]'"
            )
        self.metadata = {"name": name, "render_modes": ["rgb_array", "ansi"], "render_fps": 5}
        self.render_mode, self.obs_mode = render_mode, obs_mode
        self.game = GridGame(name, 1)
        """The engine, with one environment."""
        first = self.game.game.first_action
        self.possible_agents = list(self.game.ids)
        self.agents: list[str] = []
        self.observation_spaces = {
            x: observation_space(self.game, obs_mode) for x in self.possible_agents
        }
        self.action_spaces = {
            x: Discrete(ACTIONS - first, start=first) for x in self.possible_agents
        }
        self.state_space = Box(0, 1, self.state().shape, np.float32)
        self._random = np.random.default_rng()

    def observation_space(self, agent: str) -> Box:
        """The space of an agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Begins the episode of a seed; without one, the seed is drawn from the environment's generator."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        drawn = int(self._random.integers(2**31)) if seed is None else seed
        self.game.reset(seeds=[drawn])
        self.agents = list(self.possible_agents)
        return self._obs(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[
        dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]
    ]:
        """One step: observations, rewards, terminations, truncations and infos of all agents."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        chosen = np.array([[int(actions[agent]) for agent in self.agents]])
        reward, terminated, truncated = self.game.step(chosen)
        living = self.agents
        ends, cuts = (dict.fromkeys(living, bool(x[0])) for x in (terminated, truncated))
        if terminated[0] or truncated[0]:
            self.agents = []
        rewards = dict(zip(living, reward[0].tolist(), strict=True))
        return self._obs(), rewards, ends, cuts, {agent: {} for agent in living}

    def state(self) -> Array:
        """The whole state, for centralised critics: float32 [N * D], the nodes' features; in Coin Game [N * D + 9], with all goals."""
        nodes: Array = self.game.graph()[0].ravel()
        if self.game.game.kind != COIN:
            return nodes
        return np.concatenate([nodes, COLOURS[self.game.goals[0]].ravel()])

    def render(self) -> Array | str | None:
        """A picture, uint8 [H, W, 3], or text."""
        if self.render_mode is None:
            return None
        return (draw if self.render_mode == "rgb_array" else in_words)(self.game)

    def close(self) -> None:
        """Nothing has to be closed."""

    def _obs(self) -> dict[str, Array]:
        """Observations of all agents."""
        return dict(zip(self.possible_agents, observe(self.game, self.obs_mode)[0], strict=True))
