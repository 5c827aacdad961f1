"""Clips of two robots with the same joints that make the same movements: a source, and a target with a different size, colours and floor.

A model learns to draw the target from stick figures of its own movements, and is tested on stick figures of the source in movements that the target
never made. Because poses of the source can be replayed on the target, the true pictures are known. Columns, for T frames and K parts:

    obs      stick figures, bytes [T, 64, 64, K], one channel for each part: in training of the target, in tests of the source, normalised
    frames   pictures of the target in the same poses, bytes [T, 64, 64, 3]
    source   pictures of the source, bytes [T, 64, 64, 3]
    mask     1 where the target is seen, bytes [T, 64, 64]
    face     column and row of the head of the cheetah, or of a foot of the other robots, in `obs`, float32 [T, 2]

Joints move as sines of random amplitude, frequency and phase within their limits, and so does the tilt of the body; the lowest point is on the floor.
A part is drawn as the line between the ends of its capsule, projected to the picture. The source is smaller than the target, so its
stick figures are moved and scaled: with the mean row of the lowest point, mean height and mean column of 100 other poses of each robot,

    row' = row_target + (row - row_source) height_target / height_source,    and columns with the same factor

as Chan et al., 2019, https://arxiv.org/abs/1808.07371, section 4.2, do with the positions of ankles and the heights of two people. Here all
poses are at one distance from the camera, so one factor is enough. Training and test movements come from different seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.examples.frames_mujoco import CAMERA, SIDE, MujocoFrames, pixels
from rlbench.envs.mujoco_drawing import make_renderer, update_scene
from rlbench.errors import UserError
from rlbench.seeding import derive

FACES = {"halfcheetah": "head", "hopper": "foot_geom", "walker2d": "foot_geom"}
"""The part that is a face, of each robot that moves in the plane of the picture."""
FRAMES = 8
"""Frames of a clip, T."""
SMALLER, THICKER = 0.8, 1.5
"""Size of the source, and thickness of the target's limbs, compared with the original robot."""
FREQUENCIES, AMPLITUDES, TILT = (0.02, 0.06), (0.3, 0.8), 0.3
"""Of the movements: cycles per frame, shares of half the range of a joint, and radians."""
POSES = 100
"""Poses of each robot from which its place and height in pictures are measured."""


@dataclass(frozen=True)
class Place:
    """Where a robot is in its pictures."""

    row: float
    """Mean row of the lowest point."""
    height: float
    """Mean number of rows from the highest to the lowest point."""
    column: float
    """Mean column."""


