"""PPO that looks for a lottery ticket: its encoder is pruned again and again while the agent learns.

    w_i   all weights after `rewind_updates` updates (0: the initial ones)
    for each round
        learn for `round_updates` updates; w_f are the encoder's weights at the end
        keep the share `keep` of each layer's remaining weights with the largest |w_f|, or random ones
        all weights restart from w_i, with 0 for pruned ones, which stay 0
    learn once more

The encoder with the weights from which it restarts is the ticket. `--pretrained` of another run, of any learner, takes it from this one, and
`--encoder NAME:zeros=keep` keeps its zeros.

Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635; tickets of policies: Yu et al., 2020, https://arxiv.org/abs/1906.02768; transfer: Morcos et
al., 2019, https://arxiv.org/abs/1906.02773

The metric `kept` is the share of the encoder's matrices and kernels that is not 0.

Differences from the papers: only the encoder is pruned, because other learners take nothing else; layers are pruned separately. The first rollout of a
round was still gathered by the network of the round before, which learns from it; only then does it restart.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.agents._on_policy import make_head
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders import kind_of
from rlbench.backbones.encoders._base import Encoder
from rlbench.backbones.heads.actor_critic import ActorCritic
from rlbench.backbones.layers.pruning import pruned_masks, score
from rlbench.backbones.ranges import COUNT, INSIDE, PERIOD, Range
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Learn


@dataclass(frozen=True, kw_only=True)
class TicketsPPOConfig(PPOConfig):
    """Settings of PPO and of its rounds."""

    encoder: str | None = "one-hot-grid"
    """Encoder shared by policy and value, which is pruned; it keeps its zeros, as with the option zeros=keep."""
    rounds: int = 5
    """Number of prunings; the agent learns once more than this."""
    round_updates: int = 100
    """Updates before each pruning; by default the run is divided evenly among the default number of rounds and the learning after the
    last pruning."""
    rewind_updates: int = 0
    """Updates of the first round after which the early weights w_i are taken."""
    keep: float = 0.64
    """Share of the remaining weights that a pruning keeps."""
    criterion: Literal["large_final", "random"] = "large_final"
    """Which weights are kept: the largest, or random ones as a control."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "rounds": COUNT, "round_updates": COUNT, "rewind_updates": PERIOD, "keep": INSIDE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and a policy without an encoder that learns."""
        super().__post_init__()
        if self.rewind_updates >= self.round_updates:
            raise UserError(
                f"rewind_updates is {self.rewind_updates}, but a round has {self.round_updates} updates; give fewer"
            )
        if self.encoder is None or self.freeze:
            raise UserError(
                f"encoder is {self.encoder} and freeze is {self.freeze}, but tickets-ppo prunes an encoder that learns; give one, such as "
                "--encoder one-hot-grid, and leave --freeze out"
            )


class TicketsPPO(PPO):
    """PPO with rounds of pruning."""

    Config: ClassVar[type] = TicketsPPOConfig
    config: TicketsPPOConfig

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Rounds of equal length."""
        return {"round_updates": max(1, updates // (TicketsPPOConfig.rounds + 1))}

    def build(self) -> None:
        """The ticket, which comes first because other runs take it, and PPO's parts."""
        self.ticket: Encoder | None = None
        super().build()
        self.early = deepcopy(self.network).requires_grad_(False)
        self.ticket = deepcopy(self._encoder).requires_grad_(False)
        if not self._prunable(self._encoder):
            raise UserError(
                f"the encoder {self.config.encoder} has no matrices or kernels to prune; give another, such as one-hot-grid"
            )

    def make_network(self) -> ActorCritic:
        """PPO's network, with an encoder that keeps its zeros."""
        given = self.config.encoder or ""
        kind_of(given)  # Refuses unknown names, with all errors that other agents have.
        keeping = f"{given}{',' if ':' in given else ':'}zeros=keep"
        try:
            kind_of(keeping)
        except UserError:
            raise UserError(
                f"the encoder {given} has no weights that can be pruned; give another, such as one-hot-grid"
            ) from None
        head = partial(make_head, self.form)
        return ActorCritic(self.read_space, head, keeping, self.config.hidden)

    @property
    def _encoder(self) -> Encoder:
        encoder = self.network.encoder
        assert encoder is not None
        return encoder

    @staticmethod
    def _prunable(encoder: Encoder) -> list[Tensor]:
        return [x for x in encoder.parameters() if x.dim() > 1]

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO; after the first one of a round the network is pruned and restarts."""
        config = self.config
        rounds, passed = divmod(self.updates, config.round_updates)
        if self.updates == config.rewind_updates:
            self.early.load_state_dict(self.network.state_dict())
            self._keep_ticket()
        learned = super()._learn(step, rollout)
        if passed == 0 and 0 < rounds <= config.rounds:
            self._prune()
        return {**learned, "kept": self._kept()}

    def _keep_ticket(self) -> None:
        assert self.ticket is not None
        self.ticket.load_state_dict(self._encoder.state_dict())

    def _kept(self) -> Tensor:
        """The share of weights that are not 0."""
        flat = torch.cat([x.detach().flatten() for x in self._prunable(self._encoder)])
        return (flat != 0).float().mean()

    @torch.no_grad()
    def _prune(self) -> None:
        """Restarts from the early weights, fewer of which are left."""
        config = self.config
        last = [x.clone() for x in self._prunable(self._encoder)]
        self.network.load_state_dict(self.early.state_dict())
        weights = self._prunable(self._encoder)
        noises = [torch.rand(x.shape, generator=self.generator, device=x.device) for x in last]
        scores = [score(config.criterion, *x) for x in zip(weights, last, noises, strict=True)]
        shares = [config.keep] * len(last)
        masks = pruned_masks(scores, [x != 0 for x in last], shares, together=False)
        for weight, mask in zip(weights, masks, strict=True):
            weight.mul_(mask)
        self._keep_ticket()
        for state in (self.optimizer.means, self.optimizer.squares, self.optimizer.steps):
            state.zero_()
