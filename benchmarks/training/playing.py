"""Episodes of trained learners for analyses: of agents, and of models whose classes are the actions of a task."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.analyses._base import Moments
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator, longest_episode
from rlbench.benchmarks.training.faults import Actions, named_as_users
from rlbench.benchmarks.training.interrupt import look
from rlbench.benchmarks.training.teaching import recorded
from rlbench.envs.contract import Checked, as_tensor, made
from rlbench.envs.facts import facts_of
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.interface import Action, Agent, Model, Spec, State, rewarded
from rlbench.seeding import derive

RANDOM = 0.5
"""Share of random actions in `moments`."""
Act = Callable[[Tensor], Tensor]
"""From observations [B, ...] to the numbers of actions, int64 [B], from 0."""
Perturb = Callable[[Tensor, State | None], Tensor]
"""From observations [B, ...] and the recurrent state before the step to what the agent sees instead, [B, ...]."""


class Acting(Agent):
    """An agent that acts by a function and never learns."""

    consumes = ()  # type: ignore[assignment]

    def __init__(self, act: Act, spec: Spec, start: int) -> None:
        """Keeps the function; the first action has the number `start`."""
        super().__init__(None, spec)
        self._act, self._start = act, start

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        """Learns nothing."""
        return {}

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The function's actions in the numbers of the environment, int64 [B]."""
        return self._act(obs) + self._start


class Perturbed(Agent):
    """A trained agent that sees perturbed observations; it never learns."""

    consumes = ()  # type: ignore[assignment]

    def __init__(self, agent: Agent, perturb: Perturb) -> None:
        """Keeps the agent and the function."""
        super().__init__(agent.config, agent.spec, device=agent.device)
        self._agent, self._perturb = agent, perturb
        self.act_generator = agent.act_generator

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        """Learns nothing."""
        return {}

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """The agent's actions for perturbed observations."""
        return self._agent.act(self._perturb(obs, state), explore=explore, state=state)


def observed(agent: Agent, task: Task, seed: int, count: int) -> Tensor:
    """Observations of an agent in its own episodes, in order, [N, ...]."""
    obs, _ = recorded(agent, task, count, derive(seed, "observed"), lambda _: None)
    return torch.as_tensor(obs, device=agent.device)


def moments(agent: Agent, task: Task, seed: int, count: int) -> Moments:
    """Steps of an agent with facts about its environment; half of the actions are random, so that it reaches more places.

    Two thirds of the steps, rounded up to whole episodes, are for learning.

    Args:
        agent: It acts with its exploration noise.
        task: Where it acts.
        seed: Decides episodes and actions.
        count: Number of steps, N.

    Raises:
        UserError: Nothing is known about the environment, or an episode is so long that none is left for tests.
    """
    rng = np.random.default_rng(derive(seed, "moments"))
    agent.act_generator.manual_seed(derive(seed, "moments", "actions"))
    obs: list[Tensor] = []
    states: list[State] = []
    facts: list[Mapping[str, int | float]] = []
    train, episodes = 0, 0
    env, actions = Checked(made(task.name, task.make), task.name), Actions(agent)
    with contextlib.closing(env), named_as_users(type(agent)):
        env.action_space.seed(derive(seed, "moments", "random"))
        while len(obs) < count:
            if episodes == count and not obs:
                raise UserError(
                    f"the episodes of {task.name} have one step, before which a memory has no state; give a run of an agent without a memory"
                )
            episodes += 1
            if 3 * train < 2 * count:
                train = len(obs)
            seen = env.reset(seed=int(rng.integers(2**31)))
            state: State | None = None
            over, steps = False, 0
            while not over and len(obs) < count:
                look()
                row = as_tensor(seen[None], agent)
                chosen = agent.act(row, explore=True, state=state)
                # A memory has no state before the first step.
                if (chosen.state is None) == (state is None):
                    obs.append(row)
                    facts.append(facts_of(env.env))
                    states += [] if state is None else [state]
                random = rng.random() < RANDOM
                action = np.asarray(env.action_space.sample()) if random else actions(chosen, 1)[0]
                seen, reward, terminated, truncated = env.step(action)
                state = rewarded(chosen.state, np.array([reward]))
                steps += 1
                over = terminated or truncated or steps == longest_episode(None)
    if not 0 < train < len(obs):
        raise UserError(
            f"{count} steps of {task.name} are too few to be split by episodes into rows for learning and rows for tests; give --examples {4 * count} or more"
        )
    return Moments(
        torch.cat(obs), _stacked(states) if states else None, _columns(facts, agent.device), train
    )


