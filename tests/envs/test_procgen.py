"""Procgen's games: names, levels, and what the adapter makes of EnvPool's episode ends."""

import pickle
import sys
import types
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.pool import EnvPoolEnv, EnvPoolVector
from rlbench.envs.procgen import names as procgen_names, pool as procgen
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.interface import Action, Spec, State
from tests.benchmarks.test_rollouts import Counts, Settings, rollouts
from tests.fake_envpool import FakePool


def can_play(env_id: str) -> bool:
    try:
        procgen.make_pool(env_id, {}, [0])
    except UserError:
        return False
    return True


needs_envpool = pytest.mark.skipif(not can_play("CartPole-v1"), reason="needs envpool")
needs_procgen = pytest.mark.skipif(not can_play("CoinrunEasy-v0"), reason="needs envpool and Qt 5")


def test_there_are_sixteen_games_in_four_forms() -> None:
    assert len(procgen_names.names()) == 64
    for name in procgen_names.names():
        assert str(procgen_names.parse(name)) == name
    for name in ("coinrun-easy", "coinrun-held-out-hard", "Coinrun", "-hard", ""):
        assert procgen_names.parse(name) is None


def test_a_game_is_a_task_with_held_out_levels() -> None:
    task = find_task("coinrun-hard")
    assert task.name == "coinrun-hard"
    assert task.held_out is not None
    assert task.held_out.name == "coinrun-hard-held-out"
    assert task.held_out.held_out is None
    assert task.solved_above == task.held_out.solved_above == 0
    assert find_task("bigfish").solved_above is None, "it pays for every fish"
    assert find_task("dodgeball").make_vector is None, "its episodes depend on those before"
    assert pickle.loads(pickle.dumps(task)).name == task.name, "workers make it too"


@pytest.mark.parametrize("game", procgen_names.GAMES)
def test_levels_for_training_and_held_out_ones_are_disjoint(game: str) -> None:
    # EnvPool draws from start_level to start_level + num_levels - 1.
    for hard in (False, True):
        train, held_out = (
            procgen_names.ProcgenName(game, hard, held).options for held in (False, True)
        )
        assert (train["start_level"], train["num_levels"]) == (0, 500)
        assert (held_out["start_level"], held_out["num_levels"]) == (500, 100_000)


def test_only_coinrun_paints_its_velocity() -> None:
    painted = {
        game for game in procgen_names.GAMES
        if "paint_vel_info" in procgen_names.ProcgenName(game).options
    }  # fmt: skip
    assert painted == {"coinrun"}


def test_the_last_observation_of_an_episode_is_its_own() -> None:
    # Lengths are 2 + seed % 3 in the first episode: 2, 3 and 4 steps; the last one is cut.
    env = EnvPoolVector(FakePool, 3)
    obs, _ = env.reset(seed=[30, 31, 32])
    assert obs.tolist() == [[30, 0, 0], [31, 0, 0], [32, 0, 0]]
    env.step(np.array([1, 1, 1]))
    obs, reward, terminated, truncated, _ = env.step(np.array([1, 2, 3]))
    assert obs.tolist() == [[30, 0, 2], [31, 0, 2], [32, 0, 2]]
    assert reward.tolist() == [1, 2, 3]
    assert terminated.tolist() == [True, False, False]
    assert truncated.tolist() == [False, False, False]


def test_a_masked_reset_begins_only_where_the_mask_is() -> None:
    env = EnvPoolVector(FakePool, 3)
    env.reset(seed=[30, 31, 32])
    for _ in range(2):
        last = env.step(np.zeros(3))[0]
    obs, _ = env.reset(seed=[7, 8, 9], options={"reset_mask": np.array([True, False, False])})
    assert obs.tolist() == [[30, 1, 0], [31, 0, 2], [32, 0, 2]]
    assert last.tolist() == [[30, 0, 2], [31, 0, 2], [32, 0, 2]], "what was returned stays"
    obs, reward, terminated, truncated, _ = env.step(np.array([3, 2, 1]))
    assert obs.tolist() == [[30, 1, 1], [31, 0, 3], [32, 0, 3]], "no step is swallowed"
    assert reward.tolist() == [3, 2, 1]
    assert terminated.tolist() == [False, True, False]
    env.reset(options={"reset_mask": terminated | truncated})
    obs, _, terminated, truncated, _ = env.step(np.zeros(3))
    assert obs.tolist() == [[30, 1, 2], [31, 1, 1], [32, 0, 4]]
    assert terminated.tolist() == [False, False, False]
    assert truncated.tolist() == [False, False, True]


def test_a_step_after_the_end_is_refused() -> None:
    env = EnvPoolVector(FakePool, 2)
    env.reset(seed=30)
    env.step(np.zeros(2))
    assert env.step(np.zeros(2))[2].tolist() == [True, False]
    with pytest.raises(ValueError, match=r"environments \[0\] are over"):
        env.step(np.zeros(2))


