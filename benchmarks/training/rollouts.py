"""The driver of agents that learn from their own fresh trajectories."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.memory import forget
from rlbench.benchmarks.training.drivers import strayed
from rlbench.envs.episodes import Repeats
from rlbench.envs.tasks import Task
from rlbench.interface import Agent, Learn, State, Trajectories
from rlbench.seeding import derive

Array = NDArray[Any]


class RolloutDriver:
    """On-policy: some steps in each of some environments, then one update from all of them.

    The environments themselves are not saved: a resume resets each with the seed of its episode and
    takes the actions of that episode again.
    """

    def __init__(self, agent: Agent, task: Task, seed: int, learn: Learn | None = None) -> None:
        """Makes and resets the environments.

        Args:
            agent: Its config gives `envs` and `rollout_steps`.
            task: Where to act.
            seed: Decides the episodes.
            learn: The agent's own by default.
        """
        self._agent = agent
        self._learn = learn or agent.learn
        self._seed = seed
        self._env = _make(task, agent.config.envs)
        self._step = 0
        self._episode = np.zeros(agent.config.envs, dtype=np.int64)
        """Number of the episode that each environment is in."""
        self._begun = np.zeros(agent.config.envs, dtype=np.int64)
        """Step before which that episode began."""
        self._return = np.zeros(agent.config.envs)
        """Its return so far."""
        self._returns: list[float] = []
        """Of the episodes that ended in the last rollout."""
        self._actions: list[Tensor] = []
        """Actions of past rollouts, [T, V, ...] each, back to the oldest episode that still runs."""
        self._state: State | None = None
        self._obs: Array = self._reset(None)

    def update(self) -> Mapping[str, Tensor]:
        """One rollout, one update; with the mean return of the episodes that ended in the rollout."""
        rollout = self._rollout()
        self._remember(rollout.action.cpu())
        metrics = self._learn(rollout)
        if not self._returns:
            return metrics
        return {**metrics, "episode_return": torch.tensor(self._returns).mean()}

    def state_dict(self) -> dict[str, Any]:
        """Where the environments are, and the actions that led there."""
        actions = torch.cat(self._actions)
        return {
            "step": self._step,
            "episode": torch.from_numpy(self._episode.copy()),
            "begun": torch.from_numpy(self._begun.copy()),
            "return": torch.from_numpy(self._return.copy()),
            "actions": actions[len(actions) - (self._step - int(self._begun.min())) :],
            "state": dict(self._state or {}),
            "obs": torch.from_numpy(self._obs.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the steps of the episodes that run again."""
        self._step = int(state["step"])
        self._episode, self._begun, self._return = (
            state[x].cpu().numpy().copy() for x in ("episode", "begun", "return")
        )
        self._actions = [state["actions"].cpu()]
        self._state = dict(state["state"]) or None
        self._obs = self._repeat(self._actions[0].numpy())
        if not np.array_equal(self._obs, state["obs"].cpu().numpy()):
            raise strayed(self._env)

    def close(self) -> None:
        """Closes the environments."""
        self._env.close()

    def _rollout(self) -> Trajectories:
        steps, count = self._agent.config.rollout_steps, self._env.num_envs
        obs = np.empty((steps, *self._obs.shape), dtype=self._obs.dtype)
        final_obs = np.empty_like(obs)
        reward, terminated, truncated = np.empty((3, steps, count), dtype=np.float32)
        chosen, self._returns = [], []
        for t in range(steps):
            obs[t] = self._obs
            on_device = torch.from_numpy(obs[t]).to(self._agent.device)
            chosen.append(self._agent.act(on_device, explore=True, state=self._state))
            self._state = chosen[t].state
            final_obs[t], reward[t], terminated[t], truncated[t], _ = self._env.step(
                chosen[t].action.cpu().numpy()
            )
            self._step += 1
            self._return += reward[t]
            self._obs = final_obs[t]
            over = (terminated[t] + truncated[t]) > 0
            if over.any():
                self._begin(over)
        columns = (obs, reward, terminated, truncated, final_obs)
        tensors = (torch.from_numpy(column).to(self._agent.device) for column in columns)
        all_obs, all_reward, all_terminated, all_truncated, all_final_obs = tensors
        return Trajectories(
            obs=all_obs,
            action=torch.stack([step.action for step in chosen]),
            reward=all_reward,
            terminated=all_terminated,
            truncated=all_truncated,
            final_obs=all_final_obs,
            extras={
                name: torch.stack([step.extras[name] for step in chosen])
                for name in chosen[0].extras
            },
        )

    def _begin(self, over: Array) -> None:
        """The next episode, where one is over [V]."""
        self._episode[over] += 1
        self._begun[over] = self._step
        self._returns.extend(self._return[over])
        self._return[over] = 0.0
        if self._state is not None:
            fresh = torch.as_tensor(over, device=self._agent.device)
            self._state = forget(self._state, fresh.float())
        self._obs = self._reset(over)

    def _reset(self, mask: Array | None) -> Array:
        """Observations [V, D] after the environments of a mask, or all, began their episodes."""
        options = None if mask is None else {"reset_mask": mask}
        obs, _ = self._env.reset(seed=self._seeds(self._episode), options=options)  # type: ignore[arg-type]
        return _plain(obs)

    def _seeds(self, episode: Array) -> list[int]:
        """Seeds of the episodes with these numbers [V]."""
        return [derive(self._seed, "episode", v, int(e)) for v, e in enumerate(episode)]

    def _remember(self, actions: Tensor) -> None:
        """Keeps the actions of a rollout and drops those that no running episode took."""
        self._actions.append(actions)
        first = self._step - sum(map(len, self._actions))
        while len(self._actions) > 1 and first + len(self._actions[0]) <= self._begun.min():
            first += len(self._actions.pop(0))

    def _repeat(self, actions: Array) -> Array:
        """The observations [V, D] that actions [K, V, ...] lead to.

        All environments step together, so one whose episode began later idles until then.
        """
        if isinstance(self._env, Repeats):
            first = self._seeds(np.zeros_like(self._episode))
            taken = [actions[b:, v] for v, b in enumerate(self._begun - self._begun.min())]
            return _plain(self._env.repeat(first, self._episode, taken))
        obs = self._reset(None)
        for step, action in enumerate(actions, start=self._step - len(actions)):
            found, _, terminated, truncated, _ = self._env.step(action)
            obs = _plain(found)
            over, idle = terminated | truncated, self._begun > step
            if (over & ~idle).any():
                raise strayed(self._env)
            again = (self._begun == step + 1) | over
            if again.any():
                obs = self._reset(again)
        return obs


def _plain(obs: Any) -> Array:
    """Observations as float32; images stay bytes, which take a quarter of the room."""
    array = np.asarray(obs)
    image = array.dtype == np.uint8 and array.ndim > 2
    return array if image else array.astype(np.float32)


def _make(task: Task, count: int) -> VectorEnv[Any, Any, Any]:
    if task.make_vector is not None:
        return task.make_vector(count)
    return SyncVectorEnv([task.make] * count, autoreset_mode=AutoresetMode.DISABLED)
