"""Linear probes of the layers of a trained network: what it knows about each feature of its observations, and what it knew before.

The features of a model's observations are the classes in the other columns of its test examples; for an agent they are facts about
its environment, such as whether a door is open (`rlbench.envs.facts`). A probe learns from the activations of some test examples, or episodes, and is scored
on the others, so that it never profits from features that go together in the training data. Controls are the untrained network with
the same initial weights, the observations themselves, and shuffled features, which nothing can decode.

Alain and Bengio, 2016, https://arxiv.org/abs/1610.01644; as a comparison with untrained networks: Hermann and Lampinen, 2020,
https://arxiv.org/abs/2006.12433, section 4.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rlbench.backbones.analyses._base import (
    Analysis,
    Array,
    Findings,
    Line,
    Moments,
    Panel,
    bootstrap,
)
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.layers.probes import decoded
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples

TRAINED, UNTRAINED, INPUT, SHUFFLED = "trained", "untrained", "observations", "shuffled"
TRAINING = 2 / 3
"""Share of the examples from which probes learn."""
AT_ONCE = 200
"""Examples that a network reads at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Settings of the probes."""

    examples: int = 1_200
    """Number of test examples (the first ones), or of steps of an agent; probes learn from two thirds of them."""
    features: tuple[str, ...] = ()
    """Features to decode; by default all that are known and not constant."""
    largest: int = 1_024
    """Layers with more units are left out."""
    penalty: float = 1e-2
    """Weight of half the squared norm of a probe's weights."""
    seed: int = 0
    """Seed of the shuffling."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "examples": COUNT, "largest": SIZE, "penalty": NOT_NEGATIVE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


@dataclass(frozen=True)
class Decoded:
    """What a probe of one layer reads."""

    network: str
    layer: str
    feature: str
    score: Array
    """Accuracy, or 1 minus the relative squared error, of each row of the tests, [N]."""


class Probe(Analysis):
    """Decodability of features, by layer and by the length of training."""

    Config: ClassVar[type] = ProbeConfig
    runs = (
        "a run of a model on labelled examples, such as trifeature, or of an agent in MiniGrid, MuJoCo or an environment with `facts`",
    )
    agents = True
    config: ProbeConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        known = self._known(learners[0], examples)
        features = self._features(known)
        generator = torch.Generator().manual_seed(self.config.seed)
        order = torch.randperm(len(known.obs), generator=generator).to(known.obs.device)
        # The history changes the weights of the trained learner, so it comes last.
        rows = [*self._layers(learners[0], TRAINED, known, features)]
        last = rows[-1].layer
        mixed = {name: x[order] for name, x in features.items()}
        rows += self._layers(learners[0], SHUFFLED, known, mixed, last)
        rows += self._layers(self.untrained(), UNTRAINED, known, features)
        read = {"": known.obs.flatten(1).float()}
        rows += self._decoded(read, INPUT, known.train, features)
        over = [
            (update, row)
            for update, learner in self.history()
            for row in self._layers(learner, TRAINED, known, features, last)
        ]
        numbers = {
            f"{row.feature}, {row.network}": float(row.score.mean())
            for row in rows
            if row.layer in ("", last)
        }
        panels = [_by_layer(name, rows) for name in features]
        if len({update for update, _ in over}) > 1:
            panels += [_over_training(name, over) for name in features]
        columns = {" ".join(filter(None, (x.feature, x.network, x.layer))): x.score for x in rows}
        columns |= {f"{x.feature} at {update}": x.score for update, x in over}
        return Findings(
            numbers, panels, columns, {"probes.csv": _table(rows, features, known.train)}
        )

    def _known(self, learner: Any, examples: Mapping[str, Examples]) -> Moments:
        """Observations and features."""
        count = self.config.examples
        if not examples:
            return self.moments(count)
        (given,) = examples.values()
        batch = given.take(slice(count))
        classes = [name for name, space in learner.spec.items() if isinstance(space, Discrete)]
        facts = {name: batch[name] for name in classes if name != "obs"}
        train = int(TRAINING * len(batch))
        if not 0 < train < len(batch):
            raise UserError(
                f"a probe needs at least 2 test examples, but there are {len(batch)}; give --examples 2 or more"
            )
        return Moments(batch["obs"], None, facts, train)

    def _features(self, known: Moments) -> Mapping[str, Tensor]:
        """The features to decode, [N] each.

        Raises:
            UserError: There are none, or a requested one is unknown or constant.
        """
        rest = {name: x for name, x in known.facts.items() if _varies(x, known.train)}
        if not rest:
            raise UserError(
                "no feature is known that has more than one value both where probes learn and where they are tested; give more "
                f"--examples, or {self.runs[0]}"
            )
        for name in self.config.features:
            if name not in rest:
                fault, more = "is not known", ""
                if name in known.facts:
                    fault = "has the same value in all examples for learning, or in all for tests"
                    more = "more --examples, or "
                raise UserError(
                    f"the feature {name!r} {fault}; give {more}one of these: {', '.join(rest)}"
                )
        return {name: rest[name] for name in self.config.features or rest}

    def _layers(
        self,
        learner: Any,
        network: str,
        known: Moments,
        features: Mapping[str, Tensor],
        only: str | None = None,
    ) -> Iterator[Decoded]:
        """Probes of the layers of a network, or of the layer `only`; the last layer, which is the answer, and layers that only reshape are left out."""
        seen, parts = Predictor(learner), []
        for first in range(0, len(known.obs), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            state = None
            if known.state is not None:
                state = {name: x[some] for name, x in known.state.items()}
            parts.append(seen.layers(known.obs[some], state))
        read: dict[str, Tensor] = {}
        before = known.obs.new_empty(0)
        # What has a row for each observation only by chance, such as position vectors and a batch of one, has not in all batches.
        for name in [name for name in parts[0] if all(name in part for part in parts)][:-1]:
            z = parts[0][name]
            fits = z.shape[1] <= self.config.largest and not torch.equal(z, before)
            if fits and only in (None, name):
                read[name] = torch.cat([part[name] for part in parts])
            before = z
        if not read:
            raise UserError(
                f"{type(learner).__name__} has no layer before its answer with at most {self.config.largest} units; give a larger "
                "--largest, or a run of another network"
            )
        yield from self._decoded(read, network, known.train, features)

    def _decoded(
        self, read: Mapping[str, Tensor], network: str, train: int, features: Mapping[str, Tensor]
    ) -> Iterator[Decoded]:
        """A probe for each feature in each layer."""
        for layer, z in read.items():
            for name, feature in features.items():
                score = decoded(z, feature, train, self.config.penalty)
                yield Decoded(network, layer, name, score.cpu().numpy())


def _varies(feature: Tensor, train: int) -> bool:
    """Whether a feature has more than one value in both parts."""
    return all(len(part.unique()) > 1 for part in (feature[:train], feature[train:]))


def _chance(feature: Tensor, train: int) -> float:
    """What a probe without any activations reaches: the share of the most frequent class of the training rows, or an R^2 of 0."""
    if feature.is_floating_point():
        return 0.0
    usual = feature[:train].bincount().argmax()
    return float((feature[train:] == usual).float().mean())


def _line(name: str, x: Sequence[float], rows: Sequence[Decoded]) -> Line:
    scores = np.stack([row.score for row in rows], axis=1)
    return Line(name, x, *bootstrap(scores, np.ones_like(scores)))


def _by_layer(feature: str, rows: Sequence[Decoded]) -> Panel:
    own = [row for row in rows if row.feature == feature]
    lines = []
    for network in (TRAINED, UNTRAINED):
        some = [row for row in own if row.network == network]
        lines.append(_line(network, range(1, len(some) + 1), some))
    flat = next(row for row in own if row.network == INPUT)
    lines.append(_line(INPUT, [1, len(some)], [flat, flat]))
    return Panel(feature, "layer", lines)


def _over_training(feature: str, over: Sequence[tuple[int, Decoded]]) -> Panel:
    own = [(update, row) for update, row in over if row.feature == feature]
    line = _line("last hidden layer", [x for x, _ in own], [row for _, row in own])
    return Panel(f"{feature}, during training", "updates", [line])


def _table(rows: Sequence[Decoded], features: Mapping[str, Tensor], train: int) -> str:
    """All probes as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["feature", "network", "layer", "score", "low", "high", "chance"])
    for row in rows:
        found = bootstrap(row.score, np.ones_like(row.score))
        chance = _chance(features[row.feature], train)
        values = (f"{float(x):.4f}" for x in (*found, chance))
        writer.writerow([row.feature, row.network, row.layer, *values])
    return text.getvalue()
