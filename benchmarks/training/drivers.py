"""Drivers feed a learner; the learner does not know its driver.

Every driver has one method, `update`: it gathers the experience of one update, and the learner learns from it.
`rlbench.state` finds everything that a driver must save for an exact resume.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from rlbench.benchmarks.training.faults import Actions
from rlbench.benchmarks.training.interrupt import look
from rlbench.benchmarks.training.priorities import Priorities
from rlbench.benchmarks.training.replay import ROWS, ReplayFile, compact_encoder
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.envs.contract import Checked, as_tensor, is_images
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import (
    Examples,
    Experience,
    Lifetimes,
    Transitions,
    columns_of,
    with_columns,
)
from rlbench.interface import Agent, Learn, Model
from rlbench.offline_data.dataset import DataSet
from rlbench.seeding import derive
from rlbench.state import capture, restore
from rlbench.storage import Layout


class Driver(Protocol):
    """The interface that the runner calls."""

    def update(self) -> Mapping[str, Tensor]:
        """One update of the agent; its metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""

    def close(self) -> None:
        """Called when the run is complete; removes everything that only a resume would need."""


class DatasetDriver:
    """Offline: transitions or stretches of a data set, uniformly with replacement."""

    def __init__(self, agent: Agent, data: DataSet, seed: int, learn: Learn | None = None) -> None:
        """Learns from `data`, whose rows are moved to the agent's device, with the agent's `learn`."""
        data.to(agent.device)
        self._agent = agent
        self._learn = learn or agent.learn
        self._data = data
        self.sampler = torch.Generator(agent.device).manual_seed(derive(seed, "sampling"))

    def update(self) -> Mapping[str, Tensor]:
        """One batch, one update."""
        return self._learn(self.experience(self.places()))

    def places(self) -> Tensor:
        """Positions in the data from which the next update learns, [B]."""
        config = self._agent.config
        if self._agent.consumes is Transitions:
            return self._data.places(config.batch_size, self.sampler)
        return self._data.starts(config.batch_size, config.sequence_length, self.sampler)

    def experience(self, places: Tensor) -> Experience:
        """The experience at positions [..., B]."""
        if self._agent.consumes is Transitions:
            return self._data.take(places)
        return self._data.stretches(places, self._agent.config.sequence_length)

    def state_dict(self) -> dict[str, Any]:
        """State of the sampler."""
        return {"sampler": self.sampler.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the sampler."""
        self.sampler.set_state(state["sampler"].cpu())

    def close(self) -> None:
        """Nothing to remove."""


class ExamplesDriver:
    """Supervised: every example once in each epoch, in a new order; the incomplete last batch is left out."""

    def __init__(
        self, model: Model, examples: Examples, seed: int, learn: Learn | None = None
    ) -> None:
        """Learns from examples on the model's device, with the model's `learn`.

        Raises:
            UserError: There are fewer examples than one batch needs.
        """
        self._learn = learn or model.learn
        self._examples, self._seed = examples, seed
        self._size = model.config.batch_size
        if not (isinstance(self._size, int) and self._size >= 1):
            raise UserError(f"batch_size is {self._size}; give a whole number, 1 or more")
        if self._size > len(examples):
            raise UserError(
                f"batch_size is {self._size}, but there are {len(examples)} training examples; give "
                "--batch-size a smaller number or more examples"
            )
        self._updates = 0
        self._epoch, self._order = -1, torch.empty(0)

    def update(self) -> Mapping[str, Tensor]:
        """One batch, one update."""
        epoch, batch = divmod(self._updates, len(self._examples) // self._size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive(self._seed, "epoch", epoch))
            order = torch.randperm(len(self._examples), generator=generator)
            device = next(iter(self._examples.columns.values())).device
            self._epoch, self._order = epoch, order.to(device)
        self._updates += 1
        rows = self._order[batch * self._size : (batch + 1) * self._size]
        return self._learn(self._examples.take(rows))

    def state_dict(self) -> dict[str, Any]:
        """The number of updates; the order of an epoch follows from its number."""
        return {"updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues after that number of updates."""
        self._updates = int(state["updates"])

    def close(self) -> None:
        """Nothing to remove."""


class LifetimesDriver:
    """Meta-learning: renews the lifetimes that are over, then makes one update, which acts in all of them."""

    def __init__(self, lifetimes: Lifetimes, learn: Learn) -> None:
        """Learns in `lifetimes` with the learner's `learn`."""
        self._lifetimes, self._learn = lifetimes, learn

    def update(self) -> Mapping[str, Tensor]:
        """One update."""
        look()
        self._lifetimes.renew()
        return self._learn(self._lifetimes)

    def state_dict(self) -> dict[str, Any]:
        """State of the lifetimes and their worlds."""
        return self._lifetimes.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues in the same worlds."""
        self._lifetimes.load_state_dict(state)

    def close(self) -> None:
        """Nothing to remove."""


class _Position:
    """Position of an online run; `rlbench.state` saves all of it."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.sampler = torch.Generator(device).manual_seed(derive(seed, "sampling"))
        self.explorer = np.random.default_rng(derive(seed, "random actions"))
        self.steps = 0
        self.episode = 0
        self.episode_steps = 0


class ReplayDriver:
    """Off-policy: one environment step, one batch from the replay buffer, one update.

    An agent whose config has `steps_per_update` takes that number of steps before each update. One whose config
    has `n_step` learns from transitions of that number of steps, and one that has priorities (`Agent.priority`) draws
    by them; they are saved with the run, because later updates change them.
    An agent that is already trained takes its first steps itself, and a share of each batch may come from a data set.
    The buffer is a file in the run folder. The environment itself is not saved: a resume resets it
    with the seed of the episode and takes the steps since then again.
    """

    def __init__(
        self,
        agent: Agent,
        task: Task,
        seed: int,
        folder: Path,
        updates: int,
        slack: int,
        learn: Learn | None = None,
        *,
        trained: bool = False,
        data: DataSet | None = None,
        share: float = 0.0,
    ) -> None:
        """Prepares the buffer and the environment.

        Args:
            agent: Its config sets batch_size, random_steps and replay_size.
            task: The task to act in; if it has a `training` task, the environments are taken from that.
            seed: Decides episodes, random actions and batches.
            folder: Folder of the buffer.
            updates: Total number of updates.
            slack: Updates between checkpoints; old transitions are kept for this many more updates,
                because a resume samples them again.
            learn: The agent's `learn` by default.
            trained: Whether the agent chooses the actions before the first update, which are otherwise random.
            data: Data set from which a share of each batch is drawn.
            share: That share, below 1; it is rounded to whole transitions.

        Raises:
            UserError: An agent with priorities or returns of several steps would learn from a data set.
        """
        self._agent = agent
        self._actions = Actions(agent)
        self._learn = learn or agent.learn
        self._trained, self._data = trained, data
        self._from_data = 0 if data is None else round(share * agent.config.batch_size)
        if data is not None:
            data.to(agent.device)
            if agent.priority is not None or getattr(agent.config, "n_step", 1) > 1:
                raise UserError(
                    f"data_share is {share}, but this agent has priorities or returns of several steps, which data sets do "
                    "not have; leave out --data-share"
                )
        task = task.training or task
        self._env = Checked(task.make(), task.name)
        self._seed = seed
        steps = EnvSteps.of(agent)
        self._random_steps, self._steps = steps.first, steps.each
        capacity = min(agent.config.replay_size, steps.at(updates))
        self._space = self._env.action_space
        seen = self._env.observation_space
        # Data sets hold images, which cannot be in one batch with their compact form.
        self._encoder = compact_encoder(agent) if data is None and is_images(seen) else None
        stored = self._stored(np.zeros(seen.shape or (), np.uint8))
        layout = Layout(stored.shape, self._space.shape or (), is_images(seen))
        self._replay = ReplayFile(folder / ROWS, layout, capacity, slack * self._steps)
        self._n_step = getattr(agent.config, "n_step", 1)
        self._priorities = None if agent.priority is None else Priorities(capacity)
        self._at = _Position(seed, agent.device)
        self._obs = self._reset()

    def update(self) -> Mapping[str, Tensor]:
        """The first call begins with random steps; then the steps of the update, and the update."""
        while self._at.steps < self._random_steps:
            self._step(self._own_action() if self._trained else self._random_action())
        for _ in range(self._steps):
            self._step(self._own_action())
        size = self._agent.config.batch_size - self._from_data
        drawing = size, self._at.steps, self._at.sampler
        if self._priorities is None:
            return self._learn(self._batch(self._replay.draw(*drawing)))
        steps, frequency = self._priorities.draw(*drawing)
        batch = dataclasses.replace(self._batch(steps), frequency=frequency.to(self._agent.device))
        metrics = self._learn(batch)
        assert self._agent.priority is not None
        self._priorities.update(steps, self._agent.priority)
        return metrics

    def _batch(self, steps: Tensor) -> Transitions:
        """The transitions of steps, [B]."""
        device = self._agent.device
        if self._n_step == 1:
            batch = self._replay.take(steps, device)
        else:
            batch = self._replay.take_several(
                steps, self._at.steps, self._n_step, self._agent.discount, device
            )
        if self._data is not None:
            batch = joined(batch, self._data.sample(self._from_data, self._at.sampler))
        if isinstance(self._space, Discrete):
            batch = dataclasses.replace(batch, action=batch.action.long())
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Counters, random states, priorities and the hash of the buffer, whose content is forced to disk."""
        self._replay.flush()
        state = {**capture(self._at), "replay": self._replay.hash(self._at.steps)}
        if self._priorities is not None:
            state["priorities"] = self._priorities.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counters, random states and priorities; the environment takes its steps again."""
        if self._replay.fresh:
            raise UserError(
                "the run's replay.bin is missing or truncated; restore it or start again"
            )
        state = dict(state)
        saved = state.pop("replay", None)  # Earlier versions saved no hash.
        if self._priorities is not None:
            self._priorities.load_state_dict(state.pop("priorities"))
        restore(self._at, state)
        if saved is not None and saved != self._replay.hash(self._at.steps):
            raise UserError(
                f"the replay buffer in {self._replay.path.parent} was changed after the checkpoint of step "
                f"{self._at.steps:,}; restore it from a copy, or start a new run"
            )
        steps, self._at.episode_steps = self._at.episode_steps, 0
        if steps > self._replay.size:
            raise UserError(
                f"{self._env.name} is in an episode of {steps:,} steps, but the replay buffer "
                f"holds only the last {self._replay.size:,}, so this run cannot be resumed; start again "
                "with a larger --replay-size or a time limit (gymnasium.wrappers.TimeLimit)"
            )
        self._obs = self._reset()
        for i in range(self._at.steps - steps, self._at.steps):
            action, next_obs = self._replay.outcome(i)
            self._obs, *_ = self._env.step(action)
            self._before = self._stored(self._obs)
            if not np.array_equal(self._before, next_obs):
                raise strayed(self._env.name)
        self._at.episode_steps = steps

    def close(self) -> None:
        """Removes the buffer, which is large."""
        self._env.close()
        self._replay.remove()

    def _reset(self) -> NDArray[Any]:
        obs = self._env.reset(derive(self._seed, "episode", self._at.episode))
        self._before = self._stored(obs)
        """The observation as the buffer holds it."""
        return obs

    @torch.no_grad()
    def _stored(self, obs: NDArray[Any]) -> NDArray[Any]:
        """What the buffer holds of an observation."""
        if self._encoder is None:
            return obs
        compact = self._encoder.compact(as_tensor(obs, self._agent)[None])
        assert compact is not None
        return compact[0].cpu().numpy()

    def _own_action(self) -> Any:
        """The agent's action with exploration."""
        chosen = self._agent.act(as_tensor(self._obs, self._agent)[None], explore=True)
        learned = self._at.steps >= self._random_steps + self._steps
        return self._actions(chosen, 1, learned=learned)[0]

    def _random_action(self) -> Any:
        space, explorer = self._space, self._at.explorer
        if isinstance(space, Discrete):
            return explorer.integers(space.start, space.start + space.n)
        if not (isinstance(space, Box) and space.is_bounded()):
            raise UserError(
                f"{self._env.name} has the action space {space}, but random steps need a bounded Box "
                "or a Discrete space; set random_steps to 0 or wrap the environment"
            )
        return explorer.uniform(space.low, space.high).astype(np.float32)

    def _step(self, action: Any) -> None:
        look()
        next_obs, reward, terminated, truncated = self._env.step(action)
        after = self._stored(next_obs)
        self._replay.write(
            self._at.steps, self._before, action, reward, terminated, truncated, after
        )
        self._obs, self._before = next_obs, after
        self._at.steps += 1
        self._at.episode_steps += 1
        if terminated or truncated:
            self._at.episode += 1
            self._at.episode_steps = 0
            self._obs = self._reset()


def joined(one: Transitions, other: Transitions) -> Transitions:
    """The rows of two batches, one after the other."""
    more = columns_of(other)
    return with_columns(one, {k: torch.cat([x, more[k]]) for k, x in columns_of(one).items()})  # type: ignore[no-any-return]


def strayed(name: str) -> UserError:
    """The error for a resume whose environment did not repeat its earlier steps."""
    return UserError(
        f"{name} did not repeat its steps from the same seed, so this run cannot be resumed "
        "exactly; start again, or make the environment deterministic"
    )
