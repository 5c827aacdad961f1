"""Multi-agent games: what a step does, what a seed decides, what the graph shows."""

import copy
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from rlbench.envs.social.engine import DOWN, LEFT, RIGHT, STAY, UP, GridGame
from rlbench.envs.social.names import GAMES, MARKOV, Game

ALL = list(GAMES)
Cell = tuple[int, int]


def placed(game: str | Game, agents: list[Cell], items: dict[int, Cell]) -> GridGame:
    """One environment with agents and some items in given cells; all others are unavailable, except in Markov Stag Hunt."""
    numbers = GAMES[game] if isinstance(game, str) else game
    made = GridGame(numbers, 1)
    side = numbers.side
    made.agent_cells[0] = [r * side + c for r, c in agents]
    for item in range(made.statics):
        made.available[0, item] = item in items or numbers.kind == MARKOV
    for item, (r, c) in items.items():
        made.item_cells[0, item] = r * side + c
    return made


def step(game: GridGame, *actions: int) -> tuple[list[float], bool, bool]:
    reward, terminated, truncated = game.step(np.array([actions]))
    assert reward.dtype == np.float32
    return reward[0].tolist(), bool(terminated[0]), bool(truncated[0])


def cell(game: GridGame, agent: int) -> Cell:
    r, c = divmod(int(game.agent_cells[0, agent]), game.game.side)
    return r, c


QUIET = replace(GAMES["stag-hunt-4p"], respawn=0.0)
"""Four hunters; taken items never return."""


@pytest.mark.parametrize(
    ("action", "inside", "corner"),
    [
        (STAY, (3, 3), (0, 0)), (UP, (2, 3), (0, 0)), (DOWN, (4, 3), (1, 0)),
        (LEFT, (3, 2), (0, 0)), (RIGHT, (3, 4), (0, 1)),
    ],
)  # fmt: skip
def test_actions_move_and_edges_leave_the_agent_in_place(
    action: int, inside: Cell, corner: Cell
) -> None:
    game = placed("stag-hunt", [(3, 3), (0, 0)], {})
    step(game, action, action)
    assert (cell(game, 0), cell(game, 1)) == (inside, corner)
    game = placed("stag-hunt", [(7, 7), (7, 7)], {})
    step(game, DOWN, RIGHT)
    assert (cell(game, 0), cell(game, 1)) == ((7, 7), (7, 7)), "agents may share a cell"


def test_agents_move_simultaneously_and_may_swap_cells() -> None:
    game = placed("coin", [(3, 3), (3, 4)], {})
    step(game, RIGHT, LEFT)
    assert (cell(game, 0), cell(game, 1)) == ((3, 4), (3, 3))


def test_one_hunter_gets_nothing_from_a_stag_and_two_or_more_get_five_each() -> None:
    game = placed(QUIET, [(2, 1), (5, 5), (5, 0), (0, 5)], {0: (2, 2), 1: (5, 4)})
    assert step(game, RIGHT, STAY, STAY, STAY)[0] == [0, 0, 0, 0]
    assert game.on[0].sum() == 1
    assert game.available[0, :2].all(), "the stag stays"
    game.agent_cells[0, 1] = 2 * 6 + 3
    assert step(game, STAY, LEFT, STAY, STAY)[0] == [5, 5, 0, 0]
    assert game.taken[0].nonzero()[0].tolist() == [0]
    assert game.available[0, :2].tolist() == [False, True]
    assert step(game, STAY, STAY, STAY, STAY)[0] == [0, 0, 0, 0], "it is gone"
    game = placed(QUIET, [(2, 1), (2, 3), (1, 2), (0, 0)], {0: (2, 2), 2: (0, 1)})
    assert step(game, RIGHT, LEFT, DOWN, RIGHT)[0] == [5, 5, 5, 1]


def test_everyone_on_an_apple_gets_one_and_it_is_taken_once() -> None:
    game = placed(QUIET, [(1, 1), (1, 3), (5, 5), (4, 4)], {2: (1, 2), 3: (4, 4)})
    assert step(game, RIGHT, LEFT, STAY, STAY)[0] == [1, 1, 0, 1]
    assert game.taken[0].nonzero()[0].tolist() == [2, 3]
    assert not game.available.any()
    assert step(game, STAY, STAY, STAY, STAY)[0] == [0, 0, 0, 0]


def test_taken_items_return_to_their_cells_but_not_in_the_same_step() -> None:
    game = placed(replace(QUIET, respawn=1.0), [(1, 1), (0, 0), (0, 0), (5, 5)], {2: (1, 2)})
    game.available[0] = [True] * 8
    game.item_cells[0, [0, 1, 3, 4, 5, 6, 7]] = 3 * 6
    assert step(game, RIGHT, STAY, STAY, STAY)[0] == [1, 0, 0, 0]
    assert not game.available[0, 2]
    assert step(game, STAY, STAY, STAY, STAY)[0] == [0, 0, 0, 0], "not yet there"
    assert game.available[0, 2]
    assert game.item_cells[0, 2] == 1 * 6 + 2
    assert step(game, STAY, STAY, STAY, STAY)[0] == [1, 0, 0, 0]


