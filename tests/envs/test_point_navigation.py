"""The point task: its steps by hand, its controllers' scores, its data."""

import numpy as np
import pytest

from rlbench.envs.episodes import make_envs, play
from rlbench.envs.point_navigation import GOAL, PointNavigation
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import data_info, get_data, open_data
from rlbench.offline_data.recording import mixtures as recipes
from rlbench.offline_data.recording.behaviour import Controlled
from rlbench.offline_data.recording.mixtures import Controller
from tests.data_files import columns_of


def test_a_step_by_hand() -> None:
    env = PointNavigation()
    start, _ = env.reset(seed=0)
    drift = 0.01 * np.random.default_rng(0).standard_normal(2)
    env.np_random = np.random.default_rng(0)
    obs, reward, terminated, truncated, _ = env.step(np.array([1.0, -3.0], np.float32))
    np.testing.assert_allclose(obs, start + np.array([0.15, -0.15]) + drift, atol=1e-6)
    assert reward == pytest.approx(-np.hypot(*(obs - 0.8)) / np.sqrt(2), abs=1e-6)
    assert not terminated
    assert not truncated


def test_the_point_stays_in_the_box_and_episodes_are_cut_after_30_steps() -> None:
    env = find_task("point-mixed").make()
    obs, _ = env.reset(seed=1)
    assert (obs >= -1).all()
    assert (obs <= 0).all()
    for step in range(30):
        obs, _, terminated, truncated, _ = env.step(np.array([-1, -1], np.float32))
        assert env.observation_space.contains(obs)
        assert (terminated, truncated) == (False, step == 29)
    np.testing.assert_allclose(obs, -1.2, atol=0.05)


def test_uniform_actions_score_0_and_the_controller_100() -> None:
    task, rng = find_task("point-random"), np.random.default_rng(0)
    env = make_envs(task.make, 50)
    random = play(env, range(100), lambda obs, e, t: rng.uniform(-1, 1, (50, 2)))
    expert = play(env, range(100), lambda obs, e, t: np.clip(6 * (GOAL - obs), -1, 1))
    # Standard errors of 100 episodes: 2.3 and 0.5.
    assert task.score(random.mean()) == pytest.approx(0, abs=7)
    assert task.score(expert.mean()) == pytest.approx(100, abs=1.5)


def test_a_picture_shows_point_and_goal() -> None:
    env = PointNavigation(render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (128, 128, 3)
    green, blue = (np.argwhere((picture == c).all(2)).mean(0) for c in ((60, 170, 90), (40, 90, 200)))  # fmt: skip
    assert green[0] < 64 < green[1]  # right and up
    assert blue[0] > 64 > blue[1]  # left and down


def test_a_controller_by_hand() -> None:
    behaviour = Controlled(Controller(gain=2.0, noise=0.1))
    obs, noise = np.array([[0.7, -1.0]], np.float32), np.array([[-1.0, 0.0]], np.float32)
    np.testing.assert_allclose(behaviour.act(obs, noise), [[0.1, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("level", "score"), [("random", 0), ("mixed", -8), ("medium", 71), ("expert", 99.6)]
)
def test_data_sets_score_as_their_behaviours(level: str, score: float) -> None:
    data = open_data(find_task(f"point-{level}"), size=3000, jobs=1)
    details = data.provenance.details
    assert details["score"] == pytest.approx(score, abs=6)
    assert data.provenance.kind == "generated"
    assert columns_of(data)["terminated"].sum() == 0
    assert columns_of(data)["truncated"].sum() == details["episodes"] == 100


def test_mixed_data_hold_their_shares() -> None:
    data = open_data(find_task("point-mixed"), size=3000, jobs=1)
    score = find_task("point-mixed").score
    expert, wrong, random = data.episode_returns[:20], data.episode_returns[20:70], data.episode_returns[70:]  # fmt: skip
    assert (score(expert.min()) or 0) > 70
    assert score(wrong.mean()) == pytest.approx(-56, abs=3)
    assert score(random.mean()) == pytest.approx(0, abs=15)
    assert [part.share for part in recipes.POINT["mixed"]] == [0.2, 0.5, 0.3]


def test_d4rl_has_no_such_data() -> None:
    with pytest.raises(UserError, match="D4RL published no data set point-mixed; `rlbench data m"):
        get_data("point-mixed", lambda done, total: None)
    with pytest.raises(UserError, match="D4RL published no data set point-mixed; leave --data out"):
        open_data(find_task("point-mixed"), "d4rl")
    assert data_info("point-mixed")["d4rl"] is None
