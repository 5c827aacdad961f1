"""Multi-agent games for one learner: agent 0 learns, fixed policies control the others.

All random numbers, including those of the partners, come from the seed of the episode, so the same seed and actions give the
same episode in a vector of any size.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.entities import ACTIONS, Entities
from rlbench.envs.resets import episodes_to_begin
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.picture import draw, in_words
from rlbench.envs.social.scripted import PARTNERS, Policy, Scripted
from rlbench.envs.social.trained import Trained
from rlbench.envs.social.views import foretold, observation_space, observe

Array = NDArray[Any]

ORACLE = "oracle"
"""Kind of observations: the graph with the actions that the partners will take in this step."""


class SingleAgentVector(VectorEnv[Array, Array, Array]):
    """Environments of one game; the caller resets those whose episodes are over.

    `reset` and `step` behave as in `SyncVectorEnv(..., autoreset_mode=AutoresetMode.DISABLED)`.
    """

    def __init__(
        self, name: str, count: int, partners: str | Policy | None = None, obs_mode: str = "vector"
    ) -> None:
        """Makes `count` environments, V.

        Args:
            name: A name in `rlbench.envs.social.names.GAMES`.
            count: Number of environments.
            partners: Name of a scripted policy, `trained` for the trained policies of the game, or a function from a game to
                actions of all agents [V, A], whose first column is ignored; None for the policy in `scripted.PARTNERS`.
            obs_mode: vector, grid or graph, see `views`; or oracle.
        """
        self.num_envs = count
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 5,
            "autoreset_mode": AutoresetMode.DISABLED,
        }
        self.render_mode = "rgb_array"
        self.game = GridGame(name, count)
        """The engine."""
        partners = PARTNERS[GAMES[name].kind] if partners is None else partners
        if isinstance(partners, str):
            partners = Trained(name) if partners == "trained" else Scripted(partners)
        self.partners: Policy = partners
        self.partners(self.game)  # Raises if the policy does not play this game.
        self._planned: Array | None = None
        """Actions of all agents in the current state, [V, A]; None if not needed yet."""
        self._foretells = obs_mode == ORACLE
        self.obs_mode = "graph" if self._foretells else obs_mode
        first = self.game.game.first_action
        self.single_observation_space = observation_space(self.game, self.obs_mode)
        if self._foretells:
            layout = replace(self.game.layout(observed=True), oracle=True)
            self.single_observation_space = Entities(layout)
        self.single_action_space = Discrete(ACTIONS - first, start=first)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes.

        Args:
            seed: One seed per environment, or the first of V consecutive seeds; None draws. A seed alone decides the episode.
            options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

        Returns:
            Observations of all environments, [V, ...], and an empty dict.
        """
        self.game.reset(*episodes_to_begin(self, seed, options))
        self._planned = None
        return self._obs(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment; the learner's actions have shape [V]."""
        chosen = self._plan()
        chosen[:, 0] = actions
        self._planned = None
        reward, terminated, truncated = self.game.step(chosen)
        return self._obs(), reward[:, 0].astype(np.float64), terminated, truncated, {}

    def render(self) -> tuple[Array, ...]:
        """A picture of each environment, uint8 [H, W, 3]."""
        return tuple(draw(self.game, env) for env in range(self.num_envs))

    def _plan(self) -> Array:
        """Actions of all agents in the current state, [V, A], chosen once so that partners act as an oracle shows."""
        if self._planned is None:
            self._planned = np.array(self.partners(self.game))
        return self._planned

    def _obs(self) -> Array:
        """Observations of agent 0, [V, ...]."""
        seen = observe(self.game, self.obs_mode, [0])[:, 0]
        return foretold(seen, self._plan()[:, 1:]) if self._foretells else seen


class SingleAgentView(gym.Env[Array, np.int64]):
    """A single environment of `SingleAgentVector`."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        partners: str | Policy | None = None,
        obs_mode: str = "vector",
        render_mode: str | None = None,
    ) -> None:
        """See `SingleAgentVector`; `render_mode` is rgb_array, ansi or None."""
        self._one = SingleAgentVector(name, 1, partners, obs_mode)
        self.max_steps = self._one.game.game.limit
        """Steps after which an episode is truncated."""
        self.render_mode = render_mode
        self.predictions: Array | None = None
        """Probabilities of each partner's next action, [A - 1, 5], which pictures show; None if there are none."""
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    @property
    def game(self) -> GridGame:
        """The engine, with one environment."""
        return self._one.game

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins the episode of a seed; without one, the seed is drawn from the environment's generator."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self._one.reset(seed=[drawn])
        return obs[0], info

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        obs, reward, terminated, truncated, info = self._one.step(np.array([action]))
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Array | str | None:
        """A picture, uint8 [H, W, 3], or text."""
        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            return in_words(self.game)
        return draw(self.game, predictions=self.predictions)
