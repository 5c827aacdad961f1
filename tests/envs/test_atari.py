"""Atari's games: names, preprocessing, and pools that have one episode each."""

import pickle
import sys
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.atari import names as atari_names, pool as atari
from rlbench.envs.atari.pool import AtariEnv
from rlbench.envs.episodes import step_limit
from rlbench.envs.pool import EnvPoolEnv, EpisodePools, make_pool
from rlbench.envs.tasks import Task, find_task, task_names
from rlbench.errors import UserError
from rlbench.interface import Action, Spec, State
from tests.benchmarks.test_rollouts import Counts, Settings, rollouts
from tests.fake_envpool import FakePool

SPACES = FakePool.observation_space, FakePool.action_space


def can_play() -> bool:
    try:
        make_pool("Pong-v5", {}, [0], "atari")
    except UserError:
        return False
    return True


needs_atari = pytest.mark.skipif(not can_play(), reason="needs envpool")


def pools(count: int) -> EpisodePools:
    return EpisodePools(FakePool, count, SPACES)


def test_every_game_has_a_name_with_hyphens() -> None:
    assert len(atari_names.GAMES) == len(set(atari_names.GAMES)) == 104
    for game, name in zip(atari_names.GAMES, atari_names.names(), strict=True):
        assert atari_names.parse(name) == game
        assert "_" not in name
    assert set(atari_names.names()) <= set(task_names())
    for name in ("pong", "atari-", "atari-ms_pacman", "atari-Pong", "atari-atari-pong", ""):
        assert atari_names.parse(name) is None
    with pytest.raises(UserError, match="did you mean atari-breakout"):
        find_task("atari-brekout")


def test_the_list_names_every_game_in_short_lines() -> None:
    lines = atari_names.lines()
    assert max(map(len, lines)) <= 98
    listed = " ".join(lines).removeprefix("atari-{").removesuffix("}").split(", ")
    assert [f"atari-{name}" for name in listed] == atari_names.names()


def test_training_clips_rewards_and_evaluation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def fake(env_id: str, options: dict[str, Any], seeds: Any, extra: str) -> FakePool:
        made.append(options)
        assert (env_id, extra) == ("MsPacman-v5", "atari")
        return FakePool(seeds)

    monkeypatch.setattr(atari, "make_pool", fake)
    monkeypatch.setattr(atari, "spaces", lambda game: SPACES)
    task = pickle.loads(pickle.dumps(find_task("atari-ms-pacman")))
    assert task.training.name == task.name == "atari-ms-pacman"
    assert task.training.training is None
    for way, clipped in ((task, False), (task.training, True)):
        made.clear()
        way.make()
        way.make_vector(2)
        assert not made, "the pool is left to the first reset"
        AtariEnv("ms_pacman", clipped=clipped)._vector._make_pool([1])
        way.make_vector(2)._make_pool([1])
        assert [options["reward_clip"] for options in made] == [clipped] * 2
        assert way.make()._vector._make_pool.keywords == {"extra": "atari"}
        way.make()._vector._make_pool([1])
        assert made[-1]["reward_clip"] == clipped


def test_the_preprocessing_is_the_standard_one() -> None:
    options = atari_names.options(clipped=False)
    assert options["repeat_action_probability"] == 0.25
    assert options["full_action_space"]
    assert not options["episodic_life"]
    assert not options["use_fire_reset"]
    assert options["frame_skip"] * options["max_episode_steps"] == 108_000
    assert (options["stack_num"], options["img_height"], options["img_width"]) == (4, 84, 84)


def test_an_environment_names_its_limit_and_draws_the_latest_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(atari, "spaces", lambda game: SPACES)
    env = AtariEnv("pong", clipped=False)
    assert step_limit(env) == 27_000
    assert (env.render_mode, env.metadata["render_fps"]) == ("rgb_array", 15)
    env._obs = np.arange(4 * 84 * 84, dtype=np.int64).astype(np.uint8).reshape(4, 84, 84)
    picture = env.render()
    assert picture.shape == (84, 84, 3)
    for colour in range(3):
        assert np.array_equal(picture[..., colour], env._obs[3])