def test_one_seed_counts_up_as_in_gymnasium() -> None:
    env = EnvPoolVector(FakePool, 3)
    assert env.reset(seed=5)[0][:, 0].tolist() == [5, 6, 7]
    assert env.reset()[0].tolist() == [[5, 1, 0], [6, 1, 0], [7, 1, 0]], "the streams go on"


def test_the_vector_has_the_spaces_and_the_mode_of_a_vector() -> None:
    env = EnvPoolVector(FakePool, 3)
    assert env.num_envs == 3
    assert env.single_observation_space == FakePool.observation_space
    assert env.observation_space.shape == (3, 3)
    assert env.action_space.shape == (3,)
    assert env.metadata["autoreset_mode"] == AutoresetMode.DISABLED


def test_a_single_environment_repeats_an_episode_by_its_seed() -> None:
    env = EnvPoolEnv(FakePool)
    for _ in range(2):
        obs, _ = env.reset(seed=30)
        assert obs.tolist() == [30, 0, 0]
        assert env.step(3)[:4][1:] == (3.0, False, False)
        obs, reward, terminated, truncated, _ = env.step(1)
        assert (obs.tolist(), reward, terminated, truncated) == ([30, 0, 2], 1.0, True, False)
    assert env.reset()[0].tolist() == [30, 1, 0]


def test_only_pictures_are_drawn() -> None:
    class Pictures(FakePool):
        observation_space: Any = gym.spaces.Box(0, 255, (3, 1, 2), np.uint8)

        def _obs(self) -> Any:
            return np.stack([self.at + x for x in range(6)], -1).reshape(-1, 3, 1, 2)

    env = EnvPoolEnv(Pictures)
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    env.step(0)
    assert np.array(env.render()).tolist() == [[[1, 3, 5], [2, 4, 6]]]
    assert EnvPoolEnv(FakePool).render_mode is None
    assert EnvPoolEnv(FakePool).render() is None


def test_without_envpool_a_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[procgen\]'") as error:
        find_task("coinrun").make()
    assert "\n" not in str(error.value)


def test_without_qt_a_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # EnvPool 1.2.5 raises its own ImportError from that of the loader.
    missing = "libQt5Core.so.5: cannot open shared object file: No such file or directory"

    def make_gymnasium(env_id: str, **options: Any) -> None:
        raise ImportError("EnvPool Procgen requires ... Install ...") from ImportError(missing)

    fake = types.SimpleNamespace(make_gymnasium=make_gymnasium)
    monkeypatch.setitem(sys.modules, "envpool", fake)
    make_vector = find_task("coinrun").make_vector
    assert make_vector is not None
    with pytest.raises(UserError, match=r"libQt5Core\.so\.5.*apt-get install .*libqt5gui5"):
        make_vector(2)


@needs_envpool
def test_transitions_of_a_real_pool_are_those_of_cartpole() -> None:
    # EnvPool keeps float64 states and shows float32 ones, hence the tolerance.
    env = EnvPoolVector(partial(procgen.make_pool, "CartPole-v1", {}), 4)
    physics: Any = gym.make("CartPole-v1").unwrapped
    rng, ended = np.random.default_rng(0), 0
    obs, _ = env.reset(seed=0)
    for _ in range(300):
        actions = rng.integers(0, 2, 4)
        next_obs, reward, terminated, truncated, _ = env.step(actions)
        for v in range(4):
            physics.reset()
            physics.state = tuple(obs[v].astype(np.float64))
            expected, _, ends, _, _ = physics.step(actions[v])
            np.testing.assert_allclose(next_obs[v], expected, atol=1e-5)
            assert terminated[v] == ends
        assert reward.tolist() == [1.0] * 4
        assert not truncated.any()
        obs, over = next_obs, terminated
        ended += over.sum()
        if over.any():
            obs, _ = env.reset(options={"reset_mask": over})
            assert (np.abs(obs[over]) <= 0.05).all(), "CartPole begins there"
            assert np.array_equal(obs[~over], next_obs[~over])
    assert ended > 30


@needs_envpool
def test_the_time_limit_of_a_real_pool_is_no_termination() -> None:
    env = EnvPoolVector(partial(procgen.make_pool, "CartPole-v1", {}), 2)
    obs, _ = env.reset(seed=0)
    for step in range(1, 501):
        leaning = obs[:, 2] + 0.5 * obs[:, 3] > 0
        obs, _, terminated, truncated, _ = env.step(leaning.astype(np.int64))
        assert not terminated.any()
        assert truncated.tolist() == [step == 500] * 2


@needs_procgen
@pytest.mark.parametrize("game", ["coinrun", "coinrun-hard", "bigfish"])
def test_training_never_sees_a_held_out_level(game: str) -> None:
    task = find_task(game)
    assert task.held_out is not None
    train, held_out = levels_seen(task), levels_seen(task.held_out)
    assert len(train) > 50
    assert len(held_out) > 50
    assert train <= set(range(500))
    assert held_out <= set(range(500, 100_500))


