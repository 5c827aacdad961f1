"""Makes the environment of a search from its name."""

from typing import Literal, cast

import numpy as np

from rlbench.envs.architectures.children import sizes_of
from rlbench.envs.architectures.evaluate import Evaluator
from rlbench.envs.architectures.names import REWARDS, TABULATED, SearchName
from rlbench.envs.architectures.objective import Objective
from rlbench.envs.architectures.search import ArchSearchEnv, ArchSearchVector
from rlbench.envs.architectures.space import CELL_SUFFIX, Space, find_space
from rlbench.envs.architectures.surrogate import SurrogateEvaluator
from rlbench.envs.architectures.tabulated import TabulatedEvaluator, read_table
from rlbench.envs.architectures.targets import nature_target, random_target
from rlbench.envs.architectures.trained import TrainedEvaluator
from rlbench.envs.examples import find_source

LARGE = 40
"""Rows and columns from which images are seen by encoders of agents, so that these are searched."""
ACTING_BATCH = 32
"""Images in one pass of an agent's encoder: with fewer, the time does not depend on the size of the network."""
TIGHT_SHARE = 0.1
"""Share of random architectures that are as fast as a tight target."""
NOISE = 0.02
"""Standard deviation of the accuracy that the surrogate predicts."""


def make_env(name: SearchName) -> ArchSearchEnv:
    """One search.

    Raises:
        UserError: The source has no labelled images, or too few, or the space no architectures that are fast enough.
    """
    return ArchSearchEnv(*parts(name))


def make_vector(name: SearchName, count: int) -> ArchSearchVector:
    """`count` searches, whose architectures are trained in parallel; see `make_env`."""
    return ArchSearchVector(*parts(name), count)


def parts(name: SearchName) -> tuple[Space, Evaluator, Objective]:
    """Space, evaluator and objective of a name; see `make_env`."""
    evaluator: Evaluator
    if name.searched in TABULATED:
        space = find_space(TABULATED[name.searched].space)
        table = read_table(TABULATED[name.searched].file, space)
        target = float(np.quantile(table.latency_ms, TIGHT_SHARE if name.tight else 0.5))
        if name.searched == "tiny":
            evaluator = TabulatedEvaluator(space, table)
        else:
            evaluator = SurrogateEvaluator(space, table, noise=NOISE)
        return space, evaluator, _objective(name.reward, target)
    source = find_source(name.searched)
    assert source is not None
    made = source()
    obs = made.fields.get("obs")
    space = default_space(name.searched, (obs and obs.shape) or ())
    batch = ACTING_BATCH if space.name == "rl-encoder" else 1
    if name.cell:
        space = find_space(space.name + CELL_SUFFIX)
    evaluator = TrainedEvaluator(space, made, name.searched, batch=batch)
    sizes_of(made, name.searched, evaluator.settings)  # Refuses too few before a run begins.
    if name.tight or batch == 1:
        target = random_target(evaluator, TIGHT_SHARE if name.tight else 0.5)
    else:
        target = nature_target(evaluator)
    return space, evaluator, _objective(name.reward, target)


def default_space(source: str, shape: tuple[int, ...]) -> Space:
    """The space in which architectures for a source of images of this shape are searched.

    Args:
        source: Name of the source.
        shape: One image; channels are first or last.
    """
    if len(shape) == 3 and sorted(shape)[1] >= LARGE:
        return find_space("rl-encoder")
    return find_space("mnas-mini" if source == "digits" else "mnas-nano")


def _objective(reward: str, target: float) -> Objective:
    if reward == "accuracy":
        return Objective(target, weight=0.0)
    assert reward == "soft" or reward in REWARDS
    return Objective(target, cast(Literal["soft", "hard", "absolute"], reward))
