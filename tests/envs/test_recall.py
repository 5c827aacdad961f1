"""Recall: what an episode shows, which answers are rewarded, and that environments do not affect each other."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rlbench.envs.recall.engine import Recall, RecallVector, episode
from rlbench.envs.recall.names import SHOWN, lines, parse
from rlbench.envs.tasks import find_task, task_names
from rlbench.errors import UserError

Array = NDArray[Any]


def key(obs: Array) -> int | None:
    return int(obs[:8].argmax()) if obs[:8].any() else None


def value(obs: Array) -> int | None:
    return int(obs[8:12].argmax()) if obs[8:12].any() else None


def played(env: Recall, seed: int, *, remembers: bool) -> float:
    """Return of a policy that remembers all pairs, or that answers 0."""
    pairs: dict[int | None, int | None] = {}
    obs, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        if not obs[12]:
            pairs[key(obs)] = value(obs)
        answer = pairs.get(key(obs)) if remembers else 0
        obs, reward, over, _, _ = env.step(answer or 0)
        total += reward
    return total


@pytest.mark.parametrize(("pairs", "distractors"), [(1, 10), (3, 0), (4, 7), (8, 2)])
def test_remembering_earns_1_and_not_remembering_a_quarter(pairs: int, distractors: int) -> None:
    env = Recall(pairs, distractors)
    assert [played(env, seed, remembers=True) for seed in range(20)] == pytest.approx([1.0] * 20)
    without = [played(env, seed, remembers=False) for seed in range(400)]
    assert np.mean(without) == pytest.approx(0.25, abs=float(4 * np.std(without) / 20))
    assert min(without) < 0.25 < max(without)


def test_what_an_episode_shows() -> None:
    orders, shown_keys = set(), set()
    for seed in range(50):
        shown, answers = episode(3, 5, seed)
        assert shown.shape == (12, 13)
        keys = [key(obs) for obs in shown]
        values = [value(obs) for obs in shown]
        assert len(set(keys[:3])) == 3
        assert None not in keys[:3]
        assert None not in values[:8]
        assert keys[3:8] == [None] * 5
        assert sorted(map(str, keys[8:11])) == sorted(map(str, keys[:3]))
        assert values[8:] == [None] * 4
        assert shown[:, 12].tolist() == [0] * 8 + [1] * 3 + [0]
        assert not shown[-1].any()
        asked = [keys[:3].index(k) for k in keys[8:11]]
        assert answers.tolist() == [-1] * 8 + [values[i] for i in asked] + [-1]
        orders.add(tuple(asked))
        shown_keys.update(keys[:3])
    assert len(orders) == 6
    assert len(shown_keys) == 8


def test_a_vector_is_many_single_environments() -> None:
    """Also where only some begin a new episode."""
    one = RecallVector(2, 3, 5)
    many = SyncVectorEnv([lambda: Recall(2, 3)] * 5, autoreset_mode=AutoresetMode.DISABLED)
    seeds: list[int | None] = [3, 1, 4, 1, 5]
    drawn = np.random.default_rng(0)
    for got, wanted in zip(one.reset(seed=seeds), many.reset(seed=seeds), strict=True):
        assert np.array_equal(got, wanted) if isinstance(got, np.ndarray) else not got
    for step in range(30):
        actions = drawn.integers(4, size=5)
        mine, theirs = one.step(actions), many.step(actions)
        for got, wanted in zip(mine[:4], theirs[:4], strict=True):
            assert np.array_equal(got, wanted)
        if (mask := mine[2]).any():
            options = {"reset_mask": mask}
            seeds = [step + v for v in range(5)]
            mine_obs, _ = one.reset(seed=seeds, options=options)
            assert np.array_equal(mine_obs, many.reset(seed=seeds, options=options)[0])


def test_environments_are_at_different_steps() -> None:
    vector = RecallVector(1, 2, 2)
    vector.reset(seed=[0, 1])
    vector.step(np.zeros(2, int))
    obs, _ = vector.reset(seed=[7, 7], options={"reset_mask": np.array([True, False])})
    assert np.array_equal(obs[0], episode(1, 2, 7)[0][0])
    assert np.array_equal(obs[1], episode(1, 2, 1)[0][1])
    ends = [vector.step(np.zeros(2, int))[2].tolist() for _ in range(5)]
    assert ends == [[False, False], [False, False], [False, True], [True, True], [True, True]]


def test_it_is_a_gymnasium_environment() -> None:
    check_env(Recall(2, 1), skip_render_check=True)


def test_names() -> None:
    assert parse("recall-8-1000") == (8, 1000)
    for name in (
        "recall-0-3",
        "recall-9-3",
        "recall-1-1001",
        "recall-1",
        "recall-1-x",
        "coin",
        "recall-01-2",
        "recall-1-02",
    ):
        assert parse(name) is None
    assert {*SHOWN} <= {*task_names()}
    assert lines()[0] == "recall-1-10    1 pair, 10 distractors"
    task = find_task("recall-4-6")
    assert isinstance(task.make(), Recall)
    assert task.make_vector is not None
    assert task.make_vector(3).num_envs == 3
    with pytest.raises(UserError, match=r"'recall-9-9' is not a task; .*K pairs, 1 to 8, and D"):
        find_task("recall-9-9")
