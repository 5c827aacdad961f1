"""Debiasing: a classifier of actions whose features hide the scene, and which is uncertain without an actor.

    z = LayerNorm(f(x)),   p = softmax(W z + b),   q = softmax(adversary(reversal(z)))

    minimise  E[ -log p(y | x) ]  +  E[ -log q(s | x) ]  +  mask_weight E[ sum_a p(a | x') log p(a | x') ]

where y is the action, s the scene, and x' the frame without its actor. The gradient of the second term is multiplied by -`reversal`
before it reaches z: the adversary learns to recognise the scene, the encoder to hide it. The third term is the negative entropy of
the actions of a frame in which nobody acts. Without the last two terms, this is an ordinary classifier.

Choi et al., 2019, https://arxiv.org/abs/1912.05534, equations 1 to 4; gradient reversal: Ganin & Lempitsky, 2015,
https://arxiv.org/abs/1409.7495

A run has three phases: for `pretrain_updates` the classifier alone trains the encoder; for the next `adversary_updates` the third term
is added, and after that the reversed gradient. The adversary learns from the start. After pre-training the encoder learns slowly and the
heads fast, so that the adversary keeps up. Claim G2 of `rlbench table scene-debiasing` shows what happens from scratch, with one step
size and without LayerNorm.

Measures: `accuracy`, on frames whose scene is independent of the action; `adversary`, the accuracy of the adversary; `probe`, the
accuracy of a new linear classifier of the scene from z, because z may still show the scene when the adversary is at chance level;
`confidence`, the largest probability of an action in a frame without an actor, 1/4 at best with four actions.

Differences from the paper: images and not videos; scenes are labels and not soft predictions of another network; each update uses both kinds of
frames, instead of one kind in turn; there is no second adversary for the frames without actors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.reversal import reversed_gradient
from rlbench.backbones.models._base import classes_of, input_space, judged, right
from rlbench.backbones.optim import Adam
from rlbench.backbones.ranges import NOT_NEGATIVE, PERIOD, RATE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class DebiasingConfig:
    """Settings of debiasing."""

    encoder: str = "conv4:width=16,norm=gn"
    """Encoder of the frames (paper: G), with options after a colon; see docs/encoders.md."""
    label: str = "label"
    """The column of actions."""
    scene: str = "scene"
    """The column of scenes."""
    reversal: float = 0.5
    """Factor of the reversed gradient of the adversary (paper: lambda); 0: none reaches the encoder."""
    mask_weight: float = 1.0
    """Weight of the negative entropy on frames without their actor; 0: these frames are not used."""
    normalise_features: bool = True
    """LayerNorm of the features, which bounds them; otherwise an encoder can escape its adversary by large features."""
    adversary_hidden: tuple[int, ...] = (64, 64, 64)
    """Hidden layer sizes of the adversary."""
    pretrain_updates: int = 600
    """Updates of the classifier alone, with `learning_rate` for the encoder and its head."""
    adversary_updates: int = 60
    """Updates after pre-training in which the gradient of the adversary does not yet reach the encoder."""
    learning_rate: float = 1e-3
    """Step size of Adam for encoder and classifier in pre-training."""
    encoder_learning_rate: float = 3e-4
    """Step size of Adam for the encoder after pre-training."""
    head_learning_rate: float = 3e-3
    """Step size of Adam for both heads after pre-training, and for the adversary always."""
    batch_size: int = 64
    """Examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "reversal": NOT_NEGATIVE, "mask_weight": NOT_NEGATIVE, "pretrain_updates": PERIOD, "adversary_updates": PERIOD,
        "encoder_learning_rate": RATE, "head_learning_rate": RATE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def negative_entropy(logits: Tensor) -> Tensor:
    """The mean of sum_a p_a log p_a in nats, of logits [B, A]; its minimum is -log A.

    >>> round(float(negative_entropy(torch.zeros(3, 4))), 4)
    -1.3863
    """
    log_prob = logits.log_softmax(dim=-1)
    return (log_prob.exp() * log_prob).sum(dim=-1).mean()


def probed(features: NDArray[Any], label: NDArray[Any]) -> float:
    """Accuracy of a linear classifier by least squares, learned from the first half of the rows, on the second half.

    Args:
        features: [N, D].
        label: Whole numbers from 0, [N].
    """
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)
    half = len(rows) // 2
    targets = np.eye(int(label.max()) + 1)[label]
    weights = np.linalg.lstsq(rows[:half], targets[:half], rcond=None)[0]
    return float(((rows[half:] @ weights).argmax(1) == label[half:]).mean())


