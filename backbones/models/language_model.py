"""A language model, masked as in BERT or from left to right: pre-training of a transformer on sequences of tokens.

    masked          minimise  E[ -1/|M| sum_{i in M} log p(x_i | x~) ]
    left to right   minimise  E[ -1/(L-1) sum_{i > 1} log p(x_i | x_1, ..., x_{i-1}) ]

The first hides some tokens, so that the encoder may read both sides of each. M are 15 % of the tokens of a sequence, at
least one, and never special tokens. In the input x~ each of them is replaced

    with probability 0.8 by [MASK],   0.1 by a random word,   0.1 by itself

so that the encoder cannot rely on seeing [MASK], which does not occur later. The head is

    p(. | y_i) = softmax(E LN(gelu(W y_i)) + b)

where y_i are the features at place i and E is the embedding of the input (a tied head). An encoder that reads only earlier
tokens (`--encoder transformer:reads=past`) is trained from left to right, with the same head. `--pretrained RUN` gives the
trained encoder to `sequence-classifier`, or to an agent with the same encoder.

Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.1; details and settings as in the authors'
code, https://github.com/google-research/bert

Differences from the paper: tokens are words; nothing predicts whether two sentences follow each other; masks are drawn anew
for each batch, whereas the authors draw ten for each sequence in advance; random words are never special tokens; Adam corrects
the bias of its moments; the encoder is small and normalises before each layer (`norm=post` is the paper's form); classifiers
read the mean over all tokens, because without the sentence task no loss trains [CLS].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.transformer import initialise
from rlbench.backbones.models._base import right
from rlbench.backbones.models._sequences import (
    ScheduledConfig,
    reading,
    scheduled_step,
    tokens_of,
)
from rlbench.backbones.optim import AdamW
from rlbench.backbones.ranges import INSIDE, Range, check
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from
from rlbench.sequences import MASK, PAD, SPECIAL

HIDDEN, RANDOM = 0.8, 0.1
"""Shares of the chosen tokens that are replaced by [MASK] and by a random word; the others stay."""
EPSILON = 1e-6
"""Added to the root of Adam's second moment, in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(ScheduledConfig):
    """Settings of the language model."""

    encoder: str = "transformer"
    """A transformer, with options after a colon; see docs/encoders.md. With reads=past it is trained from left to right."""
    mask_share: float = 0.15
    """Share of the tokens that are to be predicted (masked_lm_prob in the authors' code); not used from left to right."""
    weight_decay: float = 0.01
    ranges: ClassVar[Mapping[str, Range]] = {"mask_share": INSIDE}

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def masked(
    tokens: Tensor, share: float, order: Tensor, kind: Tensor, word: Tensor
) -> tuple[Tensor, Tensor]:
    """BERT's input and the tokens that it has to predict.

    Args:
        tokens: Sequences, int64 [B, L].
        share: Share of the tokens of each sequence, without special ones, that are chosen, rounded, but at least 1.
        order: Uniform in [0, 1), [B, L]; tokens with the smallest numbers are chosen.
        kind: Uniform in [0, 1), [B, L]; whether a chosen token is hidden, replaced or kept.
        word: Random words, int64 [B, L].

    Returns:
        The input, int64 [B, L], and which tokens were chosen, bool [B, L].
    """
    real = tokens >= len(SPECIAL)
    count = (real.sum(1) * share).round().clamp(min=1)
    rank = order.masked_fill(~real, 2.0).argsort(1).argsort(1)
    chosen = real & (rank < count[:, None])
    hidden = chosen & (kind < HIDDEN)
    replaced = chosen & (kind >= HIDDEN) & (kind < HIDDEN + RANDOM)
    return torch.where(replaced, word, tokens.masked_fill(hidden, MASK)), chosen


def losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropies in nats, [B, L], of logits [B, L, V] for tokens [B, L]."""
    return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")


def mean_where(values: Tensor, chosen: Tensor, dim: int | None = None) -> Tensor:
    """Mean of values [B, L] over chosen places, bool [B, L]: of all, or of each sequence with `dim=1`; 0 if none is chosen."""
    kept = chosen.to(values.dtype)
    return (values * kept).sum(dim) / kept.sum(dim).clamp(min=1)


class TiedHead(nn.Module):
    """Maps features to words with the embedding of the input."""

    def __init__(self, width: int, words: int) -> None:
        """From features of length `width` to `words` words."""
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(words))
        initialise(self)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Unnormalised log-probabilities [..., V] of features [..., W], with an embedding [V, W]."""
        features = self.norm(F.gelu(self.dense(features)))
        return F.linear(features, embedding, self.bias)


class LanguageModel(Model):
    """The language model."""

    Config: ClassVar[type] = LanguageModelConfig
    measures = (Measure("loss", "nats", higher_is_better=False), Measure("accuracy"))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: LanguageModelConfig

    def build(self) -> None:
        """Encoder, head and their optimiser."""
        config, space = self.config, tokens_of(self.spec)
        self.encoder = make_encoder(config.encoder, space)
        reading(self.encoder)
        self.words = len(space.words)
        self.head = TiedHead(self.encoder.size, self.words)
        self.optimizer = AdamW(
            [*self.encoder.parameters(), *self.head.parameters()],
            config.learning_rate, epsilon=EPSILON, decay=config.weight_decay,
        )  # fmt: skip
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The step size rises and falls over the whole run."""
        return {"decay_updates": updates}

    def logits(self, tokens: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the words, [B, L, V], at the places of tokens [B, L]."""
        layers = reading(self.encoder)
        logits: Tensor = self.head(layers.places(tokens), layers.embedding.weight)
        return logits

    def problem(self, tokens: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What the model reads, int64 [B, M], what it has to predict, int64 [B, M], and at which places, bool [B, M].

        Args:
            tokens: Sequences, [B, L]. M is L if the model is masked, L - 1 from left to right.
            noise: Generator of the masks.
        """
        tokens = tokens.long()
        if reading(self.encoder).causal:
            return tokens[:, :-1], tokens[:, 1:], tokens[:, 1:] != PAD
        order, kind, word = torch.rand((3, *tokens.shape), generator=noise, device=noise.device)
        first, words = len(SPECIAL), self.words - len(SPECIAL)
        random = first + (word * words).long().clamp(max=words - 1)
        given, chosen = masked(tokens, self.config.mask_share, order, kind, random)
        return given, tokens, chosen

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        given, tokens, chosen = self.problem(experience["obs"], self.generator)
        with drawing_from(self.generator):  # For dropout.
            logits = self.logits(given)
        loss = mean_where(losses(logits, tokens), chosen)
        loss = scheduled_step(self.optimizer, loss, self.updates, self.config)
        self.updates += 1
        return {"loss": loss, "accuracy": mean_where(right(logits.detach(), tokens), chosen)}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Loss and accuracy of each sequence, means over the tokens that it has to predict, [B] each."""
        given, tokens, chosen = self.problem(examples["obs"], self.measure_generator)
        logits = self.logits(given)
        return {
            "loss": mean_where(losses(logits, tokens), chosen, dim=1),
            "accuracy": mean_where(right(logits, tokens), chosen, dim=1),
        }
