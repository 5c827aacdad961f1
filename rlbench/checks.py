"""Checks of the inputs of losses."""

from torch import Tensor


def same_shape(*tensors: Tensor) -> None:
    """Raises a ValueError unless all shapes are equal: [B] times [B, 1] would be [B, B]."""
    shapes = [tuple(x.shape) for x in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(f"expected one shape, got {shapes}")
