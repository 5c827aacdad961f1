"""Trained agents that act in the user's own program, on NumPy observations: `rlbench.load`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from rlbench.backbones.memories import forget
from rlbench.benchmarks.training.faults import Actions, named_as_users
from rlbench.benchmarks.training.finding import run_folders
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.benchmarks.zoo import located
from rlbench.envs.contract import as_obs, as_tensor
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.interface import REWARD, Agent, State, evaluating, rewarded
from rlbench.packed import Packed
from rlbench.trust import Trust


class Actor:
    """A trained agent: call it with observations, and it returns actions.

    If it has a memory, it keeps the memory's state from call to call, so call `reset` when an episode begins.
    """

    agent: Agent
    """The agent itself."""
    task: Task
    """Its task; `task.make()` makes the environment in the form in which the agent sees it."""

    def __init__(self, agent: Agent, task: Task) -> None:
        """Begins with an empty memory."""
        self.agent, self.task = agent, task
        self._space, self._actions = agent.spec.observation_space, Actions(agent)
        self._state: State | None = None
        self._rows = 0
        """Number of environments that the memory belongs to."""

    def __call__(self, obs: Any, *, explore: bool = False, reward: ArrayLike | None = None) -> Any:
        """The action for one observation, or the actions for a batch.

        Args:
            obs: One observation of the task's environment, [...], or one of each of B environments, [B, ...]; if the
                environment has Dict observations, one of them.
            explore: Whether to act with exploration noise, as in training.
            reward: Reward of the last step, or the rewards of the last step in B environments, [B]. Only some agents need it, such as
                decision-transformer; at the beginning of an episode it is ignored.

        Returns:
            One action for `env.step`, or an array with the actions of B environments, [B, ...].

        Raises:
            UserError: The observations have another shape or are not finite numbers, their number differs from the number of
                environments in the agent's memory, or the agent needs rewards and was not given one for each environment.
        """
        batch, single = self._batch(obs)
        if self._state is not None and len(batch) != self._rows:
            raise UserError(
                f"the agent remembers {self._rows} environments, but was given observations of {len(batch)}; call reset() "
                "where new episodes begin"
            )
        if self._state is not None and REWARD in self._state:
            self._state = rewarded(self._state, self._rewards(reward, single=single))
        on_device = as_tensor(batch, self.agent)
        with named_as_users(type(self.agent)), evaluating(self.agent):
            chosen = self.agent.act(on_device, explore=explore, state=self._state)
            action = self._for_env(self._actions(chosen, len(batch)))
        self._state, self._rows = chosen.state, len(batch)
        return action[0] if single else action

    def reset(self, begun: ArrayLike | None = None) -> None:
        """Forgets what came before.

        Args:
            begun: Whether a new episode begins in each of the B environments, bool [B]; None: in all of them, and their
                number may change.

        Raises:
            UserError: `begun` has another shape.
        """
        if begun is None:
            self._state = None
        elif self._state is not None:
            over = np.asarray(begun, dtype=bool)
            if over.shape != (self._rows,):
                raise UserError(
                    f"begun has the shape {list(over.shape)}, but the agent remembers {self._rows} environments; give one "
                    "bool for each of them"
                )
            mask = torch.as_tensor(over, device=self.agent.device).float()
            self._state = forget(self._state, mask)

    def _batch(self, obs: Any) -> tuple[NDArray[Any], bool]:
        """Observations as the agent sees them, [B, ...], and whether there was one without a batch dimension."""
        space, name, shape = self._space, self.task.name, self._space.shape or ()
        try:
            if isinstance(space, Packed) and isinstance(obs, Mapping):
                obs = space.pack(obs)
            found = as_obs(obs, space)
        except (TypeError, ValueError) as error:
            raise UserError(f"these are not observations of {name}: {error}") from None
        single = found.shape == shape
        if not single and (found.ndim != len(shape) + 1 or found.shape[1:] != shape):
            raise UserError(
                f"the observations have the shape {list(found.shape)}, but an observation of {name} has {list(shape)}; give "
                "one observation or a batch; `task.make()` makes the environment as the agent sees it"
            )
        if not np.isfinite(found).all():
            place = np.argwhere(~np.isfinite(found))[0].tolist()
            raise UserError(
                f"the observations have the value {found[tuple(place)]} at {place}; give finite numbers"
            )
        return (found[None] if single else found), single

    def _rewards(self, reward: ArrayLike | None, *, single: bool) -> NDArray[np.float32]:
        """The rewards of the last step, [B]."""
        given = None if reward is None else np.asarray(reward, dtype=np.float32)
        if given is None or given.shape != (() if single else (self._rows,)):
            raise UserError(
                f"the reward is {reward!r}, but this agent needs the reward of the last step in each environment; call it as "
                "agent(obs, reward=reward)"
            )
        return given.reshape(self._rows)

    def _for_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """Copies of actions in the dtype of the action space, clipped because rounding to float32 may leave it."""
        space = self.agent.spec.action_space
        if isinstance(space, Box):
            action = np.clip(action, space.low, space.high)
        return action.astype(space.dtype)


def load(run: str | Path, device: str = "cpu", *, trust: Trust = False) -> Actor:
    """The trained agent of a run folder, ready to act; see `rlbench.load`."""
    path = located(Path(run))
    if not (path / "config.json").exists() and (found := run_folders([path])):
        raise UserError(f"{path} is a folder of runs; give one of them, such as {found[0]}")
    return Actor(*load_agent_run(path, device, trust=trust))
