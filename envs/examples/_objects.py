"""Columns of sources of objects: frames with a box, a class and the pixels of each object.

    obs        frame, bytes [H, W, 3]
    boxes      left, upper, right and lower edge of each object in pixels, float32 [M, 4]
    classes    class of each object, 1 to C, [M]
    instances  number of the object at each pixel, 1 to M, bytes [H, W]; 0 is the background

A frame has M objects or fewer; the rows of objects that it lacks have class 0 and a box of zeros, and come last. Edges lie between
pixels: a box around the first pixel alone is (0, 0, 1, 1).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array

NONE = "none"
"""Name of class 0."""


def object_fields(height: int, width: int, most: int, classes: int) -> Mapping[str, Space[Any]]:
    """The space of each column.

    Args:
        height: Rows of a frame.
        width: Columns of a frame.
        most: Largest number of objects in a frame, M.
        classes: Number of classes, C, without class 0.
    """
    edges = np.tile(np.array([width, height, width, height], np.float32), (most, 1))
    return {
        "obs": spaces.Box(0, 255, (height, width, 3), np.uint8),
        "boxes": spaces.Box(np.zeros_like(edges), edges, dtype=np.float32),
        "classes": spaces.MultiDiscrete([classes + 1] * most),
        "instances": spaces.Box(0, most, (height, width), np.uint8),
    }


def object_columns(obs: Array, instances: Array, classes: Array) -> dict[str, Array]:
    """All columns, with the boxes of the pixels of each object.

    Args:
        obs: Frames, bytes [N, H, W, 3].
        instances: Number of the object at each pixel, bytes [N, H, W].
        classes: Class of each object, [N, M]; objects without pixels are left out.
    """
    boxes = np.zeros((*classes.shape, 4), np.float32)
    for k in range(classes.shape[1]):
        shown = instances == k + 1
        for axis, (low, high) in ((1, (1, 3)), (2, (0, 2))):
            line = shown.any(axis=3 - axis)
            boxes[:, k, low] = line.argmax(axis=1)
            boxes[:, k, high] = np.where(
                line.any(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1), 0
            )
    # Objects that are hidden make room for the others.
    there = boxes[..., 2] > 0
    order = np.argsort(~there, axis=1, kind="stable")
    numbers = np.zeros((len(there), there.shape[1] + 1), np.uint8)
    numbers[:, 1:] = np.where(there, there.cumsum(axis=1), 0)
    rows = np.arange(len(there))[:, None]
    return {
        "obs": obs,
        "boxes": boxes[rows, order],
        "classes": np.where(there, classes, 0)[rows, order].astype(np.int64),
        "instances": numbers[rows[..., None], instances],
    }
