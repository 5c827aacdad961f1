"""The columns of captures, which models of scenes read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from rlbench.backbones.layers.radiance import CAMERA
from rlbench.backbones.models._base import classes_of, input_space
from rlbench.errors import UserError


def scene_of(
    fields: Mapping[str, Space[Any]], needed: tuple[str, ...]
) -> tuple[tuple[int, int], int]:
    """Rows and columns of the pictures, and the number of frames.

    Raises:
        UserError: The pictures have another form, or one of the needed columns is missing or has another shape.
    """
    space = input_space(fields)
    shape = tuple(space.shape or ())
    if len(shape) != 3 or shape[2] != 3 or space.dtype != np.uint8:
        raise UserError(
            f"observations have the shape {shape}; nerfies needs pictures, bytes [H, W, 3], so give a source such as "
            "captures:humanoid"
        )
    frames = classes_of(fields, "frame")
    expected: dict[str, tuple[int | None, ...]] = {
        "mask": shape[:2], "camera": (CAMERA,), "points": (None, 3),
    }  # fmt: skip
    for name in needed:
        found = fields.get(name)
        own = found.shape if isinstance(found, spaces.Box) else None
        wanted = expected[name]
        fits = own is not None and len(own) == len(wanted)
        if not (own and fits and all(b in (None, a) for a, b in zip(own, wanted, strict=True))):
            listed = ", ".join("P" if x is None else str(x) for x in wanted)
            raise UserError(
                f"the examples have no column {name!r} of shape [{listed}]; nerfies needs it, so give a source such as "
                "captures:humanoid"
            )
    return (shape[0], shape[1]), frames
