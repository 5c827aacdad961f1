"""A classifier of sequences: a transformer over all places at once, or a memory that reads them one after the other.

    transformer     p(y | x) = softmax(W f(x) + b),   f(x): features of all tokens or of [CLS]
    memory          p(y | x) = softmax(g(h_L)),       h_t, state_t = Memory(e(x_t), state_{t-1})

e are ReLU layers over one-hot tokens or over the numbers of a step, g are ReLU layers and a linear one, and h_L is the
output at the last step that is not padding. The ReLU layers may be left out.

With `--pretrained RUN`, where RUN is a run of `language-model` with the same encoder, this is BERT's fine-tuning: all weights
of the encoder are trained further, with a smaller step size than before (Devlin et al., 2019,
https://arxiv.org/abs/1810.04805, section 3.2). With a memory it is the experiment of fast weights (Ba et al., 2016,
https://arxiv.org/abs/1610.06258, section 4.1) and of recurrent batch normalisation (Cooijmans et al., 2017,
https://arxiv.org/abs/1603.09025, section 5.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.memories import make_memory
from rlbench.backbones.models._base import classes_of, input_space, judged, right
from rlbench.backbones.models._sequences import (
    ScheduledConfig,
    scheduled_step,
    tokens_of,
)
from rlbench.backbones.optim import AdamW
from rlbench.backbones.ranges import check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from
from rlbench.sequences import PAD, TokenSequence


@dataclass(frozen=True, kw_only=True)
class SequenceClassifierConfig(ScheduledConfig):
    """Settings of the classifier of sequences."""

    encoder: str = "transformer"
    """An encoder of tokens, with options after a colon; see docs/encoders.md. Not used with a memory."""
    memory: str | None = None
    """Name of a memory that reads the sequence instead of the transformer; `rlbench list` shows all."""
    memory_size: int = 64
    """Output size of the memory."""
    input_layers: tuple[int, ...] = ()
    """ReLU layers before the memory."""
    output_layers: tuple[int, ...] = ()
    """ReLU layers after the memory."""
    label: str = "label"
    """The column of classes to predict."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Reader(nn.Module):
    """A memory with ReLU layers before it, over sequences of tokens or vectors."""

    def __init__(self, space: Space[Any], memory: str, size: int, layers: Sequence[int]) -> None:
        """For sequences of a space.

        Args:
            space: Tokens [L] or vectors [L, D].
            memory: Name of the memory.
            size: Its output size.
            layers: ReLU layers before it.

        Raises:
            UserError: The space has other sequences, or there is no such memory.
        """
        super().__init__()
        self.words = len(space.words) if isinstance(space, TokenSequence) else None
        shape = space.shape or ()
        if self.words is None and not (isinstance(space, spaces.Box) and len(shape) == 2):
            raise UserError(
                f"observations are {space}; a memory needs sequences of tokens or of vectors, [L, D], so give a source such "
                "as assoc-retrieval-4 or digits-pixels"
            )
        inputs = self.words or int(shape[1])
        *hidden, last = (inputs, *layers)
        self.layers = (
            nn.Sequential(MLP(inputs, hidden[1:], last), nn.ReLU()) if layers else nn.Identity()
        )
        self.memory = make_memory(memory, last, size)

    def forward(self, obs: Tensor) -> Tensor:
        """Outputs of the memory at the last step of each sequence that is not padding, [B, size].

        Args:
            obs: Tokens [B, L] or vectors [B, L, D].
        """
        batch, length = obs.shape[:2]
        x = obs.float() if self.words is None else F.one_hot(obs.long(), self.words).float()
        x = self.layers(x).transpose(0, 1)
        state = self.memory.initial_state(batch, obs.device)
        out, _ = self.memory.unroll(x, state, x.new_zeros(length, batch))
        if self.words is None:
            return out[-1]
        last = (obs != PAD).sum(dim=1).sub(1).clamp(min=0)
        return out[last, torch.arange(batch, device=obs.device)]


class SequenceClassifier(Model):
    """The classifier of sequences."""

    Config: ClassVar[type] = SequenceClassifierConfig
    classifies = True
    measures = (Measure("accuracy"), Measure("loss", "nats", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: SequenceClassifierConfig

    def build(self) -> None:
        """Encoder or memory, head and their optimiser."""
        config, classes = self.config, classes_of(self.spec, self.config.label)
        if config.memory is None:
            self.encoder: nn.Module = make_encoder(config.encoder, tokens_of(self.spec))
            size = int(self.encoder.size)
        else:
            space, size = input_space(self.spec), config.memory_size
            self.encoder = Reader(space, config.memory, size, config.input_layers)
        self.head = MLP(size, config.output_layers, classes)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = AdamW(parameters, config.learning_rate, decay=config.weight_decay)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The step size rises and falls over the whole run."""
        return {"decay_updates": updates}

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Unnormalised log-probabilities, [B, C], of sequences [B, L] or [B, L, D]."""
        logits: Tensor = self.head(self.encoder(obs))
        return logits

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [B, C]."""
        return self.scores(obs).softmax(dim=-1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        label = experience[self.config.label]
        with drawing_from(self.generator):
            logits = self.scores(experience["obs"])
        loss = F.cross_entropy(logits, label)
        loss = scheduled_step(self.optimizer, loss, self.updates, self.config)
        self.updates += 1
        return {"loss": loss, "accuracy": right(logits.detach(), label).mean()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy (1 if right), loss and predicted class of each sequence, [B] each."""
        label = examples[self.config.label]
        return judged(self.scores(examples["obs"]), label)
