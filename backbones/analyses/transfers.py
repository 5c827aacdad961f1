"""How well objectives of pre-training transfer to each other, and which few of them serve all (Taskonomy).

The runs are runs of `pretext` with different objectives; each is a source and a target. A transfer is a new readout of the frozen codes of
one or two sources, which learns the target from a few labelled pictures. The test pictures, which no run has learned from, have three
uses: the first `labels` train the readouts, half of the others decide the affinities, and the last half scores what they decided.

    gain       share of the last pictures on which a transfer has a smaller loss than a network that learns from the same labels from
               scratch, with the better of two step sizes
    quality    the same against the target's own run, which has learned from all of its labels

No target is served by its own run, because a transfer should save the labels that this run learned from. The affinities and the integer
programme are in `_affinity.py`. The sources that the programme chooses are compared with random ones: the loss of a choice is the mean over the
targets of the logarithm of the loss, so that the scales of the losses do not matter.

    transfers.json     the sources of each target, and the run from which `--pretrained auto:transfers.json` starts
    affinities.svg     the affinities of single sources as a heat map, in hundredths

Zamir et al., 2018, https://arxiv.org/abs/1804.08328, sections 3.2 to 3.4 and 4

Differences from the paper: pairs of sources are all pairs of the best few, and larger sets are left out; all readouts learn for the
same number of updates with one step size.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rlbench.backbones.analyses._affinity import (
    Transfer,
    affinities,
    best_sources,
    random_policy,
    win_rates,
)
from rlbench.backbones.analyses._base import Analysis, Array, Findings
from rlbench.backbones.analyses._heat_map import heat_map
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import SIZE, TWO, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from rlbench.seeding import derive, initialising

RATES = (1.0, 3.0)
"""Step sizes of the networks from scratch, as multiples of the readouts'."""
Losses = dict[tuple[int, ...], Array]
"""Loss of each picture by the sources of a transfer."""