def test_one_in_twenty_returns_in_each_step() -> None:
    game = GridGame("stag-hunt", 500)
    game.agent_cells[:], game.item_cells[:] = 0, 5
    back = []
    for _ in range(20):
        game.available[:] = False
        game.step(np.zeros((500, 2), np.int64))
        back.append(game.available.copy())
    share = np.stack(back)
    assert share.mean() == pytest.approx(0.05, abs=0.005)
    assert (abs(share.mean((0, 1)) - 0.05) < 0.02).all()
    assert (share[:, :, 0] & share[:, :, 1]).mean() < 0.01, "each item on its own"
    assert (share[1:] & share[:-1]).mean() < 0.01, "and each step"


@pytest.mark.parametrize("goals", list(permutations(range(3))))
def test_coins_of_the_good_colours_are_worth_one_and_bad_ones_minus_one(
    goals: tuple[int, int, int],
) -> None:
    for colour in range(3):
        game = placed("coin", [(1, 1), (5, 5)], {4 * colour: (1, 2), 11: (7, 7)})
        game.goals[0] = goals
        paid = -1 if colour == goals[2] else 1
        assert step(game, RIGHT, STAY)[0] == [paid, paid], (
            "both get the reward, whoever takes the coin"
        )
        assert not game.available[0, 4 * colour]
        assert step(game, STAY, STAY)[0] == [0, 0], "coins do not return"


def test_a_coin_taken_by_both_counts_once_and_two_coins_count_twice() -> None:
    game = placed("coin", [(1, 1), (1, 3)], {0: (1, 2), 1: (0, 2), 4: (2, 2)})
    game.goals[0] = (0, 1, 2)
    assert step(game, RIGHT, LEFT)[0] == [1, 1]
    assert step(game, UP, DOWN)[0] == [2, 2]


def test_squared_coins_are_rewarded_at_the_end() -> None:
    row = {4: (0, 1), 5: (0, 2), 6: (0, 3), 0: (0, 4), 8: (0, 5), 9: (0, 6)}
    game = placed("coin-squared", [(0, 0), (7, 7)], row)
    game.available[:] = True
    taken = [x for x in range(12) if x not in row]
    game.item_cells[0, taken] = 3 * 8
    game.goals[0] = (1, 2, 0)
    for _ in range(6):
        assert step(game, RIGHT, STAY) == ([0, 0], False, False)
    for _ in range(3):
        assert step(game, STAY, STAY) == ([0, 0], False, False)
    # Three of agent 0's colour, two of agent 1's, one bad.
    assert step(game, STAY, STAY) == ([9 + 4 - 1, 9 + 4 - 1], False, True)


def test_tiles_must_be_covered_in_the_same_step() -> None:
    game = placed("coopnav", [(1, 1), (3, 3)], {0: (1, 2), 1: (3, 2)})
    assert step(game, RIGHT, STAY) == ([0, 0], False, False)
    assert step(game, LEFT, LEFT) == ([0, 0], False, False), "one after the other does not count"
    assert step(game, RIGHT, STAY) == ([1, 1], True, False)
    both_on_one = placed("coopnav", [(1, 1), (1, 3)], {0: (1, 2), 1: (3, 2)})
    assert step(both_on_one, RIGHT, LEFT) == ([0, 0], False, False)


@pytest.mark.parametrize("name", ALL)
def test_episodes_are_truncated_at_their_limits(name: str) -> None:
    game = GridGame(replace(GAMES[name], limit=min(GAMES[name].limit, 40)), 3, seed=5)
    game.item_cells[:] = (
        0  # Two tiles in one cell cannot end an episode when agents stand elsewhere.
    )
    actions = np.full((3, game.agents), DOWN)
    for number in range(1, game.game.limit + 1):
        _, terminated, truncated = game.step(actions)
        assert truncated.tolist() == [number == game.game.limit] * 3
        assert not terminated.any()
    game.reset(np.array([False, True, False]))
    assert game.steps.tolist() == [game.game.limit, 0, game.game.limit]
    assert {x: GAMES[x].limit for x in ("coopnav", "coin", "stag-hunt", "markov-stag-hunt")} == {
        "coopnav": 20, "coin": 10, "stag-hunt": 32, "markov-stag-hunt": 1000,
    }  # fmt: skip


