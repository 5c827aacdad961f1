"""Numbers in the evidence for a claim."""

from collections.abc import Iterable

import numpy as np


def by_seed(values: Iterable[float]) -> str:
    """The mean of a number over seeds, and the number of each seed.

    >>> by_seed([54.0, 55.5])
    '54.8 (54.0/55.5)'
    """
    each = list(values)
    return f"{np.mean(each):.1f} ({'/'.join(f'{x:.1f}' for x in each)})"
