"""What follows from the options of a run: its source of experience, whether its updates are compiled, and its folder."""

import itertools
from pathlib import Path
from typing import Any

from rlbench import compute
from rlbench.accelerate.compile import why_not
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import lifetimes_of
from rlbench.benchmarks.training.run_folder import folder_name
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Lifetimes, Trajectories, Transitions
from rlbench.interface import Agent, Learner
from rlbench.seeding import derive


def learns_from_data(name: str, agent: type[Agent], config: RunConfig, task: Task) -> bool:
    """Whether an agent learns from a data set alone; otherwise it gathers its own experience.

    Args:
        name: Name of the agent.
        agent: Its class.
        config: Options of the run.
        task: Its task.

    Raises:
        UserError: The agent can do neither with these options.
    """
    data = config.data
    if config.data_share:
        if data == "none" or not (agent.explores and agent.consumes is Transitions):
            raise UserError(
                f"data_share is {config.data_share}, the agent is {name} and data is {data}, but a share of a data set needs an agent with a "
                "replay buffer, such as iql or sac, and data other than none; leave out --data-share or change the others"
            )
        return False
    if agent.explores and (data == "none" or (task.data is None and data == "auto")):
        return False
    if data == "none":
        raise UserError(
            f"--data is none, but {name} learns from data alone; leave --data out or "
            "choose an agent that explores, such as sac"
        )
    if agent.consumes is Trajectories and agent.explores:
        raise UserError(
            f"{name} learns from its own steps and takes no data set; give a task "
            "without one, such as --env Pendulum-v1, and leave --data out"
        )
    return True


def training_lifetimes(task: Task, settings: Any, config: RunConfig) -> Lifetimes:
    """The lifetimes in which a meta-learner trains, with different ages at the start."""
    seed, device = derive(config.seed, "lifetimes"), compute.resolve_device(config.device)
    return lifetimes_of(task, settings, settings.lifetimes, seed, device, staggered=True)


def compiles(config: RunConfig, learner: Learner) -> bool:
    """Whether the run compiles its updates; a UserError if this is requested but impossible."""
    short = config.updates * learner.compiled_steps < learner.compile_from
    if config.compile == "off" or (config.compile == "auto" and short):
        return False
    hindrance = why_not(learner)
    if hindrance and config.compile == "on":
        raise UserError(f"compile is on, but {hindrance}; give --compile off")
    return hindrance is None


def new_folder(learner_name: str, config: RunConfig) -> Path:
    """runs/LEARNER-TASK-sSEED, numbered if that name is taken."""
    base = folder_name(f"{learner_name}-{config.env}-s{config.seed}")
    if config.seeds > 1:
        base += f"-{config.seed + config.seeds - 1}"
    taken = (Path("runs") / (base if n == 1 else f"{base}-{n}") for n in itertools.count(1))
    return next(path for path in taken if not path.exists())
