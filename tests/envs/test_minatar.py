"""The package minatar: its ids are tasks, whose episodes depend on their seeds alone."""

import pickle
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlbench.backbones.encoders import make_encoder
from rlbench.benchmarks.commands import watch as film
from rlbench.envs.making import MINATAR
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError

GAMES = {"Asterix": 4, "Breakout": 4, "Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}
"""Games and their kinds of objects."""


@pytest.fixture(autouse=True)
def _has_the_package(request: pytest.FixtureRequest) -> None:
    if "without" not in request.node.name:
        pytest.importorskip("minatar")


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("game", GAMES)
def test_minatar_ids_are_tasks(game: str, version: int) -> None:
    task = find_task(f"MinAtar/{game}-v{version}")
    env = pickle.loads(pickle.dumps(task.make))()
    assert env.observation_space == gym.spaces.Box(0, 1, (10, 10, GAMES[game]), np.uint8)
    assert env.reset(seed=0)[0] in env.observation_space
    obs, reward, terminated, truncated, _ = env.step(env.action_space.n - 1)
    assert obs in env.observation_space
    assert obs.any()
    assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]
    assert env.action_space.n == 6 or version == 1
    assert (task.make_vector, task.training, task.held_out) == (None, None, None)


@pytest.mark.parametrize("game", GAMES)
def test_steps_equal_those_of_the_package(game: str) -> None:
    ours = find_task(f"MinAtar/{game}-v1").make()
    theirs = gym.make(f"MinAtar/{game}-v1", disable_env_checker=True)
    rng = np.random.default_rng(0)
    assert np.array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for _ in range(200):
        action = rng.integers(0, 3)
        obs, *mine, _ = ours.step(action)
        expected, *his, _ = theirs.step(action)
        assert np.array_equal(obs, expected)
        assert mine == his
        if mine[1]:
            break


@pytest.mark.parametrize("game", GAMES)
def test_an_episode_is_repeated_by_its_seed_whatever_came_before(game: str) -> None:
    env: Any = find_task(f"MinAtar/{game}-v1").make()
    for seed in range(20):  # A tenth of the first actions is replaced by the one before.
        env.unwrapped.game.last_action = 1
        first = played(env, seed)
        env.unwrapped.game.last_action = 3
        assert np.array_equal(first, played(env, seed))


def played(env: gym.Env[Any, Any], seed: int) -> Any:
    frames = [env.reset(seed=seed)[0]]
    for _ in range(20):
        obs, _, over, _, _ = env.step(0)
        frames.append(obs)
        if over:
            break
    return np.stack(frames)


@pytest.mark.parametrize("game", GAMES)
def test_every_object_has_its_colour_in_a_film(game: str) -> None:
    env, draw = film._drawing(find_task(f"MinAtar/{game}-v1"), 40)
    obs, _ = env.reset(seed=0)
    picture = draw()
    assert picture.shape == (40, 40, 3)
    assert picture.dtype == np.uint8
    cells = picture[::4, ::4]
    assert np.array_equal(cells.any(axis=-1), obs.any(axis=-1)), "only empty cells are black"
    env._obs = np.eye(GAMES[game], dtype=np.uint8)[None]
    assert len(np.unique(env.render()[0], axis=0)) == GAMES[game]
    env._obs[..., -1] = 1
    assert len(np.unique(env.render()[0], axis=0)) == 1, "the last object is on top"


@pytest.mark.parametrize("channels", sorted(set(GAMES.values())))
@pytest.mark.parametrize("name", ["flatten", "grid"])
def test_encoders_accept_minatar_observations(name: str, channels: int) -> None:
    assert make_encoder(name, (10, 10, channels)).size > 0


def test_a_mistyped_id_gets_suggestions() -> None:
    with pytest.raises(UserError, match="did you mean MinAtar/Breakout-v"):
        find_task("MinAtar/Brekout-v1")


def test_ids_that_gymnasium_did_not_find_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {k: v for k, v in gym.registry.items() if not k.startswith(MINATAR)}
    monkeypatch.setattr(gym.envs.registration, "registry", known)
    monkeypatch.setattr(gym, "registry", known)
    find_task("MinAtar/Breakout-v1").make().reset(seed=0)


def test_without_the_package_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[minatar\]'") as error:
        find_task("MinAtar/Breakout-v1")
    assert "\n" not in str(error.value)
