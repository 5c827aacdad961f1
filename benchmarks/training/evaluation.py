"""Evaluation of a learner: of an agent in whole episodes, each with its own seed, of a model on examples.

An evaluator returns every measure of each episode or example. The episodes or examples that score the run
come first; the columns of others have a prefix, such as `held_out/`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.memories import forget
from rlbench.benchmarks.training.faults import Actions, called, named_as_users
from rlbench.benchmarks.training.formats import HELD_OUT, TRAIN
from rlbench.benchmarks.training.interrupt import look
from rlbench.envs.contract import as_tensor
from rlbench.envs.episodes import Record, Separate, make_envs, play
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Examples, Lifetimes
from rlbench.interface import Agent, Learner, Model, State, evaluating, rewarded
from rlbench.measures import RETURN
from rlbench.meta_learner import MetaLearner
from rlbench.seeding import derive

Array = NDArray[Any]

MAX_ENVS = 10
"""Largest number of environments in parallel; more would only leave more of them idle at the end."""
MEASURED_AT_ONCE = 500
"""Number of examples in one batch of a model's evaluation."""
MEASURED_TRAINING_EXAMPLES = 2_000
"""Number of training examples on which a model is also measured."""
MAX_STEPS = 10_000
"""An episode is cut after this many steps unless the environment has a longer limit."""


class Evaluator(Protocol):
    """The interface that the recorder calls."""

    prefix: str
    """Prefix of the names of the columns."""

    def columns(self, learner: Any, seed: int) -> dict[str, Array]:
        """Every measure of each episode or example, [E, ...] each; `seed` decides all random draws.

        The learner and its random state are the same afterwards.
        """

    def note(self) -> str:
        """Note for the user about the last evaluation; empty if there is none."""


class EpisodesEvaluator:
    """Plays an agent on its task, in environments that training does not use."""

    def __init__(self, task: Task, episodes: int, prefix: str = "") -> None:
        """Makes the environments.

        Raises:
            UserError: `episodes` is less than 1.
        """
        self.prefix = prefix
        if episodes < 1:
            raise UserError(f"{episodes} episodes cannot be played; give 1 or more")
        self.episodes = episodes
        self.envs = make_envs(task.make, min(episodes, MAX_ENVS), task.name)
        self.name = task.name
        self._max_steps: int | None = None
        if isinstance(self.envs, Separate):  # The others end their episodes themselves.
            self._max_steps = longest_episode(self.envs.step_limit)
        self._cut = 0

    def returns(
        self, agent: Agent, seed: int, *, explore: bool = False, record: Record | None = None
    ) -> tuple[list[int], NDArray[np.float64]]:
        """Plays `episodes` episodes.

        Args:
            agent: Acts without exploration, or with its exploration noise if `explore`. Its random
                state is the same afterwards, so that evaluating does not change what it learns.
            seed: Decides the seeds of the episodes and the draws of the agent.
            explore: See `agent`.
            record: Called after every step.

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

        def after(
            episode: Array, step: Array, obs: Array, action: Array, reward: Array,
            terminated: Array, truncated: Array, next_obs: Array,
        ) -> None:  # fmt: skip
            nonlocal state
            state = rewarded(state, reward)
            if record is not None:
                record(episode, step, obs, action, reward, terminated, truncated, next_obs)

        try:
            with named_as_users(type(agent)):
                returns = play(self.envs, seeds, act, after, self._max_steps)
        finally:
            agent.act_generator.set_state(random_state)
        if not np.isfinite(returns).all():
            first = int(np.flatnonzero(~np.isfinite(returns))[0])
            raise UserError(
                f"the return of {self.name} is {returns[first]} in the episode with seed "
                f"{seeds[first]}, so a reward or an action of the agent is not finite; correct the "
                "environment or use a smaller learning rate"
            )
        return seeds, returns

    def columns(
        self, learner: Agent, seed: int, *, explore: bool = False, record: Record | None = None
    ) -> dict[str, Array]:
        """See `Evaluator`, and `returns` for `explore` and `record`."""
        seeds, returns = self.returns(learner, seed, explore=explore, record=record)
        return {f"{self.prefix}seed": np.asarray(seeds), self.prefix + RETURN.name: returns}

    def note(self) -> str:
        """Note for the user about the last episodes; empty if none was cut."""
        if not self._cut:
            return ""
        return (
            f"note: {self._cut} of {self.episodes} episodes were cut after {self._max_steps:,} steps, "
            f"because {self.name} did not end them; gymnasium.wrappers.TimeLimit sets another limit"
        )


class ExamplesEvaluator:
    """Measures a model on examples."""

    def __init__(self, examples: Examples, prefix: str = "") -> None:
        """Evaluates on examples, which are on the model's device."""
        self.prefix, self._examples = prefix, examples

    def columns(self, learner: Model, seed: int) -> dict[str, Array]:
        """See `Evaluator`; also returns measures of all examples at once, [1] each.

        Raises:
            UserError: A measure is not finite, is missing, or has another shape.
        """
        with _measuring(learner, seed):
            columns = self._columns(learner)
        return {self.prefix + key: column for key, column in columns.items()}

    def _columns(self, learner: Model) -> dict[str, Array]:
        name, parts = called(type(learner)), []
        for first in range(0, len(self._examples), MEASURED_AT_ONCE):
            look()
            batch = self._examples.take(slice(first, first + MEASURED_AT_ONCE))
            parts.append(_checked(learner.measure(batch), len(batch), name))
        if any(part.keys() != parts[0].keys() for part in parts):
            raise UserError(
                f"`measure` of {name} returned {_listed(parts[0])} for one batch and "
                f"{_listed(next(x for x in parts if x.keys() != parts[0].keys()))} for another; let it "
                "return the same names each time"
            )
        columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        summary = learner.summary(columns)
        columns |= {key: np.array([float(value)]) for key, value in summary.items()}
        return _scored(columns, learner)

    def note(self) -> str:
        """See `Evaluator`."""
        return ""


