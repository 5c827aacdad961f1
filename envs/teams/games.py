"""Multi-agent games in which all agents learn, stepped as a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.entities import ACTIONS
from rlbench.envs.resets import episodes_to_begin
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.picture import draw
from rlbench.envs.social.views import observation_space, observe
from rlbench.teams import team_space

Array = NDArray[Any]


class TeamGames(VectorEnv[Array, Array, Array]):
    """Environments of one game; the caller resets those whose episodes are over."""

    def __init__(self, name: str, count: int, obs_mode: str = "vector") -> None:
        """Makes `count` environments, V.

        Args:
            name: A name in `rlbench.envs.social.names.GAMES`.
            count: Number of environments.
            obs_mode: vector, grid or graph, see `rlbench.envs.social.views`.
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
        self.max_steps = self.game.game.limit
        """Steps after which an episode is truncated."""
        self.obs_mode, agents, first = obs_mode, self.game.agents, self.game.game.first_action
        one = Discrete(ACTIONS - first, start=first)
        self.single_observation_space = team_space(observation_space(self.game, obs_mode), agents)
        self.single_action_space = team_space(one, agents)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes; a seed alone decides its episode. See `episodes_to_begin`.

        Returns:
            Observations of all agents in all environments, [V, A, ...], and an empty dict.
        """
        self.game.reset(*episodes_to_begin(self, seed, options))
        return observe(self.game, self.obs_mode), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment, with actions [V, A]; rewards are float64 [V, A]."""
        reward, terminated, truncated = self.game.step(actions)
        obs = observe(self.game, self.obs_mode)
        return obs, reward.astype(np.float64), terminated, truncated, {}

    def render(self) -> tuple[Array, ...]:
        """A picture of each environment, uint8 [H, W, 3]."""
        return tuple(draw(self.game, env) for env in range(self.num_envs))
