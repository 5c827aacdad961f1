"""A suite of reinforcement-learning agents, their baselines and their benchmarks."""

from typing import TYPE_CHECKING, Any

from rlbench._version import __version__ as __version__

if TYPE_CHECKING:  # Importing the package loads nothing else.
    from pathlib import Path

    from rlbench.benchmarks.training.acting import Actor
    from rlbench.trust import Trust


def load(run: "str | Path", device: str = "cpu", *, trust: "Trust" = False) -> "Actor":
    """The trained agent of a run, which acts on NumPy observations.

        agent = rlbench.load("runs/ppo-CartPole-v1-s0")
        action = agent(obs)  # of one environment, or of a batch
        agent.reset()  # when an episode begins, if the agent has a memory

    Nothing is unpickled.

    Args:
        run: Folder of the run.
        device: Where the agent computes: cpu, cuda or cuda:N.
        trust: Whether custom code (package.module:thing) that the folder names may be imported, or the names that may.

    Raises:
        UserError: The folder holds no run, several runs or the run of a model, has no checkpoint yet, is damaged, or names
            custom code that is not trusted.
    """
    from rlbench.benchmarks.training.acting import load as loaded

    return loaded(run, device, trust=trust)


def results(folder: "str | Path" = "runs", *, every: bool = False, trust: "Trust" = False) -> Any:
    """All measures of the complete runs in a folder and below it, as a tidy table.

        rlbench.results("runs").groupby(["method", "task"])["return"].agg(["mean", "std"])

    There is one row for each run, with its last evaluation. The columns are `run` (the folder), `method` (the learner, with
    the settings in which its runs differ), `learner`, `task`, `seed`, `data`, `update`, `env_steps`, `score` (normalised as in
    D4RL), and the mean of each measure over the episodes or examples, such as `return`, `held_out/return` or
    `accuracy`. What a run does not have is None, or NaN in a DataFrame. Runs that are unfinished or damaged are
    left out, with a warning that names them.

    Args:
        folder: Where the runs are.
        every: Whether there is a row for every evaluation of each run, for learning curves.
        trust: Whether custom learners that the runs name may be imported for their default settings, or the names that may.

    Returns:
        A `pandas.DataFrame` if pandas is installed, otherwise a list with one dict for each row.

    Raises:
        UserError: The folder holds no complete run.
    """
    from rlbench.benchmarks.tables.tidy import results as found

    return found(folder, every=every, trust=trust)
