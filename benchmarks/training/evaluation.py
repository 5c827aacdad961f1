"""How good is an agent: whole episodes, each with a seed of its own."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlbench.backbones.memories import forget
from rlbench.benchmarks.training.faults import Actions, named_as_agents
from rlbench.benchmarks.training.interrupt import look
from rlbench.envs.contract import as_tensor
from rlbench.envs.episodes import Separate, make_envs, play
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.interface import Agent, State
from rlbench.seeding import derive

Array = NDArray[Any]

MAX_ENVS = 10
"""Environments side by side; more only make the last batch emptier."""
MAX_STEPS = 10_000
"""An episode is cut after this many steps unless the environment names a longer limit."""


class Evaluator:
    """Plays an agent on its task, on environments that no training touches."""

    def __init__(self, task: Task, episodes: int) -> None:
        """Makes the environments.

        Raises:
            UserError: `episodes` is less than 1.
        """
        if episodes < 1:
            raise UserError(f"{episodes} episodes cannot be played; give 1 or more")
        self.episodes = episodes
        self.envs = make_envs(task.make, min(episodes, MAX_ENVS), task.name)
        self._name = task.name
        self._max_steps: int | None = None
        if isinstance(self.envs, Separate):  # The others end by themselves.
            self._max_steps = longest_episode(self.envs.step_limit)
        self._cut = 0

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

        Raises:
            UserError: A return is not finite.
        """
        seeds = [derive(seed, "episode", i) for i in range(self.episodes)]
        random_state = agent.act_generator.get_state()
        agent.act_generator.manual_seed(derive(seed, "actions"))
        state: State | None = None
        self._cut = 0
        actions = Actions(agent)

        def act(obs: Array, episode: Array, step: Array) -> Array:
            nonlocal state
            look()
            on_device = as_tensor(obs, agent)
            if state is not None:
                state = forget(state, torch.as_tensor(step == 0, device=agent.device).float())
            chosen = agent.act(on_device, explore=explore, state=state)
            state = chosen.state
            action = actions(chosen, len(obs))
            if self._max_steps is not None:
                self._cut += int((step + 1 == self._max_steps).sum())
            return action

        try:
            with named_as_agents(type(agent)):
                returns = play(self.envs, seeds, act, max_steps=self._max_steps)
        finally:
            agent.act_generator.set_state(random_state)
        if not np.isfinite(returns).all():
            first = int(np.flatnonzero(~np.isfinite(returns))[0])
            raise UserError(
                f"the return of {self._name} is {returns[first]} in the episode with seed "
                f"{seeds[first]}, so a reward or an action of the agent is not finite; correct the "
                "environment or use a smaller learning rate"
            )
        return seeds, returns

    def note(self) -> str:
        """Note for the user about the last episodes; empty if none was cut."""
        if not self._cut:
            return ""
        return (
            f"note: {self._cut} of {self.episodes} episodes were cut after {self._max_steps:,} steps, "
            f"because {self._name} did not end them; gymnasium.wrappers.TimeLimit sets another limit"
        )


def longest_episode(step_limit: int | None) -> int:
    """Steps after which an evaluation episode is cut, never before the environment's own limit."""
    return MAX_STEPS if step_limit is None else max(MAX_STEPS, step_limit + 1)