class Robot(MujocoFrames):
    """A robot whose joints are set."""

    def put(self, angles: Array, tilt: float) -> None:
        """Sets the angles of the joints [J] and the tilt of the body, with the lowest point on the floor."""
        import mujoco

        model, data = self._model, self._data
        data.qpos[:] = model.qpos0
        data.qpos[model.jnt_qposadr[self.joints]] = angles
        data.qpos[model.jnt_qposadr[model.joint("rooty").id]] = tilt
        mujoco.mj_kinematics(model, data)
        data.qpos[model.jnt_qposadr[model.joint("rootz").id]] -= self._lowest()
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)

    def ends(self) -> Array:
        """Columns and rows of both ends of each part, [K, 2, 2]."""
        return ends_of(self._model, self._data, self.parts)

    def movement(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Angles [T, J] and tilts [T] of one clip."""
        low, high = self._model.jnt_range[self.joints].T
        count = len(low) + 1
        frequency, amplitude, phase = (
            rng.uniform(least, most, count) for least, most in (FREQUENCIES, AMPLITUDES, (0.0, 1.0))
        )
        time = np.arange(FRAMES)[:, None]
        waves = amplitude * np.sin(2 * np.pi * (frequency * time + phase))
        angles: Array = (low + high) / 2 + waves[:, :-1] * (high - low) / 2
        return angles, TILT * waves[:, -1]

    def place(self, seed: int) -> Place:
        """See `Place`; the poses depend on the seed."""
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(POSES):
            angles, tilt = self.movement(rng)
            self.put(angles[0], tilt[0])
            columns, rows = self.ends().reshape(-1, 2).T
            found.append((rows.max(), rows.max() - rows.min(), columns.mean()))
        return Place(*map(float, np.mean(found, axis=0)))

    def pictures(self, renderer: Any) -> tuple[Array, Array]:
        """The picture [H, W, 3] and its mask [H, W]."""
        drawn = self._pictures(renderer, CAMERA)
        return drawn["obs"], (drawn["seg"] > 0).astype(np.uint8)

    def shrunk(self) -> None:
        """Makes the robot smaller."""
        model = self._model
        for sizes in (model.body_pos, model.geom_pos, model.jnt_pos):
            sizes *= SMALLER
        model.geom_size[self.parts] *= SMALLER

    def dressed(self) -> None:
        """Makes its limbs thicker, and gives it and the floor other colours."""
        from colorsys import hsv_to_rgb

        model = self._model
        model.geom_size[self.parts, 0] *= THICKER
        model.geom_matid[self.parts] = -1
        for number, part in enumerate(self.parts):
            model.geom_rgba[part, :3] = hsv_to_rgb(0.618 * number % 1, 0.8, 0.9)
        model.mat_rgba[:, :3] = 0.9, 0.7, 0.4
        model.mat_texrepeat *= 0.6


class MotionPairs(Source):
    """Clips of two robots; see the module."""

    kind = "generated"
    cached = True

    def __init__(self, family: str) -> None:
        """Loads both robots.

        Args:
            family: One of `FACES`.

        Raises:
            UserError: There is no such family, or MuJoCo cannot draw here.
        """
        if family not in FACES:
            raise UserError(
                f"there are no pairs of motions of {family!r}; give one of {', '.join(FACES)}"
            )
        self.family = family
        self.source, self.target = Robot(family), Robot(family)
        self.source.shrunk()
        self.target.dressed()
        # Measured now, because it moves the robots; from different poses.
        self.places = self.source.place(0), self.target.place(1)

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        picture = (FRAMES, SIDE, SIDE)
        colours = spaces.Box(0, 255, (*picture, 3), np.uint8)
        return {
            "obs": spaces.Box(0, 255, (*picture, len(self.target.parts)), np.uint8),
            "frames": colours,
            "source": colours,
            "mask": spaces.Box(0, 1, picture, np.uint8),
            "face": spaces.Box(-np.inf, np.inf, (FRAMES, 2)),
        }

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 500, "test": 25}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "motion-pairs", self.family, split))
        clips = []
        renderers = [make_renderer(x._model, SIDE) for x in (self.source, self.target)]
        try:
            for _ in range(size):
                poses = zip(*self.source.movement(rng), strict=True)
                rows = [self._frame(split, renderers, *pose) for pose in poses]
                clips.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
        finally:
            for renderer in renderers:
                renderer.close()
        return {name: np.stack([clip[name] for clip in clips]) for name in self.fields}

    def _frame(
        self, split: Split, renderers: list[Any], angles: Array, tilt: float
    ) -> dict[str, Array]:
        """The columns of one frame."""
        self.source.put(angles, tilt)
        self.target.put(angles, tilt)
        ends = self.target.ends() if split == "train" else self.normalised(self.source.ends())
        frame, mask = self.target.pictures(renderers[1])
        update_scene(renderers[0], self.source._data, CAMERA)
        return {
            "obs": sticks(ends), "frames": frame, "source": renderers[0].render().copy(), "mask": mask,
            "face": ends[self.face].mean(axis=0).astype(np.float32),
        }  # fmt: skip

    @cached_property
    def face(self) -> int:
        """Number of the part that is the face."""
        geoms = [self.target._model.geom(i).name for i in self.target.parts]
        return geoms.index(FACES[self.family])

    def normalised(self, ends: Array) -> Array:
        """Points [..., 2] of the source, column and row, as they would be if it had the place and height of the target."""
        return normalised(ends, *self.places)


def normalised(points: Array, source: Place, target: Place) -> Array:
    """Points [..., 2], column and row, moved and scaled from one place to another.

    >>> normalised(np.array([30.0, 40.0]), Place(50.0, 10.0, 32.0), Place(55.0, 20.0, 30.0)).tolist()
    [26.0, 35.0]
    """
    factor = target.height / source.height
    moved: Array = (points - (source.column, source.row)) * factor + (target.column, target.row)
    return moved


def ends_of(model: Any, data: Any, parts: Array) -> Array:
    """Columns and rows of both ends of each part in pictures of `SIDE` pixels, [K, 2, 2]; parts are capsules."""
    axes = data.geom_xmat[parts].reshape(-1, 3, 3)[:, :, 2] * model.geom_size[parts, 1:2]
    middle = data.geom_xpos[parts]
    points = np.stack([middle - axes, middle + axes], axis=1).reshape(-1, 3)
    camera = data.cam(CAMERA)
    seen = (points - camera.xpos) @ camera.xmat.reshape(3, 3)
    return pixels(seen, model.cam(CAMERA).fovy[0]).reshape(-1, 2, 2)


def sticks(ends: Array) -> Array:
    """Lines two pixels wide between points [K, 2, 2] given as columns and rows, bytes [SIDE, SIDE, K]."""
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    centre = np.stack(np.meshgrid(*[np.arange(SIDE) + 0.5] * 2), axis=-1)[:, :, None] - start
    length = np.maximum((along**2).sum(-1), 1e-9)
    share = np.clip((centre * along).sum(-1) / length, 0, 1)
    distance = np.linalg.norm(centre - share[..., None] * along, axis=-1)
    drawn: Array = np.rint(255 * np.clip(1.5 - distance, 0, 1)).astype(np.uint8)
    return drawn
