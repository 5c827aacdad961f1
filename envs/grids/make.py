"""Worlds and lifetimes of the grids and chains, by their names."""

from typing import Any

import torch

from rlbench.envs.grids.chains import CHAINS, ChainWorlds
from rlbench.envs.grids.engine import GridWorlds, RandomGridWorlds
from rlbench.envs.grids.levels import LEVELS, NAMED, RANDOM
from rlbench.envs.grids.lifetimes import WorldLifetimes
from rlbench.envs.grids.names import LENGTHS
from rlbench.envs.grids.worlds import Worlds


def make_worlds(
    family: str, count: int, workers: int, *, seed: int, device: torch.device | str = "cpu"
) -> Worlds:
    """`count` levels of a family with `workers` workers each; `seed` decides the levels and all random events."""
    kind, _, name = family.partition("-")
    if kind == "chain":
        return ChainWorlds(CHAINS[name], count, workers, seed, device)
    if name.startswith("levels-"):
        level_set = LEVELS[name.removeprefix("levels-")]
        return GridWorlds(level_set, count, workers, 5, seed, device)
    if name.startswith("rand-"):
        grid = RANDOM[name.removeprefix("rand-")]
        return RandomGridWorlds(grid, count, workers, 9, seed, device)
    return GridWorlds(NAMED[name], count, workers, 9, seed, device)


def make_lifetimes(
    family: str,
    count: int,
    workers: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    **options: Any,
) -> WorldLifetimes:
    """`count` lifetimes with `workers` workers each.

    Args:
        family: A key of `LENGTHS`.
        count: Number of lifetimes, N.
        workers: Number of workers in each lifetime, W.
        seed: Decides the levels and all random events.
        device: Device of all tensors.
        **options: See `WorldLifetimes`.
    """
    worlds = make_worlds(family, count, workers, seed=seed, device=device)
    return WorldLifetimes(worlds, LENGTHS[family], **options)
