"""Manipulated explanations: a small change to the input that keeps the network's answer and moves its explanation to a chosen map.

    minimise over x'   gamma_1 |h(x') - h_target|^2 + gamma_2 |p(x') - p(x)|^2,   x' in [0, 1]^n, |x' - x|_2 <= radius

by Adam on the pixels, where h is the map of an explanation of the class of x and p the softmax of the outputs, both as means of squares. Maps with
ReLUs have hardly any gradient, because a ReLU has no second derivative; in the search it is softplus(beta x) / beta, where beta rises
from 10 to 100 geometrically. The results are judged with ReLUs.

Dombrowski et al., 2019, https://arxiv.org/abs/1906.07983, sections 2.2 and 4, and their code https://github.com/pankessel/adv_explanation_ref

Differences from the paper: maps are multiplied by the number of their pixels in the loss, so that the weights do not depend on the size; an optional radius.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.layers.attacks import Ball
from rlbench.backbones.optim import Adam
from rlbench.checks import same_shape

WINDOW = 7
"""Rows and columns of the windows of SSIM."""
C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM, relative to the range of the values."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of the search for a manipulated input."""

    steps: int
    learning_rate: float
    map_weight: float
    """gamma_1."""
    answer_weight: float
    """gamma_2."""
    betas: tuple[float, float]
    """Of softplus, in the first and in the last step."""
    radius: float
    """Largest distance from the input; 0: no limit."""


def beta_at(step: int, steps: int, betas: tuple[float, float]) -> float:
    """The softplus parameter of a step, which changes geometrically.

    >>> [round(beta_at(step, 3, (10.0, 1000.0)), 6) for step in range(3)]
    [10.0, 100.0, 1000.0]
    """
    first, last = betas
    return float(first * (last / first) ** (step / max(steps - 1, 1)))


def manipulation_loss(
    found: Tensor, target: Tensor, answer: Tensor, original: Tensor, search: Search
) -> Tensor:
    """The loss of each input, [B].

    Args:
        found: Maps, [B, H, W], each with the sum 1.
        target: Wanted maps, [B, H, W].
        answer: Probabilities, or other outputs, [B, K].
        original: Those of the inputs before the manipulation, [B, K].
        search: Weights of the two terms.
    """
    same_shape(found, target)
    same_shape(answer, original)
    pixels = found[0].numel()
    moved = (pixels * (found - target)).square().flatten(1).mean(1)
    return search.map_weight * moved + search.answer_weight * (answer - original).square().mean(1)


@torch.enable_grad()
def manipulated(
    maps: Callable[[Tensor, float], Tensor],
    answers: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    search: Search,
) -> Tensor:
    """Inputs near x with maps near the target, like x.

    Args:
        maps: From inputs [B, ...] and a softplus parameter to differentiable maps [B, H, W].
        answers: From inputs [B, ...] to the answers that are kept, [B, K].
        x: Inputs with values from 0 to 1, [B, ...]; each is changed independently of the others.
        target: Wanted maps, [B, H, W].
        search: Settings.
    """
    moved = x.detach().clone().requires_grad_()
    with torch.no_grad():
        original = answers(x)
    optimizer = Adam([moved], search.learning_rate)
    reach = Ball("l2", search.radius or torch.inf, low=0, high=1)
    for step in range(search.steps):
        beta = beta_at(step, search.steps, search.betas)
        loss = manipulation_loss(maps(moved, beta), target, answers(moved), original, search)
        optimizer.step(torch.autograd.grad(loss.sum(), [moved]))
        with torch.no_grad():
            moved.copy_(reach.projected(x, moved))
    return moved.detach()


def corner(maps: Tensor) -> Tensor:
    """For each map [B, H, W] a map that is uniform in the emptiest corner, of a quarter of the sides, and 0 elsewhere."""
    rows, columns = (max(1, side // 4) for side in maps.shape[1:])
    corners = torch.zeros((4, *maps.shape[1:]), dtype=maps.dtype, device=maps.device)
    corners[0, :rows, :columns] = corners[1, :rows, -columns:] = 1 / (rows * columns)
    corners[2, -rows:, :columns] = corners[3, -rows:, -columns:] = 1 / (rows * columns)
    emptiest = torch.einsum("bhw,khw->bk", maps, corners).argmin(dim=1)
    return corners[emptiest]


def mean_square(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of maps [B, H, W] times their number of pixels, [B]; 0 for equal maps."""
    same_shape(one, other)
    return (one[0].numel() * (one - other)).square().flatten(1).mean(1)


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of the pixels of maps [B, H, W], [B]; 0 if one is constant.

    >>> round(float(correlation(torch.tensor([[[0.0, 1, 2]]]), torch.tensor([[[0.0, 3, 2]]]))), 4)
    0.6547
    """
    same_shape(one, other)
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (one, other))
    return F.cosine_similarity(a, b, dim=1, eps=1e-20)


def structural_similarity(one: Tensor, other: Tensor) -> Tensor:
    """SSIM of maps [B, H, W], [B]: its mean over windows of 7x7; maps are scaled by the range of both together.

    Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861
    """
    same_shape(one, other)
    both = torch.stack([one, other], 1)
    low, high = both.flatten(1).aminmax(dim=1)
    a, b = (both / (high - low).clamp(min=1e-20).view(-1, 1, 1, 1)).unbind(1)
    window = tuple(min(WINDOW, side) for side in a.shape[1:])

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x[:, None], window, stride=1)[:, 0]

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (variances[0] + variances[1] + C2)
    return (luminance * structure).flatten(1).mean(1)
