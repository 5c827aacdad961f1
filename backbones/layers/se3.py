"""Rigid motions of points as exponentials of screws (Lynch & Park, 2017, Modern Robotics, sections 3.2 and 3.3)."""

import torch
from torch import Tensor

SERIES_BELOW = 0.5
"""Angle in radians below which the coefficients are power series: their formulas divide small differences by 0 or nearly so."""


def coefficients(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sin t / t, (1 - cos t) / t^2 and (t - sin t) / t^3 of squared angles t^2, each of the same shape, with finite gradients at 0."""
    small = square < SERIES_BELOW**2
    s = torch.where(small, square, 0.0)
    series = (
        1 - s / 6 * (1 - s / 20 * (1 - s / 42)),
        (1 - s / 12 * (1 - s / 30 * (1 - s / 56))) / 2,
        (1 - s / 20 * (1 - s / 42 * (1 - s / 72))) / 6,
    )
    # Formulas and their gradients are computed everywhere, so that those not used must be finite too.
    s = torch.where(small, 1.0, square)
    t = s.sqrt()
    sine, cosine = t.sin(), t.cos()
    formulas = sine / t, (1 - cosine) / s, (t - sine) / (s * t)
    a, b, c = (torch.where(small, *both) for both in zip(series, formulas, strict=True))
    return a, b, c


def moved(rotation: Tensor, translation: Tensor, x: Tensor) -> Tensor:
    """Points after the motion exp(S) of screws S = (w, v), [..., 3].

        e^[w] x + G v,   e^[w] = 1 + a [w] + b [w]^2,   G = 1 + b [w] + c [w]^2

    with the coefficients a, b, c of the angle |w|, and [w] y = w x y.

    Args:
        rotation: w, an axis times an angle in radians, [..., 3].
        translation: v, [..., 3].
        x: Points, [..., 3].
    """
    a, b, c = coefficients(rotation.square().sum(-1, keepdim=True))
    inner = b * x + c * translation
    turned = a * x + b * translation + torch.linalg.cross(rotation, inner)
    moved: Tensor = x + translation + torch.linalg.cross(rotation, turned)
    return moved
