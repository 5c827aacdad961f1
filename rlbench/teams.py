"""Spaces of a team: the observations or the actions of all its agents, stacked.

The space of one agent stays known as `one`, with everything that it describes, such as the layout of nodes.
"""

from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete


class TeamBox(Box):
    """Arrays of A agents, [A, ...]."""

    def __init__(self, one: Box, agents: int) -> None:
        """The space of `agents` arrays that are in `one`."""
        low, high = (np.stack([bound] * agents) for bound in (one.low, one.high))
        super().__init__(low, high, dtype=one.dtype.type)
        self.one = one


class TeamChoices(MultiDiscrete):
    """Choices of A agents among the same numbers, [A]."""

    def __init__(self, one: Discrete, agents: int) -> None:
        """The space of `agents` numbers that are in `one`."""
        super().__init__([int(one.n)] * agents, start=[int(one.start)] * agents)
        self.one = one


def team_space(one: Space[Any], agents: int) -> TeamBox | TeamChoices:
    """The space of `agents` members of a Box or a Discrete space."""
    if isinstance(one, Discrete):
        return TeamChoices(one, agents)
    assert isinstance(one, Box)
    return TeamBox(one, agents)