@dataclass(frozen=True, kw_only=True)
class TransfersConfig:
    """Settings of transfers."""

    labels: int = 200
    """Labelled pictures from which a readout learns."""
    updates: int = 200
    """Updates of each readout, and of each network from scratch."""
    batch_size: int = 32
    """Pictures in one update."""
    learning_rate: float = 3e-3
    """Adam step size of the readouts."""
    candidates: int = 5
    """Number of the best sources of each target whose pairs are tried too; 1: no pairs."""
    budget: int = 3
    """Largest number of sources to choose; at least 2, because no source serves itself."""
    policies: int = 1_000
    """Random choices that the choice is compared with."""

    ranges: ClassVar[Mapping[str, Range]] = dict.fromkeys(("labels", "candidates", "policies"), SIZE) | {"budget": TWO}  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Transfers(Analysis):
    """Affinities of the objectives of several runs."""

    Config: ClassVar[type] = TransfersConfig
    runs = ("a run of pretext", "a run of pretext with another objective for each further folder")
    several = True
    config: TransfersConfig

    def __init__(self, config: TransfersConfig) -> None:
        """For one set of runs; see `Analysis`."""
        super().__init__(config)
        self._codes: dict[tuple[str, int], Tensor] = {}

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (given,) = examples.values()
        names = objectives(learners)
        few, rest = self.config.labels, len(given) - self.config.labels
        if rest < 2:
            raise UserError(
                f"labels is {few}, but there are {len(given)} test pictures, of which 2 or more must be left; give fewer labels"
            )
        choosing, scoring = slice(0, rest // 2), slice(rest // 2, rest)
        count = len(names)
        affinity, gain, quality = (np.full((count, count), np.nan) for _ in range(3))
        transfers: list[Transfer] = []
        scores: dict[tuple[tuple[int, ...], int], Array] = {}
        for target in range(count):
            losses, scratch, full = self._losses(target, learners, given, choosing)
            singles = [sources for sources in losses if len(sources) == 1]
            alone = affinities(win_rates(np.stack([losses[x][choosing] for x in singles])))
            for (source,), value in zip(singles, alone.tolist(), strict=True):
                affinity[source, target] = value
                own = losses[source,][scoring]
                gain[source, target] = win_rates(np.stack([own, scratch[scoring]]))[0, 1]
                quality[source, target] = win_rates(np.stack([own, full[scoring]]))[0, 1]
            shares = affinities(win_rates(np.stack([x[choosing] for x in losses.values()])))
            transfers += [Transfer(x, target, p) for x, p in zip(losses, shares.tolist(), strict=True)]  # fmt: skip
            scores |= {(x, target): losses[x][scoring] for x in losses}
        budget = min(self.config.budget, count)
        chosen = best_sources(transfers, count, count, budget)
        rng = np.random.default_rng(0)
        others = [random_policy(transfers, count, count, budget, rng) for _ in range(self.config.policies)]  # fmt: skip
        ours, theirs = _loss(chosen, scores), np.array([_loss(x, scores) for x in others])
        best = np.nanargmax(affinity, axis=0)
        numbers = {
            **{f"gain of the best source, {x}": float(gain[best[t], t]) for t, x in enumerate(names)},
            **{f"quality of the best source, {x}": float(quality[best[t], t]) for t, x in enumerate(names)},
            "targets that the best source serves better than scratch": float((gain[best, range(count)] > 0.5).mean()),
            "sum of the chosen affinities": sum(x.affinity for x in chosen),
            "share of random choices with a larger loss": float((theirs > ours).mean()),
        }  # fmt: skip
        columns = {
            "objectives": np.array(names), "affinity": affinity, "gain": gain, "quality": quality, "random": theirs,
            "chosen": _read(chosen, count), "transfer_sources": _read(transfers, count),
            "transfer_target": np.array([x.target for x in transfers]),
            "transfer_affinity": np.array([x.affinity for x in transfers]),
        }  # fmt: skip
        files = {
            "transfers.json": json.dumps(self._recipe(names, chosen, affinity), indent=1) + "\n",
            "affinities.svg": heat_map(affinity, names, names, "target", "source"),
        }
        return Findings(numbers, columns=columns, files=files)

    def _losses(
        self, target: int, learners: Sequence[Any], given: Examples, choosing: slice
    ) -> tuple[Losses, Array, Array]:
        """Loss of each picture that is not a label's [N]: of all transfers to a target, from scratch, and of its own run.

        Single sources come first; their losses on the pictures `choosing` decide which of them are also tried in pairs.
        """
        config, model = self.config, learners[target]
        few, rest = slice(0, config.labels), slice(config.labels, None)
        name = model.config.objective
        generator = torch.Generator(model.device).manual_seed(derive(0, "transfers", name))
        views, wanted = model.views(given, generator), model.target(given)
        codes = {}
        for source in (s for s in range(len(learners)) if s != target):
            seen = model.objective.reads, source
            if seen not in self._codes:  # Most objectives read the same.
                self._codes[seen] = learners[source].codes(views)
            codes[source] = self._codes[seen]

        def loss(readout: nn.Module, code: Tensor) -> Array:
            found: Array = model.losses(readout(code[rest]), wanted[rest]).cpu().numpy()
            return found

        def transferred(sources: tuple[int, ...]) -> Array:
            code = torch.cat([codes[s] for s in sources], dim=1)
            return loss(self._trained(model, len(sources), code[few], wanted[few]), code)

        losses: Losses = {(s,): transferred((s,)) for s in codes}
        shares = affinities(win_rates(np.stack([x[choosing] for x in losses.values()])))
        ranked = [list(codes)[i] for i in np.argsort(-shares, kind="stable").tolist()]
        for pair in combinations(sorted(ranked[: config.candidates]), 2):
            losses[pair] = transferred(pair)
        every = []
        for factor in RATES:
            fresh = self._from_scratch(model, given.take(few), factor * config.learning_rate)
            with evaluating(fresh):
                every.append(loss(fresh.readout, fresh.codes(views)))
        scratch = min(every, key=lambda x: float(x[choosing].mean()))
        return losses, scratch, loss(model.readout, model.codes(views))

    def _batches(self) -> Sequence[Tensor]:
        """Rows of the labelled pictures for each update, int64 [batch_size] each."""
        generator = torch.Generator().manual_seed(0)
        size = self.config.batch_size
        return [
            torch.randint(self.config.labels, (size,), generator=generator)
            for _ in range(self.config.updates)
        ]

    @torch.enable_grad()
    def _trained(self, model: Any, sources: int, code: Tensor, wanted: Tensor) -> nn.Module:
        """A trained readout of the concatenated codes [M, C, H, W] of some sources, for the targets [M, ...]."""
        with initialising(derive(0, "readout")):
            readout: nn.Module = model.make_readout(sources).to(model.device)
        optimizer = Adam(readout.parameters(), self.config.learning_rate)
        for rows in self._batches():
            gradient_step(optimizer, model.losses(readout(code[rows]), wanted[rows]).mean())
        return readout

    @torch.enable_grad()
    def _from_scratch(self, model: Any, few: Examples, learning_rate: float) -> Any:
        """A new network with the settings of a target's run, which has learned from the labelled pictures."""
        config = dataclasses.replace(model.config, learning_rate=learning_rate, freeze=False)
        fresh = type(model)(config, model.spec, seed=derive(0, "scratch"), device=model.device)
        for rows in self._batches():
            fresh.learn(few.take(rows))
        return fresh

    def _recipe(
        self, names: Sequence[str], chosen: Sequence[Transfer], affinity: Array
    ) -> dict[str, Any]:
        """The contents of transfers.json; see the module."""
        targets = {}
        for target, transfer in enumerate(chosen):
            first = max(transfer.sources, key=lambda s: float(affinity[s, target]))
            targets[names[target]] = {
                "sources": [names[s] for s in transfer.sources], "affinity": transfer.affinity,
                "run": str(self.folders[first]),
            }  # fmt: skip
        return {"targets": targets}


def objectives(learners: Sequence[Any]) -> list[str]:
    """The objective of each run.

    Raises:
        UserError: A run has none, two runs have the same one, there are fewer than three runs, or their encoders differ.
    """
    for learner in learners:
        if not hasattr(learner, "make_readout"):
            raise UserError(
                f"{type(learner).__name__} has no objective of pre-training; give runs of pretext"
            )
    names = [learner.config.objective for learner in learners]
    encoders = {learner.config.encoder for learner in learners}
    if len({*names}) < max(3, len(names)) or len(encoders) > 1:
        raise UserError(
            f"the runs have the objectives {', '.join(names)} and the encoders {', '.join(sorted(encoders))}; give three or "
            "more runs, each with a different objective and all with the same encoder"
        )
    return names


def _read(transfers: Sequence[Transfer], sources: int) -> Array:
    """Which sources each transfer reads, bool [E, S]."""
    return np.array([[s in x.sources for s in range(sources)] for x in transfers])


def _loss(policy: Sequence[Transfer], scores: Mapping[tuple[tuple[int, ...], int], Array]) -> float:
    """The loss of a choice, from the losses of each picture by sources and target."""
    means = np.array([scores[x.sources, x.target].mean() for x in policy])
    return float(np.log(np.maximum(means, 1e-12)).mean())
