"""Code shared by models that compare poses: two views of each pose, and retrieval across views.

A query is a view of one test pose, and the index has one other view of every test pose. Measures, from the order in which the index is
retrieved:

    exact_k    the view of the same pose is among the first k
    match_k    a view of a pose that matches is among the first k: after alignment in space, the mean distance of its points is at most
               kappa, in units of the torso
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import Space
from torch import Tensor

from rlbench.backbones.models._base import input_space
from rlbench.backbones.ranges import MOST, POSITIVE, TWO, Range, check
from rlbench.errors import Unsuited, UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.poses import aligned_errors, normalised, projected, rotations

FIRST = (1, 5, 20)
"""Numbers of retrieved views, k."""
DISTANCE = Range(lambda x: 2 <= x <= MOST, f"a number from 2 to {MOST:,}")
ANGLE = Range(lambda x: 0 <= x <= 180, "an angle from 0 to 180 degrees")


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Settings of cameras and of what counts as the same pose."""

    azimuth: float = 180.0
    """Largest angle of the camera about the vertical axis, to both sides, in degrees."""
    elevation: float = 30.0
    """Largest angle of the camera above and below the horizontal plane."""
    roll: float = 30.0
    """Largest angle of the camera about its own axis, to both sides."""
    distance: float = 5.0
    """Distance of the camera from the torso, in the unit of the points, which is metres for poses:FAMILY; no point may be as far from it."""
    kappa: float = 0.1
    """Poses match if their points are at most this far apart after alignment, on average, in units of the torso (paper: kappa)."""
    batch_size: int = 256
    """Poses in a batch."""

    ranges: ClassVar[Mapping[str, Range]] = {
        **dict.fromkeys(("azimuth", "elevation", "roll"), ANGLE),
        "distance": DISTANCE, "kappa": POSITIVE, "batch_size": TWO,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def points_of(fields: Mapping[str, Space[Any]], torso: int) -> int:
    """The number of points of a pose, K.

    Raises:
        UserError: The observations are not points in space, or fewer than the torso has.
    """
    shape = input_space(fields).shape or ()
    if len(shape) != 2 or shape[1] != 3 or shape[0] < torso:
        raise UserError(
            f"observations have the shape {list(shape)}; this model needs points in space [K, 3], the {torso} of the torso first, "
            "such as --env poses:humanoid"
        )
    return int(shape[0])


class PoseModel(Model):
    """A model of views of poses. A subclass sets `torso` in `build`, and compares views in `distances`."""

    measures = tuple(Measure(f"{kind}_{k}") for kind in ("exact", "match") for k in FIRST)
    config: PoseConfig
    torso: int
    """Number of points of the torso."""

    column: ClassVar[str] = "views"
    """Column of `measure` that has what is compared of both views, [B, 2, ...]."""

    @abstractmethod
    def distances(self, query: Tensor, index: Tensor) -> Tensor:
        """Distances of all pairs of what is compared, [N, M]."""

    def seen(self, poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Key points of poses [B, K, 3] from random cameras, [B, K, 2], and the rotations of the cameras, [B, 3, 3].

        Raises:
            Unsuited: A point is behind the cameras.
        """
        config = self.config
        most = poses.new_tensor([config.azimuth, config.elevation, config.roll]).deg2rad()
        angles = torch.rand((3, len(poses)), generator=generator, device=poses.device)
        rotation = rotations(*(most[:, None] * (2 * angles - 1)))
        farthest = float(poses.norm(dim=-1).max())
        if farthest >= config.distance:
            raise Unsuited(
                f"a point is {farthest:.3g} away from the torso, behind a camera at the distance {config.distance:g}; give a larger --distance"
            )
        return projected(poses, rotation, config.distance), rotation

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Each pose in units of the torso, [B, K, 3], and normalised key points of two of its views, [B, 2, K, 2]."""
        poses = examples["obs"]
        views = torch.stack([self.seen(poses, self.measure_generator)[0] for _ in range(2)], 1)
        return {"pose": normalised(poses, self.torso), "views": normalised(views, self.torso)}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """The measures; see the module."""
        pose, compared = (torch.from_numpy(columns[name]) for name in ("pose", self.column))
        query, index = compared.unbind(1)
        count = min(max(FIRST), len(pose))
        found = self.distances(query, index).topk(count, largest=False).indices
        error = aligned_errors(pose[:, None].expand(-1, count, -1, -1), pose[found])
        exact = found == torch.arange(len(pose))[:, None]
        return hits("exact", exact) | hits("match", exact | (error <= self.config.kappa))


def hits(kind: str, right: Tensor) -> dict[str, float]:
    """The share of queries with a right one among the first k, for each k.

    >>> hits("exact", torch.tensor([[False, True], [False, False]]))
    {'exact_1': 0.0, 'exact_5': 0.5, 'exact_20': 0.5}

    Args:
        kind: Beginning of the names.
        right: Which of the retrieved views are right, nearest first, bool [N, M].
    """
    return {f"{kind}_{k}": float(right[:, :k].any(1).float().mean()) for k in FIRST}
