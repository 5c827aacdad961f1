"""The interface that every agent follows.

The whole training loop of an agent that learns from transitions:

    agent = BEAR(BEARConfig(), Spec.of(env), seed=0)
    for _ in range(updates):
        metrics = agent.learn(data.sample(agent.config.batch_size, generator))
    action = agent.act(obs).action

An agent knows networks, losses and optimisers. It never logs, prints, writes files, makes
environments or parses arguments: the drivers and the runner in `rlbench.benchmarks` do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import Space
from torch import Tensor

from rlbench.errors import UserError
from rlbench.seeding import derive
from rlbench.state import capture, restore


class HasSpaces(Protocol):
    """Anything with the two spaces of a Gymnasium environment."""

    observation_space: Space[Any]
    action_space: Space[Any]


@dataclass(frozen=True)
class Spec:
    """What an agent must know of its world."""

    observation_space: Space[Any]
    """Space of one observation, without a batch dimension."""
    action_space: Space[Any]
    """Space of one action, without a batch dimension."""
    discount: float | None = None
    """Discount that the world fixes; None leaves it to the agent's own setting."""
    obs_mean: Tensor | None = None
    """Mean of the observations in the data set, [D]; None where there is no data set."""
    obs_std: Tensor | None = None
    """Population standard deviation of the observations in the data set, [D]."""
    return_range: tuple[float, float] | None = None
    """Smallest and largest undiscounted return of the data set's episodes."""

    @classmethod
    def of(cls, env: HasSpaces) -> "Spec":
        """The spec of an environment."""
        return cls(env.observation_space, env.action_space)


@dataclass(frozen=True)
class Transitions:
    """Single steps, independent of each other; every column starts with [B]."""

    obs: Tensor
    """Observations, [B, D]."""
    action: Tensor
    """Actions in the units of the environment, [B, A]; int64 [B] of a Discrete space."""
    reward: Tensor
    """Rewards, [B]."""
    next_obs: Tensor
    """Observations after the step, of the same episode even where it ended, [B, D]."""
    terminated: Tensor
    """1.0 where the world ended and no value follows, [B]."""
    truncated: Tensor
    """1.0 where a time limit cut the episode, [B]."""


@dataclass(frozen=True)
class Trajectories:
    """Steps in order, [T, B, ...]: column b is one environment, an episode may end inside."""

    obs: Tensor
    """Observations, [T, B, D]."""
    action: Tensor
    """Actions in the units of the environment, [T, B, A]; int64 [T, B] of a Discrete space."""
    reward: Tensor
    """Rewards, [T, B]."""
    terminated: Tensor
    """1.0 where the world ended, [T, B]."""
    truncated: Tensor
    """1.0 where a time limit cut the episode, [T, B]."""
    final_obs: Tensor
    """Observation that each step led to, before any reset, [T, B, D]."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """What `act` returned with each step, such as log-probabilities, [T, B, ...]."""


Experience = Transitions | Trajectories
State = dict[str, Tensor]
Learn = Callable[[Any], Mapping[str, Tensor]]
"""An update: from experience to metrics."""


@dataclass(frozen=True)
class Action:
    """What `act` returns."""

    action: Tensor
    """Actions in the units of the environment, [B, A]; int64 [B] of a Discrete space."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Values to store with the step, [B, ...]; they come back in `Trajectories.extras`. They are
    not copied, so return new tensors from each call."""
    state: State | None = None
    """Recurrent state to hand to the next `act`, batch first; None where there is none."""


class Agent(ABC):
    """An algorithm with its networks.

    A subclass sets `Config` and `consumes`, builds its networks in `__init__` and writes `act` and
    `learn`. Saving needs no code: `state_dict` takes every network, optimiser, generator, tensor
    and number that the subclass keeps as an attribute.
    """

    Config: ClassVar[type]
    """Frozen dataclass of the settings."""
    consumes: ClassVar[type[Transitions] | type[Trajectories]]
    """The experience that `learn` takes."""
    explores: ClassVar[bool] = False
    """Whether the algorithm gathers experience of its own; offline algorithms do not."""
    run: ClassVar[Mapping[str, Any]] = {}
    """Defaults of `rlbench run` for this agent, such as `updates`, where they are others."""

    config: Any

    def __init__(
        self, config: Any, spec: Spec, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """Keeps the settings and makes the agent's own random generators.

        `learn` draws from `generator` and `act` from `act_generator`, so that acting more often,
        as in evaluations, changes nothing in what is learned.

        Args:
            config: Settings, of type `Config`.
            spec: The world.
            seed: Decides initial weights and every random draw of the agent.
            device: Where networks live and experience is expected.
        """
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.act_generator = torch.Generator(self.device).manual_seed(derive(seed, "act"))

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Settings that the paper chooses by task or length of the run; a user's own win.

        Args:
            task: Name of the task, such as `halfcheetah-medium`.
            updates: Number of updates of the whole run.
        """
        return {}

    @property
    def discount(self) -> float:
        """The world's discount where it fixes one, else the setting."""
        return self.config.discount if self.spec.discount is None else self.spec.discount

    @abstractmethod
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """Chooses actions [B, A] for observations [B, D]; with noise only if `explore`."""

    @property
    def acting_noise(self) -> tuple[int, ...] | None:
        """Shape of the noise of one row that `decide` takes, without the batch; None for none."""
        return None

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """`act` without exploration as a pure function, which can be exported.

        Args:
            obs: Observations, [B, D].
            noise: Standard normal, [B, *acting_noise], where acting is random.

        Returns:
            Actions in the units of the environment, [B, A].
        """
        raise UserError(
            f"{type(self).__name__} cannot be exported; give it a method `decide` (see Agent)"
        )

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor | None:
        """What `decide` maximises among samples, [B], at actions [B, A]; None where nothing.

        Args:
            obs: Observations, [B, D].
            action: What `decide` returned, [B, A].
            noise: What `decide` was given.
        """
        return None

    def phase(self) -> Hashable:
        """The branch that the next `learn` takes: each is compiled once (`rlbench run --compile`).

        None, where `learn` cannot be compiled. An agent that returns anything else draws noise only
        from its generators, and changes nothing in `learn` but tensors, in place, and whole numbers
        that it counts up; on nothing else of its state does the order of its operations depend.
        """
        return None

    @property
    def compiled_steps(self) -> int:
        """How often one `learn` runs what is compiled of it."""
        return 1

    def compiled(self, compiler: Callable[[Learn], Learn]) -> Learn:
        """`learn` with what repeats in it compiled: all of it, unless an agent says otherwise."""
        return compiler(self.learn)

    @abstractmethod
    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        """One update. Returns detached scalars, named `critic_loss`, `mmd`, ..."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs, as nested dicts of tensors and numbers."""
        return capture(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict` of an agent with the same settings and spec."""
        restore(self, state)
