"""Adversarial examples: how small changes to what a network reads lower its accuracy or its return.

Test examples of a model, or all observations of an agent in whole episodes, are changed by at most a budget (eps): by FGSM, by PGD, and by noise
of the same norm, which shows whether an attack does more than any change of its size. An attack leads a model away from
the class of an example, and an agent away from the action that it would choose; continuous actions are moved as far as possible. Changes are found with the
first run and applied to all runs, so that further runs show whether they transfer to networks that an attacker does not know. `layers/attacks.py` has the attacks.

For some examples of a model, L-BFGS also searches for the nearest inputs with other classes, which are drawn at random (Szegedy et al., 2014,
https://arxiv.org/abs/1312.6199, section 4.1). Agents: Huang et al., 2017, https://arxiv.org/abs/1702.02284.

Files, for images:

    examples.png    inputs, below them the results of PGD with the largest budget, and the changes, enlarged; grey is no change
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.analyses._base import Analysis, Array, Findings, Line, Panel, bootstrap
from rlbench.backbones.analyses._pictures import as_picture, png
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.layers.attacks import (
    Ball,
    Norm,
    displacing,
    distortion,
    fgsm,
    lbfgs,
    lengths,
    pgd,
    untargeted,
)
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, PERIOD, SEED, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Agent, State

ATTACKS = ("pgd", "fgsm", "noise")
SEEN = 1_000
"""Observations of an agent that show the deviation and the bounds of each value."""
AT_ONCE = 100
"""Examples that are attacked at once, which bounds the memory."""
NOISES = 20
"""Draws of the noise that is compared with the results of L-BFGS."""
PICTURES = 6
GAP = 1
"""White pixels between pictures."""
SIDE = 64
"""Least number of pixels of the longer side of a picture in the file."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Settings of the attacks."""

    norm: Norm = "linf"
    """Norm of the changes: the largest change of a value, or the Euclidean norm."""
    budgets: tuple[float, ...] = (0.05, 0.1, 0.2)
    """One or more budgets, in increasing order: the largest norm of a change (paper: eps). Values of images are from 0 to 1; changes to other values are in standard deviations."""
    steps: int = 20
    """Steps of PGD (paper: T)."""
    examples: int = 200
    """Number of test examples of a model; the first ones are used."""
    lbfgs_examples: int = 0
    """Number of the test examples that L-BFGS moves to another class, for images; 0: none."""
    episodes: int = 20
    """Episodes of an agent for each attack and budget."""
    explore: bool = False
    """An agent acts with its exploration noise, for example samples its actions; by default it acts as in evaluations."""
    seed: int = 0
    """Seed of the random starts, of the noise and of the classes for L-BFGS."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "budgets": Range(
            lambda x: len(x) > 0 and all(map(NOT_NEGATIVE.holds, x)) and all(a < b for a, b in pairwise(x)),
            f"one or more numbers in increasing order, each {NOT_NEGATIVE.words}",
        ),
        "steps": SIZE, "examples": SIZE, "lbfgs_examples": PERIOD, "episodes": COUNT, "seed": SEED,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Adversarial(Analysis):
    """Accuracy or return under attacks."""

    Config: ClassVar[type] = AdversarialConfig
    runs = ("a run of a classifier or of an agent",)
    several = True
    agents = True
    config: AdversarialConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        self._runs = [Predictor(learner) for learner in learners]
        self._generator = torch.Generator(learners[0].device).manual_seed(self.config.seed)
        if not examples:
            return self._of_agents()
        (given,) = examples.values()
        return self._of_models(given.take(slice(self.config.examples)))

    def _of_models(self, given: Examples) -> Findings:
        config, first = self.config, self._runs[0]
        # Runs may have learned different columns.
        truths = [run.classes(given) for run in self._runs]
        first.check_differentiable(given["obs"])
        x = first.scaled(given["obs"])
        pairs = [*zip(self._runs, truths, strict=True)]
        found = [{attack: [_right(run, x, truth)] for attack in ATTACKS} for run, truth in pairs]
        for budget in config.budgets:
            ball = self._ball(x, budget)
            for attack in ATTACKS:
                parts = zip(x.split(AT_ONCE), truths[0].split(AT_ONCE), strict=True)
                moved = torch.cat([self._moved(attack, *part, ball) for part in parts])
                for (run, truth), results in zip(pairs, found, strict=True):
                    results[attack].append(_right(run, moved, truth))
                self._tell("accuracy", attack, budget, [x[attack][-1] for x in found])
        numbers: dict[str, float] = {}
        if config.lbfgs_examples:
            some = slice(config.lbfgs_examples)
            numbers = self._nearest(x[some], [truth[some] for truth in truths])
        return self._findings("accuracy", found, x, numbers)

    def _of_agents(self) -> Findings:
        config, first = self.config, self._runs[0]
        first.check_differentiable(self.observations(2))
        obs, agent = self.observations(SEEN), cast(Agent, first.learner)
        if len(self._runs) > 1 and agent.act(obs[:1]).state is not None:
            raise UserError(
                "the first run has a memory, which cannot follow the episodes of other agents; give a first run without one, or this run alone"
            )
        seen = first.scaled(obs)
        found = []
        for run in range(len(self._runs)):

            def returns(run: int = run, perturb: Any = None) -> Array:
                return self.play(
                    self.task, config.episodes, config.explore, perturb=perturb, run=run
                )["return"]

            clean = returns()
            found.append({attack: [clean] for attack in ATTACKS})
            for attack in ATTACKS:
                for budget in config.budgets:
                    perturb = self._perturbing(attack, self._ball(seen, budget))
                    found[run][attack].append(returns(perturb=perturb))
                    self._tell("return", attack, budget, [x[attack][-1] for x in found[run:]])
        return self._findings("return", found, seen, {})

    def _tell(self, measure: str, attack: str, budget: float, found: Sequence[Array]) -> None:
        """Reports what was measured for one run or more."""
        means = ", ".join(f"{x.mean():.4g}" for x in found)
        self.say(f"{measure} under {attack} at {budget:g}: {means}")

    def _ball(self, seen: Tensor, budget: float) -> Ball:
        """The allowed changes of inputs like `seen`, [N, ...]."""
        if self._runs[0].images:
            return Ball(self.config.norm, budget, low=0.0, high=1.0)
        return Ball(self.config.norm, budget, seen.std(dim=0), seen.amin(dim=0), seen.amax(dim=0))

    def _moved(
        self,
        attack: str,
        x: Tensor,
        answer: Tensor,
        ball: Ball,
        state: State | None = None,
    ) -> Tensor:
        """Inputs [B, ...] that lead the first run away from classes or discrete actions [B], or from continuous actions [B, A]."""
        if attack == "noise":
            return ball.noise(x, self._generator)
        first = self._runs[0]

        def scores(z: Tensor) -> Tensor:
            return first.scores(z, state)

        discrete = first.discrete
        objective = (untargeted if discrete else displacing)(scores, answer)
        if attack == "fgsm":
            return fgsm(objective, x, ball, None if discrete else self._generator)
        return pgd(objective, x, ball, self.config.steps, self._generator)

    def _perturbing(self, attack: str, ball: Ball) -> Callable[[Tensor, State | None], Tensor]:
        """Changes what an agent sees, [B, ...], so that the first run does not take the action that it would choose."""
        first = self._runs[0]

        def perturb(obs: Tensor, state: State | None) -> Tensor:
            x = first.scaled(obs)
            scores = first.scores(x, state)
            answer = scores.argmax(dim=1) if first.discrete else scores
            return first.scale * self._moved(attack, x, answer, ball, state)

        return perturb

    def _nearest(self, x: Tensor, truths: Sequence[Tensor]) -> dict[str, float]:
        """Results of L-BFGS and of noise of the same norm, with the errors of all runs.

        Raises:
            UserError: The inputs are not images of bytes.
        """
        first, generator = self._runs[0], self._generator
        if not first.images:
            raise UserError("L-BFGS needs images of bytes; leave --lbfgs-examples at 0")
        own = first.scores(x)
        # A class other than the answer.
        shift = torch.randint(1, own.shape[1], (len(x),), generator=generator, device=x.device)
        moved, reached = lbfgs(first.scores, x, (own.argmax(dim=1) + shift) % own.shape[1])
        ball = Ball("l2", lengths(moved - x), low=0.0, high=1.0)
        noisy = torch.cat([ball.noise(x, generator) for _ in range(NOISES)])
        numbers = {
            "L-BFGS: success": float(reached.float().mean()),
            "L-BFGS: distortion": float(distortion(x, moved)[reached].mean()),
        }
        for number, (run, truth) in enumerate(zip(self._runs, truths, strict=True)):
            prefix = _prefix(number)
            numbers[f"{prefix}L-BFGS: error"] = 1 - float(_right(run, moved, truth).mean())
            numbers[f"{prefix}noise of its norm: error"] = 1 - float(
                _right(run, noisy, truth.repeat(NOISES)).mean()
            )
        return numbers

    def _findings(
        self,
        measure: str,
        found: Sequence[Mapping[str, Sequence[Array]]],
        seen: Tensor,
        numbers: Mapping[str, float],
    ) -> Findings:
        """Means with intervals.

        Args:
            measure: Name of what was measured.
            found: By run and attack: values without an attack, then with each budget, [N] each.
            seen: Inputs, [N, ...].
            numbers: Further main results.
        """
        budgets = (0.0, *self.config.budgets)
        means, panels, columns = {}, [], {}
        for number, results in enumerate(found):
            prefix, lines = _prefix(number), []
            for attack, values in results.items():
                columns[f"{prefix}{attack}"] = each = np.stack(values, axis=1)
                line = Line(attack, budgets, *bootstrap(each, np.ones_like(each)))
                lines.append(line)
                means[f"{prefix}{measure}"] = float(line.value[0])
                means |= {
                    f"{prefix}{measure} under {attack} at {budget:g}": float(value)
                    for budget, value in zip(budgets[1:], line.value[1:], strict=True)
                }
            panels.append(Panel(f"{prefix}{measure}", "budget", lines))
        picture = self._picture(seen[:: -(-len(seen) // PICTURES)])
        return Findings(
            {**means, **numbers},
            panels,
            columns,
            {} if picture is None else {"examples.png": picture},
        )

    def _picture(self, x: Tensor) -> bytes | None:
        """The file of examples; None for inputs that are not images."""
        first = self._runs[0]
        if not first.images:
            return None
        scores = first.scores(x)
        answer = scores.argmax(dim=1) if first.discrete else scores
        moved = self._moved("pgd", x, answer, self._ball(x, max(self.config.budgets)))
        change = moved - x
        shown = (x, moved, 0.5 + change / (2 * change.abs().max().clamp(min=1e-9)))
        edge = ((0, GAP), (0, GAP), (0, 0))
        rows = [[np.pad(as_picture(x), edge, constant_values=255) for x in row] for row in shown]
        return png(rows, -(-SIDE // max(rows[0][0].shape)))


def _prefix(number: int) -> str:
    """What is put before the names of results of a run; nothing for the first."""
    return f"run {number + 1}: " if number else ""


def _right(run: Predictor, x: Tensor, truth: Tensor) -> Array:
    """Whether each answer is right, as 0 or 1, [N]."""
    answers = torch.cat([run.scores(part).argmax(dim=1) for part in x.split(AT_ONCE)])
    found: Array = (answers == truth).double().cpu().numpy()
    return found