def test_success_in_the_last_step_terminates_and_does_not_truncate() -> None:
    game = placed("coopnav", [(1, 1), (3, 2)], {0: (1, 2), 1: (3, 2)})
    game.steps[:] = 19
    assert step(game, RIGHT, STAY) == ([1, 1], True, False)


def test_the_stag_of_markov_stag_hunt_moves_before_the_agents_to_the_nearest() -> None:
    game = placed("markov-stag-hunt", [(0, 2), (4, 4)], {0: (3, 2), 1: (4, 0), 2: (4, 1)})
    # Agent 1 is nearer in Euclidean distance (sqrt 5 compared with 3); the stag may move along either axis.
    seen = set()
    for seed in range(20):
        other = copy.deepcopy(game)
        other.key = GridGame(game.game, 1, seed).key
        step(other, UP, DOWN)
        seen.add(divmod(int(other.item_cells[0, 0]), 5))
    assert seen == {(4, 2), (3, 3)}
    game = placed("markov-stag-hunt", [(2, 0), (2, 4)], {0: (2, 2), 1: (4, 0), 2: (4, 1)})
    step(game, UP, UP)
    assert divmod(int(game.item_cells[0, 0]), 5) == (2, 3), "agent 1 if both are equally near"
    game = placed("markov-stag-hunt", [(2, 1), (4, 4)], {0: (2, 2), 1: (0, 0), 2: (0, 1)})
    assert step(game, UP, LEFT)[0] == [0, 0], "the stag went where the agent was"
    assert divmod(int(game.item_cells[0, 0]), 5) == (2, 1)


def test_markov_stag_hunt_rewards_captures_maulings_and_plants() -> None:
    game = placed("markov-stag-hunt", [(2, 0), (4, 3)], {0: (2, 1), 1: (4, 4), 2: (0, 4)})
    assert step(game, LEFT, RIGHT)[0] == [-5, 1], "mauled at the wall; a plant"
    assert game.taken[0].tolist() == [False, True, False]
    assert divmod(int(game.item_cells[0, 0]), 5) == (2, 0), "the stag stays after a mauling"
    assert game.item_cells[0, 1] != 24, "the plant is elsewhere, its old cell excluded"
    assert len({*game.cells[0].tolist()}) == 4
    game = placed("markov-stag-hunt", [(0, 1), (1, 0)], {0: (0, 2), 1: (4, 4), 2: (0, 0)})
    game.item_cells[0, 0] = 1  # On agent 0 it moves at random.
    game.agent_cells[0] = [0, 0]
    assert step(game, LEFT, UP)[0] == [5, 5], "a plant under the stag pays nothing"
    assert game.taken[0].tolist() == [True, False, False]
    assert game.item_cells[0, 0] not in (0, 24)
    assert game.available.all()


def test_items_reappear_in_every_free_cell_equally_often() -> None:
    game = GridGame("markov-stag-hunt", 6000)
    game.cells[:] = [0, 0, 1, 24, 12]
    game.agent_cells[:] = [0, 0]
    game.step(np.full((6000, 2), LEFT))
    assert game.taken[:, 0].all()
    counts = np.bincount(game.item_cells[:, 0], minlength=25)
    free = [x for x in range(25) if x not in (0, 12, 24)]
    assert counts[[0, 12, 24]].sum() == 0
    assert (abs(counts[free] / 6000 - 1 / 22) < 0.012).all()
    game.cells[:] = [0, 24, 12, 0, 4]
    game.step(np.tile([LEFT, RIGHT], (6000, 1)))
    assert game.taken.tolist() == [[False, True, False]] * 6000
    occupied = game.cells[:, [0, 1, 2, 4]]
    assert (game.cells[:, 3:4] != occupied).all(), "neither on agents nor on other items"


def test_invalid_actions_are_refused() -> None:
    for name, bad in (("markov-stag-hunt", STAY), ("coin", 5), ("coin", -1)):
        with pytest.raises(ValueError, match="actions are from"):
            GridGame(name, 1).step(np.array([[bad, RIGHT]]))
    with pytest.raises(ValueError, match="expected"):
        GridGame("coin", 2).step(np.array([[1, 1]]))
    with pytest.raises(ValueError, match="got 1 seeds for 2"):
        GridGame("coin", 2).reset(seeds=[1])


@pytest.mark.parametrize("name", ALL)
def test_a_seed_decides_an_episode_whatever_the_batch(name: str) -> None:
    rng = np.random.default_rng(0)
    many, one = GridGame(name, 5, seed=10), GridGame(name, 1, seed=0)
    one.reset(seeds=[12])
    low = many.game.first_action
    for number in range(25):
        assert np.array_equal(many.graph()[2], one.graph()[0])
        assert np.array_equal(many.goals[2], one.goals[0])
        actions = rng.integers(low, 5, (5, many.agents))
        ours, theirs = many.step(actions), one.step(actions[2:3])
        assert all(np.array_equal(x[2], y[0]) for x, y in zip(ours, theirs, strict=True))
        if number == 9:
            many.reset(np.array([True, False, False, False, True]), [3, 4])
        if number == 14:  # Also for the episodes that follow.
            many.reset(np.arange(5) == 2)
            one.reset()


