"""Searches for made-up architectures, for tests: spaces, tables of results, and factories of environments."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.agents import load_agent
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.architectures.evaluate import Evaluation, Evaluator, Tokens
from rlbench.envs.architectures.objective import Objective
from rlbench.envs.architectures.search import ArchSearchEnv, ArchSearchVector
from rlbench.envs.architectures.surrogate import Additive, SurrogateEvaluator, one_hot, predict
from rlbench.envs.architectures.tabulated import Table
from rlbench.envs.tasks import Task
from rlbench.experience import Trajectories
from rlbench.interface import Spec


@dataclass(frozen=True)
class Blocks:
    """An architecture without meaning."""

    tokens: Tokens


@dataclass(frozen=True)
class FakeSpace:
    """A space in which the last token has no effect if the first is 0."""

    choices: tuple[int, ...]
    name: str = "fake"

    def canonical(self, tokens: Tokens) -> Tokens:
        return tokens if tokens[0] else (*tokens[:-1], 0)

    def decode(self, tokens: Tokens) -> Blocks:
        return Blocks(self.canonical(tokens))


SMALL = FakeSpace((3, 2, 4, 2))
BLOCKS = FakeSpace((4, 2, 2, 3, 3, 3) * 3)
"""As many choices as MnasNet's factorised space with three blocks."""
OBJECTIVE = Objective(target_ms=2.0)


class Counted:
    """Accuracy from the sum of the tokens, latency from the first; it keeps the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Tokens]] = []

    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        self.batches.append(list(batch))
        return [
            Evaluation(0.1 + 0.05 * sum(x), 1.0 + x[0], 10 * (1 + sum(x)), 7, 0.5, cached=x[0] == 1)
            for x in batch
        ]


def env(observations: Any = "one-hot", evaluator: Evaluator | None = None) -> ArchSearchEnv:
    """One search in the small space."""
    return ArchSearchEnv(SMALL, evaluator or Counted(), OBJECTIVE, observations)


def tokens_env() -> ArchSearchEnv:
    """One search whose observations are numbers."""
    return env("tokens")


def vector(count: int, evaluator: Evaluator | None = None, **options: Any) -> ArchSearchVector:
    """Searches in the small space as a batch."""
    return ArchSearchVector(SMALL, evaluator or Counted(), OBJECTIVE, count, **options)


def made_up(rows: int = 200, seed: int = 0) -> Table:
    """A table of random architectures: effects of single tokens, and noise."""
    rng = np.random.default_rng(seed)
    size = sum(BLOCKS.choices)
    effects = rng.normal(size=(size, 2)) * (0.026, 0.08)
    drawn = {BLOCKS.canonical(tuple(rng.integers(BLOCKS.choices).tolist())) for _ in range(rows)}
    tokens = np.array(sorted(drawn))
    accuracy, latency = (one_hot(tokens, BLOCKS.choices) @ effects).T
    accuracy = 0.47 + accuracy - accuracy.mean() + rng.normal(size=len(tokens)) * 0.05
    none = np.zeros(len(tokens))
    return Table(tokens, accuracy, 0.6 * np.exp(latency), none.astype(int), none.astype(int), none)


@dataclass
class Landscape:
    """An additive surrogate with noise."""

    model: Additive
    objective: Objective
    evaluator: SurrogateEvaluator

    def rewards(self, tokens: NDArray[Any]) -> NDArray[np.float64]:
        """Rewards without noise, [N]."""
        canonical = np.array([BLOCKS.canonical(tuple(x)) for x in tokens.tolist()])
        accuracy, log_latency = predict(self.model, canonical).T
        found = zip(accuracy.clip(1e-3, 1.0), np.exp(log_latency), strict=True)
        return np.array([self.objective.reward(*x) for x in found])


def landscape(kind: Any = "soft", noise: float = 0.02, seed: int = 0) -> Landscape:
    """A surrogate of made-up results; its target is their median latency."""
    table = made_up()
    objective = Objective(float(np.median(table.latency_ms)), kind)
    evaluator = SurrogateEvaluator(BLOCKS, table, noise=noise, seed=seed)
    return Landscape(evaluator.model, objective, evaluator)


class Search:
    """An agent that searches on a landscape, as in a run."""

    def __init__(self, name: str, on: Landscape, seed: int = 0, **settings: Any) -> None:
        """The agent of a name with some settings."""
        make = partial(ArchSearchEnv, BLOCKS, on.evaluator, on.objective)
        make_vector = partial(ArchSearchVector, BLOCKS, on.evaluator, on.objective)
        agent_class = load_agent(name)
        self.agent = agent_class(agent_class.Config(**settings), Spec.of(make()), seed=seed)
        task = Task("fake", make, make_vector=make_vector)
        self.driver = RolloutDriver(self.agent, task, seed, self._learn)
        self._on = on
        self._seen: list[Trajectories] = []

    def update(self, times: int = 1) -> "Search":
        """Some updates."""
        for _ in range(times):
            self.metrics = self.driver.update()
        return self

    @property
    def rewards(self) -> NDArray[Any]:
        """Rewards with noise of all architectures so far, [N], in order."""
        return np.concatenate([x.reward.sum(0).numpy() for x in self._seen])

    @property
    def true_rewards(self) -> NDArray[np.float64]:
        """Their rewards without noise, [N]."""
        return self._on.rewards(np.concatenate([x.action.T.numpy() for x in self._seen]))

    def _learn(self, rollout: Trajectories) -> Any:
        self._seen.append(rollout)
        return self.agent.learn(rollout)


@dataclass(frozen=True)
class Found:
    """The result of a search, in rewards without noise."""

    best: float
    """Reward of the architecture that looked best."""
    last: float
    """Mean reward of the last 50 architectures."""


def searches_of(names: Sequence[str], seed: int) -> list[Found]:
    """The results of searches of 300 architectures with the default settings."""
    found = []
    for name in names:
        search = Search(name, landscape(seed=seed), seed).update(15)
        true = search.true_rewards
        found.append(Found(float(true[search.rewards.argmax()]), float(true[-50:].mean())))
    return found
