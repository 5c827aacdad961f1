"""Explains the answers of a classifier or of a policy on images, and shows how easily the explanations are manipulated.

For each method of `layers/attributions.py`, the maps show which pixels matter for the class or action that is chosen. Then a search finds a small change to
each image that keeps the answer and moves the map to a target: the map of another image, or an empty corner. Reported for each method:

    target before, after       correlation, mean squared difference and structural similarity (SSIM) of the map with the target
    original, noise            the same for the manipulated map and the original one, and for the map under random noise of equal norm and the original one
    kept, change               the share of answers that stay, and the mean change of their probability
    softplus                   correlations with the target if softplus(beta x) / beta replaces the ReLUs of the same network: the smaller beta, the smoother

Files: `maps.png` with images, maps, manipulated images and their maps; for agents `saliency.gif`, the frames of an episode next to their maps.

Dombrowski et al., 2019, "Explanations can be manipulated and geometry is to blame", https://arxiv.org/abs/1906.07983
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.analyses._base import Analysis, Array, Findings, Line, Panel, bootstrap
from rlbench.backbones.analyses._maps import gif, heat, sheet
from rlbench.backbones.analyses._pictures import as_picture, png
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.layers._recording import Smooth
from rlbench.backbones.layers.attacks import Ball
from rlbench.backbones.layers.attributions import (
    METHODS,
    Explained,
    MethodName,
    explanation,
    saliency,
    with_patterns,
)
from rlbench.backbones.layers.manipulation import (
    Search,
    corner,
    correlation,
    manipulated,
    mean_square,
    structural_similarity,
)
from rlbench.backbones.ranges import (
    NOT_NEGATIVE,
    PERIOD,
    POSITIVE,
    SEED,
    SIZE,
    TWO,
    Range,
    check,
)
from rlbench.backbones.spaces import CHANNELS
from rlbench.errors import UserError
from rlbench.experience import Examples

SIMILARITIES = {"": correlation, "mse, ": mean_square, "ssim, ": structural_similarity}
"""By the beginning of their names in the results; correlations have none."""
AT_ONCE = 16
"""Images that are explained at once, which bounds the memory."""
SHOWN = 3
"""Images in the picture."""
MOVED = 0.1
"""Largest change of a continuous action that counts as kept."""


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Settings of explanations and of their manipulation."""

    methods: tuple[MethodName, ...] = METHODS
    """Methods of explanation."""
    examples: int = 20
    """Images that are explained: the first test examples, or equally spaced observations from an agent's episodes."""
    fit: int = 500
    """Images from which patterns are estimated, and with which the answers of softplus networks are compared."""
    target: Literal["image", "corner"] = "image"
    """Target of a manipulation: the map of another image, or a uniform map in the corner where the original map is emptiest."""
    steps: int = 500
    """Steps of Adam on the pixels; 0: no manipulation."""
    learning_rate: float = 0.005
    """Step size of Adam; values of images are from 0 to 1."""
    map_weight: float = 1.0
    """Weight of the squared distance between the map and its target (paper: gamma_1); maps have the mean 1."""
    answer_weight: float = 1_000.0
    """Weight of the squared change of the probabilities, Q-values or actions (paper: gamma_2)."""
    betas: tuple[float, float] = (10.0, 100.0)
    """Parameter of the softplus that replaces ReLUs in the search, in the first and the last step; ReLUs have no second derivative."""
    radius: float = 0.8
    """Largest Euclidean norm of the change to an image; 0: no limit."""
    softplus: tuple[float, ...] = (1.0, 3.0, 10.0)
    """Parameters of softplus in place of ReLUs that are tested as a defence."""
    film: int = 64
    """Observations in the film of an agent; 0: no film."""
    seed: int = 0
    """Seed of the noise."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "methods": Range(lambda x: len({*x}) == len(x) > 0, "one or more methods, each once"),
        "examples": TWO, "fit": SIZE, "steps": PERIOD, "learning_rate": POSITIVE, "map_weight": POSITIVE, "answer_weight": NOT_NEGATIVE,
        "betas": Range(lambda x: len(x) == 2 and all(map(POSITIVE.holds, x)), f"two numbers, each {POSITIVE.words}"),
        "radius": NOT_NEGATIVE, "softplus": Range(lambda x: all(map(POSITIVE.holds, x)), f"numbers, each {POSITIVE.words}"),
        "film": PERIOD, "seed": SEED,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Explain(Analysis):
    """Maps of explanations, and how far small changes of the images move them."""

    Config: ClassVar[type] = ExplainConfig
    runs = ("a run of a classifier or of an agent on images",)
    agents = True
    config: ExplainConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (learner,), config = learners, self.config
        predictor = Predictor(learner)
        if not predictor.images:
            raise UserError(
                f"explain needs observations that are images of bytes, but they are {predictor.space}; give {self.runs[0]}"
            )
        given = next(iter(examples.values()), None)
        predictor.check_differentiable(self.observations(2) if given is None else given["obs"])
        many = max(config.examples, config.fit, config.film)
        obs = self.observations(many) if given is None else given["obs"]
        if len(obs) < config.examples:
            raise UserError(
                f"--examples is {config.examples}, but there are only {len(obs)} images; give at most {len(obs)}"
            )
        fit = predictor.scaled(obs[: config.fit])
        subject = Subject(config, predictor, fit)
        # Neighbouring observations of an episode are almost equal.
        last = config.examples - 1 if given is not None else len(obs) - 1
        rows = torch.linspace(0, last, config.examples, device=obs.device).round().long()
        x = predictor.scaled(obs[rows])
        found = [explained(subject, method, x) for method in config.methods]
        numbers = {name: y for each in found for name, y in each.numbers().items()}
        if config.steps:
            truth = None
            if given is not None and predictor.discrete:
                truth = predictor.classes(given)[: config.fit]
            numbers |= subject.answers_with_softplus(fit, truth)
        files: dict[str, str | bytes] = {"maps.png": png([[picture(subject, x, found)]], 1)}
        if given is None and config.film:
            files["saliency.gif"] = gif(film(subject, predictor.scaled(obs[: config.film])))
        columns = {name: y for each in found for name, y in each.columns.items()}
        panels = [each.panel(config.softplus) for each in found if config.steps and config.softplus]
        return Findings(numbers, panels, columns, files)


class Subject:
    """The network whose answers are explained, and the settings that all methods share."""

    def __init__(self, config: ExplainConfig, predictor: Predictor, fit: Tensor) -> None:
        """Estimates patterns over the images `fit` [N, ...]."""
        self.config, self.continuous = config, not predictor.discrete
        self.channels = 1 if fit.shape[1] in CHANNELS else 3
        network = Explained(predictor.scores, probabilities=predictor.discrete)
        if "pattern-attribution" in config.methods:
            network = with_patterns(network, fit.split(AT_ONCE))
        self.network = network

    def answers(self, x: Tensor, beta: float | None = None) -> Tensor:
        """Probabilities of classes or discrete actions, or continuous actions, [B, K]."""
        with Smooth(beta):
            scores = self.network.scores(x)
        return scores if self.continuous else scores.softmax(dim=1)

    def chosen(self, x: Tensor) -> Tensor:
        """The output of each image that is explained: the answer, or the continuous action that is furthest from 0, int64 [B]."""
        return self.answers(x).abs().argmax(dim=1)

    def maps(self, method: MethodName, x: Tensor, index: Tensor, beta: float | None = None) -> Tensor:  # fmt: skip
        """Maps of the explanations of outputs, [B, H, W]; differentiable if x requires gradients.

        Raises:
            UserError: A value is not finite.
        """
        network = replace(self.network, beta=beta)
        if x.requires_grad:
            values = explanation(method, network, x, index)
        else:
            pairs = zip(x.split(AT_ONCE), index.split(AT_ONCE), strict=True)
            values = torch.cat([explanation(method, network, *pair) for pair in pairs])
        found = saliency(values, self.channels)
        if not found.isfinite().all():
            raise UserError(
                f"the maps of {method} are not finite; give larger numbers for --betas and --softplus, or --methods without it"
            )
        return found

    def answers_with_softplus(self, x: Tensor, truth: Tensor | None) -> dict[str, float]:
        """For each softplus the share of answers that are right or, if there are no classes, that stay as they are with ReLUs."""
        if self.continuous:
            return {}
        usual = self.answers(x).argmax(dim=1)
        against, what = (usual, "same answers") if truth is None else (truth, "accuracy")
        found = {} if truth is None else {what: float((usual == truth).float().mean())}
        for beta in self.config.softplus:
            right = self.answers(x, beta).argmax(dim=1) == against
            found[f"{what} with softplus {beta:g}"] = float(right.float().mean())
        return found

    def search(self) -> Search:
        """Settings of the manipulation."""
        config = self.config
        return Search(
            steps=config.steps, learning_rate=config.learning_rate, map_weight=config.map_weight,
            answer_weight=config.answer_weight, betas=config.betas, radius=config.radius,
        )  # fmt: skip


@dataclass(frozen=True)
class Manipulation:
    """The explanations of images by one method, before and after their manipulation."""

    method: MethodName
    maps: Tensor
    """Of the images, [N, H, W]."""
    columns: Mapping[str, Array]
    """Results for each image, [N]."""
    moved: Tensor | None = None
    """The manipulated images, like the images; None without a manipulation."""
    moved_maps: Tensor | None = None
    """[N, H, W]."""
    target: Tensor | None = None
    """[N, H, W]."""

    def numbers(self) -> dict[str, float]:
        """Means over the images."""
        shown = {k: x for k, x in self.columns.items() if ": mse" not in k and ": ssim" not in k}
        return {name: float(x.mean()) for name, x in shown.items()}

    def panel(self, betas: Sequence[float]) -> Panel:
        """Correlations with the target by parameter of softplus."""
        lines = []
        for when in ("before", "after"):
            each = np.stack([self.columns[f"{self.method}: target {when}, softplus {beta:g}"] for beta in betas], 1)  # fmt: skip
            lines.append(Line(when, list(betas), *bootstrap(each, np.ones_like(each))))
        return Panel(f"{self.method}: correlation with the target", "beta of softplus", lines)


def explained(subject: Subject, method: MethodName, x: Tensor) -> Manipulation:
    """Explanations of images x [N, ...] and their manipulation."""
    config, index = subject.config, subject.chosen(x)
    original = subject.maps(method, x, index)
    if not config.steps:
        return Manipulation(method, original, {})

    def target_of(beta: float | None) -> Tensor:
        maps = original if beta is None else subject.maps(method, x, index, beta)
        # With an offset of half of them, every image has another one as its target.
        return corner(original) if config.target == "corner" else maps.roll(len(x) // 2, 0)

    target = target_of(None)
    moved = manipulated(
        lambda z, beta: subject.maps(method, z, index, beta), subject.answers, x, target, subject.search(),
    )  # fmt: skip
    norm = (moved - x).flatten(1).norm(dim=1)
    generator = torch.Generator(x.device).manual_seed(config.seed)
    noisy = Ball("l2", norm.view(-1, *[1] * (x.dim() - 1)), low=0, high=1).noise(x, generator)
    after, under_noise = (subject.maps(method, z, index) for z in (moved, noisy))
    before_answer, answer = subject.answers(x), subject.answers(moved)
    change = (answer - before_answer).gather(1, index[:, None])[:, 0].abs()
    kept = change <= MOVED if subject.continuous else answer.argmax(1) == before_answer.argmax(1)
    columns = {"kept": kept.float(), "change": change, "norm": norm}
    for name, similarity in SIMILARITIES.items():
        columns |= {
            f"{name}target before": similarity(original, target), f"{name}target after": similarity(after, target),
            f"{name}original": similarity(after, original), f"{name}noise": similarity(under_noise, original),
        }  # fmt: skip
    for beta in config.softplus:
        wanted = target_of(beta)
        for when, z in (("before", x), ("after", moved)):
            of_z = subject.maps(method, z, index, beta)
            columns[f"target {when}, softplus {beta:g}"] = correlation(of_z, wanted)
    named = {f"{method}: {name}": value.detach().cpu().numpy() for name, value in columns.items()}
    return Manipulation(method, original, named, moved, after, target)


def picture(subject: Subject, x: Tensor, found: Sequence[Manipulation]) -> Array:
    """The first images [N, ...] in rows, with their maps, and below them manipulated images, their maps and the targets, uint8 [H, W, 3]."""
    rows: list[list[Array | None]] = []
    for i in range(min(SHOWN, len(x))):
        rows.append([as_picture(x[i]), *(heat(each.maps[i].cpu().numpy()) for each in found)])
        if subject.config.steps:
            moved: list[Array | None] = [None]
            after, target = list(moved), list(moved)
            for each in found:
                assert each.moved is not None
                assert each.moved_maps is not None
                assert each.target is not None
                moved.append(as_picture(each.moved[i]))
                after.append(heat(each.moved_maps[i].cpu().numpy()))
                target.append(heat(each.target[i].cpu().numpy()))
            rows += [moved, after, target]
    parts = ["image", "manipulated", "its map", "target"] if subject.config.steps else ["image"]
    return sheet([each.method for each in found], rows, parts * min(SHOWN, len(x)))


def film(subject: Subject, x: Tensor) -> list[Array]:
    """Images [N, ...] in the order of time, each next to its maps, uint8 [H, W, 3] each."""
    methods, index = subject.config.methods, subject.chosen(x)
    maps = [subject.maps(method, x, index).cpu().numpy() for method in methods]
    return [
        sheet(methods, [[as_picture(x[i]), *(heat(each[i]) for each in maps)]])
        for i in range(len(x))
    ]