@pytest.mark.parametrize("name", ALL)
def test_initial_cells_are_distinct_and_differ_between_seeds(name: str) -> None:
    game = GridGame(name, 300, seed=0)
    assert all(len({*row.tolist()}) == game.nodes for row in game.cells)
    assert len({row.tobytes() for row in game.cells}) > 200
    before = game.cells.copy()
    game.reset()
    assert (game.cells != before).any(1).mean() > 0.9
    if game.game.kind == MARKOV:
        assert (game.cells[:, :3] == [0, 4, 12]).all(), "two corners and the middle"
    else:
        counts = np.bincount(game.cells.ravel(), minlength=game.game.side**2)
        assert counts.min() > 0.4 * counts.mean()


def test_goals_are_uniform_permutations_of_the_colours() -> None:
    goals = GridGame("coin", 3000).goals
    assert (np.sort(goals, 1) == [0, 1, 2]).all()
    kinds, counts = np.unique(goals @ (9, 3, 1), return_counts=True)
    assert len(kinds) == 6
    assert (abs(counts / 3000 - 1 / 6) < 0.03).all()


def test_a_copy_continues_as_its_original() -> None:
    game = GridGame("stag-hunt-4p", 4)
    other = copy.deepcopy(game)
    for action in (UP, LEFT, DOWN):
        game.step(np.full((4, 4), action))
        other.step(np.full((4, 4), action))
    assert np.array_equal(game.graph(), other.graph())


def test_features_of_nodes_by_hand() -> None:
    game = placed(QUIET, [(1, 1), (0, 5), (5, 0), (5, 5)], {0: (2, 2), 2: (1, 2)})
    nodes = game.graph()
    assert nodes.shape == (1, 12, 12)
    assert nodes.dtype == np.float32
    assert nodes[0, 1] == pytest.approx([0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    assert nodes[0, 4] == pytest.approx([0.4, 0.4, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0]), "a stag"
    assert nodes[0, 6] == pytest.approx([0.2, 0.4, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0]), "an apple"
    step(game, RIGHT, STAY, UP, DOWN)
    nodes = game.graph()
    assert nodes[0, 0] == pytest.approx([0.2, 0.4, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    assert nodes[0, 1] == pytest.approx([0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    assert nodes[0, 2, 7:].tolist() == [0, 1, 0, 0, 0]
    assert nodes[0, 6] == pytest.approx([0.2, 0.4, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]), "taken"
    sizes = {"coopnav": 11, "coin": 13, "stag-hunt": 12, "markov-stag-hunt": 12}
    assert {name: GridGame(name, 1).graph().shape[-1] for name in sizes} == sizes


def test_an_observer_sees_its_own_goal_only() -> None:
    game = GridGame("coin", 1)
    game.goals[0] = (2, 0, 1)
    assert game.graph(observer=0)[0, 0, 13:].tolist() == [0, 0, 1]
    assert game.graph(observer=1)[0, 1, 13:].tolist() == [1, 0, 0]
    for observer in (0, 1):
        goals = np.delete(game.graph(observer)[0, :, 13:], observer, 0)
        assert not goals.any()
        assert np.array_equal(game.graph(observer)[..., :13], game.graph())
    hidden = game.graph(), game.graph(observer=0)
    game.goals[0] = (2, 1, 0)
    assert np.array_equal(game.graph(), hidden[0])
    assert np.array_equal(game.graph(observer=0), hidden[1])


def pairs(senders: NDArray[np.int64], receivers: NDArray[np.int64]) -> list[tuple[int, int]]:
    return list(zip(senders.tolist(), receivers.tolist(), strict=True))


def test_edges_by_hand() -> None:
    game = GridGame("coopnav", 2)
    senders, receivers, features = game.edges()
    assert senders.dtype == receivers.dtype == np.int64
    assert pairs(senders, receivers) == [(1, 0), (0, 1), (2, 0), (3, 0), (2, 1), (3, 1)]
    assert features.tolist() == [[1], [1], [0], [0], [0], [0]]
    senders, receivers, features = game.edges(agent_to_static=True)
    assert pairs(senders, receivers)[6:] == [(0, 2), (1, 2), (0, 3), (1, 3)]
    assert features[6:].tolist() == [[0]] * 4
    counts = {"coin": 26, "stag-hunt": 18, "stag-hunt-4p": 44, "stag-hunt-4p-full": 72}
    assert {name: len(GridGame(name, 1).edges()[0]) for name in counts} == counts
