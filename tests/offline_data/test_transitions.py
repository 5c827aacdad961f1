"""Which rows of a recording become transitions: D4RL's own rule, and the exact one."""

from typing import Any

import numpy as np
import pytest

from rlbench.offline_data import as_transitions
from rlbench.offline_data.formats._transitions import repair_ends
from tests.data_files import Array, random_episodes, recording

# The vectors of D4RL's own `qlearning_dataset`, on obs = rewards = 0..7.
VECTOR: dict[str, Array] = {
    "observations": np.arange(8.0)[:, None],
    "actions": np.zeros((8, 1)),
    "rewards": np.arange(8.0),
    "terminals": np.arange(8) == 2,
    "timeouts": np.arange(8) == 5,
}


@pytest.mark.parametrize(
    ("timeouts", "terminate_on_end", "rows", "done"),
    [
        (True, False, [0, 1, 2, 3, 4, 6], [0, 0, 1, 0, 0, 0]),
        (True, True, [0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 0, 0, 0]),
        (False, False, [0, 1, 3, 4, 6], [0, 0, 0, 0, 0]),
        (False, True, [0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 0, 0, 0]),
    ],
)
def test_d4rl_mode_is_the_original_function(
    timeouts: bool, terminate_on_end: bool, rows: list[int], done: list[int]
) -> None:
    columns = {k: v for k, v in VECTOR.items() if timeouts or k != "timeouts"}
    got = as_transitions(columns, "d4rl", max_episode_steps=3, terminate_on_end=terminate_on_end)
    assert got["obs"][:, 0].tolist() == rows == got["reward"].tolist()
    assert got["next_obs"][:, 0].tolist() == [row + 1 for row in rows]
    assert got["terminated"].tolist() == [bool(x) for x in done]


