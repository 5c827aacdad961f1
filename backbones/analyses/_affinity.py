"""Affinities from the losses of transfers, and the best sources under a budget from affinities.

For one target, w_ij is the share of images on which transfer i has a smaller loss than transfer j. The analytic hierarchy process
turns these comparisons into one number for each transfer, whatever the scale of the losses:

    W' = W / W^T    element by element,    affinity = the principal eigenvector of W', scaled to the sum 1

so that a larger affinity is better. A transfer e reads the sources S_e and serves the target t_e with the affinity p_e. Which
sources to train, and which transfer serves each target, is a binary integer programme over x:

    maximise    sum_e p_e x_e
    subject to  |S_e| x_e <= sum over s in S_e of x_s    for each transfer e
                sum of x_e over the transfers to t = 1   for each target t
                sum_s x_s <= budget

Zamir et al., 2018, https://arxiv.org/abs/1804.08328, sections 3.3 and 3.4; here all sources have the same cost and all targets the same
weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlbench.backbones.analyses._base import Array
from rlbench.errors import UserError

LEAST, MOST = 0.001, 0.999
"""Bounds of w_ij, as in the paper."""


@dataclass(frozen=True)
class Transfer:
    """A readout of the codes of some sources for a target."""

    sources: tuple[int, ...]
    target: int
    affinity: float = 0.0


def win_rates(losses: Array) -> Array:
    """w_ij, the share of images on which transfer i has a smaller loss than transfer j, [E, E] of [E, N]; ties count half.

    >>> win_rates(np.array([[1.0, 2.0], [1.0, 3.0]])).tolist()
    [[0.5, 0.75], [0.25, 0.5]]
    """
    smaller = (losses[:, None] < losses).mean(2)
    rates: Array = (1 + smaller - smaller.T) / 2
    return rates


def affinities(rates: Array) -> Array:
    """The affinity of each transfer, [E], from win rates [E, E]; the sum is 1."""
    bounded = rates.clip(LEAST, MOST)
    values, vectors = np.linalg.eig(bounded / bounded.T)
    # The matrix is positive, so the eigenvector of its largest eigenvalue is real and all of its entries have one sign, which cancels.
    principal = vectors[:, values.real.argmax()].real
    scaled: Array = principal / principal.sum()
    return scaled


def best_sources(
    transfers: Sequence[Transfer], sources: int, targets: int, budget: int
) -> tuple[Transfer, ...]:
    """The transfer that serves each target in the solution of the binary integer programme, in the order of the targets.

    Args:
        transfers: All that may be used.
        sources: Number of sources.
        targets: Number of targets.
        budget: Largest number of sources.

    Raises:
        UserError: No set of `budget` sources serves every target, or SciPy is not installed.
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ModuleNotFoundError as error:
        raise UserError(
            "the choice of sources needs the package scipy; install it with pip install 'rlbench[transfers]'"
        ) from error
    count = len(transfers)
    needs, serves = np.zeros((count, count + sources)), np.zeros((targets, count + sources))
    for row, transfer in enumerate(transfers):
        needs[row, row] = len(transfer.sources)
        needs[row, [count + s for s in transfer.sources]] = -1
        serves[transfer.target, row] = 1
    trained = np.r_[np.zeros(count), np.ones(sources)]
    found = milp(
        -np.array([*(transfer.affinity for transfer in transfers), *[0.0] * sources]),
        constraints=[
            LinearConstraint(needs, -np.inf, 0),
            LinearConstraint(serves, 1, 1),
            LinearConstraint(trained[None], -np.inf, budget),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(count + sources),
        options={"mip_rel_gap": 0.0},
    )
    if not found.success:
        raise UserError(
            f"no {budget} sources serve all {targets} targets, none of which may be served by itself; give a larger budget"
        )
    chosen = [transfer for transfer, x in zip(transfers, found.x, strict=False) if x > 0.5]
    return tuple(sorted(chosen, key=lambda transfer: transfer.target))


def random_policy(
    transfers: Sequence[Transfer], sources: int, targets: int, budget: int, rng: np.random.Generator
) -> tuple[Transfer, ...]:
    """A random transfer for each target, from `budget` random sources that together can serve all targets."""
    while True:
        chosen = {*rng.choice(sources, budget, replace=False).tolist()}
        usable = [transfer for transfer in transfers if chosen.issuperset(transfer.sources)]
        options = [[x for x in usable if x.target == target] for target in range(targets)]
        if all(options):
            return tuple(each[rng.integers(len(each))] for each in options)
