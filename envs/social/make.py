"""Makes multi-agent games by name; importing this loads the standard library only."""

from functools import partial
from typing import TYPE_CHECKING, Any

from rlbench.envs.social.names import SOLVED_ABOVE

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import VectorEnv


VIEWS = ("graph", "oracle")
"""Kinds of observations other than vectors that agents may need; see `rlbench.envs.social.single`."""


def offers(name: str, obs_mode: str = "vector") -> dict[str, Any]:
    """What the task of a game offers, by the names of the fields of `rlbench.envs.tasks.Task`."""
    return {
        "make": partial(make_single, name, obs_mode),
        "make_vector": partial(make_vector, name, obs_mode=obs_mode),
        "solved_above": SOLVED_ABOVE.get(name),
    }


def make_single(name: str, obs_mode: str = "vector") -> "gym.Env[Any, Any]":
    """One game in which agent 0 learns among scripted partners."""
    from rlbench.envs.social.single import SingleAgentView

    return SingleAgentView(name, obs_mode=obs_mode, render_mode="rgb_array")


def make_vector(name: str, count: int, obs_mode: str = "vector") -> "VectorEnv[Any, Any, Any]":
    """`count` such games, stepped as a batch."""
    from rlbench.envs.social.single import SingleAgentVector

    return SingleAgentVector(name, count, obs_mode=obs_mode)