class LifetimesEvaluator:
    """Measures a meta-learner in whole lifetimes, in worlds that training does not use."""

    def __init__(self, task: Task, count: int, prefix: str = "") -> None:
        """Evaluates in `count` lifetimes of a task.

        Raises:
            UserError: `count` is less than 1.
        """
        if count < 1:
            raise UserError(f"{count} lifetimes cannot be evaluated; give 1 or more")
        self.prefix, self._task, self._count = prefix, task, count

    def columns(self, learner: MetaLearner, seed: int) -> dict[str, Array]:
        """See `Evaluator`."""
        lifetimes = lifetimes_of(
            self._task, learner.config, self._count, derive(seed, "lifetimes"), learner.device,
            look=look,
        )  # fmt: skip
        with _measuring(learner, seed):
            found = _checked(learner.measure(lifetimes), self._count, called(type(learner)))
        return {self.prefix + key: column for key, column in _scored(found, learner).items()}

    def note(self) -> str:
        """See `Evaluator`."""
        return ""


@contextmanager
def _measuring(learner: Model | MetaLearner, seed: int) -> Iterator[None]:
    """Puts networks in evaluation mode and seeds the draws; afterwards everything is as before."""
    random_state = learner.measure_generator.get_state()
    learner.measure_generator.manual_seed(derive(seed, "measures"))
    try:
        with named_as_users(type(learner)), evaluating(learner), torch.no_grad():
            yield
    finally:
        learner.measure_generator.set_state(random_state)


