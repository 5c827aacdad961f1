"""Selects the rows of a D4RL recording that become transitions.

`terminals` mark true ends, `timeouts` ends at the step limit or by truncation. In a recording the
observation after the last step of an episode is missing unless `next_observations` was written:
the next row belongs to the next episode.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mode = Literal["exact", "d4rl"]


@dataclass(frozen=True)
class Selection:
    """Rows of a recording that become transitions, [M] each."""

    rows: Array
    """Indices of the rows, increasing."""
    next_rows: Array | None
    """Rows whose observation is s'; None if s' comes from `next_observations`."""
    terminated: Array
    truncated: Array


def select_exact(terminals: Array, timeouts: Array, next_recorded: bool) -> Selection:
    """Selects every row whose s' is known; s' is never from another episode.

    If s' was not recorded at a true end, the row's own observation takes its place; no target uses it.

    Args:
        terminals: True ends, bool [N].
        timeouts: Other ends of episodes, bool [N].
        next_recorded: The recording has `next_observations`.
    """
    rows = np.arange(len(terminals))
    if next_recorded:
        return Selection(rows, None, terminals, timeouts)
    unknown = timeouts & ~terminals
    unknown[-1] |= not terminals[-1]
    rows = rows[~unknown]
    next_rows = np.where(terminals[rows], rows, rows + 1)
    return Selection(rows, next_rows, terminals[rows], timeouts[rows])


def select_d4rl(
    terminals: Array,
    timeouts: Array | None,
    max_episode_steps: int | None,
    terminate_on_end: bool = False,
) -> Selection:
    """The rule of D4RL's `qlearning_dataset`, bit for bit, including its errors.

    The last row is dropped, s' is the next row even if it belongs to another episode, and without
    `timeouts` the step count starts at 1 after the first episode that ended by itself.

    Args:
        terminals: bool [N].
        timeouts: bool [N], or None if the recording has none.
        max_episode_steps: Step limit; required without `timeouts`.
        terminate_on_end: Keep the last rows of timed-out episodes.
    """
    count = max(len(terminals) - 1, 0)
    if timeouts is not None:
        final = timeouts[:count]
    elif max_episode_steps is None:
        raise ValueError("without timeouts the rule of D4RL needs max_episode_steps")
    else:
        final = np.zeros(count, dtype=bool)
        step = 0
        for row in range(count):
            final[row] = step == max_episode_steps - 1
            if final[row] and not terminate_on_end:
                step = 0
            else:
                step = 1 if final[row] or terminals[row] else step + 1
    rows = np.arange(count) if terminate_on_end else np.flatnonzero(~final)
    return Selection(rows, rows + 1, terminals[rows], final[rows])


def as_transitions(
    recording: dict[str, Array],
    mode: Mode = "exact",
    *,
    max_episode_steps: int | None = None,
    terminate_on_end: bool = False,
) -> dict[str, Array]:
    """Transitions of a recording in memory.

    Args:
        recording: D4RL's arrays by name; `timeouts` and `next_observations` may be missing.
        mode: `exact`, see `select_exact`, or `d4rl`, see `select_d4rl`.
        max_episode_steps: Step limit, used if `timeouts` is missing.
        terminate_on_end: See `select_d4rl`.

    Returns:
        The columns of `Transitions` by name.
    """
    terminals, timeouts = recording["terminals"], recording.get("timeouts")
    if mode == "d4rl":
        chosen = select_d4rl(terminals, timeouts, max_episode_steps, terminate_on_end)
    else:
        terminals, timeouts, _ = repair_ends(terminals, timeouts, max_episode_steps)
        chosen = select_exact(terminals, timeouts, "next_observations" in recording)
    if chosen.next_rows is None:
        next_obs = recording["next_observations"][chosen.rows]
    else:
        next_obs = recording["observations"][chosen.next_rows]
    return {
        "obs": recording["observations"][chosen.rows],
        "action": recording["actions"][chosen.rows],
        "reward": recording["rewards"][chosen.rows],
        "terminated": chosen.terminated,
        "truncated": chosen.truncated,
        "next_obs": next_obs,
    }


def repair_ends(
    terminals: Array, timeouts: Array | None, max_episode_steps: int | None
) -> tuple[Array, Array, dict[str, Any]]:
    """Ends of episodes, corrected if a file stores them wrongly.

    Args:
        terminals: True ends as stored, bool [N].
        timeouts: Other ends as stored, bool [N], or None.
        max_episode_steps: Step limit of the environment, or None.

    Returns:
        terminals, timeouts and a record of the repairs.
    """
    repairs: dict[str, Any] = {}
    if timeouts is None:
        repairs["timeouts"] = "missing"
        timeouts = np.zeros_like(terminals)
    over = terminals | timeouts
    at_limit = np.zeros_like(over)
    if max_episode_steps is not None:
        starts = np.concatenate([[0], np.flatnonzero(over) + 1])
        rows = np.arange(len(over))
        step = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
        at_limit = (step + 1) % max_episode_steps == 0
        # A time-out marked at any other step beyond the limit shows that it was not the recorder's.
        beyond = timeouts & (step >= max_episode_steps) & ~at_limit
        if beyond.any():
            repairs["limit_of_steps_exceeded"] = int(beyond.sum())
            at_limit = np.zeros_like(over)
    missing = at_limit & ~over
    if missing.any():
        repairs["timeouts_added_at_the_limit_of_steps"] = int(missing.sum())
    terminals, timeouts, found = true_ends(terminals, timeouts, at_limit)
    timeouts = timeouts | missing
    return terminals, timeouts, repairs | found | probable_limit(terminals, timeouts)


def true_ends(
    terminals: Array, timeouts: Array, at_limit: Array
) -> tuple[Array, Array, dict[str, Any]]:
    """Corrects the ends of episodes if the recorder stored every end as a terminal.

    An end at the step limit is a time-out, not a terminal, as in D4RL's own recorder, unless another
    episode at the limit is marked only as a time-out, which shows that the recorder distinguishes the
    two. If every time-out is also marked as a terminal, all of them are time-outs; this does not need the
    limit.

    Args:
        terminals: Terminals as stored, bool [N].
        timeouts: Time-outs as stored, bool [N].
        at_limit: Whether a row is the last one that the step limit allows, bool [N].

    Returns:
        terminals, timeouts and a record of the repairs.
    """
    repairs: dict[str, Any] = {}
    both = terminals & timeouts
    if both.any() and not (timeouts & ~terminals).any():
        repairs["terminals_at_time_outs"] = int(both.sum())
        terminals = terminals & ~both
    stored = terminals & at_limit
    if stored.any() and not (timeouts & ~terminals & at_limit).any():
        repairs["terminals_at_the_limit_of_steps"] = int(stored.sum())
        terminals, timeouts = terminals & ~stored, timeouts | stored
    return terminals, timeouts, repairs


def probable_limit(terminals: Array, timeouts: Array) -> dict[str, Any]:
    """The number of steps after which many episodes end with a terminal, if no episode is longer.

    Episodes that end by themselves rarely share their greatest length. If it is the most common one, a
    step limit probably cut them.

    Args:
        terminals: Terminals, bool [N].
        timeouts: Time-outs, bool [N]; if there are any, the recorder distinguishes the two.

    Returns:
        The number of steps and of such terminals, for a record of repairs; empty if there is none.
    """
    if timeouts.any():
        return {}
    counts = np.bincount(np.diff(np.flatnonzero(terminals), prepend=-1))
    longest = len(counts) - 1
    if longest < 2 or counts.argmax() < longest or counts[-1] < max(2, counts.sum() / 10):
        return {}
    return {"probable_limit_of_steps": {"steps": longest, "terminals": int(counts[-1])}}


def episode_bounds(terminals: Array, timeouts: Array) -> tuple[Array, int]:
    """Bounds of the episodes of a recording, int64 [K + 1], and the number of complete episodes."""
    ends = np.flatnonzero(terminals | timeouts) + 1
    bounds = np.concatenate([[0], ends])
    if bounds[-1] < len(terminals):
        bounds = np.append(bounds, len(terminals))
    return bounds, len(ends)
