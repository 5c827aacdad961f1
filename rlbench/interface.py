"""The interface that every learner follows: agents, which act, and models, which are measured on examples.

The whole training loop of an agent that learns from transitions:

    agent = BEAR(BEARConfig(), Spec.of(env), seed=0)
    for _ in range(updates):
        metrics = agent.learn(data.sample(agent.config.batch_size, generator))
    action = agent.act(obs).action

A learner consists of networks, losses and optimisers. It never logs, prints, writes files, makes
environments or parses arguments; the drivers and the runner in `rlbench.benchmarks` do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import Space
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from rlbench.errors import UserError
from rlbench.experience import (
    Examples,
    Experience,
    Lifetimes,
)
from rlbench.measures import RETURN, Measure
from rlbench.seeding import derive, initialising
from rlbench.state import capture, restore


class HasSpaces(Protocol):
    """Anything with the two spaces of a Gymnasium environment."""

    observation_space: Space[Any]
    action_space: Space[Any]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of its environment."""

    observation_space: Space[Any]
    """Space of one observation, without a batch dimension."""
    action_space: Space[Any]
    """Space of one action, without a batch dimension."""
    discount: float | None = None
    """Discount that the environment fixes; None: the agent's setting applies."""
    obs_mean: Tensor | None = None
    """Mean of the observations in the data set, [D]; None if there is no data set."""
    obs_std: Tensor | None = None
    """Population standard deviation of the observations in the data set, [D]."""
    return_range: tuple[float, float] | None = None
    """Smallest and largest undiscounted return of the data set's episodes."""

    @classmethod
    def of(cls, env: HasSpaces) -> "Spec":
        """The spec of an environment."""
        return cls(env.observation_space, env.action_space)


State = dict[str, Tensor]
REWARD = "reward"
"""Entry of a state by which an agent asks for the reward of each step; see `rewarded`."""
Learn = Callable[[Any], Mapping[str, Tensor]]
"""An update: from experience to metrics."""


@dataclass(frozen=True)
class Action:
    """The result of `act`."""

    action: Tensor
    """Actions in the units of the environment, [B, A]; int64 [B] of a Discrete space."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Values to store with the step, [B, ...]; they come back in `Trajectories.extras`. They are
    not copied, so return new tensors from each call."""
    state: State | None = None
    """Recurrent state to hand to the next `act`, batch first; None if there is none. If it has the entry `reward`, [B],
    put the reward of the step there first (`rewarded`)."""


def rewarded(state: State | None, reward: Any) -> State | None:
    """The state that `act` returned, with the reward of the step if the agent asks for it.

    Args:
        state: The state; returned unchanged unless it has the entry `reward`.
        reward: Reward of the step in each environment, [B], as a tensor or an array.
    """
    if state is None or REWARD not in state:
        return state
    like = state[REWARD]
    return {**state, REWARD: torch.as_tensor(reward, dtype=like.dtype, device=like.device)}


