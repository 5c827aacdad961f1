"""Spaces of a team: the stacked observations or actions of all its agents.

The space of a single agent is kept as `one`, with all its attributes, such as the layout of nodes.
"""

from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete


class TeamBox(Box):
    """Arrays of A agents, [A, ...]."""

    def __init__(self, one: Box, agents: int) -> None:
        """The space of `agents` arrays from `one`."""
        low, high = (np.stack([bound] * agents) for bound in (one.low, one.high))
        super().__init__(low, high, dtype=one.dtype.type)
        self.one = one


class TeamChoices(MultiDiscrete):
    """Discrete actions of A agents with the same choices, [A]."""

    def __init__(self, one: Discrete, agents: int) -> None:
        """The space of `agents` numbers from `one`."""
        super().__init__([int(one.n)] * agents, start=[int(one.start)] * agents)
        self.one = one


def team_space(one: Space[Any], agents: int) -> TeamBox | TeamChoices:
    """The space of `agents` elements of a Box or a Discrete space."""
    if isinstance(one, Discrete):
        return TeamChoices(one, agents)
    assert isinstance(one, Box)
    return TeamBox(one, agents)
