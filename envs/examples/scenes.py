"""Scenes: what does a figure do, if its usual background gives the action away?

    obs     a figure in front of a background, bytes [32, 32, 3]
    masked  the same background without the figure, bytes [32, 32, 3]
    label   action of the figure, 0 to 3
    scene   kind of background, 0 to 3

In training, `scenes-R` draws the scene with the number of the action in R % of the frames, and otherwise one of the other three; in
tests, action and scene are independent. So the scene predicts the action in training, and misleads in three of four test frames.

A scene is a colour with stripes in a direction of its own and noise. The figure is a trunk with one arm, which points up, right, down
or left; its place, size, posture and brightness vary.

After Choi et al., 2019, https://arxiv.org/abs/1912.05534, who classify actions in videos.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.errors import UserError
from rlbench.seeding import derive

ACTIONS = ("up", "right", "down", "left")
SIDE = 32
COLOURS = np.array([[150, 90, 70], [80, 140, 80], [75, 95, 155], [140, 130, 70]], np.float64)
"""Mean colour of each scene."""
STRIPES, PERIOD = 22.0, 8.0
"""Amplitude of the stripes, and their period in pixels."""
NOISE = 16.0
"""Standard deviation of the noise of a pixel."""
LENGTHS = (6.0, 8.0)
"""Smallest and largest length of trunk and arm in pixels."""
POSTURE = 0.25
"""Standard deviation of their angles in radians."""
PEN = 1.0
"""Half the width of the figure's lines in pixels."""
BRIGHTNESS = (40.0, 90.0)
"""How much brighter than its background the figure is, at least and at most."""
POINTS = 8
"""Points with which a line is drawn."""


class Scenes(Source):
    """Figures in front of backgrounds; see the module."""

    kind = "generated"

    def __init__(self, percent: str) -> None:
        """Prepares the frames.

        Args:
            percent: Percentage of the training frames that have the scene of their action.

        Raises:
            UserError: It is not a whole number from 0 to 100.
        """
        if not (percent.isdecimal() and int(percent) <= 100):
            raise UserError(
                f"there is no source scenes-{percent}; give a share in %, 0 to 100, as in scenes-85"
            )
        self._share = int(percent) / 100

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        image = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        classes = spaces.Discrete(len(ACTIONS))
        return {"obs": image, "masked": image, "label": classes, "scene": classes}

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"label": ACTIONS}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 4_000, "test": 2_000}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        rng = np.random.default_rng(derive(seed, "scenes", split))
        # All are drawn, so that the first ones do not depend on the size.
        count = self.sizes[split]
        label, other = (
            rng.integers(len(ACTIONS), size=count),
            rng.integers(1, len(ACTIONS), size=count),
        )
        usual = rng.random(count) < (self._share if split == "train" else 1 / len(ACTIONS))
        scene = np.where(usual, label, (label + other) % len(ACTIONS))
        figure, background = figures(label, rng)[..., None], backgrounds(scene, rng)
        images = {"obs": background + figure, "masked": background}
        shown = {name: np.rint(x.clip(0, 255)).astype(np.uint8) for name, x in images.items()}
        columns = {**shown, "label": label, "scene": scene}
        return {name: column[:size] for name, column in columns.items()}


def backgrounds(scene: Array, rng: np.random.Generator) -> Array:
    """Backgrounds of scenes [N], [N, SIDE, SIDE, 3]."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle = math.pi * scene[:, None, None] / len(COLOURS)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    phase = rng.uniform(0, 2 * math.pi, (len(scene), 1, 1))
    stripes = STRIPES * np.sin(2 * math.pi * along / PERIOD + phase)
    noise = rng.normal(0, NOISE, (len(scene), SIDE, SIDE, 3))
    made: Array = COLOURS[scene][:, None, None] + stripes[..., None] + noise
    return made


def figures(action: Array, rng: np.random.Generator) -> Array:
    """What the figures of actions [N] add to their backgrounds, [N, SIDE, SIDE]."""
    count = len(action)
    margin = LENGTHS[1] + PEN
    middle = rng.uniform(margin, SIDE - margin, (count, 2))
    length = rng.uniform(*LENGTHS, (count, 2))
    turn = POSTURE * rng.standard_normal((count, 2))
    brightness = rng.uniform(*BRIGHTNESS, count)
    # The trunk goes both ways from the middle, the arm one way; angles are clockwise from the right, and rows point down.
    trunk = math.pi / 4 + turn[:, 0]
    arm = math.pi / 2 * (action - 1) + turn[:, 1]
    part = np.linspace(0, 1, POINTS)
    lines = [
        (trunk, length[:, 0, None] * (part - 0.5)),
        (arm, length[:, 1, None] * part),
    ]
    points = np.concatenate(
        [
            np.stack([at * np.sin(angle)[:, None], at * np.cos(angle)[:, None]], -1)
            for angle, at in lines
        ],
        axis=1,
    )
    points = points + middle[:, None]
    centres = np.arange(SIDE) + 0.5
    square = np.full((count, SIDE, SIDE), np.inf)
    for point in points.swapaxes(0, 1):  # One at a time, which bounds the memory.
        down, across = ((point[:, axis, None] - centres) ** 2 for axis in (0, 1))
        np.minimum(square, down[:, :, None] + across[:, None], out=square)
    ink: Array = brightness[:, None, None] * np.clip(PEN + 0.5 - np.sqrt(square), 0, 1)
    return ink
