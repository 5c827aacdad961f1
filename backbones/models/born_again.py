"""Born-again networks: each generation of a classifier learns from the predictions of the one before it.

Generation 0 learns from the labels y. Each later one is a new network q with the same architecture, which learns from the
probabilities p of the generation before it, the teacher, on the same examples. By `objective`, it minimises the mean over a batch of

    soft      -sum_c p_c log q_c                                                     (paper: BAN)
    cwtm      -w log q_y,   w = max_c p_c / mean over the batch of max_c p_c         (confidence-weighted by the teacher's maximum)
    dkpp      as soft, with all probabilities but the largest permuted at random     (dark knowledge with permuted predictions)
    labels    -log q_y                                                               (no teacher: the control with the same weights and batches)

plus `label_weight` times -log q_y. If the examples have the scores of a teacher, such as the logits of a policy in the files of `rlbench data examples`,
generation 0 learns from these by the same objectives (`--teacher scores`): this is policy distillation (Rusu et al.), to a student of any size.

The gradient of `soft` with respect to the logits is q - p. Its entry for the true class is like that of a label, with
the teacher's confidence in place of 1; the other entries are the teacher's dark knowledge. `cwtm` keeps only the confidence, and `dkpp` only the sizes of the
other probabilities. With a `temperature` T, both networks' logits are divided by T and the loss is multiplied by T^2 (Hinton et al.).

Furlanello et al., 2018, https://arxiv.org/abs/1805.04770, section 3; temperature: Hinton et al., 2015, https://arxiv.org/abs/1503.02531;
policies: Rusu et al., 2016, https://arxiv.org/abs/1511.06295

Measures: `accuracy`, of the generation that is learning; `accuracy_k`, of generation k, which is the same until a later one has begun; and
`ensemble`, of the mean probabilities of all generations so far.

Differences from the paper: small networks and images; the step size rises and falls once in each generation.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models._base import input_space, judged, right
from rlbench.backbones.models.classifier import Classifier, ClassifierConfig
from rlbench.backbones.optim import gradient_step, one_cycle
from rlbench.backbones.ranges import FEW, NOT_NEGATIVE, POSITIVE, Range, check
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

Objective = Literal["soft", "cwtm", "dkpp", "labels"]


@dataclass(frozen=True, kw_only=True)
class BornAgainConfig(ClassifierConfig):
    """Settings of a classifier, and of its generations."""

    encoder: str = "resnet:units=1,width=8,norm=bn"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    generations: int = 3
    """Number of generations, the first of which has no teacher."""
    cycle_updates: int = 500
    """Updates of each generation, in which the step size rises and falls once; set --updates to the product of both numbers."""
    objective: Objective = "soft"
    """What generations with a teacher learn from: the teacher's probabilities (soft), labels weighted by its confidence (cwtm), its probabilities with all
    but the largest permuted (dkpp), or labels alone."""
    teacher: str = ""
    """Column of a teacher's logits or action values, from which the first generation learns; empty: it learns from the labels."""
    label_weight: float = 0.0
    """Weight of the cross-entropy with the labels that is added in generations with a teacher (paper: BAN+L has 1)."""
    temperature: float = 1.0
    """Divides the logits of teacher and student in soft and dkpp."""

    ranges: ClassVar[Mapping[str, Range]] = {
        **ClassifierConfig.ranges,
        "generations": FEW, "label_weight": NOT_NEGATIVE, "temperature": POSITIVE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def soft_losses(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of each example with the teacher's probabilities, [B].

    Args:
        logits: Of the student, [B, C].
        teacher: Probabilities, [B, C].
    """
    same_shape(logits, teacher)
    return -(teacher * logits.log_softmax(dim=-1)).sum(dim=-1)


def confidence_weights(teacher: Tensor) -> Tensor:
    """The largest probability of each example, divided by its mean over the batch, [B].

    >>> confidence_weights(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [0.6666666865348816, 1.3333333730697632]
    """
    largest = teacher.amax(dim=-1)
    return largest / largest.mean()


def permuted(teacher: Tensor, noise: Tensor) -> Tensor:
    """Probabilities with all but the largest of each example in a random order, [B, C].

    Args:
        teacher: Probabilities, [B, C].
        noise: Uniform draws from [0, 1), [B, C], whose order is the new one.
    """
    same_shape(teacher, noise)
    largest = teacher.argmax(dim=-1, keepdim=True)
    # Both orders begin with the largest probability, so it keeps its place.
    old = torch.zeros_like(noise).scatter(1, largest, -1.0).argsort(dim=-1, stable=True)
    new = noise.scatter(1, largest, -1.0).argsort(dim=-1)
    return torch.zeros_like(teacher).scatter(1, new, teacher.gather(1, old))


class BornAgain(Classifier):
    """Born-again networks."""

    Config: ClassVar[type] = BornAgainConfig
    measures = (
        Measure("accuracy"), Measure("ensemble", "accuracy of the ensemble"),
        Measure("loss", "nats", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_500, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: BornAgainConfig

    def build(self) -> None:
        """The learning network and its optimiser, and the networks of all generations."""
        super().build()
        space, classes = input_space(self.spec), self.head.out_features
        self._check_teacher(classes)
        # Generation k has its initial weights here until it begins, and its last ones when it has ended.
        self.generations = nn.ModuleList([deepcopy(self.whole)])
        for _ in range(1, self.config.generations):
            encoder = make_encoder(self.config.encoder, space)
            self.generations.append(nn.Sequential(encoder, nn.Linear(encoder.size, classes)))
        self.generations.requires_grad_(False)

    def _check_teacher(self, classes: int) -> None:
        """Refuses a column that does not hold one score for each class."""
        name = self.config.teacher
        column = self.spec.get(name)
        if name and (not isinstance(column, spaces.Box) or column.shape != (classes,)):
            found = "which does not exist" if column is None else f"which is {column}"
            raise UserError(
                f"teacher is {name!r}, {found}; give a column with {classes} numbers for each example, one for each class, such as "
                "scores in a file of `rlbench data examples`"
            )

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """None: a generation has a length of its own."""
        return {}

    @property
    def generation(self) -> int:
        """Number of the generation that learned last."""
        last = max(self.updates - 1, 0) // self.config.cycle_updates
        return min(last, self.config.generations - 1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent; before it, a new generation begins if it is time."""
        config, before = self.config, self.generation
        self.updates += 1
        if self.generation > before:
            self._begin(before)
        passed = self.updates - 1 - self.generation * config.cycle_updates
        self.optimizer.learning_rate = config.learning_rate * one_cycle(
            min(passed / config.cycle_updates, 1.0)
        )
        label = experience[config.label]
        with drawing_from(self.generator):
            logits = self.scores(experience["obs"])
        loss = gradient_step(self.optimizer, self._loss(logits, experience))
        return {"loss": loss, "accuracy": right(logits.detach(), label).mean()}

    @torch.no_grad()
    def _begin(self, ended: int) -> None:
        """Keeps the weights of the generation that ended, and takes the initial ones of the next."""
        self.generations[ended].load_state_dict(self.whole.state_dict())
        self.whole.load_state_dict(self.generations[ended + 1].state_dict())
        self.optimizer.velocities.zero_()

    def _loss(self, logits: Tensor, experience: Examples) -> Tensor:
        """The loss of a batch."""
        config = self.config
        cross = F.cross_entropy(logits, experience[config.label], reduction="none")
        if config.objective == "labels" or (self.generation == 0 and not config.teacher):
            return cross.mean()
        scale = 1.0 if config.objective == "cwtm" else config.temperature
        if self.generation == 0:
            teacher = (experience[config.teacher].float() / scale).softmax(dim=-1)
        else:
            teacher = self._probabilities(self.generation - 1, experience["obs"], scale)
        if config.objective == "cwtm":
            losses = confidence_weights(teacher) * cross
        else:
            if config.objective == "dkpp":
                noise = torch.rand(teacher.shape, generator=self.generator, device=self.device)
                teacher = permuted(teacher, noise)
            losses = scale**2 * soft_losses(logits / scale, teacher)
        return (losses + config.label_weight * cross).mean()

    @torch.no_grad()
    def _probabilities(self, generation: int, obs: Tensor, temperature: float = 1.0) -> Tensor:
        """Probabilities of a generation that has ended, [B, C]."""
        logits: Tensor = self.generations[generation].eval()(obs)
        return (logits / temperature).softmax(dim=-1)

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """As in a classifier, with the accuracy of each generation and of their ensemble, [B] each."""
        obs, label = examples["obs"], examples[self.config.label]
        logits = self.scores(obs)
        each = [self._probabilities(k, obs) for k in range(self.generation)]
        each.append(logits.softmax(dim=-1))
        accuracies = {
            f"accuracy_{k}": right(each[min(k, self.generation)], label)
            for k in range(self.config.generations)
        }
        ensemble = right(torch.stack(each).mean(dim=0), label)
        return {**judged(logits, label), "ensemble": ensemble, **accuracies}
