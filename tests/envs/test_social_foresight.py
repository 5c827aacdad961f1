"""What games offer to agents that predict others: own node first, oracles, views of tasks, predictions in pictures."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlbench.agents.bc import BC, BCConfig
from rlbench.agents.rfm import RFM, RFMConfig
from rlbench.benchmarks.training.loading import task_of
from rlbench.entities import Entities, Layout
from rlbench.envs.social.engine import DOWN, LEFT, RIGHT, STAY, UP, GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.picture import AGENTS, TILE, draw
from rlbench.envs.social.single import SingleAgentVector, SingleAgentView
from rlbench.envs.social.views import foretold, observe
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from tests.envs.test_social import QUIET, placed

ALL = list(GAMES)


def test_features_of_a_node_do_not_overlap() -> None:
    plain = Layout(2, (4, 4, 4))
    assert plain.features == plain.next_action.start == plain.last_action.stop == 13
    goals = replace(plain, goals=True)
    assert (goals.goal, goals.features) == (slice(13, 16), 16)
    assert (replace(goals, oracle=True).next_action, replace(goals, oracle=True).features) == (
        slice(16, 21),
        21,
    )
    assert replace(plain, oracle=True).features == 18
    assert Entities(plain) != Entities(replace(plain, oracle=True))


def test_an_agent_sees_itself_first_and_the_others_in_cyclic_order() -> None:
    game = placed(QUIET, [(0, 0), (1, 0), (2, 0), (3, 0)], {0: (5, 5)})
    seen = observe(game, "graph", [1])[0, 0]
    assert seen[:4, 0] == pytest.approx([0.2, 0.4, 0.6, 0.0])
    assert np.array_equal(seen[4:], game.graph()[0, 4:]), "items stay in their order"
    coin = GridGame("coin", 1)
    coin.goals[0] = (2, 0, 1)
    for agent, goal in ((0, [0, 0, 1]), (1, [1, 0, 0])):
        nodes = observe(coin, "graph", [agent])[0, 0]
        assert nodes[0, 13:].tolist() == goal
        assert not nodes[1:, 13:].any()


def test_foretold_actions_are_at_the_nodes_of_partners() -> None:
    game = GridGame("stag-hunt-4p", 2)
    nodes = observe(game, "graph", [0])[:, 0]
    both = foretold(nodes, np.array([[STAY, UP, RIGHT], [DOWN, DOWN, LEFT]]))
    assert np.array_equal(both[..., :12], nodes)
    assert both[:, 1:4, 12:].argmax(-1).tolist() == [[0, 1, 4], [2, 2, 3]]
    assert (both[:, 1:4, 12:].sum(-1) == 1).all()
    assert not both[:, [0, *range(4, 12)], 12:].any()


@pytest.mark.parametrize("name", ALL)
def test_an_oracle_shows_what_partners_do(name: str) -> None:
    task = find_task(name).views["oracle"]
    vector: Any = pickle.loads(pickle.dumps(task.make_vector))(4)
    plain: Any = SingleAgentVector(name, 4, obs_mode="graph")
    space = vector.single_observation_space
    assert space.layout.oracle
    obs, _ = vector.reset(seed=3)
    plain.reset(seed=3)
    rng, agents, features = np.random.default_rng(0), GAMES[name].agents, space.layout.features
    for number in range(12):
        assert all(space.contains(x) for x in obs)
        shown = obs[:, 1:agents, features - 5 :].argmax(-1)
        actions = rng.integers(GAMES[name].first_action, 5, 4)
        obs, *rest, _ = vector.step(actions)
        seen, *other, _ = plain.step(actions)
        assert np.array_equal(vector.game.last[:, 1:], shown)
        assert np.array_equal(obs[..., : features - 5], seen), "nothing else differs"
        assert all(np.array_equal(x, y) for x, y in zip(rest, other, strict=True))
        if number == 5:
            mask = np.array([True, False, True, False])
            seeds = [9, 0, 8, 0]
            obs, _ = vector.reset(seed=seeds, options={"reset_mask": mask})
            plain.reset(seed=seeds, options={"reset_mask": mask})


def test_partners_choose_once_per_state() -> None:
    calls, drawn = [], np.random.default_rng(0)

    def partners(game: GridGame) -> Any:
        calls.append(game.steps[0])
        return drawn.integers(5, size=(game.num_envs, game.agents))

    env = SingleAgentView("stag-hunt", partners, obs_mode="oracle")
    obs, _ = env.reset(seed=0)
    for _ in range(9):
        shown = obs[1, 12:].argmax()
        obs, *_ = env.step(STAY)
        assert env.game.last[0, 1] == shown
    assert len(calls) == 1 + 10, "once to see that they play the game"


@pytest.mark.parametrize("name", ALL)
def test_tasks_of_games_have_views(name: str) -> None:
    task = find_task(name)
    assert {*task.views} == {"graph", "oracle"}
    for view, other in task.views.items():
        space = other.make().observation_space
        assert isinstance(space, Entities)
        assert space.layout.oracle == (view == "oracle")
        assert (other.name, other.solved_above) == (task.name, task.solved_above)


def test_a_task_is_seen_in_the_view_that_its_learner_needs() -> None:
    task = find_task("coin")
    assert task_of("coin", BC, BCConfig()).make.keywords == task.make.keywords  # type: ignore[attr-defined]
    for kind, view in (("rfm", "graph"), ("oracle", "oracle"), ("none", "graph")):
        found = task_of("coin", RFM, RFMConfig(predictor=kind))  # type: ignore[arg-type]
        space = found.make().observation_space
        assert isinstance(space, Entities)
        assert space.layout.oracle == (view == "oracle")
    with pytest.raises(UserError, match="the kind 'graph', which CartPole-v1 does not have"):
        task_of("CartPole-v1", RFM, RFMConfig())


def changed(game: GridGame, probabilities: list[list[float]]) -> dict[tuple[int, int], Any]:
    """The cells in which a picture with predictions differs from one without, with their pictures."""
    with_them, without = draw(game, predictions=np.array(probabilities)), draw(game)
    side, cells = game.game.side, {}
    for row in range(side):
        for column in range(side):
            place = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            if (with_them[place] != without[place]).any():
                cells[row, column] = with_them[place]
    return cells


def test_predicted_moves_are_drawn_where_they_lead() -> None:
    game = placed("stag-hunt", [(7, 7), (3, 4)], {})
    around = {UP: (2, 4), DOWN: (4, 4), LEFT: (3, 3), RIGHT: (3, 5), STAY: (3, 4)}
    for action, cell in around.items():
        sure = np.eye(5)[action].tolist()
        assert [*changed(game, [sure])] == [cell]
    cells = changed(game, [[0.1, 0.6, 0.3, 0.0, 0.0]])
    assert {*cells} == {(2, 4), (4, 4), (3, 4)}
    middle = np.s_[5, 12 + 5]  # Middle of the second quarter.
    floor = np.array([245, 245, 245])
    for cell, share in (((2, 4), 0.6), ((4, 4), 0.3)):
        wanted = (1 - share) * floor + share * np.array(AGENTS[1])
        assert cells[cell][middle] == pytest.approx(wanted, abs=1)
    corner = placed("stag-hunt", [(7, 7), (0, 0)], {})
    assert [*changed(corner, [[0.0, 0.5, 0.0, 0.5, 0.0]])] == [(0, 0)], "edges leave it in place"


def test_up_to_six_agents_can_be_drawn() -> None:
    game = GridGame("stag-hunt-6p", 1)
    game.agent_cells[0] = 0
    picture = draw(game)[:TILE, :TILE]
    seen = {tuple(x) for x in picture.reshape(-1, 3).tolist()}
    assert {*AGENTS} <= seen, "each in its own part of the cell"
    assert {*changed(game, np.full((5, 5), 0.2).tolist())} == {(0, 0), (0, 1), (1, 0)}


def test_a_view_draws_the_predictions_that_it_was_given() -> None:
    env = SingleAgentView("coin", render_mode="rgb_array")
    env.reset(seed=0)
    plain: Any = env.render()
    env.predictions = np.full((1, 5), 0.2)
    shown: Any = env.render()
    assert np.array_equal(shown, draw(env.game, predictions=env.predictions))
    assert not np.array_equal(shown, plain)
