"""Observations and classes as images of a page."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.errors import UserError

SHOWN = 8
"""Examples of each kind."""
SIDE = 96
"""Smallest length of a picture's longer side in pixels; small images are enlarged without smoothing."""


@dataclass(frozen=True)
class Picture:
    """One example."""

    image: str
    """Data URL of the picture."""
    caption: str


def coloured(classes: NDArray[Any]) -> NDArray[np.uint8]:
    """Classes [H, W] in colours that differ as much as possible, uint8 [H, W, 3]; class 0 is black."""
    import colorsys

    # Steps of the golden ratio keep any number of hues apart.
    hues = [colorsys.hsv_to_rgb(k * 0.618 % 1, 0.65, 0.95) for k in range(int(classes.max()) + 1)]
    palette = np.rint(255 * np.array(hues)).astype(np.uint8)
    palette[0] = 0
    picture: NDArray[np.uint8] = palette[classes]
    return picture


def image(obs: NDArray[Any]) -> str:
    """An observation as a picture: an image, or a curve of a vector's values.

    Raises:
        UserError: It is neither, or Pillow is not installed.
    """
    if obs.ndim == 1:
        return _curve(obs)
    if obs.ndim != 3 or not {obs.shape[0], obs.shape[-1]} & {1, 3, 4}:
        raise UserError(f"observations of shape {list(obs.shape)} are neither images nor vectors")
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UserError(
            "pictures need the package pillow; install it with pip install pillow"
        ) from None
    pixels = obs if obs.shape[-1] in (1, 3, 4) else np.moveaxis(obs, 0, -1)
    low, high = float(pixels.min()), float(pixels.max())
    scaled = np.rint((pixels - min(low, 0.0)) * (255 / max(high - min(low, 0.0), 1e-9)))
    picture = Image.fromarray(
        scaled.astype(np.uint8).squeeze(-1) if pixels.shape[-1] == 1 else scaled.astype(np.uint8)
    )
    times = max(1, -(-SIDE // max(picture.size)))
    out = io.BytesIO()
    picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).save(
        out, "PNG"
    )
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _curve(values: NDArray[Any]) -> str:
    """A vector's values as a line."""
    low, high = float(values.min()), float(values.max())
    x = np.linspace(2, 2 * SIDE - 2, len(values))
    y = SIDE - 2 - (values - low) / max(high - low, 1e-9) * (SIDE - 4)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * SIDE}" height="{SIDE}">'
        f'<polyline points="{points}" fill="none" stroke="#4477aa"/></svg>'
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
