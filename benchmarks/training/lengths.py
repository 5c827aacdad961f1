"""The length of a run that is given in environment steps."""

from dataclasses import replace
from typing import Any

from rlbench.backbones.ranges import COUNT
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.steps import EnvSteps
from rlbench.errors import UserError
from rlbench.trust import Trust


def steps_of(
    steps: int, learner_name: str, settings: Any, config: RunConfig, *, trust: Trust = False
) -> EnvSteps:
    """Environment steps as a function of updates, for a run that should take at least `steps` of them.

    Makes the environment and the untrained learner, and writes nothing.

    Args:
        steps: Environment steps, summed over parallel environments.
        learner_name: As in `rlbench list`, or package.module:Class.
        settings: The learner's settings.
        config: Options of the run; its `updates` do not matter.
        trust: See `Run`.

    Raises:
        UserError: The learner does not gather its own experience, the steps end before its first update, or their number is out of range.
    """
    if not COUNT.holds(steps):
        raise UserError(f"steps is {steps}; give {COUNT.words}")
    alone = replace(config, loggers=(), callbacks=())
    found = Run(learner_name, settings, alone, trust=trust).env_steps
    if found is None:
        raise UserError(
            f"steps is {steps:,}, but {learner_name} on {config.env} does not gather its own experience; give "
            "updates instead"
        )
    if steps <= found.first:
        raise UserError(
            f"steps is {steps:,}, but {learner_name} takes {found.first:,} random steps before its first update; give more "
            "steps or fewer random_steps"
        )
    return found