def test_without_envpool_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    atari.spaces.cache_clear()
    task = find_task("atari-pong")
    assert task.make_vector is not None
    for make in (task.make, lambda: task.make_vector(2)):
        with pytest.raises(UserError, match=r"pip install 'rlbench\[atari\]'") as error:
            make()
        assert "\n" not in str(error.value)


def test_the_seed_of_each_episode_decides_it() -> None:
    env = pools(3)
    first, info = env.reset(seed=[30, 31, 32])
    env.step(np.zeros(3))
    assert (first.tolist(), info) == ([[30, 0, 0], [31, 0, 0], [32, 0, 0]], {})
    obs, reward, terminated, truncated, _ = env.step(np.array([1, 2, 3]))
    assert obs.tolist() == [[30, 0, 2], [31, 0, 2], [32, 0, 2]]
    assert reward.tolist() == [1, 2, 3]
    assert terminated.tolist() == [True, False, False]
    assert truncated.tolist() == [False, False, False]
    last = obs
    obs, _ = env.reset(seed=[7, 8, 9], options={"reset_mask": terminated})
    assert obs.tolist() == [[7, 0, 0], [31, 0, 2], [32, 0, 2]]
    assert last[0].tolist() == [30, 0, 2], "what was returned stays"
    obs, _, terminated, truncated, _ = env.step(np.zeros(3))
    assert obs.tolist() == [[7, 0, 1], [31, 0, 3], [32, 0, 3]]
    assert (terminated.tolist(), truncated.tolist()) == ([False, True, False], [False] * 3)


def test_seeds_count_up_and_streams_continue_without_a_seed() -> None:
    assert pools(2).reset()[0].tolist() == [[0, 0, 0], [1, 0, 0]]
    env = pools(2)
    assert env.reset(seed=5)[0].tolist() == [[5, 0, 0], [6, 0, 0]]
    assert env.reset()[0].tolist() == [[5, 1, 0], [6, 1, 0]]


def test_a_step_after_the_end_of_an_episode_is_refused() -> None:
    env = pools(2)
    env.reset(seed=30)
    env.step(np.zeros(2))
    assert env.step(np.zeros(2))[2].tolist() == [True, False]
    with pytest.raises(ValueError, match=r"environments \[0\] are over"):
        env.step(np.zeros(2))


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_at_most_as_many_pools_work_as_pytorch_may_use_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most = 0, 0

    class Counted(FakePool):
        def send(self, actions: Any) -> None:
            nonlocal waiting, most
            super().send(actions)
            waiting += 1
            most = max(most, waiting)

        def recv(self) -> tuple[Any, ...]:
            nonlocal waiting
            waiting -= 1
            return super().recv()

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    env = EpisodePools(Counted, 5, SPACES)
    env.reset(seed=30)
    obs, reward, *_ = env.step(np.arange(5))
    assert obs.tolist() == [[30 + v, 0, 1] for v in range(5)]
    assert reward.tolist() == [0, 1, 2, 3, 4]
    assert most == min(threads, 5)


def test_known_spaces_defer_the_pool_to_the_first_reset() -> None:
    made = []

    def make(seeds: Any) -> FakePool:
        made.append(list(seeds))
        return FakePool(seeds)

    env = EnvPoolEnv(make, spaces=SPACES)
    assert env.observation_space == FakePool.observation_space
    assert made == []
    assert env.reset()[0].tolist() == [0, 0, 0]
    assert env.reset(seed=4)[0].tolist() == [4, 0, 0]
    assert env.reset()[0].tolist() == [4, 1, 0]
    assert made == [[0], [4]]


@needs_atari
def test_the_games_are_those_of_the_package() -> None:
    from envpool.atari.registration import atari_game_list

    assert list(atari_names.GAMES) == atari_game_list


