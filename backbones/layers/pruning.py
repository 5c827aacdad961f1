"""Pruning of weights: which ones to keep, what the kept ones restart from, and what the pruned ones become.

For one layer, w_i are its early weights and w_f those at the end of a round of training. All functions take and return tensors of its shape.

Zhou et al., 2019, https://arxiv.org/abs/1905.01067: sections 2 (criteria), 3 (kept weights) and 4 (pruned weights)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Criterion = Literal[
    "large_final", "small_final", "large_init", "small_init", "magnitude_increase", "movement", "large_init_large_final",
    "small_init_small_final", "large_final_same_sign", "large_final_diff_sign", "magnitude_increase_same_sign",
    "magnitude_increase_diff_sign", "random",
]  # fmt: skip
Kept = Literal[
    "rewind",
    "reinit",
    "reshuffle",
    "signed_reinit",
    "signed_reshuffle",
    "signed_constant",
    "rand_signed_constant",
]
Pruned = Literal["zero", "freeze_init", "freeze_init_zero_mask", "freeze_init_zero_all"]

LEAST_SHARE = 0.01
"""Smallest share of its weights that a layer keeps if all layers are pruned together: without any, no signal passes."""


def _same_sign(first: Tensor, last: Tensor) -> Tensor:
    return first.sign() == last.sign()


def _ranked(x: Tensor) -> Tensor:
    """Places in increasing order as shares, so that two criteria have a common unit."""
    return x.flatten().argsort().argsort().view_as(x) / max(x.numel(), 1)


_SCORES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "large_final": lambda first, last: last.abs(),
    "small_final": lambda first, last: -last.abs(),
    "large_init": lambda first, last: first.abs(),
    "small_init": lambda first, last: -first.abs(),
    "magnitude_increase": lambda first, last: last.abs() - first.abs(),
    "movement": lambda first, last: (last - first).abs(),
    "large_init_large_final": lambda first, last: torch.minimum(_ranked(first.abs()), _ranked(last.abs())),
    "small_init_small_final": lambda first, last: torch.minimum(_ranked(-first.abs()), _ranked(-last.abs())),
    # Weights whose sign has changed come last.
    "large_final_same_sign": lambda first, last: last.abs() * _same_sign(first, last),
    "large_final_diff_sign": lambda first, last: last.abs() * ~_same_sign(first, last),
    "magnitude_increase_same_sign": lambda first, last: (last.abs() - first.abs()).where(_same_sign(first, last), -torch.inf),
    "magnitude_increase_diff_sign": lambda first, last: (last.abs() - first.abs()).where(~_same_sign(first, last), -torch.inf),
}  # fmt: skip
assert {*_SCORES, "random"} == set(get_args(Criterion))


def score(criterion: Criterion, first: Tensor, last: Tensor, noise: Tensor) -> Tensor:
    """Scores, of which the largest are kept.

    Args:
        criterion: See the module.
        first: Early weights w_i.
        last: Final weights w_f.
        noise: Scores of `random`.

    >>> first, last = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([2.0, 1.0, 1.0])
    >>> score("magnitude_increase", first, last, first)
    tensor([ 1., -1., -2.])
    >>> score("large_final_same_sign", first, last, first)
    tensor([2., 0., 1.])
    """
    return noise if criterion == "random" else _SCORES[criterion](first, last)


def largest(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """The mask of the `count` largest scores among the weights of a mask; ties are broken by their place."""
    order = scores.masked_fill(~mask, -torch.inf).flatten()
    # Pruned weights come after kept ones with the score -inf.
    order = order.argsort(descending=True, stable=True)
    order = order[mask.flatten()[order].logical_not().argsort(stable=True)]
    new = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
    new[order[:count]] = True
    return new.view_as(mask)


def pruned_masks(
    scores: Sequence[Tensor], masks: Sequence[Tensor], shares: Sequence[float], *, together: bool
) -> list[Tensor]:
    """Masks with fewer weights.

    Args:
        scores: Of each layer.
        masks: Weights that are kept so far, bool.
        shares: Share of them that each layer keeps.
        together: Whether layers with a share below 1 are pruned by one threshold for all of them, down to the share of their weights in all.
    """
    counts = [max(1, round(share * int(x.sum()))) for share, x in zip(shares, masks, strict=True)]
    if together:
        chosen = [i for i, share in enumerate(shares) if share < 1]
        every = torch.cat([scores[i].masked_fill(~masks[i], -torch.inf).flatten() for i in chosen])
        known = torch.cat([masks[i].flatten() for i in chosen])
        kept = largest(every, known, sum(counts[i] for i in chosen))
        for i, part in zip(chosen, kept.split([masks[i].numel() for i in chosen]), strict=True):
            least = max(1, round(LEAST_SHARE * masks[i].numel()))
            counts[i] = min(max(int(part.sum()), least), int(masks[i].sum()))
    return [largest(*each) for each in zip(scores, masks, counts, strict=True)]


def restarted(action: Kept, first: Tensor, mask: Tensor, new: Tensor, noise: Tensor) -> Tensor:
    """Values from which the kept weights restart; the values of pruned weights have no meaning.

    Args:
        action: See the module.
        first: Early weights w_i.
        mask: Weights that are kept, bool.
        new: Newly drawn initial weights of the layer.
        noise: Uniform draws from [0, 1), for orders and signs.
    """
    if action in ("reshuffle", "signed_reshuffle"):
        values = first.clone()
        values[mask] = first[mask][noise[mask].argsort()]
    elif action in ("reinit", "signed_reinit"):
        values = new
    elif action in ("signed_constant", "rand_signed_constant"):
        values = first.std().expand_as(first)
    else:
        values = first
    if action.startswith("signed"):
        return values.abs() * first.sign()
    if action == "rand_signed_constant":
        return values * (2 * (noise < 0.5).to(first.dtype) - 1)
    return values


def stopped(action: Pruned, first: Tensor, last: Tensor) -> Tensor:
    """Values at which pruned weights are frozen: 0, their early weights, or 0 if their magnitude has decreased in training.

    Args:
        action: See the module.
        first: Early weights w_i.
        last: Final weights w_f.
    """
    if action == "zero":
        return torch.zeros_like(first)
    if action == "freeze_init":
        return first
    return first.where(last.abs() >= first.abs(), 0.0)
