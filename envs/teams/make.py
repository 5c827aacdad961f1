"""Makes team tasks by name, such as `shared:stag-hunt-4p`; importing this loads the standard library only."""

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any

from rlbench.envs.making import factory
from rlbench.envs.social.names import GAMES, SOLVED_ABOVE
from rlbench.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import VectorEnv

TEAMS = {"shared": "one policy for all agents", "independent": "each agent has its own policy"}
"""Kind of team, which is the first word of a task's name, to its description."""


def lines() -> list[str]:
    """One line per kind, with a description."""
    return [f"{kind + ':NAME':<17}  {text}" for kind, text in TEAMS.items()]


def offers(name: str, obs_mode: str = "vector") -> dict[str, Any] | None:
    """What a team task offers, by the names of the fields of `rlbench.envs.tasks.Task`.

    Args:
        name: A key of `TEAMS`, a colon, and a multi-agent game or `package.module:factory` of a PettingZoo ParallelEnv.
        obs_mode: Observations of a game, see `rlbench.envs.social.views`.

    Returns:
        None if the name begins with another word.

    Raises:
        UserError: There is no such game.
    """
    team, colon, of = name.partition(":")
    if not colon or team not in TEAMS:
        return None
    if of not in GAMES and ":" not in of:
        close = difflib.get_close_matches(of, GAMES, n=3)
        hint = f"did you mean {' or '.join(f'{team}:{x}' for x in close)}?" if close else ""
        raise UserError(
            f"no multi-agent game named {of!r} for {name!r}; {hint or '`rlbench list` shows the games;'} "
            f"a PettingZoo ParallelEnv is written as {team}:package.module:factory"
        )
    return {
        "make": partial(make_single, name, obs_mode),
        "make_vector": partial(make_vector, name, obs_mode=obs_mode),
        "solved_above": SOLVED_ABOVE.get(of),
        "team": team,
        "imports": None if of in GAMES else of,
    }


def views(name: str) -> tuple[str, ...]:
    """Kinds of observations other than vectors that the team task of this name offers."""
    return ("graph",) if name.partition(":")[2] in GAMES else ()


def make_single(name: str, obs_mode: str = "vector") -> "gym.Env[Any, Any]":
    """One environment of a team task."""
    from rlbench.envs.teams.single import TeamEnv

    return TeamEnv(make_vector(name, 1, obs_mode))


def make_vector(name: str, count: int, obs_mode: str = "vector") -> "VectorEnv[Any, Any, Any]":
    """`count` environments of a team task, with a reward for each agent."""
    of = name.partition(":")[2]
    if of in GAMES:
        from rlbench.envs.teams.games import TeamGames

        return TeamGames(of, count, obs_mode)
    from rlbench.envs.teams.parallel import TeamsOfParallelEnvs

    return TeamsOfParallelEnvs(name, factory(of), count)
