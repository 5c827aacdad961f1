"""The command `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlbench.backbones.ranges import check
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator, evaluators_of
from rlbench.benchmarks.training.loading import examples_of_run, load_run
from rlbench.benchmarks.training.recorder import describe
from rlbench.errors import UserError
from rlbench.interface import Agent, Model
from rlbench.terminal import say
from rlbench.trust import TrustOption


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained agent on new episodes, or a model on its test examples."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    episodes: int = 100
    """Number of episodes to play; a model is measured on all of its test examples."""
    seed: int = 1
    """Seed of the episodes; training used different ones."""
    explore: bool = False
    """Act with exploration noise."""
    trust: TrustOption = False

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def make(options: EvaluateConfig) -> None:
    """Scores the learner of a run; writes nothing."""
    path, seed = options.run, options.seed
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
    exploring = {"explore": options.explore} if isinstance(learner, Agent) else {}
    for each in evaluators:
        columns |= each.columns(learner, seed, **exploring)
    say(describe(task, type(learner), columns))
    for note in filter(None, (each.note() for each in evaluators)):
        say(note)