class Debiasing(Model):
    """A classifier whose features hide the scene, and which is uncertain without an actor."""

    Config: ClassVar[type] = DebiasingConfig
    classifies = True
    measures = (
        Measure("accuracy"), Measure("loss", "nats", higher_is_better=False), Measure("adversary", higher_is_better=False),
        Measure("probe", higher_is_better=False), Measure("confidence", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 4_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: DebiasingConfig

    def build(self) -> None:
        """Encoder, both heads and their optimisers."""
        config, spec = self.config, self.spec
        refuse_without_masks(spec)
        self.encoder = make_encoder(config.encoder, input_space(spec))
        size = self.encoder.size
        self.norm: nn.Module = nn.LayerNorm(size) if config.normalise_features else nn.Identity()
        self.head = nn.Linear(size, classes_of(spec, config.label))
        self.adversary = MLP(size, config.adversary_hidden, classes_of(spec, config.scene))
        rate, heads_rate = config.learning_rate, config.head_learning_rate
        self.encoder_optimizer = Adam([*self.encoder.parameters(), *self.norm.parameters()], rate)
        self.head_optimizer = Adam(self.head.parameters(), rate)
        self.adversary_optimizer = Adam(self.adversary.parameters(), heads_rate)
        self.updates = 0

    def features(self, obs: Tensor) -> Tensor:
        """Features z, [B, D], of frames [B, H, W, C]."""
        features: Tensor = self.norm(self.encoder(obs).float())
        return features

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the actions, [B, A]."""
        return self.scores(obs).softmax(dim=-1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the actions."""
        logits: Tensor = self.head(self.features(obs))
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent; its terms depend on the phase of the run, see the module."""
        config = self.config
        pretraining = self.updates < config.pretrain_updates
        hides = self.updates >= config.pretrain_updates + config.adversary_updates
        if self.updates == config.pretrain_updates:
            self.encoder_optimizer.learning_rate.fill_(config.encoder_learning_rate)
            self.head_optimizer.learning_rate.fill_(config.head_learning_rate)
        self.updates += 1
        with drawing_from(self.generator):  # For encoders with noise.
            z = self.features(experience["obs"])
            masked = self._masked(experience["masked"]) if not pretraining else None
        logits = self.head(z)
        action_loss = F.cross_entropy(logits, experience[config.label])
        # Learns the scene in pre-training too, without any influence on z.
        scene = self.adversary(reversed_gradient(z, config.reversal if hides else 0.0))
        scene_loss = F.cross_entropy(scene, experience[config.scene])
        loss = action_loss + scene_loss
        if masked is not None:
            loss = loss + config.mask_weight * masked
        self._step(loss)
        return {
            "loss": action_loss.detach(),
            "accuracy": right(logits.detach(), experience[config.label]).mean(),
            "adversary": right(scene.detach(), experience[config.scene]).mean(),
        }

    def _masked(self, frames: Tensor) -> Tensor | None:
        """The negative entropy of actions on frames without their actors; None if it has no weight.

        Their statistics do not enter the running ones of a batch normalisation.
        """
        if not self.config.mask_weight:
            return None
        self.encoder.eval()
        try:
            return negative_entropy(self.head(self.features(frames)))
        finally:
            self.encoder.train()

    def _step(self, loss: Tensor) -> None:
        """One step of each optimiser, all with the gradients of the same weights."""
        optimizers = (self.encoder_optimizer, self.head_optimizer, self.adversary_optimizer)
        every = [p for optimizer in optimizers for p in optimizer.parameters]
        gradients = iter(torch.autograd.grad(loss, every))
        for optimizer in optimizers:
            optimizer.step(tuple(next(gradients) for _ in optimizer.parameters))

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy, loss, prediction, accuracy of the adversary, confidence without an actor, scene, [B] each, and features [B, D]."""
        config = self.config
        z, scene = self.features(examples["obs"]), examples[config.scene]
        return {
            **judged(self.head(z), examples[config.label]),
            "adversary": right(self.adversary(z), scene),
            "confidence": self.decide(examples["masked"]).amax(dim=1),
            "features": z,
            "scene": scene,
        }

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`probe`: the accuracy of a new linear classifier of the scene."""
        return {"probe": probed(columns["features"], columns["scene"])}


def refuse_without_masks(fields: Mapping[str, Space[Any]]) -> None:
    """Refuses examples without frames in which the actor is hidden.

    Raises:
        UserError: There are none, or they have another shape.
    """
    obs, masked = input_space(fields), fields.get("masked")
    if masked is None or masked.shape != obs.shape:
        raise UserError(
            f"the examples have obs {obs} and masked {masked}; debiasing needs the same frames without their actors in a "
            "column `masked`, as in --env scenes-85"
        )
