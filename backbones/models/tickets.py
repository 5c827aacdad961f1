"""Lottery tickets: small networks that learn as well as large ones, found by training and pruning again and again.

    w_i   the weights after `rewind_updates` updates (0: the initial ones)
    for each round
        train for `round_updates` updates; w_f is the result
        keep the share `keep` of the remaining weights whose score is largest      by |w_f|, or another `criterion`
        the kept ones restart from w_i, or as `kept` says; the others stay at 0, or as `pruned` says
    train once more

The mask with the values from which its weights restart is the ticket. `--pretrained` of another run takes it from this one, and
`--encoder NAME:zeros=keep` keeps its zeros in training. As controls, `criterion=random` prunes each layer as much as large_final would, but at random, and
`kept=reinit` draws new weights.

Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635; criteria, kept and pruned weights: Zhou et al., 2019 ("Deconstructing lottery tickets"),
https://arxiv.org/abs/1905.01067; transfer to other data and optimisers: Morcos et al., 2019 ("One ticket to win them all"),
https://arxiv.org/abs/1906.02773

Measures: `accuracy` and `loss` of the network; `supermask`, the accuracy of the ticket without any training. The metric `kept` is the share of weights
that are not pruned.

Differences from the papers: small networks. Weights are those of linear layers and convolutions; biases and normalisations are never pruned, and
restart as they were. With `together`, a layer keeps at least 1 % of its weights.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.pruning import (
    Criterion,
    Kept,
    Pruned,
    pruned_masks,
    restarted,
    score,
    stopped,
)
from rlbench.backbones.models._base import (
    classes_of,
    input_space,
    judged,
    normalises_over_batches,
    right,
)
from rlbench.backbones.optim import SGD, Adam, gradient_step
from rlbench.backbones.ranges import COUNT, PERIOD, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from, initialising

KEPT_SHARE = Range(lambda x: 0 < x <= 1, "a number above 0, up to 1")


@dataclass(frozen=True, kw_only=True)
class TicketsConfig:
    """Settings of lottery tickets."""

    encoder: str = "mlp:units=300-100"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    label: str = "label"
    """The column of classes to predict."""
    rounds: int = 11
    """Number of prunings; the network is trained once more than this."""
    round_updates: int = 250
    """Updates before each pruning; set --updates to this times the number of rounds plus one."""
    rewind_updates: int = 0
    """Updates of the first round after which the early weights w_i are taken."""
    keep: float = 0.8
    """Share of the remaining weights of the encoder that a pruning keeps."""
    keep_output: float = 0.9
    """The same for the output layer; 1: it is never pruned, as in transfers to other classes."""
    together: bool = False
    """Whether all layers with a share below 1 are pruned by one common threshold, and not each by its own."""
    criterion: Criterion = "large_final"
    """Which weights are kept: those with the largest score; see `layers/pruning.py`."""
    kept: Kept = "rewind"
    """What kept weights restart from: their early values, new or reordered ones, or constants, with their early or with random signs."""
    pruned: Pruned = "zero"
    """What pruned weights stay at: 0, their early values, or 0 only if they moved towards 0."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or gradient descent with momentum 0.9."""
    learning_rate: float = 1.2e-3
    """Step size."""
    batch_size: int = 60
    """Examples in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "rounds": COUNT, "round_updates": COUNT, "rewind_updates": PERIOD, "keep": KEPT_SHARE, "keep_output": KEPT_SHARE,
        "learning_rate": Range(lambda x: 0 <= x <= 10, "a number from 0 to 10"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        if self.rewind_updates >= self.round_updates:
            raise UserError(
                f"rewind_updates is {self.rewind_updates}, but a round has {self.round_updates} updates; give fewer"
            )


class Masks(nn.Module):
    """Which weights are kept, and at what the others stay, for some weights of a network."""

    def __init__(self, weights: list[Tensor]) -> None:
        """Keeps all of them."""
        super().__init__()
        for i, weight in enumerate(weights):
            self.register_buffer(f"mask_{i}", torch.ones_like(weight, dtype=torch.bool))
            self.register_buffer(f"value_{i}", torch.zeros_like(weight))
        self.count = len(weights)

    @property
    def masks(self) -> list[Tensor]:
        """Bool, of each layer."""
        return [getattr(self, f"mask_{i}") for i in range(self.count)]

    @property
    def values(self) -> list[Tensor]:
        """Values of pruned weights, of each layer."""
        return [getattr(self, f"value_{i}") for i in range(self.count)]

    @torch.no_grad()
    def apply_to(self, weights: list[Tensor]) -> None:
        """Returns the pruned weights to their values."""
        for weight, mask, value in zip(weights, self.masks, self.values, strict=True):
            weight.copy_(weight.where(mask, value))


def pruned_weights(network: nn.Sequential) -> list[Tensor]:
    """The weights that can be pruned: matrices and kernels, those of the output layer last."""
    return [x for x in network.parameters() if x.dim() > 1]


class Tickets(Model):
    """Lottery tickets."""

    Config: ClassVar[type] = TicketsConfig
    classifies = True
    measures = (
        Measure("accuracy"), Measure("supermask", "accuracy without training"), Measure("loss", "nats", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 3_000, "data_size": 300, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: TicketsConfig

    def build(self) -> None:
        """The ticket, which comes first because other runs take it, the network that learns, masks and optimiser."""
        config = self.config
        self.ticket = self._new_network()
        if config.batch_size == 1 and normalises_over_batches(self.ticket):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch; give 2 or more, or norm=gn"
            )
        self.network = self._new_network()
        self.network.load_state_dict(self.ticket.state_dict())
        self.early = deepcopy(self.ticket).requires_grad_(False)
        self.ticket.requires_grad_(False)
        weights = pruned_weights(self.network)
        if len(weights) < 2:
            raise UserError(
                f"the encoder {config.encoder} has no matrices or kernels to prune; give another, such as mlp:units=300-100"
            )
        self.masks = Masks(weights)
        parameters = list(self.network.parameters())
        self.optimizer: Adam | SGD = (
            Adam(parameters, config.learning_rate)
            if config.optimizer == "adam"
            else SGD(parameters, config.learning_rate, momentum=0.9)
        )
        self.updates = 0

    def _new_network(self) -> nn.Sequential:
        encoder = make_encoder(self.config.encoder, input_space(self.spec))
        return nn.Sequential(
            encoder, nn.Linear(encoder.size, classes_of(self.spec, self.config.label))
        )

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [B, C]."""
        return self.scores(obs).softmax(dim=-1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.network(obs)
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent; before it, the network is pruned if it is time."""
        config = self.config
        rounds, passed = divmod(self.updates, config.round_updates)
        if passed == 0 and 0 < rounds <= config.rounds:
            self._prune()
        if self.updates == config.rewind_updates:
            self.early.load_state_dict(self.network.state_dict())
            self.ticket.load_state_dict(self.network.state_dict())
        self.updates += 1
        label = experience[config.label]
        with drawing_from(self.generator):  # For encoders with noise.
            logits = self.network(experience["obs"])
        loss = gradient_step(self.optimizer, F.cross_entropy(logits, label))
        self.masks.apply_to(pruned_weights(self.network))
        kept = torch.stack([x.sum() for x in self.masks.masks]).sum()
        total = sum(x.numel() for x in self.masks.masks)
        return {
            "loss": loss,
            "accuracy": right(logits.detach(), label).mean(),
            "kept": kept / total,
        }

    @torch.no_grad()
    def _prune(self) -> None:
        """Makes the masks smaller, and restarts from the ticket."""
        config = self.config
        first = pruned_weights(self.early)
        # Copies, because the network restarts below.
        last = [x.clone() for x in pruned_weights(self.network)]
        shares = [config.keep] * (len(last) - 1) + [config.keep_output]
        noises = [self._uniform(x) for x in last]
        scores = [score(config.criterion, *x) for x in zip(first, last, noises, strict=True)]
        if config.criterion == "random" and config.together:
            sizes = [score("large_final", *x) for x in zip(first, last, noises, strict=True)]
            masks = pruned_masks(sizes, self.masks.masks, shares, together=True)
            kept = [
                float(new.sum() / old.sum())
                for new, old in zip(masks, self.masks.masks, strict=True)
            ]
            masks = pruned_masks(scores, self.masks.masks, kept, together=False)
        else:
            masks = pruned_masks(scores, self.masks.masks, shares, together=config.together)
        new = pruned_weights(self._drawn())
        self.network.load_state_dict(self.early.state_dict())
        for i, weight in enumerate(pruned_weights(self.network)):
            # Weights that were pruned before have not moved since, and keep their values.
            gone = self.masks.masks[i] & ~masks[i]
            self.masks.values[i].copy_(
                stopped(config.pruned, first[i], last[i]).where(gone, self.masks.values[i])
            )
            self.masks.masks[i].copy_(masks[i])
            weight.copy_(restarted(config.kept, first[i], masks[i], new[i], self._uniform(weight)))
            if config.pruned == "freeze_init_zero_all":
                shrunk = last[i].abs() < first[i].abs()
                weight.masked_fill_(shrunk & masks[i], 0.0)
        self.masks.apply_to(pruned_weights(self.network))
        self.ticket.load_state_dict(self.network.state_dict())
        self._forget()

    def _uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self.generator, device=like.device)

    def _drawn(self) -> nn.Sequential:
        """A network with new initial weights."""
        seed = int(torch.randint(2**31, (), generator=self.generator, device=self.device))
        with initialising(seed):
            return self._new_network().to(self.device)

    def _forget(self) -> None:
        """Begins the optimiser anew."""
        if isinstance(self.optimizer, Adam):
            for state in (self.optimizer.means, self.optimizer.squares, self.optimizer.steps):
                state.zero_()
        else:
            self.optimizer.velocities.zero_()

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """As in a classifier, and whether the ticket is right without training, [B] each."""
        obs, label = examples["obs"], examples[self.config.label]
        return {**judged(self.network(obs), label), "supermask": right(self.ticket(obs), label)}
