"""Federated averaging: a classifier learns from clients that keep their examples to themselves.

In each round (one update) the server sends its weights w to M clients. Client k, with n_k examples, takes local steps of gradient descent,

    w_k <- w_k - eta grad l(w_k; b)    for each batch b of its examples, in E epochs with batches of B

from w_k = w, and the server continues with the mean of what comes back,

    w <- sum_k n_k w_k / sum_k n_k

With E = 1 and one batch of all examples (`local_epochs=1`, `local_batch_size=None`) this is a step of gradient descent on the examples of all M
clients (FedSGD). More local work should need fewer rounds, and so less communication.

McMahan et al., 2017, https://arxiv.org/abs/1602.05629, algorithm 1

An example is a client: a set of N labelled observations, of which the first `count` are real if there is such a column (see
`digit-clients-iid`). Measures are means over the observations of each test set. The metric `bytes` is the number of bytes sent so far, in both directions.

Differences from the paper: small networks and images. Clients learn as one batch (`torch.func.vmap`), which gives the same weights
as one client after the other, up to rounding. Encoders with batch normalisation are refused, because their statistics differ between clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.federated import Weights, averaged, local_weights
from rlbench.backbones.models._base import input_space, normalises_over_batches, right
from rlbench.backbones.ranges import COUNT, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model, State
from rlbench.measures import Measure
from rlbench.seeding import drawing_from

FLOAT = 4
"""Bytes of a weight."""


@dataclass(frozen=True, kw_only=True)
class FedAvgConfig:
    """Settings of federated averaging."""

    encoder: str = "mlp:units=100"
    """Encoder of the observations, with options after a colon; see docs/encoders.md."""
    local_epochs: int = 5
    """Passes of each client over its examples in a round (paper: E)."""
    local_batch_size: int | None = 10
    """Examples of a local step (paper: B); None: all."""
    learning_rate: float = 0.1
    """Step size of the clients (paper: eta)."""
    batch_size: int = 10
    """Clients of a round (paper: m)."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "local_epochs": COUNT, "local_batch_size": SIZE, "learning_rate": Range(lambda x: 0 <= x <= 10, "a number from 0 to 10"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class FedAvg(Model):
    """Federated averaging."""

    Config: ClassVar[type] = FedAvgConfig
    classifies = True
    measures = (Measure("accuracy"), Measure("loss", "nats", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 100, "eval_every": 10, "checkpoint_every": 10, "log_every": 1,
    }  # fmt: skip
    config: FedAvgConfig

    def build(self) -> None:
        """The server's network."""
        config, label = self.config, self.spec.get("label")
        sets = input_space(self.spec)
        shape, classes = sets.shape or (), label.shape or () if label is not None else ()
        if not isinstance(sets, spaces.Box) or not isinstance(label, spaces.Box) or classes != shape[:1]:  # fmt: skip
            raise UserError(
                f"an example has {sets} and the label {label}; fedavg needs clients, sets [N, ...] of observations with N classes in "
                "the column 'label', such as --env digit-clients-iid"
            )
        if label.low.min() < 0 or not float(label.high.max()).is_integer():
            raise UserError(f"labels are {label}; give whole numbers from 0")
        one = spaces.Box(sets.low[0], sets.high[0], dtype=sets.dtype.type)
        encoder = make_encoder(config.encoder, one)
        if normalises_over_batches(encoder):
            raise UserError(
                f"the encoder {config.encoder} normalises over a batch, whose statistics differ between clients; give norm=gn"
            )
        self.network = nn.Sequential(encoder, nn.Linear(encoder.size, int(label.high.max()) + 1))
        self.rounds = 0

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Probabilities of the classes, [..., C], of observations or sets of them."""
        return self.scores(obs).softmax(dim=-1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.network(obs)
        return logits

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One round with the clients of the batch."""
        config, obs = self.config, experience["obs"]
        rows = {"obs": obs, "label": experience["label"].long()}
        count = self._counts(experience)
        start = {name: x.detach() for name, x in self.network.named_parameters()}
        with drawing_from(self.generator):  # For encoders with noise.
            local = local_weights(
                self.loss, start, rows, count, epochs=config.local_epochs,
                batch_size=config.local_batch_size, learning_rate=config.learning_rate,
                generator=torch.Generator(obs.device).manual_seed(self._seed()),
            )  # fmt: skip
        mean = averaged(local, count)
        with torch.no_grad():
            for name, x in self.network.named_parameters():
                x.copy_(mean[name])
        self.rounds += 1
        apart = sum((x - mean[name]).square().flatten(1).sum(1) for name, x in local.items())
        sent = 2 * len(obs) * FLOAT * sum(x.numel() for x in start.values())
        return {
            "client_drift": torch.as_tensor(apart).sqrt().mean(),
            "bytes": torch.tensor(float(sent * self.rounds)),
        }

    def _seed(self) -> int:
        """A seed for the orders of a round."""
        return int(torch.randint(2**31, (), generator=self.generator, device=self.device))

    def _counts(self, examples: Examples) -> Tensor:
        """The number of real examples of each client, int64 [M]."""
        clients, most = examples["obs"].shape[:2]
        if "count" in examples.columns:
            return examples["count"].long().reshape(clients)
        return torch.full((clients,), most, device=self.device)

    def loss(self, weights: Weights, rows: Mapping[str, Tensor], share: Tensor) -> Tensor:
        """The mean loss of some examples of a client."""
        logits = functional_call(self.network, weights, (rows["obs"],))
        return (share * F.cross_entropy(logits, rows["label"], reduction="none")).sum()

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Accuracy and loss of each test set, [B] each."""
        logits, label = self.network(examples["obs"]), examples["label"].long()
        count = self._counts(examples)
        real = torch.arange(label.shape[1], device=label.device) < count[:, None]
        losses = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none")
        columns = {"accuracy": right(logits, label), "loss": losses.view_as(label)}
        return {name: (x * real).sum(1) / count for name, x in columns.items()}
