"""Poses as points of a body: views by a camera, normalised points, and distances between poses after alignment.

A camera at the distance d looks at the origin from an azimuth and an elevation, and rolls about its axis. With its rotation R, a point X is
seen at (u, v), in units of the focal length, with v downwards as in images:

    p = R X,    u = p_x / (d - p_z),    v = -p_y / (d - p_z)

The points of the torso are the first ones of a body. Normalised points have the middle of the torso at 0, and the largest distance
between two points of the torso is 1, so they depend neither on the position and the size of the body nor on the camera's focal length.
"""

import torch
from torch import Tensor

SMALLEST = 1e-9
"""Smallest size of a torso; a torso of one point has none."""


def rotations(azimuth: Tensor, elevation: Tensor, roll: Tensor) -> Tensor:
    """Rotations into the coordinates of cameras, [..., 3, 3]; their rows are the camera's right, up and backward.

    Args:
        azimuth: Angle about the vertical axis z in radians, [...]; at 0 the camera is on the axis x.
        elevation: Angle above the horizontal plane, [...].
        roll: Angle about the camera's own axis, [...].
    """
    (ca, sa), (ce, se), (cr, sr) = ((x.cos(), x.sin()) for x in (azimuth, elevation, roll))
    right = torch.stack([-sa, ca, torch.zeros_like(ca)], -1)
    up = torch.stack([-se * ca, -se * sa, ce], -1)
    back = torch.stack([ce * ca, ce * sa, se], -1)
    cr, sr = cr[..., None], sr[..., None]
    return torch.stack([cr * right + sr * up, cr * up - sr * right, back], -2)


def projected(points: Tensor, rotation: Tensor, distance: float) -> Tensor:
    """Where a camera sees points, [..., K, 2].

    Args:
        points: [..., K, 3].
        rotation: See `rotations`, [..., 3, 3].
        distance: Distance of the camera from the origin, larger than that of any point.
    """
    x, y, z = (points @ rotation.mT).unbind(-1)
    return torch.stack([x, -y], -1) / (distance - z)[..., None]


def normalised(points: Tensor, torso: int) -> Tensor:
    """Points in the coordinates of the torso, in its units; see the module.

    >>> normalised(torch.tensor([[1.0, 1.0], [5.0, 1.0], [3.0, 3.0]]), 2)
    tensor([[-0.5000,  0.0000],
            [ 0.5000,  0.0000],
            [ 0.0000,  0.5000]])

    Args:
        points: [..., K, D].
        torso: Number of points of the torso.
    """
    centre = points[..., :torso, :].mean(-2, keepdim=True)
    between = points[..., :torso, None, :] - points[..., None, :torso, :]
    size = between.square().sum(-1).amax((-1, -2)).sqrt()
    return (points - centre) / size.clamp(min=SMALLEST)[..., None, None]


@torch.no_grad()
def aligned(first: Tensor, second: Tensor) -> Tensor:
    """`second` after the translation and the rotation that bring it nearest to `first`, in the mean of squared distances.

    Kabsch, 1976, https://doi.org/10.1107/S0567739476001873. A mirrored pose stays another pose.

    Args:
        first: [..., K, D].
        second: [..., K, D].
    """
    middle = first.mean(-2, keepdim=True)
    x, y = first - middle, second - second.mean(-2, keepdim=True)
    u, _, v = torch.linalg.svd(y.mT @ x)
    # If the best orthogonal map is a reflection, the best rotation turns its least important axis around.
    turn = torch.linalg.det(u @ v).sign()[..., None]
    u = torch.cat([u[..., :-1], u[..., -1:] * turn[..., None]], -1)
    moved: Tensor = y @ (u @ v) + middle
    return moved


def aligned_errors(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance between the points of two poses after `aligned`, [...] of [..., K, D] each."""
    errors: Tensor = (first - aligned(first, second)).norm(dim=-1).mean(-1)
    return errors


def pair_errors(poses: Tensor) -> Tensor:
    """`aligned_errors` of all pairs of poses, [N, N] of [N, K, D]."""
    row, column = torch.triu_indices(len(poses), len(poses), 1, device=poses.device)
    errors = poses.new_zeros(len(poses), len(poses))
    errors[row, column] = aligned_errors(poses[row], poses[column])
    return errors + errors.T


def shape_distances(first: Tensor, second: Tensor) -> Tensor:
    """Procrustes distances between points in the plane, from 0 to 1, [...] of [..., K, 2] each, which broadcast.

    The points are moved to their middle and scaled to length 1, and one set is rotated and scaled to the other. As complex numbers this
    leaves |z_1 - s z_2|^2 = 1 - |<z_1, z_2>|^2, without a search for the rotation. Kendall, 1984,
    https://doi.org/10.1112/blms/16.2.81
    """
    x, y = (_shapes(points) for points in (first, second))
    inner = (x.conj() * y).sum(-1).abs()
    return (1 - inner.square()).clamp(min=0).sqrt()


def _shapes(points: Tensor) -> Tensor:
    centred = torch.view_as_complex((points - points.mean(-2, keepdim=True)).contiguous())
    size: Tensor = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    return centred / size.clamp(min=SMALLEST)


def nearest_rotation_traces(matrices: Tensor) -> Tensor:
    """The largest trace of M R over all rotations R, [...] of [..., 3, 3]: s_1 + s_2 + sign(det M) s_3, in closed form.

    The squares of the singular values s are the eigenvalues of M^T M, from the trigonometric solution of its characteristic
    polynomial (Smith, 1961, https://doi.org/10.1145/355578.366316), which is far faster for many matrices than a decomposition.
    """
    m = matrices.double()
    gram = m.mT @ m
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    rest = gram - mean[..., None, None] * torch.eye(3, dtype=m.dtype, device=m.device)
    spread = (rest.square().sum((-2, -1)) / 6).sqrt()
    # Of equal eigenvalues the spread is 0, and the angle does not matter.
    cosine = _determinants(rest) / (2 * spread.pow(3)).clamp(min=1e-90)
    angle = cosine.clamp(-1, 1).acos() / 3
    trace = matrices.new_zeros(spread.shape, dtype=m.dtype)
    for third, sign in ((0, 1), (2, 1), (1, _determinants(m).sign())):
        square = mean + 2 * spread * (angle + third * 2 * torch.pi / 3).cos()
        trace += sign * square.clamp(min=0).sqrt()
    return trace.to(matrices.dtype)


def _determinants(m: Tensor) -> Tensor:
    """Determinants of [..., 3, 3], much faster than by a decomposition."""
    first, second, third = m.unbind(-2)
    determinants: Tensor = (torch.linalg.cross(first, second) * third).sum(-1)
    return determinants
