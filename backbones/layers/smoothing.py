"""Randomised smoothing: the most probable answer of a classifier under Gaussian noise, and how far the input may move without changing it.

    g(x) = argmax_c P( f(x + e) = c ),   e ~ N(0, sigma^2 I)

If a class has a probability of at least p > 1/2 under the noise, g gives it within the radius sigma Phi^-1(p) around x in the Euclidean norm.

Cohen et al., 2019, https://arxiv.org/abs/1902.02918, theorem 1 and section 3.2; attacks on g: Salman et al., 2019,
https://arxiv.org/abs/1906.04584, section 2.2
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.layers.attacks import Ball, pgd

Logits = Callable[[Tensor], Tensor]
"""A classifier, from [N, ...] to [N, C]."""
AT_ONCE = 2_000
"""Noisy inputs that are classified at once, which bounds the memory."""


def noisy_counts(
    logits: Logits,
    x: Tensor,
    sigma: float,
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """How often each class is the answer under noise, int64 [B, C].

    Args:
        logits: The classifier, from [N, ...] to [N, C].
        x: Inputs, [B, ...].
        sigma: Standard deviation of the noise, in the unit of the inputs.
        samples: Draws for each input.
        generator: Draws the noise.
    """
    counts: Tensor | None = None
    each = max(1, AT_ONCE // len(x))
    with torch.no_grad():
        for first in range(0, samples, each):
            copies = min(each, samples - first)
            many = x.repeat_interleave(copies, dim=0)
            noise = torch.randn(many.shape, generator=generator, device=x.device)
            answers = logits(many + sigma * noise)
            if counts is None:
                counts = torch.zeros((len(x), answers.shape[1]), dtype=torch.long, device=x.device)
            ones = torch.ones_like(answers[:, 0], dtype=torch.long)
            rows = torch.arange(len(x), device=x.device).repeat_interleave(copies)
            counts.index_put_((rows, answers.argmax(dim=1)), ones, accumulate=True)
    assert counts is not None
    return counts


def lower_bound(count: NDArray[np.int64], samples: int, alpha: float) -> NDArray[np.float64]:
    """One-sided lower confidence bound of Clopper and Pearson for a probability, at the level 1 - `alpha`.

    >>> lower_bound(np.array([100]), 100, 0.001).round(4).tolist()
    [0.9333]
    """
    from scipy.stats import beta

    bound: NDArray[np.float64] = np.where(
        count == 0, 0.0, beta.ppf(alpha, np.maximum(count, 1), samples - count + 1)
    )
    return bound


def certificates(
    choosing: Tensor, counts: Tensor, sigma: float, alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class that is certified at each input, and its radius; -1 and 0 if there is none.

    Args:
        choosing: Counts of a few draws, which choose the class, [B, C].
        counts: Counts of further draws, [B, C]: with the same ones the bound would not hold.
        sigma: Standard deviation of the noise.
        alpha: Probability that a certificate is wrong.

    Returns:
        Classes [B], and radii [B] in the unit of `sigma`.
    """
    from scipy.stats import norm

    chosen = choosing.argmax(dim=1)
    own = counts.gather(1, chosen[:, None])[:, 0].cpu().numpy()
    bound = lower_bound(own, int(counts[0].sum()), alpha)
    certified = bound > 0.5
    radius = np.where(certified, sigma * norm.ppf(np.where(certified, bound, 0.5)), 0.0)
    return np.where(certified, chosen.cpu().numpy(), -1), radius


def smoothed_loss(logits: Tensor, label: Tensor) -> Tensor:
    """J of each example, [B]: minus the logarithm of the mean probability of its class.

    Args:
        logits: For each draw of the noise, [m, B, C].
        label: Classes, int64 [B].
    """
    own = logits.log_softmax(dim=-1).gather(-1, label.expand(len(logits), -1)[..., None])[..., 0]
    return float(np.log(len(logits))) - own.logsumexp(dim=0)


def attacked(
    logits: Logits,
    x: Tensor,
    label: Tensor,
    noise: Tensor,
    radius: Tensor,
    steps: int,
    *,
    bounded: bool = True,
) -> Tensor:
    """Examples moved within their radius so that the loss of the soft smoothed classifier rises, [B, ...].

    Args:
        logits: The classifier, from [N, ...] to [N, C].
        x: Examples, [B, ...].
        label: The answers that are attacked, int64 [B].
        noise: Draws of the noise, which are the same in all steps, [m, B, ...].
        radius: Largest distance of each example, [B].
        steps: Number of steps (paper: T).
        bounded: Whether values are from 0 to 1, as in images, and must stay so.
    """
    reach = radius.view(-1, *[1] * (x.dim() - 1))

    def objective(moved: Tensor) -> Tensor:
        each = logits((moved + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        return smoothed_loss(each, label)

    ball = Ball("l2", reach, low=0.0, high=1.0) if bounded else Ball("l2", reach)
    return pgd(objective, x, ball, steps)