class Learner(ABC):
    """Something that learns: settings, networks, random generators and updates.

    A subclass sets `Config` and `consumes`, and implements `build` and `learn`. Saving needs no code:
    `state_dict` takes every network, optimiser, generator, tensor and number that the subclass keeps
    as an attribute.
    """

    Config: ClassVar[type]
    """Frozen dataclass of the settings."""
    consumes: ClassVar[type[Experience] | type[Lifetimes]]
    """The experience that `learn` takes."""
    measures: ClassVar[tuple[Measure, ...]]
    """Measures of each episode or example in an evaluation, the headline measure first."""
    measured: ClassVar[str]
    """What the rows of a measure are: episodes, examples or lifetimes."""
    run: ClassVar[Mapping[str, Any]] = {}
    """Defaults of `rlbench run` for this learner, such as `updates`, if they differ from the usual ones."""

    compile_from: ClassVar[int] = 50_000
    """Smallest number of gradient steps for which `rlbench run --compile auto` compiles: about as many as are needed to save the time that the
    first compilation takes; see docs/speed.md."""
    unlearned: ClassVar[tuple[str, ...]] = ()
    """Tensors that `--pretrained` does not take from another run: settings, and what belongs to a running rollout. Those of a
    network have its name in front, as in `scaler.returns`."""

    config: Any

    def __init__(
        self, config: Any, spec: Any, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """Stores the settings, makes the generator from which `learn` draws, and calls `build`.

        Args:
            config: Settings, of type `Config`.
            spec: What the learner must know of its task.
            seed: Decides initial weights and every random draw of the learner.
            device: Device of the networks and of the experience.
        """
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with initialising(derive(seed, "weights")):
            self.build()

    # Not abstract, because a learner may override `__init__` instead.
    def build(self) -> None:  # noqa: B027
        """Makes networks and their optimisers, as attributes, from `config` and `spec`.

        The learner's seed decides the initial weights. A network is moved to `device` when it becomes an
        attribute, so make its optimiser after that; make other tensors on `device`.
        """

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; a network is moved to the device before its optimiser is made."""
        if isinstance(value, nn.Module) and "device" in vars(self):
            value.to(self.device)
        super().__setattr__(name, value)

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Settings that the paper chooses by task or length of the run; the user's settings take precedence.

        Args:
            task: Name of the task, such as `halfcheetah-medium`.
            updates: Number of updates of the whole run.
        """
        return {}

    @abstractmethod
    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        """One update. Returns detached scalars, named `critic_loss`, `mmd`, ..."""

    @property
    def acting_noise(self) -> tuple[int, ...] | None:
        """Shape of the noise of one row that `decide` takes, without the batch; None for none."""
        return None

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The learner's answer as a pure function, which can be exported.

        For an agent it is the actions without exploration, for a classifier the probabilities of the classes.

        Args:
            obs: Observations, [B, D].
            noise: Standard normal, [B, *acting_noise], if the answer is random.

        Returns:
            Actions in the units of the environment, [B, A], or another answer, [B, ...].
        """
        raise UserError(
            f"{type(self).__name__} cannot be exported; give it a method `decide` (see Learner)"
        )

    @property
    def chooses(self) -> bool:
        """Whether the answer is one of several choices: the one with the largest score (see `scores`)."""
        return False

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """The numbers on which the answer depends, as a differentiable function of the observations.

        Analyses call it. By default it is `decide` with noise of 0.

        Args:
            obs: Observations, [B, ...]; images of bytes as floating-point numbers from 0 to 255.
            state: Recurrent state that `act` returned at the previous step; None at the beginning, or if there is none.

        Returns:
            Logits of classes or of discrete actions, or values of discrete actions, [B, K]; continuous actions before they are
            limited, [B, A]; or another answer, [B, ...].

        Raises:
            UserError: The learner has no such function.
        """
        if self.chooses:
            raise UserError(
                f"{type(self).__name__} does not provide the scores by which it chooses; give it a method `scores` (see Learner)"
            )
        shape = self.acting_noise
        return self.decide(obs, None if shape is None else obs.new_zeros((len(obs), *shape)))

    def phase(self) -> Hashable:
        """The branch that the next `learn` takes; each is compiled once (`rlbench run --compile`).

        None if `learn` cannot be compiled. A learner that returns anything else draws noise only from
        its generators, and changes nothing in `learn` but tensors, in place, and integer
        counters; control flow must not depend on any other state. A meta-learner may also replace tensors, but
        not change counters in its compiled part.
        """
        return None

    @property
    def compiled_steps(self) -> int:
        """How often one `learn` runs its compiled part."""
        return 1

    def compiled(self, compiler: Callable[[Learn], Learn]) -> Learn:
        """`learn` with its repeated part compiled: all of it, unless a learner overrides this."""
        return compiler(self.learn)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs, as nested dicts of tensors and numbers."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict` of a learner with the same settings and spec."""
        restore(self, state)


class Agent(Learner):
    """A learner that acts, and is scored by its returns.

    A subclass also implements `decide`, and `explore` if it collects its own experience. It may instead
    override `act`, for example if it has a memory.
    """

    measures = (RETURN,)
    measured = "episodes"
    explores: ClassVar[bool] = False
    """Whether the algorithm gathers its own experience; offline algorithms do not."""
    priority: Tensor | None = None
    """Priorities of the transitions of the last update, [B]: a replay buffer draws each again in proportion to
    its priority. None: it draws uniformly."""

    spec: Spec

    @classmethod
    def view(cls, settings: Any) -> str | None:
        """The view of a task (`Task.views`) that an agent with these settings needs; None for its usual observations.

        By default, an agent whose encoder is `parts` needs all parts of an observation.
        """
        encoder = str(getattr(settings, "encoder", ""))
        return "parts" if encoder.partition(":")[0] == "parts" else None

    def __init__(
        self, config: Any, spec: Spec, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """See `Learner`; `spec` describes the environment.

        `learn` draws from `generator` and `act` from `act_generator`, so that acting more often,
        as in evaluations, does not affect learning.
        """
        # First, so that `build` finds a complete agent.
        self.act_generator = torch.Generator(device).manual_seed(derive(seed, "act"))
        super().__init__(config, spec, seed=seed, device=device)

    @property
    def discount(self) -> float:
        """The environment's discount if it fixes one, else the setting."""
        return self.config.discount if self.spec.discount is None else self.spec.discount

    @property
    def chooses(self) -> bool:
        """Whether actions are discrete."""
        return isinstance(self.spec.action_space, Discrete)

    @property
    def rollout_steps(self) -> int:
        """Steps in each environment before each update: the setting, unless an agent needs whole episodes."""
        return int(self.config.rollout_steps)

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """Chooses actions [B, A] for observations [B, D], by `explore` or `decide`."""
        if explore:
            return self.explore(obs)
        shape, drawing = self.acting_noise, self.act_generator
        if shape is None:
            return Action(self.decide(obs))
        noise = torch.randn((len(obs), *shape), generator=drawing, device=drawing.device)
        return Action(self.decide(obs, noise))

    def explore(self, obs: Tensor) -> Action:
        """Chooses actions to collect experience, often with noise from `act_generator`; by default by `decide`."""
        return Agent.act(self, obs)

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor | None:
        """The value that `decide` maximises among samples, [B], at actions [B, A]; None if there is none.

        Args:
            obs: Observations, [B, D].
            action: Actions that `decide` returned, [B, A].
            noise: Noise that `decide` was given.
        """
        return None


class Model(Learner):
    """A learner that is scored on examples that it has not seen. A subclass also writes `measure`."""

    consumes = Examples
    measured = "examples"
    classifies: ClassVar[bool] = False
    """Whether `scores` are logits of classes."""

    spec: "Mapping[str, Space[Any]]"

    def __init__(
        self,
        config: Any,
        spec: "Mapping[str, Space[Any]]",
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """See `Learner`; `spec` has the space of each column of an example.

        `measure` draws from `measure_generator`, so that measuring does not affect learning.
        """
        # First, so that `build` finds a complete model.
        self.measure_generator = torch.Generator(device).manual_seed(derive(seed, "measure"))
        super().__init__(config, spec, seed=seed, device=device)

    @property
    def chooses(self) -> bool:
        """Whether it chooses a class."""
        return self.classifies

    @abstractmethod
    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Numbers for each example, [B, ...] each, with networks in evaluation mode."""

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Measures of all examples at once, such as a mean average precision; none by default.

        Args:
            columns: Results of `measure` for all examples, as NumPy arrays [N, ...].
        """
        return {}


@contextmanager
def evaluating(learner: Learner) -> Iterator[None]:
    """Puts the learner's networks in evaluation mode, for example for dropout, and back."""
    networks = [x for x in vars(learner).values() if isinstance(x, nn.Module)]
    # The mode of each part: a learner may keep some of them in evaluation mode while it learns.
    modes = [(part, part.training) for network in networks for part in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
