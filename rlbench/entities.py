"""Observations of agents and items as the nodes of a graph.

The features of a node are, in this order: row and column; 1 for agents; 1 for items; the one-hot type of an item, zeros for
agents; 1 if an item can be taken now, and for agents; the one-hot last action, zeros for items and before the first step;
with goals also the one-hot goal of the observing agent at its own node, zeros elsewhere; with an oracle also the one-hot action
that each other agent will take in this step, zeros at the nodes of the observing agent and of items.

In an agent's observation its own node is the first; the other agents follow in cyclic order of their numbers, so that agents
can share weights.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Box

ACTIONS = 5
"""Number of actions, stay and four moves: the length of a one-hot action."""
GOALS = 3
"""Length of a one-hot goal."""


@dataclass(frozen=True)
class Layout:
    """Numbers of nodes and positions of their features."""

    agents: int
    """Number of agents, A; they are the first nodes."""
    items: tuple[int, ...]
    """Number of items of each type, S in all; they follow the agents, by type."""
    goals: bool = False
    """Whether the observing agent's goal is shown."""
    oracle: bool = False
    """Whether the actions that the other agents will take are shown."""

    @property
    def nodes(self) -> int:
        """Number of nodes, N = A + S."""
        return self.agents + sum(self.items)

    @property
    def features(self) -> int:
        """Number of features of a node, D."""
        before: int = self.next_action.start
        return before + (ACTIONS if self.oracle else 0)

    @property
    def place(self) -> slice:
        """Positions of row and column."""
        return slice(0, 2)

    @property
    def kind(self) -> slice:
        """Positions of the type of an item."""
        return slice(4, 4 + len(self.items))

    @property
    def available(self) -> int:
        """Position of whether an item can be taken now."""
        return 4 + len(self.items)

    @property
    def last_action(self) -> slice:
        """Positions of the last action."""
        return slice(self.available + 1, self.available + 1 + ACTIONS)

    @property
    def goal(self) -> slice:
        """Positions of the goal of the observing agent."""
        return slice(self.last_action.stop, self.last_action.stop + GOALS)

    @property
    def next_action(self) -> slice:
        """Positions of the action that another agent will take."""
        first = self.goal.stop if self.goals else self.last_action.stop
        return slice(first, first + ACTIONS)


class Entities(Box):
    """The space of nodes, float32 [N, D] in [0, 1]."""

    def __init__(self, layout: Layout) -> None:
        """The space of a layout."""
        super().__init__(0, 1, (layout.nodes, layout.features), np.float32)
        self.layout = layout

    def __eq__(self, other: object) -> bool:
        """Whether another space is equal to this one."""
        return super().__eq__(other) and isinstance(other, Entities) and self.layout == other.layout

    __hash__ = None  # type: ignore[assignment]
