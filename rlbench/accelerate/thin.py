"""Matrix products with a dimension of size 1 as multiplications and sums, which a compiler fuses with the operations before and after them.

The last layer of a critic is a product of [B, 256] and [256, 1], and its gradients are such products too. Libraries are optimised for large
matrices: on a Zen 4 core, a product of 256x256 and 256x1 takes oneDNN 21.6 microseconds and MKL 5.5, although its memory traffic alone takes 1.1.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def product(a: Tensor, b: Tensor) -> Any:
    """`a @ b`, [..., M, N], of [..., M, K] and [..., K, N]; NotImplemented unless M, K or N is 1."""
    if b.shape[-1] == 1:
        return (a * b.mT).sum(-1, keepdim=True)
    if a.shape[-2] == 1:
        return (a.mT * b).sum(-2, keepdim=True)
    if a.shape[-1] == 1:
        return a * b
    return NotImplemented


def sum_with_product(added: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:  # fmt: skip
    """`added + a @ b`; NotImplemented unless M, K or N is 1 and both factors, `beta` and `alpha`, are 1."""
    found = product(a, b) if beta == alpha == 1 else NotImplemented
    return found if found is NotImplemented else added + found


THIN: dict[Any, Callable[..., Any]] = {
    aten.mm.default: product,
    aten.bmm.default: product,
    aten.addmm.default: sum_with_product,
    aten.baddbmm.default: sum_with_product,
}
"""Replacements for matrix products in a trace, by operator."""
