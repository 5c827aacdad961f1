"""Poses as points: cameras by hand and as in MuJoCo's pictures, normalisation, alignment against SciPy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.envs.examples.frames_mujoco import pixels
from rlbench.poses import (
    aligned,
    aligned_errors,
    nearest_rotation_traces,
    normalised,
    pair_errors,
    projected,
    rotations,
    shape_distances,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def angles(count: int, seed: int = 0) -> tuple[Tensor, ...]:
    return random(3, count, seed=seed).unbind()


def camera(azimuth: float, elevation: float = 0.0, roll: float = 0.0) -> Tensor:
    return rotations(*torch.tensor([azimuth, elevation, roll]).deg2rad())


def test_cameras_by_hand() -> None:
    # On the axis x the camera has y to its right and z above.
    points = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 1.0]])
    seen = projected(points, camera(0.0), 5.0)
    torch.testing.assert_close(seen, torch.tensor([[0.2, 0.0], [0.0, -0.4], [0.0, -0.25]]))
    # From the axis y, x is to the left.
    seen = projected(torch.tensor([[1.0, 0.0, 0.0]]), camera(90.0), 2.0)
    torch.testing.assert_close(seen, torch.tensor([[-0.5, 0.0]]))
    # From above, what was behind is above.
    seen = projected(torch.tensor([[-1.0, 0.0, 0.0]]), camera(0.0, 90.0), 2.0)
    torch.testing.assert_close(seen, torch.tensor([[0.0, -0.5]]), atol=1e-6, rtol=0)
    # A camera that rolls to the left by a quarter sees what was above on its right.
    seen = projected(torch.tensor([[0.0, 0.0, 1.0]]), camera(0.0, 0.0, 90.0), 2.0)
    torch.testing.assert_close(seen, torch.tensor([[0.5, 0.0]]), atol=1e-6, rtol=0)


def test_they_are_rotations() -> None:
    found = rotations(*angles(20))
    torch.testing.assert_close(found @ found.mT, torch.eye(3).expand(20, 3, 3))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(20))
    # The last row points from the origin to the camera.
    azimuth, elevation, _ = angles(20)
    torch.testing.assert_close(found[:, 2, 2], elevation.sin())
    torch.testing.assert_close(
        torch.atan2(found[:, 2, 1], found[:, 2, 0]).cos(), (azimuth + math.pi * (elevation.cos() < 0)).cos()
    )  # fmt: skip


def test_points_are_seen_where_mujocos_pictures_show_them() -> None:
    points, turns = random(6, 9, 3), rotations(*angles(6))
    for pose, turn in zip(points, turns, strict=True):
        # Relative to the camera, which looks along its negative axis z.
        relative = (pose - 5 * turn[2]) @ turn.T
        shown = torch.from_numpy(pixels(relative.numpy(), 45.0))
        seen = projected(pose, turn, 5.0)
        torch.testing.assert_close(shown, (32 + 32 / math.tan(math.radians(22.5)) * seen).double(), atol=1e-4, rtol=0)  # fmt: skip
        torch.testing.assert_close(normalised(shown.float(), 4), normalised(seen, 4), atol=1e-4, rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
def test_normalised_points_do_not_depend_on_position_and_scale(dims: int) -> None:
    points = random(5, 7, dims)
    moved = 3.7 * points + random(5, 1, dims, seed=1)
    torch.testing.assert_close(normalised(points, 3), normalised(moved, 3), atol=1e-5, rtol=1e-5)
    found = normalised(points, 3)
    torch.testing.assert_close(found[:, :3].mean(1), torch.zeros(5, dims), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        torch.cdist(found[:, :3], found[:, :3]).amax((1, 2)), torch.ones(5), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(normalised(found, 3), found)
    assert normalised(torch.ones(1, 4, 2), 2).isfinite().all()  # A torso without a size.


@pytest.mark.parametrize("dims", [2, 3])
def test_alignment_is_that_of_scipy(dims: int) -> None:
    spatial = pytest.importorskip("scipy.spatial")
    turn = torch.linalg.qr(random(dims, dims))[0]
    if torch.linalg.det(turn) < 0:
        turn[0] *= -1
    first = random(8, dims)
    # Near enough that the best map is not a reflection, which SciPy allows.
    second = 0.7 * first @ turn + 0.1 * random(8, dims, seed=1) + 4
    x, y, _ = spatial.procrustes(first.numpy(), second.numpy())
    one, other = (z / torch.linalg.norm(z) for z in (first - first.mean(0), second - second.mean(0)))  # fmt: skip
    found = aligned(one, other)
    scale = np.linalg.norm(y)
    torch.testing.assert_close(found.numpy(), (y / scale).astype(np.float32), atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(one.numpy(), x, atol=1e-6)
    if dims == 2:
        disparity = spatial.procrustes(first.numpy(), second.numpy())[2]
        assert float(shape_distances(first, second)) ** 2 == pytest.approx(disparity, rel=1e-4)


def test_turned_and_moved_poses_are_equal_and_mirrored_ones_are_not() -> None:
    poses = random(6, 9, 3)
    moved = poses @ rotations(*angles(6)) + random(6, 1, 3, seed=1)
    assert float(aligned_errors(poses, moved).max()) < 1e-5
    mirrored = poses * torch.tensor([1.0, 1.0, -1.0])
    assert float(aligned_errors(poses, mirrored).min()) > 0.1
    flat = random(4, 9, 2)
    turn = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])
    assert float(shape_distances(flat, flat @ turn + 1).max()) < 1e-3
    assert float(shape_distances(flat, flat * torch.tensor([1.0, -1.0])).min()) > 0.1


def test_errors_by_hand() -> None:
    line = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    longer = torch.tensor([[0.0, -2.0, 5.0], [0.0, 0.0, 5.0], [0.0, 2.0, 5.0]])
    assert float(aligned_errors(line, longer)) == pytest.approx(2 / 3)
    square = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    # Neighbours on a rectangle of 2 x 0: the inner product is 8 / (sqrt 8 * 2) = sqrt(1/2) for either diagonal.
    assert float(shape_distances(square, square * torch.tensor([1.0, 0.0]))) == pytest.approx(0.5**0.5)  # fmt: skip


def test_errors_of_pairs_are_those_of_a_loop() -> None:
    poses = random(5, 6, 3)
    found = pair_errors(poses)
    for i in range(5):
        for j in range(5):
            assert float(found[i, j]) == pytest.approx(float(aligned_errors(poses[j], poses[i])), abs=1e-5)  # fmt: skip


def test_traces_of_the_nearest_rotations_are_those_of_a_decomposition() -> None:
    matrices = random(200, 3, 3)
    matrices[:20] = torch.linalg.qr(matrices[:20])[0]  # Equal singular values.
    matrices[20] = torch.diag(torch.tensor([1.0, 2.0, -3.0]))
    matrices[21] = 0
    _, s, _ = torch.linalg.svd(matrices)
    s[:, 2] *= torch.linalg.det(matrices).sign()
    assert float(nearest_rotation_traces(matrices)[20]) == pytest.approx(4)
    torch.testing.assert_close(nearest_rotation_traces(matrices), s.sum(-1), atol=1e-4, rtol=1e-4)
