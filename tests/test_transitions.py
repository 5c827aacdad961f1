"""Which rows of a recording become transitions: D4RL's own rule, and the exact one."""

from typing import Any

import numpy as np
import pytest

from rlbench.offline_data import as_transitions
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
    kept, all_rows = (as_transitions(x, mode, max_episode_steps=5) for x in (columns, without))
    ended = {tuple(x) for x in kept["obs"][kept["terminated"]]}
    terminals = {tuple(x) for x in columns["observations"][columns["terminals"]]}
    assert ended <= terminals
    assert ended >= {tuple(x) for x in columns["observations"][:-1][columns["terminals"][:-1]]}
    assert mode == "d4rl" or ended == {tuple(x) for x in all_rows["obs"][all_rows["terminated"]]}
