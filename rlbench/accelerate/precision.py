"""Updates with matrix products in bfloat16, for hardware with units for them.

Parameters, optimisers, losses and all other operations stay float32. bfloat16 has float32's range, with
8 bits of precision instead of 24, so losses need no scaling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlbench.compute import has_bfloat16_units
from rlbench.interface import Learn

THIN = 32
"""Products with a shorter side stay float32: they cost little, and they include the last layers, whose
outputs are subtracted from each other in losses."""

_aten = torch.ops.aten
_PRODUCTS = (_aten.mm.default, _aten.bmm.default)
_WITH_BIAS = {_aten.addmm.default: _aten.mm.default, _aten.baddbmm.default: _aten.bmm.default}
_CONVOLUTIONS = (_aten.convolution.default, _aten.convolution_backward.default)


def with_products_in(precision: str, learn: Learn) -> Learn:
    """A function that updates a learner, with its matrix products in another precision.

    Args:
        precision: bfloat16 or float32; the latter changes nothing.
        learn: `learner.learn` or a part of it.
    """
    if precision == "float32":
        return learn

    def update(experience: Any) -> Any:
        with Bfloat16Products():
            return learn(experience)

    return update


class Bfloat16Products(TorchDispatchMode):
    """A context in which products and convolutions, including backward passes, use bfloat16.

    Factors and results are rounded; sums have the precision of the hardware, mostly float32.
    """

    def __init__(self) -> None:
        """No operation is rounded until the context is entered."""
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each operation."""
        if not kwargs:
            if func in _WITH_BIAS and _pays(*args[1:]):
                return args[0] + _rounded(_WITH_BIAS[func], args[1:])
            if func in _PRODUCTS and _pays(*args):
                return _rounded(func, args)
            if func in _CONVOLUTIONS and args[0].dtype == torch.float32:
                return _rounded(func, args)
        return func(*args, **(kwargs or {}))


def _pays(a: Tensor, b: Tensor) -> bool:
    return a.dtype == torch.float32 and min(*a.shape[-2:], b.shape[-1]) >= THIN


def _rounded(func: Any, args: Any) -> Any:
    """A function of float32 tensors, computed in bfloat16."""
    if has_bfloat16_units(args[0].device):
        short = _each(lambda x: x.bfloat16(), args)
        return _each(lambda x: x.float(), func(*short))
    # Here PyTorch's own bfloat16 products take about 60 times as long as float32 products.
    return _each(_to_eight_bits, func(*_each(_to_eight_bits, args)))


def _to_eight_bits(x: Tensor) -> Tensor:
    """float32 rounded to the nearest bfloat16, ties to even.

    This works on the bits, because Inductor removes a conversion to bfloat16 and back.
    """
    bits = x.view(torch.int32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & -0x10000).view(torch.float32)


def _each(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Applies a function to a tensor or to each tensor in a tuple; other values are unchanged."""
    if isinstance(values, tuple):
        return tuple(_each(function, x) for x in values)
    return function(values) if isinstance(values, Tensor) else values