def lifetimes_of(
    task: Task, settings: Any, count: int, seed: int, device: torch.device, **options: Any
) -> Lifetimes:
    """Lifetimes of a task.

    Args:
        task: The task.
        settings: Settings of the meta-learner, which have the number of workers.
        count: Number of lifetimes.
        seed: Decides the worlds.
        device: Device of the worlds.
        options: See `rlbench.envs.grids.make.make_lifetimes`.

    Raises:
        UserError: The task has no lifetimes, or the number of lifetimes or workers is below 1.
    """
    for name, number in (("lifetimes", count), ("workers", settings.workers)):
        if not (isinstance(number, int) and number >= 1):
            raise UserError(f"{name} is {number}; give a whole number, 1 or more")
    if task.lifetimes is None:
        raise UserError(
            f"{task.name} has no lifetimes, which meta-training needs; give a grid or chain such as "
            "grid-levels-small (see `rlbench list`)"
        )
    return task.lifetimes(count, settings.workers, seed=seed, device=device, **options)


def _scored(columns: dict[str, Array], learner: Model | MetaLearner) -> dict[str, Array]:
    """Checks columns, and returns them with every measure of a learner as floats.

    Raises:
        UserError: A measure is not finite, is missing, or has another shape.
    """
    name = called(type(learner))
    for key in columns:
        if key in ("update", "seed") or "/" in key:
            raise UserError(
                f"{name} returned a measure called {key!r}, which run folders use for something else; "
                "give it another name, without a slash"
            )
    for measure in learner.measures:
        column = columns.get(measure.name)
        if column is None or column.dtype.kind not in "biuf" or not np.isfinite(column).all():
            raise UserError(
                f"the {measure.name} of {name} is missing or not finite; return finite numbers "
                "for it from `measure` or `summary`, or use a smaller learning rate"
            )
        if column.ndim != 1:
            raise UserError(
                f"the {measure.name} of {name} has the shape {list(column.shape[1:])} for each example; "
                "return one number for each"
            )
        if column.dtype.kind != "f":  # For example whether an answer is right.
            columns[measure.name] = column.astype(np.float32)
    return columns


def _checked(measured: Mapping[str, Tensor], count: int, name: str) -> dict[str, Array]:
    """The result of `measure`, as arrays."""
    for key, column in measured.items():
        if not isinstance(column, Tensor) or column.shape[:1] != (count,):
            what = (
                f"of shape {list(column.shape)}"
                if isinstance(column, Tensor)
                else f"as a {type(column).__name__}"
            )
            raise UserError(
                f"`measure` of {name} returned {key} {what} for {count} examples; let it return a tensor with "
                "one entry for each example"
            )
    return {
        # NumPy has no bfloat16.
        key: (column.float() if column.dtype == torch.bfloat16 else column).cpu().numpy()
        for key, column in measured.items()
    }


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def longest_episode(step_limit: int | None) -> int:
    """Number of steps after which an evaluation episode is cut, never before the environment's own limit."""
    return MAX_STEPS if step_limit is None else max(MAX_STEPS, step_limit + 1)


def evaluators_of(learner: Learner, task: Task, count: int) -> list[Any]:
    """Evaluators of an agent in `count` episodes, or of a meta-learner in as many lifetimes."""
    if not isinstance(learner, MetaLearner):
        return episodes_evaluators(task, count)
    unseen = task.unseen if learner.transfers else ()
    return [
        LifetimesEvaluator(task, count),
        *(LifetimesEvaluator(other, count, prefix=f"{other.name}/") for other in unseen),
    ]


def examples_evaluators(test: Examples, train: Examples) -> list[ExamplesEvaluator]:
    """Evaluators of a model on all test examples, and on some of its training examples."""
    some = train.take(slice(MEASURED_TRAINING_EXAMPLES))
    return [ExamplesEvaluator(test), ExamplesEvaluator(some, prefix=TRAIN)]


def episodes_evaluators(task: Task, episodes: int) -> list[EpisodesEvaluator]:
    """One for the task and one for its held-out levels, if it has some."""
    found = [EpisodesEvaluator(task, episodes)]
    if task.held_out is not None:
        found.append(EpisodesEvaluator(task.held_out, episodes, prefix=HELD_OUT))
    return found
