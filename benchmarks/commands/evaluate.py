"""The command `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from rlbench.backbones.ranges import check
from rlbench.benchmarks.training.evaluation import (
    EpisodesEvaluator,
    ExamplesEvaluator,
    evaluators_of,
)
from rlbench.benchmarks.training.loading import examples_of_run, load_run
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.recorder import describe
from rlbench.compute import configure
from rlbench.errors import UserError
from rlbench.interface import Agent, Model
from rlbench.terminal import Terminal, say
from rlbench.trust import TrustOption


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained agent on new episodes, or a model on its test examples."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, or zoo:NAME."""
    episodes: int = 100
    """Number of episodes to play; a model is measured on all of its test examples."""
    seed: int = 1
    """Seed of the episodes; training used different ones."""
    explore: bool = False
    """Act with exploration noise."""
    threads: int = 1
    """Number of PyTorch threads; small networks gain little from more than one."""
    trust: TrustOption = False

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def make(options: EvaluateConfig) -> None:
    """Scores the learner of a run; writes nothing."""
    path, seed = options.run, options.seed
    configure(options.threads)
    learner, task = load_run(path, trust=options.trust)
    if options.explore and not isinstance(learner, Agent):
        kind = "model" if isinstance(learner, Model) else "meta-learner"
        raise UserError(f"{path} is the run of a {kind}, which does not act; leave --explore out")
    if isinstance(learner, Model):
        examples = examples_of_run(path, trust=options.trust)
        evaluator = ExamplesEvaluator(examples.test.to(learner.device))
        say(describe(task, type(learner), evaluator.columns(learner, seed)))
        return
    evaluators = evaluators_of(learner, task, options.episodes)
    columns: dict[str, Any] = {}
    for each in evaluators:
        if isinstance(learner, Agent):
            columns |= _played(each, learner, seed, explore=options.explore)
        else:
            columns |= each.columns(learner, seed)
    say(describe(task, type(learner), columns))
    for note in filter(None, (each.note() for each in evaluators)):
        say(note)


def _played(
    evaluator: EpisodesEvaluator, agent: Agent, seed: int, *, explore: bool
) -> dict[str, NDArray[Any]]:
    """The columns of an evaluator; standard error shows how many of its episodes have ended."""
    # Standard output has only the result, which may be sent to a file.
    console, title = Terminal(stderr=True), f"evaluating on {evaluator.name}"
    with ProgressLine(console, title, evaluator.episodes, "episodes") as line:

        def count(
            episode: NDArray[Any], step: NDArray[Any], obs: NDArray[Any], action: NDArray[Any],
            reward: NDArray[Any], terminated: NDArray[Any], truncated: NDArray[Any],
            next_obs: NDArray[Any],
        ) -> None:  # fmt: skip
            if ended := int(np.count_nonzero((episode >= 0) & (terminated | truncated))):
                line.advance(line.done + ended)

        line.advance(0)
        return evaluator.columns(agent, seed, explore=explore, record=count)