@needs_atari
@pytest.mark.slow
@pytest.mark.parametrize("clipped", [False, True])
def test_an_episode_is_repeated_by_its_seed_with_its_sticky_actions(clipped: bool) -> None:
    env = AtariEnv("breakout", clipped=clipped)
    vector = atari.make_vector("breakout", 2, clipped=clipped)
    actions = np.random.default_rng(0).integers(0, 18, (60, 2))
    episodes = [played(env, seed, actions[:, 0]) for seed in (1, 2, 1)]
    assert np.array_equal(episodes[0], episodes[2])
    assert not np.array_equal(episodes[0], episodes[1])
    frames = [vector.reset(seed=[1, 2])[0]] + [vector.step(both)[0] for both in actions]
    assert np.array_equal([both[0] for both in frames], episodes[0])


def played(env: gym.Env[Any, Any], seed: int, actions: Any) -> Any:
    return np.stack([env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)])


@needs_atari
@pytest.mark.slow
@pytest.mark.parametrize(("game", "sign"), [("space_invaders", 1), ("skiing", -1)])
def test_clipped_rewards_are_the_signs_of_the_raw_ones(game: str, sign: int) -> None:
    raw, clipped = (AtariEnv(game, clipped=x) for x in (False, True))
    assert isinstance(raw.action_space, gym.spaces.Discrete)
    rng, found = np.random.default_rng(0), set()
    for env in (raw, clipped):
        env.reset(seed=0)
    for _ in range(200):
        action = rng.integers(0, raw.action_space.n)
        reward, part = (env.step(action)[1] for env in (raw, clipped))
        assert part == np.sign(reward)
        found.add(sign * reward)
    assert max(found) > 1


@needs_atari
@pytest.mark.slow
def test_the_time_limit_is_not_a_termination() -> None:
    options = {**atari_names.options(clipped=False), "max_episode_steps": 5}
    env = EnvPoolEnv(lambda seeds: make_pool("Pong-v5", options, seeds, "atari"))
    env.reset(seed=0)
    for step in range(1, 6):
        _, _, terminated, truncated, _ = env.step(0)
        assert (terminated, truncated) == (False, step == 5)


@needs_atari
@pytest.mark.slow
def test_the_steps_of_an_episode_affect_the_next_one_in_the_same_pool() -> None:
    # This is why each episode has a new pool.
    options = atari_names.options(clipped=False)
    seen = []
    for steps in (5, 5, 6):
        env = EnvPoolEnv(lambda seeds: make_pool("Breakout-v5", options, seeds, "atari"))
        played(env, 0, [0] * steps)
        env.reset()
        seen.append(np.stack([env.step(2 + t % 4)[0] for t in range(60)]))
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


@needs_atari
@pytest.mark.slow
@pytest.mark.parametrize("name", atari_names.names())
def test_every_game_can_be_played(name: str) -> None:
    env = find_task(name).make()
    assert env.observation_space == gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    actions = 9 if name in ("atari-lost-luggage", "atari-skiing") else 18
    assert env.action_space == gym.spaces.Discrete(actions)
    assert env.reset(seed=0)[0] in env.observation_space
    assert env.step(actions - 1)[0] in env.observation_space


@needs_atari
@pytest.mark.slow
def test_a_game_is_resumed_in_the_middle_of_episodes() -> None:
    driver, agent = driven("atari-breakout")
    rollouts(driver, agent, 6)
    state = driver.state_dict()
    again, other = driven("atari-breakout")
    other.load_state_dict(agent.state_dict())
    again.load_state_dict(state)
    assert state["episode"].any()
    for mine, theirs in zip(rollouts(driver, agent, 2), rollouts(again, other, 2), strict=True):
        for column in ("obs", "final_obs", "reward", "terminated", "truncated"):
            assert torch.equal(getattr(mine, column), getattr(theirs, column)), column


class Wanders(Counts):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        assert obs.dtype == torch.uint8
        action = torch.randint(18, (len(obs),), generator=self.act_generator)
        chosen = super().act(obs.float(), explore=explore, state=state)
        return replace(chosen, action=action)


def driven(name: str) -> tuple[RolloutDriver, Counts]:
    task: Task = find_task(name)
    agent = Wanders(Settings(envs=3, rollout_steps=75), Spec.of(task.make()))
    return RolloutDriver(agent, task, seed=0), agent
