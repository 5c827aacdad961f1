"""How good is an agent: whole episodes, each with a seed of its own."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlbench.backbones.memory import forget
from rlbench.envs.episodes import make_envs, play
from rlbench.envs.tasks import Task
from rlbench.interface import Agent, State
from rlbench.seeding import derive

MAX_ENVS = 10
"""Environments side by side; more only make the last batch emptier."""


class Evaluator:
    """Plays an agent on its task, on environments that no training touches."""

    def __init__(self, task: Task, episodes: int) -> None:
        """Makes the environments."""
        self.episodes = episodes
        self.envs = make_envs(task.make, min(episodes, MAX_ENVS))

    def returns(
        self, agent: Agent, seed: int, *, explore: bool = False
    ) -> tuple[list[int], NDArray[np.float64]]:
        """Plays `episodes` episodes.

        Args:
            agent: Acts as for use, or with its exploration noise if `explore`. Its random state is
                the same afterwards, so that evaluating does not change what it learns.
            seed: Decides the seeds of the episodes and the draws of the agent.
            explore: See `agent`.

        Returns:
            Seed and undiscounted return of each episode, [E] each.
        """
        seeds = [derive(seed, "episode", i) for i in range(self.episodes)]
        random_state = agent.act_generator.get_state()
        agent.act_generator.manual_seed(derive(seed, "actions"))
        state: State | None = None

        def act(obs: NDArray[Any], episode: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
            nonlocal state
            obs_on_device = torch.as_tensor(obs, dtype=torch.float32).to(agent.device)
            if state is not None:
                state = forget(state, torch.as_tensor(step == 0, device=agent.device).float())
            chosen = agent.act(obs_on_device, explore=explore, state=state)
            state = chosen.state
            action: NDArray[Any] = chosen.action.cpu().numpy()
            return action

        try:
            return seeds, play(self.envs, seeds, act)
        finally:
            agent.act_generator.set_state(random_state)
