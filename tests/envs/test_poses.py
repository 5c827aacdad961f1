"""Robots as points: poses within their limits, splits, and following a demonstration."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlbench.envs.examples import find_source
from rlbench.envs.examples._base import SPLITS
from rlbench.envs.examples.frames_mujoco import FAMILIES
from rlbench.envs.poses import names
from rlbench.envs.poses.body import TORSOS, Body
from rlbench.envs.poses.follow import (
    CHANGE,
    DISTANCE,
    STEPS,
    Follow,
    FollowVector,
    demonstration,
)
from rlbench.envs.tasks import find_task, task_names
from rlbench.errors import UserError
from rlbench.packed import Packed
from rlbench.poses import aligned_errors, normalised


@pytest.mark.parametrize(
    ("family", "points", "joints"),
    [("humanoid", 16, 17), ("ant", 13, 8), ("halfcheetah", 10, 6), ("hopper", 5, 3), ("walker2d", 9, 6), ("swimmer", 4, 2)],
)  # fmt: skip
def test_points_of_random_poses(family: str, points: int, joints: int) -> None:
    body = Body(family)
    angles = body.random(np.random.default_rng(0), 300)
    low, high = body.limits
    assert angles.shape == (300, joints)
    assert ((angles > low) & (angles < high)).all()
    share = (angles - low) / (high - low)
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.var() == pytest.approx(1 / 20, rel=0.2)  # Of Beta(2, 2).
    found = body.points(angles)
    assert found.shape == (300, points, 3)
    assert found.dtype == np.float32
    torso = len(TORSOS[family])
    np.testing.assert_allclose(found[:, :torso].mean(1), 0, atol=1e-6)
    # Points that the joints move, and poses that differ.
    assert (np.ptp(found[:, torso:], axis=0).max(-1) > 0.02).sum() >= points - torso - 3
    assert {*TORSOS} == {*FAMILIES} == {*names.FAMILIES}


def test_the_humanoids_points_by_name() -> None:
    body = Body("humanoid")
    model = body.model
    assert [model.body(x).name for x in body.others] == [
        "torso", "lwaist", "pelvis", "right_shin", "left_shin", "right_lower_arm", "left_lower_arm",
    ]  # fmt: skip
    assert {model.geom(x).name for x in body.ends} == {
        "head", "right_foot", "left_foot", "right_hand", "left_hand",
    }  # fmt: skip
    straight = body.points(np.zeros((1, 17)))[0]
    # Of the torso: 0.34 m from shoulder to shoulder, 0.2 m from hip to hip, and the shoulders higher.
    np.testing.assert_allclose(straight[0] - straight[1], (0, -0.34, 0), atol=1e-3)
    np.testing.assert_allclose(straight[2] - straight[3], (0, -0.2, 0), atol=1e-3)
    assert straight[0, 2] - straight[2, 2] > 0.4


def test_bones_keep_their_lengths() -> None:
    body = Body("humanoid")
    found = body.points(body.random(np.random.default_rng(0), 50))
    shoulder, elbow, hand = found[:, 0], found[:, 9], found[:, 14]  # The right ones.
    arm = np.linalg.norm(shoulder - elbow, axis=-1)
    np.testing.assert_allclose(arm, arm[0], rtol=1e-5)
    assert np.ptp(np.linalg.norm(shoulder - hand, axis=-1)) > 0.1


def test_the_source_has_splits_and_seeds_that_share_nothing() -> None:
    factory = find_source("poses:ant")
    assert factory is not None
    source = factory()
    rows = {}
    for seed in (0, 1):
        for split in SPLITS:
            columns = source.sample(split, 20, seed)
            assert {k: x.shape[1:] for k, x in columns.items()} == {k: x.shape for k, x in source.fields.items()}  # fmt: skip
            rows[seed, split] = {row.tobytes() for row in columns["pose"]}
    assert len(set.union(*rows.values())) == 80
    first = source.sample("train", 5, 0)["pose"]
    assert {row.tobytes() for row in first} <= rows[0, "train"]


def test_other_robots_are_refused() -> None:
    factory = find_source("poses:dog")
    assert factory is not None
    with pytest.raises(UserError, match="there are no poses of 'dog'; give one of ant, half"):
        factory()
    assert names.parse("follow-dog") is None
    assert names.parse("humanoid") is None


@pytest.mark.slow
def test_poses_need_no_picture() -> None:
    code = "from rlbench.envs.poses.body import Body; import numpy as np; assert Body('ant').points(np.zeros((1, 8))).any()"
    words = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(words, check=True, env={**os.environ, "MUJOCO_GL": "disable"})


def test_the_demonstration_is_a_slow_loop_within_the_limits() -> None:
    for family in names.FAMILIES:
        body = Body(family)
        angles = demonstration(body, family)
        low, high = body.limits
        assert angles.shape == (STEPS + 1, len(body.joints))
        np.testing.assert_allclose(angles[0], angles[-1])
        assert ((angles >= low) & (angles <= high)).all()
        assert (np.abs(np.diff(angles, axis=0)) <= CHANGE * (high - low)).all()
        assert np.ptp(angles / (high - low), axis=0).mean() > 0.1
        np.testing.assert_array_equal(angles, demonstration(body, family))


def played(env: Follow, follows: bool) -> tuple[float, int]:
    """Return and length of an episode of an agent that follows the demonstration, or that keeps still."""
    env.reset(seed=3)
    body = env._one._body
    low, high = body.limits
    total, steps, over = 0.0, 0, False
    angles = demonstration(body, "humanoid")
    while not over:
        change = (angles[steps + 1] - env._one._angles[0]) / (CHANGE * (high - low))
        _, reward, over, truncated, _ = env.step(change if follows else 0 * change)
        assert not truncated
        assert 0 <= reward <= 1
        total, steps = total + reward, steps + 1
    return total, steps


def test_following_gives_the_best_return() -> None:
    env = Follow("humanoid")
    followed, steps = played(env, True)
    assert followed == pytest.approx(STEPS, abs=0.01)
    assert steps == STEPS
    still, _ = played(env, False)
    assert still == pytest.approx(17.7, abs=0.1)


def test_observations_are_the_angles_the_phase_and_two_views() -> None:
    vector = FollowVector("humanoid", 3)
    space = vector.single_observation_space
    assert isinstance(space, Packed)
    obs, _ = vector.reset(seed=[1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(STEPS // 4):
        obs, *_ = vector.step(rng.uniform(-1, 1, (3, 17)))
    parts = space.unpack(torch.from_numpy(obs))
    low, high = vector._body.limits
    np.testing.assert_allclose(
        parts["angles"], 2 * (vector._angles - low) / (high - low) - 1, atol=1e-6
    )
    np.testing.assert_allclose(parts["phase"], [[0, 1]] * 3, atol=1e-6)  # A quarter of the loop.
    points = vector._body.points(vector._angles)
    shown = vector._body.points(demonstration(vector._body, "humanoid")[[STEPS // 4]])
    for name, pose, turns in (
        ("view", points, vector._cameras[0]),
        ("demonstration", shown.repeat(3, 0), vector._cameras[1]),
    ):
        relative = np.einsum("vki,vji->vkj", pose, turns.numpy())
        expected = relative[..., :2] * (1, -1) / (DISTANCE - relative[..., 2:])
        np.testing.assert_allclose(parts[name].reshape(3, 16, 2), expected, atol=1e-5)
    # All cameras differ, in their azimuths and within their elevations.
    turns = vector._cameras.flatten(0, 1)
    assert (torch.cdist(turns.flatten(1), turns.flatten(1)) + torch.eye(6) > 0.01).all()
    assert (turns[:, 2, 2].abs() <= 0.5).all()


def test_the_reward_is_the_similarity_in_space_whatever_the_cameras() -> None:
    rewards = []
    for seed in (0, 1):
        vector = FollowVector("ant", 1)
        vector.reset(seed=seed)
        rewards += [vector.step(np.full((1, 8), 0.5))[1] for _ in range(3)]
    np.testing.assert_array_equal(rewards[:3], rewards[3:])
    own, other = (
        normalised(torch.from_numpy(vector._body.points(x)), 4)
        for x in (vector._angles, demonstration(vector._body, "ant")[[3]])
    )
    assert rewards[-1][0] == pytest.approx(float(torch.exp(-aligned_errors(own, other) / 0.2)), rel=1e-4)  # fmt: skip


def test_actions_are_bounded_and_angles_stay_within_their_limits() -> None:
    vector = FollowVector("hopper", 2)
    vector.reset(seed=0)
    before, (low, high) = vector._angles.copy(), vector._body.limits
    vector.step(np.array([[9.0] * 3, [0.5] * 3]))
    moved = (vector._angles - before) / (high - low)
    np.testing.assert_allclose(
        moved[1], np.minimum(CHANGE / 2, ((high - before) / (high - low))[1])
    )
    np.testing.assert_allclose(moved[0], np.minimum(CHANGE, ((high - before) / (high - low))[0]))
    for _ in range(STEPS):
        vector.step(np.ones((2, 3)))
    np.testing.assert_allclose(vector._angles[0], high)
    assert vector.step(np.zeros((2, 3)))[2].all()


def test_a_vector_is_what_single_environments_are() -> None:
    task = find_task("follow-hopper")
    assert task.make_vector is not None
    one: Any = task.make_vector(3)
    many: Any = SyncVectorEnv([task.make] * 3, autoreset_mode=AutoresetMode.DISABLED)
    rng = np.random.default_rng(0)
    first = [env.reset(seed=[4, 5, 6])[0] for env in (one, many)]
    np.testing.assert_array_equal(*first)
    for _ in range(5):
        action = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        for mine, theirs in zip(one.step(action)[:4], many.step(action)[:4], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
    begun: list[Any] = [
        env.reset(seed=[None, 9, None], options={"reset_mask": np.array([False, True, False])})[0]
        for env in (one, many)
    ]
    np.testing.assert_allclose(begun[0], begun[1], atol=1e-6)
    assert not np.allclose(first[0][1], begun[0][1], atol=1e-3)
    np.testing.assert_array_equal(one.reset(seed=[4, 5, 6])[0], first[0])


def test_gymnasium_accepts_it() -> None:
    check_env(Follow("swimmer"), skip_render_check=True)
    assert {*names.names()} <= {*task_names()}
