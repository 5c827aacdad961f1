"""One-shot learning: a memory that learns new classes within an episode, without changing its weights.

An episode shows drawings x_1, ..., x_T of a few new classes in random order. At each step the network reads a drawing and
the class of the one before,

    h_t, state_t = Memory((x_t, onehot(y_{t-1})), state_{t-1}),   p(y_t | .) = softmax(W h_t + b)

    minimise  E[ -1/T sum_t log p(y_t | x_1, y_1, ..., x_{t-1}, y_{t-1}, x_t) ]

The classes are numbered anew in every episode and update, so the numbers cannot be stored in the weights: the network
has to store drawings with their numbers in its memory, and look them up when the class occurs again. At the first instance
of a class it can only guess.

`instance_k` is the accuracy at the k-th instance of a class, averaged over the classes of an episode.

Santoro et al., 2016, https://arxiv.org/abs/1605.06065, section 3, whose memory is `mann`.

Differences from the paper: the sources are the suite's (`glyph-episodes`); every memory is trained with Adam and clipped
gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.backbones.memories import make_memory
from rlbench.backbones.models._base import input_space, right
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

INSTANCES = (1, 2, 3, 4, 5, 10)
"""Instances whose accuracy is measured, as in the paper's table 1."""


@dataclass(frozen=True, kw_only=True)
class OneShotConfig:
    """Settings of one-shot learning."""

    memory: str = "mann"
    """Name of the memory; `rlbench list` shows all."""
    memory_size: int = 200
    """Output size of the memory (200 in the paper)."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    max_grad_norm: float = 10.0
    """Largest gradient norm; larger gradients are scaled down to it."""
    batch_size: int = 16
    """Episodes in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def episodes_of(fields: Mapping[str, Space[Any]]) -> tuple[int, int]:
    """Length of a step's vector and number of classes of episodes.

    Raises:
        UserError: The examples are not episodes.
    """
    obs, label = input_space(fields), fields.get("label")
    shape = obs.shape or ()
    if not isinstance(label, spaces.MultiDiscrete) or label.shape != shape[:1] or len(shape) != 2:
        raise UserError(
            f"the examples are {obs} with the label {label}; this model needs episodes with obs [T, D] and a class of each "
            "step in a MultiDiscrete space, such as glyph-episodes"
        )
    return int(shape[1]), int(label.nvec.max())


def instances(label: Tensor, classes: int) -> Tensor:
    """How often the class of each step has occurred, including this step, int64 [B, T].

    Args:
        label: Classes, int64 [B, T].
        classes: Number of classes.

    >>> instances(torch.tensor([[0, 1, 0, 0]]), 2)
    tensor([[1, 1, 2, 3]])
    """
    seen = F.one_hot(label, classes).cumsum(dim=1)
    return seen.gather(2, label[..., None]).squeeze(2)


def accuracies(correct: Tensor, label: Tensor, classes: int) -> dict[str, Tensor]:
    """Accuracy of each episode at the steps where a class occurs for the k-th time, [B] each; 0 if none does.

    Args:
        correct: 1.0 where the prediction is right, [B, T].
        label: Classes, int64 [B, T].
        classes: Number of classes.
    """
    number = instances(label, classes)
    found = {}
    for k in INSTANCES:
        at = (number == k).float()
        found[f"instance_{k}"] = (correct * at).sum(1) / at.sum(1).clamp(min=1)
    return found


class OneShot(Model):
    """A memory that learns within episodes."""

    Config: ClassVar[type] = OneShotConfig
    measures = (
        Measure("instance_2"), Measure("loss", "nats", higher_is_better=False),
        *(Measure(f"instance_{k}") for k in INSTANCES if k != 2),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 5_000, "eval_every": 1_000, "checkpoint_every": 1_000, "log_every": 100,
    }  # fmt: skip
    config: OneShotConfig

    def build(self) -> None:
        """Memory, output and their optimiser."""
        config = self.config
        inputs, self.classes = episodes_of(self.spec)
        self.memory = make_memory(config.memory, inputs, config.memory_size, more=self.classes)
        self.head = nn.Linear(config.memory_size, self.classes)
        self.optimizer = Adam(
            [*self.memory.parameters(), *self.head.parameters()], config.learning_rate
        )

    def logits(self, obs: Tensor, label: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [B, T, C], of episodes [B, T, D].

        Args:
            obs: Drawings.
            label: Their classes, int64 [B, T]; each is shown one step later.
        """
        shown = F.one_hot(label, self.classes).float()
        before = F.pad(shown[:, :-1], (0, 0, 1, 0)).transpose(0, 1)
        x = self.memory.read(obs.transpose(0, 1), before)
        state = self.memory.initial_state(len(obs), obs.device)
        out, _ = self.memory.unroll(x, state, x.new_zeros(x.shape[:2]))
        logits: Tensor = self.head(out).transpose(0, 1)
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent on episodes whose classes are numbered anew."""
        obs, label = experience["obs"], experience["label"]
        draws = torch.rand(
            (len(obs), self.classes), generator=self.generator, device=self.generator.device
        )
        label = draws.argsort(dim=1).gather(1, label)
        with drawing_from(self.generator):  # For memories with noise.
            logits = self.logits(obs, label)
        loss = F.cross_entropy(logits.flatten(0, 1), label.flatten())
        loss = gradient_step(self.optimizer, loss, self.config.max_grad_norm)
        return {"loss": loss, "accuracy": right(logits.detach(), label).mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss and accuracy by instance of each episode, [B] each."""
        obs, label = examples["obs"], examples["label"]
        logits = self.logits(obs, label)
        loss = F.cross_entropy(logits.transpose(1, 2), label, reduction="none").mean(dim=1)
        return {"loss": loss, **accuracies(right(logits, label), label, self.classes)}
