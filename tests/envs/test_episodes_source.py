"""Recorded multi-agent episodes as examples."""

import numpy as np
import pytest

from rlbench.envs.examples.episodes import LONGEST, Episodes
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.scripted import Scripted
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError

RECORDED = [name for name, game in GAMES.items() if game.limit <= LONGEST]


@pytest.mark.parametrize("game", RECORDED)
def test_columns_match_their_fields(game: str) -> None:
    task = find_task(f"episodes-{game}")
    assert task.source is not None
    source = task.source()
    columns = source.sample("train", 6, 0)
    assert columns.keys() == source.fields.keys()
    for name, space in source.fields.items():
        assert columns[name].dtype == space.dtype
        assert all(space.contains(row) for row in columns[name])


def test_an_episode_equals_that_of_the_engine() -> None:
    columns = Episodes("stag-hunt-4p", Scripted("hunt")).sample("test", 3, 5)
    game = GridGame("stag-hunt-4p", 3)
    # The recorded actions lead to the recorded states from the first one on.
    game.cells[:] = [[_cell(place, 6) for place in row] for row in columns["obs"][:, 0, :, :2]]
    for step in range(5):
        np.testing.assert_allclose(game.graph()[..., :2], columns["obs"][:, step, :, :2])
        reward, _, _ = game.step(columns["action"][:, step])
        np.testing.assert_array_equal(reward, columns["reward"][:, step])
        taken = game.on & game.taken[:, None]
        np.testing.assert_array_equal(taken, columns["taken"][:, step])
        game.available[:] = columns["obs"][:, step + 1, 4:, -6]  # Items return at random.


def _cell(place: np.ndarray, side: int) -> int:
    row, column = np.rint(place * (side - 1)).astype(int)
    return int(row * side + column)


def test_steps_after_the_end_are_not_alive_and_have_no_reward() -> None:
    columns = Episodes("coopnav").sample("train", 50, 0)
    paid = columns["reward"].sum(-1)
    last = columns["alive"].sum(1) - 1
    solved = paid.sum(1) > 0
    assert solved.mean() > 0.9
    assert (paid.argmax(1) == last)[solved].all()
    assert (np.diff(columns["alive"].astype(int), axis=1) <= 0).all()
    assert (paid.sum(1)[solved] == 2).all()


def test_seeds_and_splits_share_no_episode() -> None:
    source = Episodes("coin")
    drawn = (
        source.sample("train", 200, 0),
        source.sample("train", 200, 1),
        source.sample("test", 200, 0),
    )
    first = [columns["obs"][:, 0].reshape(200, -1) for columns in drawn]
    rows = np.concatenate(first)
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(
        source.sample("train", 7, 0)["obs"][:, 0].reshape(7, -1), first[0][:7]
    )


def test_games_that_cannot_be_recorded_are_refused() -> None:
    with pytest.raises(UserError, match="too long for recording; give one of coopnav, coin"):
        Episodes("markov-stag-hunt")
    task = find_task("episodes-chess")
    assert task.source is not None
    with pytest.raises(UserError, match="there is no game 'chess' for recorded episodes"):
        task.source()
