"""Interfaces of multi-agent games: scripted policies, one learner, PettingZoo, observations, pictures."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.social import parallel
from rlbench.envs.social.engine import DOWN, LEFT, RIGHT, STAY, UP, GridGame
from rlbench.envs.social.names import GAMES, MARKOV
from rlbench.envs.social.parallel import SocialParallelEnv
from rlbench.envs.social.picture import AGENTS, ITEMS, draw, in_words
from rlbench.envs.social.scripted import KINDS, PARTNERS, TEAMS, Scripted
from rlbench.envs.social.single import SingleAgentVector, SingleAgentView
from rlbench.envs.social.views import MODES, observation_space, observe, planes, vectors
from rlbench.envs.tasks import find_task, task_names
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.benchmarks.test_rollouts import Counts, Settings, rollouts
from tests.envs.test_social import QUIET, placed, step

ALL = list(GAMES)


def chosen(name: str, game: GridGame, **options: Any) -> list[int]:
    actions: list[int] = Scripted(name, **options)(game)[0].tolist()
    return actions


def test_agents_walk_along_the_longer_axis_and_vertically_at_ties() -> None:
    game = placed("coin", [(4, 4), (4, 4)], {0: (2, 5)})
    game.goals[0] = (0, 1, 2)
    for target, action in (
        ((2, 5), UP), ((5, 2), LEFT), ((5, 7), RIGHT), ((7, 3), DOWN), ((3, 3), UP), ((5, 5), DOWN), ((4, 4), STAY),
    ):  # fmt: skip
        game.item_cells[0, 0] = target[0] * 8 + target[1]
        assert chosen("own-colour", game) == [action, STAY], "agent 1 has no coin of its colour"


def test_hidden_ties_are_drawn_for_each_agent_and_episode() -> None:
    game = GridGame("coopnav", 200)
    game.cells[:] = [0, 6, 3 * 7 + 3, 3 * 7 + 3]
    policy = Scripted("assignment", hidden_ties=True)
    actions = policy(game)
    assert 0.35 < (actions[:, 0] == DOWN).mean() < 0.65
    assert (actions[:, 0] == np.where(actions[:, 0] == DOWN, DOWN, RIGHT)).all()
    assert (actions[:, 1] == np.where(actions[:, 1] == DOWN, DOWN, LEFT)).all()
    assert 0.3 < ((actions[:, 0] == DOWN) == (actions[:, 1] == DOWN)).mean() < 0.7
    game.steps += 1
    assert np.array_equal(policy(game), actions), "the same during an episode"


def test_agents_take_the_tiles_with_the_smaller_sum_of_distances() -> None:
    game = placed("coopnav", [(0, 0), (0, 6)], {0: (0, 5), 1: (0, 1)})
    assert chosen("assignment", game) == [RIGHT, LEFT], "crossed: 1 + 1 instead of 5 + 5"
    game = placed("coopnav", [(0, 0), (0, 6)], {0: (0, 1), 1: (0, 5)})
    assert chosen("assignment", game) == [RIGHT, LEFT]


def test_agents_take_the_nearest_coin_of_their_own_colour() -> None:
    game = placed("coin", [(4, 4), (0, 0)], {0: (4, 7), 1: (4, 2), 4: (3, 4), 8: (1, 0)})
    game.goals[0] = (0, 2, 1)
    assert chosen("own-colour", game) == [LEFT, DOWN]
    game.available[0, 1] = False
    assert chosen("own-colour", game) == [RIGHT, DOWN]


def test_hunters_compare_a_stag_for_two_with_an_apple() -> None:
    # The stag is at distances 3 and 4, the nearest apple at 1: 5 / 5 > 1 / 2.
    game = placed("stag-hunt", [(3, 0), (0, 4)], {0: (3, 3), 2: (2, 0), 3: (0, 7)})
    assert chosen("hunt", game) == [RIGHT, DOWN]
    # With the apple at 0, both are worth 1: the agents go to apples.
    game.item_cells[0, 3] = 4
    assert chosen("hunt", game) == [UP, STAY]
    game.available[0, 2:] = False
    assert chosen("hunt", game) == [RIGHT, DOWN]
    game.available[0] = False
    assert chosen("hunt", game) == [STAY, STAY]
    game = placed(QUIET, [(0, 0), (5, 5), (0, 3), (2, 2)], {0: (0, 2), 1: (5, 4), 4: (5, 0)})
    # Stag 0 has agents at distances 1, 2 and 2: agent 2 hunts and, of the two at the same distance, agent 0.
    assert chosen("hunt", game) == [RIGHT, LEFT, LEFT, DOWN]
    assert chosen("apples", game) == [DOWN, LEFT, DOWN, DOWN]


def test_a_waiting_agent_goes_to_one_stag_and_stays() -> None:
    game = GridGame("stag-hunt", 300)
    game.cells[:, :4] = [9, 9, 8, 10]
    policy = Scripted("wait")
    first = policy(game)
    assert {*first.ravel().tolist()} == {LEFT, RIGHT}
    assert 0.4 < (first == LEFT).mean() < 0.6
    assert 0.35 < (first[:, 0] == first[:, 1]).mean() < 0.65, "each agent draws its own"
    game.step(first)
    assert (policy(game) == STAY).all()
    game.available[:, :2] = False
    assert (policy(game) == STAY).all()


def test_the_share_of_random_actions() -> None:
    game = GridGame("stag-hunt", 4000)
    plain, noisy = Scripted("stay")(game), Scripted("stay", epsilon=0.5)(game)
    assert not plain.any()
    counts = np.bincount(noisy.ravel(), minlength=5) / noisy.size
    assert counts == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1], abs=0.02)
    counts = np.bincount(Scripted("random")(game).ravel(), minlength=5) / noisy.size
    assert counts == pytest.approx([0.2] * 5, abs=0.02)
    moving = Scripted("hunt", epsilon=0.5)(GridGame("markov-stag-hunt", 400))
    assert {*moving.ravel().tolist()} == {UP, DOWN, LEFT, RIGHT}


def test_a_policy_refuses_other_games() -> None:
    for name, kinds in KINDS.items():
        for game in map(GridGame, ALL, [1] * len(ALL)):
            if game.game.kind in kinds:
                assert Scripted(name)(game).min() >= game.game.first_action
            else:
                with pytest.raises(ValueError, match="does not play"):
                    Scripted(name)(game)
    with pytest.raises(ValueError, match="no policy 'sleep'"):
        Scripted("sleep")


@pytest.mark.parametrize(("name", "least"), [("coopnav", 0.95), ("coin", 3), ("stag-hunt-4p", 15)])
def test_scripted_teams_play_well(name: str, least: float) -> None:
    game = GridGame(name, 100)
    policy = Scripted(TEAMS[game.game.kind], epsilon=0.05)
    total, running = np.zeros(100), np.ones(100, bool)
    for _ in range(game.game.limit):
        reward, terminated, truncated = game.step(policy(game))
        total += reward[:, 0] * running
        running &= ~(terminated | truncated)
    assert total.mean() > least


def test_the_vector_of_an_agent_by_hand() -> None:
    game = placed("coin", [(0, 0), (2, 7)], {0: (7, 7), 1: (1, 0)})
    game.item_cells[0, [2, 3]] = [7, 7 * 8]
    game.goals[0] = (1, 2, 0)
    step(game, STAY, LEFT)
    seen = vectors(game, [0, 1])[0]
    assert seen.shape == (2, 2 + 7 + 36 + 3)
    assert seen[0, :9] == pytest.approx([0, 0, 2 / 7, 6 / 7, 0, 0, 0, 1, 0])
    # The first colour by distance: (1, 0), then the corners in the order of their numbers, then (7, 7).
    assert seen[0, 9:21] == pytest.approx([1 / 7, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1])
    assert seen[0, -3:].tolist() == [0, 1, 0]
    assert seen[1, :9] == pytest.approx([2 / 7, 6 / 7, -2 / 7, -6 / 7, 1, 0, 0, 0, 0])
    assert seen[1, -3:].tolist() == [0, 0, 1]


def test_other_agents_follow_in_cyclic_order() -> None:
    game = placed(QUIET, [(0, 0), (1, 0), (2, 0), (3, 0)], {})
    rows = vectors(game, [2])[0, 0, 2:23:7]
    assert rows == pytest.approx([0.2, -0.4, -0.2])


def test_planes_by_hand() -> None:
    game = placed("coin", [(0, 0), (2, 7)], {0: (7, 7), 5: (1, 0), 9: (3, 3)})
    game.item_cells[0, [1, 2, 3, 4, 6, 7, 8, 10, 11]] = 63 - 8
    game.goals[0] = (1, 2, 0)
    seen = planes(game, [0, 1])
    assert seen.shape == (1, 2, 8, 8, 9)
    assert seen.dtype == np.uint8
    where = [np.argwhere(seen[0, 0, :, :, c]).tolist() for c in range(6)]
    assert where == [[[0, 0]], [[2, 7]], [[7, 7]], [[1, 0]], [[3, 3]], [[6, 7]]]
    assert np.array_equal(seen[0, 0, 0, 0, 6:], [0, 1, 0])
    assert seen[0, 1, :, :, 8].all()
    assert seen[0, 1, 2, 7].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("mode", MODES)
def test_no_observation_shows_what_others_know(mode: str) -> None:
    game = GridGame("coin", 1)
    game.goals[0] = (0, 1, 2)
    before = observe(game, mode, [0])
    game.goals[0] = (0, 2, 1)
    assert np.array_equal(observe(game, mode, [0]), before)
    game.goals[0] = (1, 0, 2)
    assert not np.array_equal(observe(game, mode, [0]), before)
    with pytest.raises(ValueError, match="no observations 'sound'"):
        observation_space(game, "sound")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
def test_gymnasiums_environment_checker_passes(name: str, mode: str) -> None:
    check_env(SingleAgentView(name, obs_mode=mode, render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.parametrize("name", ALL)
def test_a_reset_by_seed_and_the_same_actions_give_the_same_episode(name: str) -> None:
    task = find_task(name)
    env, again = task.make(), pickle.loads(pickle.dumps(task.make))()
    env.reset(seed=3)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]
    for action in actions[:8]:
        env.step(action)  # Earlier episodes must not matter.
    first, _ = env.reset(seed=7)
    other, _ = again.reset(seed=7)
    assert np.array_equal(first, other)
    for action in actions:
        ours, theirs = env.step(action), again.step(action)
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
        assert env.observation_space.contains(ours[0])
    assert not np.array_equal(env.reset(seed=8)[0], first) or GAMES[name].kind == MARKOV
    unseeded = [x.reset(seed=7) and x.reset()[0] for x in (env, again)]
    assert np.array_equal(*unseeded), "resets without a seed follow from the last seed"


@pytest.mark.parametrize("name", ["coin", "stag-hunt-4p", "markov-stag-hunt"])
def test_a_vector_equals_single_environments_and_the_engine(name: str) -> None:
    task = find_task(name)
    assert task.make_vector is not None
    vector: Any = task.make_vector(3)
    single, game = task.make(), GridGame(name, 1)
    obs, _ = vector.reset(seed=[5, 6, 7])
    assert np.array_equal(obs[1], single.reset(seed=6)[0])
    game.reset(seeds=[6])
    partner, rng = Scripted(PARTNERS[game.game.kind]), np.random.default_rng(0)
    for number in range(GAMES[name].limit if name != "markov-stag-hunt" else 40):
        actions = rng.integers(game.game.first_action, 5, 3)
        many, one = vector.step(actions), single.step(actions[1])
        everyone = partner(game)
        everyone[0, 0] = actions[1]
        reward, _, truncated = game.step(everyone)
        assert np.array_equal(many[0][1], one[0])
        assert np.array_equal(one[0], vectors(game, [0])[0, 0])
        assert (many[1][1], many[3][1]) == (one[1], one[3]) == (reward[0, 0], truncated[0])
        if number == 4:
            mask = np.array([True, False, False])
            restarted, _ = vector.reset(seed=[6, 0, 0], options={"reset_mask": mask})
            assert np.array_equal(restarted[0], obs[1])
            assert np.array_equal(restarted[1:], many[0][1:])


@pytest.mark.parametrize("before", [1, 2, 5])
@pytest.mark.parametrize("name", ["coin", "stag-hunt"])
def test_a_resume_in_the_middle_of_episodes_changes_nothing(name: str, before: int) -> None:
    task = find_task(name)

    def make() -> tuple[RolloutDriver, Counts]:
        agent = Counts(Settings(rollout_steps=7), Spec.of(task.make()))
        return RolloutDriver(agent, task, seed=0), agent

    driver, agent = make()
    rollouts(driver, agent, before)
    again, other = make()
    other.load_state_dict(agent.state_dict())
    again.load_state_dict(driver.state_dict())
    for mine, theirs in zip(rollouts(driver, agent, 6), rollouts(again, other, 6), strict=True):
        for column in ("obs", "action", "reward", "terminated", "truncated", "final_obs"):
            assert torch.equal(getattr(mine, column), getattr(theirs, column)), column


def test_partners_are_chosen_by_name_or_as_a_function() -> None:
    def up(game: GridGame) -> Any:
        return np.full_like(game.agent_cells, UP)

    for partners, moves in (("stay", False), (up, True)):
        env = SingleAgentView("stag-hunt", partners=partners)
        env.reset(seed=0)
        before = int(env.game.agent_cells[0, 1])
        env.step(STAY)
        assert (int(env.game.agent_cells[0, 1]) == before - 8) == moves
        assert env.game.last[0].tolist() == [STAY, UP if moves else STAY]
    with pytest.raises(ValueError, match="does not play"):
        SingleAgentView("coin", partners="hunt")


@pytest.mark.parametrize(
    ("seed", "mask", "words"),
    [([1], None, "got 1 seeds for 2"), (None, np.array([1, 0]), "reset_mask is int64")],
)
def test_a_reset_that_does_not_fit_is_reported(seed: Any, mask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SingleAgentVector("coin", 2).reset(seed=seed, options={"reset_mask": mask})


def test_names_of_games_are_tasks() -> None:
    assert {*ALL} <= {*task_names()}
    assert find_task("coopnav").solved_above == 0
    assert find_task("coin").solved_above is None
    with pytest.raises(UserError, match="did you mean stag-hunt"):
        find_task("stag-hunt-3p")
    assert find_task("markov-stag-hunt").make().action_space.start == 1  # type: ignore[attr-defined]


def test_text_and_picture_show_agents_and_items() -> None:
    game = placed("coopnav", [(0, 0), (1, 1)], {0: (1, 1), 1: (6, 6)})
    game.available[0, 1] = False
    rows = in_words(game).splitlines()
    assert rows[1] == "| 0" + " " * 19 + "|"
    assert rows[2] == "|   T1" + " " * 16 + "|"
    assert rows[7] == "|" + " " * 18 + "t  |"
    picture = draw(game)
    assert picture.shape == (168, 168, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[5, 5]) == AGENTS[0]
    assert tuple(picture[24 + 5, 24 + 17]) == AGENTS[1], "in its own quarter of the cell"
    assert tuple(picture[24 + 17, 24 + 5]) == ITEMS[0]
    assert tuple(picture[6 * 24 + 4, 6 * 24 + 12]) == ITEMS[0], "hollow"
    assert tuple(picture[6 * 24 + 12, 6 * 24 + 12]) != ITEMS[0]
    coin = GridGame("coin", 1)
    coin.goals[0] = (2, 0, 1)
    assert in_words(coin).endswith("agent 0 knows Z, agent 1 knows X")
    view = SingleAgentView("coin", render_mode="ansi")
    view.reset(seed=0)
    assert view.render() == in_words(view.game)
    assert SingleAgentView("coin").render() is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["coopnav", "coin", "stag-hunt-4p", "markov-stag-hunt"])
def test_pettingzoos_api_test_passes(
    name: str, mode: str, recwarn: pytest.WarningsRecorder
) -> None:
    parallel_api_test = pytest.importorskip("pettingzoo.test").parallel_api_test
    recwarn.clear()
    parallel_api_test(SocialParallelEnv(name, obs_mode=mode), num_cycles=1000)
    assert not recwarn.list


@pytest.mark.parametrize("name", ALL)
def test_the_parallel_environment_equals_the_engine_step_for_step(name: str) -> None:
    pytest.importorskip("pettingzoo")
    env, game = SocialParallelEnv(name, render_mode="rgb_array"), GridGame(name, 1)
    rng, team = np.random.default_rng(0), Scripted(TEAMS[game.game.kind], epsilon=0.3)
    for seed in (4, 5):
        obs, infos = env.reset(seed=seed)
        game.reset(seeds=[seed])
        assert infos == {agent: {} for agent in env.possible_agents}
        for _ in range(200):
            seen = vectors(game, range(game.agents))[0]
            for index, agent in enumerate(env.possible_agents):
                assert np.array_equal(obs[agent], seen[index])
                assert env.observation_space(agent).contains(obs[agent])
            assert np.array_equal(env.state()[: game.graph().size], game.graph().ravel())
            assert env.state_space.contains(env.state())
            actions = team(game)
            named = dict(zip(env.agents, actions[0].tolist(), strict=True))
            shuffled = {agent: named[agent] for agent in rng.permutation(env.agents).tolist()}
            obs, rewards, ends, cuts, _ = env.step(shuffled)
            reward, terminated, truncated = game.step(actions)
            assert [rewards[agent] for agent in env.possible_agents] == reward[0].tolist()
            assert {*ends.values()} == {bool(terminated[0])}
            assert {*cuts.values()} == {bool(truncated[0])}
            if terminated[0] or truncated[0]:
                assert env.agents == []
                assert env.step({}) == ({}, {}, {}, {}, {})
                break
            assert env.agents == env.possible_agents
        picture: Any = env.render()
        assert np.array_equal(picture, draw(game))


def test_a_missing_package_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_ParallelEnv", object)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[pettingzoo\]'"):
        SocialParallelEnv("coin")
