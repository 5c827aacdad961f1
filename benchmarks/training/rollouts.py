"""The driver of agents that learn from their own fresh trajectories."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.memories import forget
from rlbench.benchmarks.training.drivers import strayed
from rlbench.benchmarks.training.faults import Actions, called
from rlbench.benchmarks.training.interrupt import look
from rlbench.envs.contract import as_obs
from rlbench.envs.episodes import Repeats, make_envs
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Agent, Learn, State, rewarded
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
            agent: Its config sets `envs`, and `rollout_steps` the length of a rollout.
            task: The task to act in; if it has a `training` task, the environments are taken from that.
            seed: Decides the episodes.
            learn: The agent's `learn` by default.
        """
        self._agent = agent
        self._checked = Actions(agent)
        self._learn = learn or agent.learn
        self._seed = seed
        task = task.training or task
        self._name = task.name
        count = agent.config.envs
        self._env: _OneByOne | _AsOne = (
            _OneByOne(task, count)
            if task.make_vector is None
            else _AsOne(task.make_vector(count), task.name)
        )
        self._step = 0
        self._episode = np.zeros(agent.config.envs, dtype=np.int64)
        """Number of the episode that each environment is in."""
        self._begun = np.zeros(agent.config.envs, dtype=np.int64)
        """Step before which that episode began."""
        self._return = np.zeros(agent.config.envs)
        """Return of that episode so far."""
        self._returns: list[float] = []
        """Returns of the episodes that ended in the last rollout."""
        self._actions: list[Tensor] = []
        """Actions of past rollouts, [T, V, ...] each, back to the start of the oldest running episode."""
        self._state: State | None = None
        self._obs: Array = self._reset(None)

    def update(self) -> Mapping[str, Tensor]:
        """One rollout, one update; with the mean return of the episodes that ended in the rollout.

        The last `metrics` of the environments are returned too.
        """
        rollout = self._rollout()
        self._remember(rollout.action.to("cpu", copy=True))
        found = {name: torch.tensor(value) for name, value in self._env.metrics.items()}
        metrics = {**self._learn(rollout), **found}
        if not self._returns:
            return metrics
        return {**metrics, "episode_return": torch.tensor(self._returns).mean()}

    def state_dict(self) -> dict[str, Any]:
        """Positions of the environments, and the actions that led there."""
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
        """Repeats the steps of the running episodes."""
        self._step = int(state["step"])
        self._episode, self._begun, self._return = (
            state[x].cpu().numpy().copy() for x in ("episode", "begun", "return")
        )
        self._actions = [state["actions"].cpu()]
        self._state = dict(state["state"]) or None
        self._obs = self._repeat(self._actions[0].numpy())
        if not np.array_equal(self._obs, state["obs"].cpu().numpy()):
            raise strayed(self._name)

    def close(self) -> None:
        """Closes the environments."""
        self._env.close()

    def _rollout(self) -> Trajectories:
        steps, count = self._agent.rollout_steps, self._agent.config.envs
        obs = np.empty((steps, *self._obs.shape), dtype=self._obs.dtype)
        final_obs = np.empty_like(obs)
        terminated, truncated = np.empty((2, steps, count), dtype=np.float32)
        actions: list[Array] = []
        rewards: list[Array] = []
        extras: list[Mapping[str, Tensor]] = []
        self._returns = []
        # A copy, because the agent may reuse the tensors.
        state = self._state and {name: x.clone() for name, x in self._state.items()}
        for t in range(steps):
            look()
            obs[t] = self._obs
            on_device = torch.from_numpy(obs[t]).to(self._agent.device)
            chosen = self._agent.act(on_device, explore=True, state=self._state)
            obs[t] = self._obs  # The agent may have written there.
            action = self._checked(chosen, count, learned=self._step >= steps)
            # A copy, because the agent or the environments may reuse the array.
            actions.append(action.copy())
            extras.append(chosen.extras)
            final_obs[t], reward, terminated[t], truncated[t] = self._env.step(action)
            rewards.append(reward.astype(np.float32))
            self._state = rewarded(chosen.state, rewards[t])
            self._step += 1
            self._return += rewards[t].reshape(count, -1).mean(1)  # A team has several rewards.
            self._obs = final_obs[t]
            over = (terminated[t] + truncated[t]) > 0
            if over.any():
                self._begin(over)
        self._obs = self._obs.copy()  # The agent may change what it learns from.
        columns = (obs, np.stack(actions), np.stack(rewards), terminated, truncated, final_obs)
        tensors = (torch.from_numpy(column).to(self._agent.device) for column in columns)
        all_obs, all_actions, all_reward, all_terminated, all_truncated, all_final_obs = tensors
        return Trajectories(
            obs=all_obs,
            action=all_actions,
            reward=all_reward,
            terminated=all_terminated,
            truncated=all_truncated,
            final_obs=all_final_obs,
            extras=self._stacked(extras),
            state=state,
        )

    def _stacked(self, extras: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The extras of `act` at each step, [T, V, ...]; a UserError if their names differ."""
        first = extras[0]
        for other in extras:
            if other.keys() != first.keys():
                name = min(map(str, first.keys() ^ other.keys()))
                raise UserError(
                    f"`act` of {called(type(self._agent))} returned the extra {name!r} with some "
                    "steps only; let it return the same extras with every step"
                )
        return {name: torch.stack([x[name] for x in extras]) for name in first}

    def _begin(self, over: Array) -> None:
        """Begins the next episode of each environment whose episode is over, [V]."""
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
        return self._env.reset(self._seeds(self._episode), mask)

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

        All environments are stepped together, so one whose episode began later waits until then.
        """
        if isinstance(self._env, _AsOne) and isinstance(self._env.vector, Repeats):
            first = self._seeds(np.zeros_like(self._episode))
            taken = [actions[b:, v] for v, b in enumerate(self._begun - self._begun.min())]
            return self._env.kept(self._env.vector.repeat(first, self._episode, taken))
        obs = self._reset(None)
        for step, action in enumerate(actions, start=self._step - len(actions)):
            obs, _, terminated, truncated = self._env.step(action)
            over, idle = terminated | truncated, self._begun > step
            if (over & ~idle).any():
                raise strayed(self._name)
            again = (self._begun == step + 1) | over
            if again.any():
                obs = self._reset(again)
        return obs


class _OneByOne:
    """Environments that are stepped one after the other, or as `make_envs` decides."""

    def __init__(self, task: Task, count: int) -> None:
        self._envs = make_envs(task.make, count, task.name)
        self.metrics: dict[str, float] = {}
        self._all = np.arange(count)
        self._obs: Array = np.empty(0)

    def reset(self, seeds: Sequence[int], mask: Array | None) -> Array:
        """Begins the episodes of a mask, or all; returns the observations of all, [V, D]."""
        begun = self._all if mask is None else self._all[mask]
        first = [self._kept(self._envs.reset(v, seeds[v])) for v in begun.tolist()]
        if mask is None:
            self._obs = np.stack(first)
        else:
            self._obs[begun] = first
        return self._obs

    def step(self, action: Array) -> tuple[Array, Array, Array, Array]:
        """Observations [V, D], rewards [V], or [V, A] of a team, terminated and truncated [V]."""
        obs, reward, terminated, truncated = self._envs.step(self._all, action)
        self._obs = self._kept(obs)
        return self._obs, reward, terminated, truncated

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()

    def _kept(self, obs: Array) -> Array:
        return as_obs(obs, self._envs.observation_space)


class _AsOne:
    """Environments that a task steps as a batch, with the interface of `_OneByOne`."""

    def __init__(self, vector: VectorEnv[Any, Any, Any], name: str) -> None:
        self.vector, self._name = vector, name
        self.metrics: dict[str, float] = {}
        """The last `metrics` in the info of a step."""

    def reset(self, seeds: Sequence[int], mask: Array | None) -> Array:
        options = None if mask is None else {"reset_mask": mask}
        obs, _ = self.vector.reset(seed=list(seeds), options=options)  # type: ignore[arg-type]
        return self.kept(obs)

    def step(self, action: Array) -> tuple[Array, Array, Array, Array]:
        given, reward, terminated, truncated, info = self.vector.step(action)
        self.metrics = info.get("metrics", self.metrics)
        obs = self.kept(given)
        if not (np.isfinite(reward).all() and (obs.dtype == np.uint8 or np.isfinite(obs).all())):
            raise UserError(
                f"an observation or a reward of {self._name} is not finite; correct the environment"
            )
        return obs, reward, terminated, truncated

    def close(self) -> None:
        self.vector.close()

    def kept(self, obs: Any) -> Array:
        """Observations in the form of `as_obs`."""
        return as_obs(obs, self.vector.single_observation_space)