def _stacked(states: Sequence[State]) -> State:
    """States of single rows as one of all rows."""
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


def _columns(facts: Sequence[Mapping[str, int | float]], device: torch.device) -> dict[str, Tensor]:
    """The facts that are known at every step, [N] each: classes if all values are whole numbers from 0, else numbers."""
    common = [name for name in facts[0] if all(name in each for each in facts)]
    columns = {name: [each[name] for each in facts] for name in common}
    return {
        name: torch.tensor(values, device=device, dtype=_type_of(values))
        for name, values in columns.items()
    }


def _type_of(values: Sequence[int | float]) -> torch.dtype:
    classes = all(isinstance(x, int) and x >= 0 for x in values)
    return torch.int64 if classes else torch.float32


def play(
    learner: Any,
    seed: int,
    task: Task,
    episodes: int,
    explore: bool,
    act: Act | None = None,
    perturb: Perturb | None = None,
) -> Mapping[str, NDArray[Any]]:
    """Every measure of episodes on a task, [E] each.

    Args:
        learner: An agent, or a model whose observations and classes are those of the task.
        seed: Decides the episodes.
        task: The task, with the observations that the learner needs.
        episodes: Number of episodes.
        explore: Whether an agent acts with its exploration noise.
        act: How a model acts; None: the class with the largest number in `decide`.
        perturb: What an agent sees instead of its observations; None: it sees its observations.

    Raises:
        UserError: The task has different spaces.
    """
    with contextlib.closing(made(task.name, task.make)) as env:
        spec = Spec.of(env)
    if isinstance(learner, Model):
        space = _refuse_other_classes(learner, spec, task.name)
        agent: Any = Acting(act or (lambda obs: learner.decide(obs).argmax(dim=1)), spec, int(space.start))  # fmt: skip
    else:
        agent = learner
        for name in ("observation_space", "action_space"):
            mine, theirs = getattr(agent.spec, name), getattr(spec, name)
            if mine != theirs:
                raise UserError(
                    f"{task.name} has the {name.replace('_', ' ')} {theirs}, but the agent learned with {mine}; give a task with the same "
                    "spaces"
                )
        if perturb is not None:
            agent = Perturbed(agent, perturb)
    evaluator = EpisodesEvaluator(task, episodes)
    with contextlib.closing(evaluator.envs):
        return evaluator.columns(agent, seed, explore=explore)


def _refuse_other_classes(model: Model, spec: Spec, task: str) -> Discrete:
    """The action space of a task whose observations and actions a model knows as examples and classes."""
    label = getattr(model.config, "label", "label")
    mine, theirs, classes = model.spec["obs"], spec.observation_space, model.spec.get(label)
    actions = spec.action_space
    if isinstance(classes, Box) and isinstance(mine, Box) and classes.shape == mine.shape[:1]:
        # Sets of observations with the class of each, as in federated learning.
        mine = Box(mine.low[0], mine.high[0], dtype=mine.dtype.type)
        classes = Discrete(int(classes.high.max()) + 1)
    # A class that never occurred in the examples has no number, so there may be fewer than actions.
    fits = (
        isinstance(actions, Discrete)
        and isinstance(classes, Discrete)
        and classes.n <= actions.n
        and (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    )
    if not fits:
        raise UserError(
            f"{task} has the observations {theirs} and the actions {actions}, but the model learned from {mine} with the classes "
            f"{classes}; give the task whose examples it learned from, as `rlbench data examples` writes them"
        )
    assert isinstance(actions, Discrete)
    return actions
