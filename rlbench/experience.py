"""Experience: the input of a learner's `learn`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from rlbench.errors import UserError


@dataclass(frozen=True)
class Transitions:
    """Single steps, or several in one, independent of each other; every column starts with [B]."""

    obs: Tensor
    """Observations, [B, D]."""
    action: Tensor
    """Actions in the units of the environment, [B, A]; int64 [B] of a Discrete space."""
    reward: Tensor
    """Rewards, [B]; of several steps, their discounted sums."""
    next_obs: Tensor
    """Observations after the step, of the same episode even if it ended, [B, D]."""
    terminated: Tensor
    """1.0 if the episode terminated, so that no value follows, [B]."""
    truncated: Tensor
    """1.0 if a time limit truncated the episode, [B]."""
    discount: Tensor | None = None
    """Discount of the value of `next_obs`, [B]; None: the agent's discount of one step."""
    frequency: Tensor | None = None
    """How often each is drawn compared with uniform draws, [B]; None: they are drawn uniformly."""


@dataclass(frozen=True)
class Trajectories:
    """Steps in order, [T, B, ...]: column b is one environment; episodes may end within it."""

    obs: Tensor
    """Observations, [T, B, D]."""
    action: Tensor
    """Actions in the units of the environment, [T, B, A]; int64 [T, B] of a Discrete space."""
    reward: Tensor
    """Rewards, [T, B]; of a team's agents, [T, B, A]."""
    terminated: Tensor
    """1.0 if the episode terminated, [T, B]."""
    truncated: Tensor
    """1.0 if a time limit truncated the episode, [T, B]."""
    final_obs: Tensor
    """Observation after each step, before any reset, [T, B, D]."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Extras that `act` returned with each step, such as log-probabilities, [T, B, ...]."""
    state: Mapping[str, Tensor] | None = None
    """The agent's state before the first step, [B, ...]; None at the start of all episodes, and for agents without one."""
    time: Tensor | None = None
    """Number of steps of the episode before each step, int64 [T, B]; None unless the steps are from a data set."""
    return_to_go: Tensor | None = None
    """Undiscounted sum of the rewards from each step to the end of its episode, which may be a time limit, [T, B]; None unless the
    steps are from a data set."""


@dataclass(frozen=True)
class Examples:
    """Labelled examples, independent of each other; named columns of any dtype, [B, ...] each."""

    columns: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """The column called `name`."""
        return self.columns[name]

    def __len__(self) -> int:
        """Number of examples, B."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: Tensor | slice) -> "Examples":
        """Some of the examples: int64 [M] or a slice, to M examples."""
        return Examples({name: column[rows] for name, column in self.columns.items()})

    def to(self, device: torch.device | str) -> "Examples":
        """The examples on a device."""
        return Examples({name: column.to(device) for name, column in self.columns.items()})


@dataclass(frozen=True)
class LifetimesSpec:
    """What a meta-learner must know about lifetimes."""

    shape: tuple[int, int]
    """Number of lifetimes and of workers in each, (N, W)."""
    states: int | None
    """Number of states; None if observations are vectors."""
    obs_size: int | None
    """Length of the vectors, D; None if observations are state indices."""
    actions: int
    """Number of actions."""
    valued: bool = False
    """Whether `Lifetimes.values` is available."""


class Lifetimes(ABC):
    """The worlds of N agents, one for each; a meta-learner's `learn` acts in them itself.

    Observations are state indices, int64 [N, W] for W workers in each world, or vectors, float [N, W, D].
    """

    begun: Tensor
    """Which lifetimes began since the last update, bool [N]."""
    length: int
    """Steps of each worker in one lifetime."""
    unchecked: list[Tensor] | None = None
    """Collects the actions of rollouts in a captured update, which are checked after it; None: `rollout` checks them."""

    @property
    @abstractmethod
    def spec(self) -> LifetimesSpec:
        """Sizes, which never change."""

    @abstractmethod
    def rollout(self, act: Callable[[Tensor], Tensor], steps: int) -> Trajectories:
        """Steps every worker and returns the trajectories, [T, N, W, ...]; time limits count as terminations.

        Args:
            act: Maps observations to actions, int64 [N, W].
            steps: Number of steps, T.
        """

    def check(self, actions: Tensor) -> None:
        """Checks the actions of a rollout, int64 [T, N, W].

        Raises:
            UserError: There is no such action.
        """
        count = self.spec.actions
        wrong = actions[(actions < 0) | (actions >= count)]
        if len(wrong):
            raise UserError(
                f"an agent took the action {wrong[0].item()}, expected whole numbers from 0 to {count - 1}; "
                "correct the function that was given to `rollout`"
            )

    def values(self, policy: Tensor, discount: float) -> Tensor:
        """Exact values of policies, float64 [N, S]; time limits are ignored.

        Args:
            policy: Action probabilities in each state, [N, S, A].
            discount: gamma, at least 0 and below 1.

        Raises:
            UserError: The dynamics of these worlds are not known state by state.
        """
        raise UserError(
            "exact values are known only for grids whose observations are states; give a task such as "
            "grid-levels-small"
        )

    @abstractmethod
    def renew(self) -> None:
        """Replaces lifetimes that are over by new ones in new worlds; `begun` then marks these."""

    @abstractmethod
    def restart(self) -> None:
        """Begins all lifetimes anew, in the same worlds."""

    @abstractmethod
    def redraw(self, copies: int = 1) -> None:
        """Begins all lifetimes anew, in N / copies new worlds, in the order w_1, w_2, ..., w_1, w_2, ..."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""


Experience = Transitions | Trajectories | Examples


def columns_of(experience: Any) -> dict[str, Tensor]:
    """The tensors of an experience or another dataclass, by name."""
    if isinstance(experience, Examples):
        return dict(experience.columns)
    values = {x.name: getattr(experience, x.name) for x in fields(experience)}
    return {name: x for name, x in values.items() if isinstance(x, Tensor)}


def with_columns(experience: Any, columns: Mapping[str, Tensor]) -> Any:
    """A copy with other tensors, named as by `columns_of`."""
    if isinstance(experience, Examples):
        return Examples(columns)
    return replace(experience, **columns)