def levels_seen(task: Task, steps: int = 100, count: int = 32) -> set[int]:
    assert task.make_vector is not None
    env, rng, seen = task.make_vector(count), np.random.default_rng(0), set[int]()
    env.reset(seed=0)
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(rng.integers(0, 15, count))
        seen.update(info["level_seed"].tolist())
        over = terminated | truncated | (rng.random(count) < 0.02)  # Most episodes take longer.
        if over.any():
            env.reset(options={"reset_mask": over})
    return seen


@needs_procgen
def test_a_game_ends_with_its_own_last_frame_and_its_time_limit_is_no_termination() -> None:
    # In Leaper the player who does nothing (action 4) waits for the limit of 500 steps.
    make_vector = find_task("leaper").make_vector
    assert make_vector is not None
    env = make_vector(2)
    first, info = env.reset(seed=1)
    levels = info["level_seed"].tolist()
    for step in range(1, 501):
        last, reward, terminated, truncated, info = env.step(np.full(2, 4))
        assert info["level_seed"].tolist() == levels
        assert not reward.any()
        assert not terminated.any()
        assert truncated.tolist() == [step == 500] * 2
    after, info = env.reset(options={"reset_mask": np.array([False, True])})
    assert np.array_equal(after[0], last[0])
    assert info["env_id"].tolist() == [1]
    assert info["level_seed"].tolist() != levels[1:]
    # The frame of another level differs nearly everywhere, the last one hardly from the first.
    assert np.mean(first[1] != last[1]) < 0.5 < np.mean(first[1] != after[1])


@needs_procgen
def test_a_game_repeats_an_episode_by_its_seed() -> None:
    env = find_task("coinrun").make()
    assert env.observation_space == gym.spaces.Box(0, 255, (3, 64, 64), np.uint8)
    assert env.action_space == gym.spaces.Discrete(15)
    actions = np.random.default_rng(0).integers(0, 15, 50)
    episodes = []
    for seed in (1, 2, 1):
        frames = [env.reset(seed=seed)[0]]
        frames += [env.step(action)[0] for action in actions]
        episodes.append(np.stack(frames))
    assert np.array_equal(episodes[0], episodes[2])
    assert not np.array_equal(episodes[0], episodes[1])


@needs_procgen
@pytest.mark.parametrize("name", procgen_names.names())
def test_every_game_can_be_played(name: str) -> None:
    env = find_task(name).make()
    assert env.reset(seed=0)[0].dtype == np.uint8
    assert env.step(0)[0].shape == (3, 64, 64)


@needs_procgen
@pytest.mark.parametrize("game", procgen_names.GAMES)
def test_only_dodgeball_carries_anything_into_the_next_episode(game: str) -> None:
    # Fifteen environments of one seed part ways, and must be equal from the reset on.
    name = procgen_names.ProcgenName(game)
    env, rng, equal = procgen.make_vector(name, 15), np.random.default_rng(0), True
    for seed in range(4):
        env.reset(seed=[seed] * 15)
        frames(env, [rng.permutation(15) for _ in range(5)])
        equal &= all(
            (obs == obs[0]).all()
            for obs in frames(env, [np.full(15, action) for action in (4, 4, 9, 7, 1, 5, 5)])
        )
    assert equal == (game not in procgen_names.CARRIES_OVER)


def frames(env: EnvPoolVector, actions: list[Any]) -> list[Any]:
    """Observations of new episodes, until the first of them is over."""
    seen = [env.reset()[0]]
    for action in actions:
        obs, _, terminated, truncated, _ = env.step(action)
        seen.append(obs)
        if (terminated | truncated).any():
            break
    return seen


@needs_procgen
@pytest.mark.slow
@pytest.mark.parametrize("game", procgen_names.GAMES)
def test_a_game_is_resumed_in_the_middle_of_episodes(game: str) -> None:
    driver, agent = driven(game)
    rollouts(driver, agent, 15)  # Above the time limit of all games in which nobody dies.
    state = driver.state_dict()
    again, other = driven(game)
    other.load_state_dict(agent.state_dict())
    again.load_state_dict(state)
    assert state["episode"].any()
    for mine, theirs in zip(rollouts(driver, agent, 2), rollouts(again, other, 2), strict=True):
        for column in ("obs", "final_obs", "reward", "terminated", "truncated"):
            assert torch.equal(getattr(mine, column), getattr(theirs, column)), column


class Wanders(Counts):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        action = torch.randint(15, (len(obs),), generator=self.act_generator)
        return replace(super().act(obs, explore=explore, state=state), action=action)


def driven(game: str) -> tuple[RolloutDriver, Counts]:
    task = find_task(game)
    agent = Wanders(Settings(envs=4, rollout_steps=75), Spec.of(task.make()))
    return RolloutDriver(agent, task, seed=0), agent
