"""Independent random streams from one seed."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, below 2**31; streams for different purposes are independent.

    >>> derive(0, "evaluation") == derive(0, "evaluation") != derive(0, "sampling")
    True
    """
    words = "/".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little") >> 1


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """What PyTorch's global generator gives, as to layers with dropout, comes from this one instead."""
    theirs = torch.default_generator
    if generator.device.type == "cuda":
        theirs = torch.cuda.default_generators[generator.device.index or 0]
    before = theirs.get_state()
    theirs.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(theirs.get_state())
        theirs.set_state(before)


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """Seeds PyTorch's global generator, from which layers draw their weights, and restores it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def keeping_global_generators() -> Iterator[None]:
    """Restores the global random generators of Python, NumPy and PyTorch afterwards."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