@pytest.mark.parametrize("terminate_on_end", [True, False])
@pytest.mark.parametrize("timeouts", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_d4rl_mode_agrees_with_a_loop(seed: int, timeouts: bool, terminate_on_end: bool) -> None:
    columns = recording(random_episodes(seed), seed)
    if not timeouts:
        del columns["timeouts"]
    rows, step = [], 0
    for i in range(len(columns["rewards"]) - 1):  # as `qlearning_dataset` does it
        final = columns["timeouts"][i] if timeouts else step == 5 - 1
        if final and not terminate_on_end:
            step = 0
            continue
        if columns["terminals"][i] or final:
            step = 0
        rows.append(i)
        step += 1
    got = as_transitions(columns, "d4rl", max_episode_steps=5, terminate_on_end=terminate_on_end)
    assert np.array_equal(got["obs"], columns["observations"][rows])
    assert np.array_equal(got["next_obs"], columns["observations"][np.array(rows, int) + 1])
    assert np.array_equal(got["terminated"], columns["terminals"][rows])


def test_exact_mode_without_next_observations_never_crosses_an_episode() -> None:
    got = as_transitions(VECTOR, "exact")
    # 5 timed out and 7 is the last row: their s' is unknown. 2 is a true end and keeps its own.
    assert got["obs"][:, 0].tolist() == [0, 1, 2, 3, 4, 6]
    assert got["next_obs"][:, 0].tolist() == [1, 2, 2, 4, 5, 7]
    assert got["terminated"].tolist() == [False, False, True, False, False, False]
    assert not got["truncated"].any()


def test_exact_mode_with_next_observations_keeps_every_row() -> None:
    following = VECTOR["observations"] + 100
    got = as_transitions(VECTOR | {"next_observations": following}, "exact")
    assert np.array_equal(got["next_obs"], following)
    assert np.flatnonzero(got["terminated"]).tolist() == [2]
    assert np.flatnonzero(got["truncated"]).tolist() == [5]


@pytest.mark.parametrize("mode", ["exact", "d4rl"])
@pytest.mark.parametrize("next_recorded", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_no_terminal_is_made_by_a_time_out(mode: Any, next_recorded: bool, seed: int) -> None:
    columns = recording(random_episodes(seed), seed)
    if not next_recorded:
        del columns["next_observations"]
    without = columns | {"timeouts": np.zeros_like(columns["timeouts"])}
    limit = 5 if mode == "d4rl" else None
    kept, all_rows = (as_transitions(x, mode, max_episode_steps=limit) for x in (columns, without))
    ended = {tuple(x) for x in kept["obs"][kept["terminated"]]}
    terminals = {tuple(x) for x in columns["observations"][columns["terminals"]]}
    assert ended <= terminals
    assert ended >= {tuple(x) for x in columns["observations"][:-1][columns["terminals"][:-1]]}
    assert mode == "d4rl" or ended == {tuple(x) for x in all_rows["obs"][all_rows["terminated"]]}


def flags(*rows: int, count: int) -> Array:
    return np.isin(np.arange(count), rows)


@pytest.mark.parametrize(
    ("terminals", "timeouts", "limit", "true_ends", "cuts", "repairs"),
    [
        # Of episodes of 4, 4 and 2 steps only the last one fell.
        ([3, 7, 9], None, 4, [9], [3, 7], {
            "timeouts": "missing", "terminals_at_the_limit_of_steps": 2}),
        # A column of time-outs that are never marked says no more than a missing one.
        ([3, 7, 9], [], 4, [9], [3, 7], {"terminals_at_the_limit_of_steps": 2}),
        # A time-out elsewhere, such as the cut at the end of a file, does not show that the
        # recorder marks the limit.
        ([3, 7], [9], 4, [], [3, 7, 9], {"terminals_at_the_limit_of_steps": 2}),
        ([3, 7], [3, 9], 4, [], [3, 7, 9], {"terminals_at_the_limit_of_steps": 2}),
        # A recorder that marks the limit distinguishes the two: the second episode fell at its end.
        ([7], [3], 4, [7], [3], {}),
        ([7], [3, 7], 4, [7], [3, 7], {}),
        # One that marks every time-out as a terminal too does not, whatever the limit is.
        ([3, 7, 9], [3, 7], 4, [9], [3, 7], {"terminals_at_time_outs": 2}),
        ([3, 7, 9], [3, 7], None, [9], [3, 7], {"terminals_at_time_outs": 2}),
        # An unmarked limit, followed by one that is marked as a terminal.
        ([7, 9], None, 4, [9], [3, 7], {
            "timeouts": "missing", "timeouts_added_at_the_limit_of_steps": 1,
            "terminals_at_the_limit_of_steps": 1}),
        # A recorder that marks time-outs is trusted where the limit is unknown.
        ([3, 7], [9], None, [3, 7], [9], {}),
        # No episode reaches the limit.
        ([2, 7], None, 6, [2, 7], [], {"timeouts": "missing"}),
    ],
)  # fmt: skip
def test_ends_at_the_step_limit_are_judged_one_by_one(
    terminals: list[int],
    timeouts: list[int] | None,
    limit: int | None,
    true_ends: list[int],
    cuts: list[int],
    repairs: dict[str, Any],
) -> None:
    stored = None if timeouts is None else flags(*timeouts, count=10)
    ended, cut, told = repair_ends(flags(*terminals, count=10), stored, limit)
    assert np.flatnonzero(ended).tolist() == true_ends
    assert np.flatnonzero(cut).tolist() == cuts
    assert told == repairs


@pytest.mark.parametrize(
    ("lengths", "limit", "found"),
    [
        ([9, 9, 9, 4], None, {"steps": 9, "terminals": 3}),
        ([9, 3, 9, 4, 7], None, {"steps": 9, "terminals": 2}),
        ([9, 9, 9, 4], 1000, {"steps": 9, "terminals": 3}),
        ([9, 9, 9, 4], 9, None),  # known, so it is corrected
        ([9, 5, 5, 4], None, None),  # falls
        ([9, 8, 7, 6], None, None),
        ([1, 1, 1, 1], None, None),  # one step each, such as a forecast
        ([9, 9, 5, 5, 5], None, None),
        ([30, 30, *range(2, 27)], None, None),  # two of 27, which may be chance
    ],
)
def test_a_probable_step_limit_that_is_not_named_is_found(
    lengths: list[int], limit: int | None, found: dict[str, int] | None
) -> None:
    ends = np.cumsum(lengths) - 1
    _, _, told = repair_ends(flags(*ends, count=ends[-1] + 3), None, limit)
    assert told.get("probable_limit_of_steps") == found
