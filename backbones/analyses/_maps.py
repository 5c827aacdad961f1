"""Pictures of explanations: observations and their maps in rows, and films of them."""

import io
from collections.abc import Sequence

import numpy as np

from rlbench.backbones.analyses._base import Array
from rlbench.backbones.analyses._pictures import pillow

TILE = 120
"""Smallest side of a tile in pixels; pictures are enlarged by a whole factor."""
GAP = 4
STRIP = 14
"""Rows above the tiles, with their names."""
BRIGHTEST = 99.0
"""Percentile of a map that is drawn in the brightest colour, so that single pixels do not darken all others."""


def heat(found: Array) -> Array:
    """A map [H, W] from black over red and yellow to white, uint8 [H, W, 3].

    >>> heat(np.array([[0.0, 1.0], [2.0, 3.0]]))[:, :, 0].tolist()
    [[0, 255], [255, 255]]
    """
    scaled = found / max(float(np.percentile(found, BRIGHTEST)), 1e-20)
    colours = 3 * scaled[..., None] - np.arange(3)
    picture: Array = np.rint(255 * colours.clip(0, 1)).astype(np.uint8)
    return picture


def sheet(
    names: Sequence[str], rows: Sequence[Sequence[Array | None]], parts: Sequence[str] = ("image",)
) -> Array:
    """Rows of tiles of one size, uint8 [H, W, 3] or None for an empty one, as one picture.

    Args:
        names: Of the columns after the first.
        rows: The tiles.
        parts: What each row shows.

    Raises:
        UserError: Pillow is not installed.
    """
    image, draw, font = pillow()
    height, width = next(x for row in rows for x in row if x is not None).shape[:2]
    times = max(1, -(-TILE // max(height, width)))
    height, width = height * times, width * times
    columns = len(rows[0])
    size = (columns * (width + GAP) - GAP, STRIP + len(rows) * (height + GAP) - GAP)
    whole = image.new("RGB", size, "white")
    pen, small = draw.Draw(whole), font.load_default(9)
    for column, name in enumerate(names, 1):
        pen.text((column * (width + GAP), 1), name, fill="black", font=small)
    for line, (row, part) in enumerate(zip(rows, parts, strict=True)):
        top = STRIP + line * (height + GAP)
        if row[0] is None:
            pen.text((0, top), part, fill="black", font=small)
        for column, x in enumerate(row):
            if x is not None:
                tile = image.fromarray(x.repeat(times, 0).repeat(times, 1))
                whole.paste(tile, (column * (width + GAP), top))
    return np.asarray(whole)


def gif(pictures: Sequence[Array], milliseconds: int = 100) -> bytes:
    """Pictures [H, W, 3] as a GIF file that repeats."""
    (image, *_), out = pillow(), io.BytesIO()
    first, *others = [image.fromarray(x) for x in pictures]
    first.save(out, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return out.getvalue()
