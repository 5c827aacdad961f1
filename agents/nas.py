"""Neural architecture search (NAS) by reinforcement learning: the controller of MnasNet.

A recurrent policy, the controller, writes an architecture token by token; the reward comes after the last token:

    P(a_1 .. a_L) = prod_t softmax(W_t h_t + b_t)[a_t],    h_t = LSTM(h_{t-1}, embedding of a_{t-1})

Each update samples B architectures, evaluates them, and takes K gradient steps of PPO on all of them:

    A_i = R_i - b                                             b: mean of past rewards; or standardised in the batch
    ratio_it = P(a_it | a_i,<t) / P_old(a_it | a_i,<t)
    L = mean_it max( -ratio_it A_i, -clip(ratio_it, 1 - eps, 1 + eps) A_i )  -  c_H mean_it H_it

Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 3; controller and its settings: Zoph et al., 2018 (NASNet),
https://arxiv.org/abs/1707.07012, appendix A; PPO: `ppo.py`

The defaults are for searches of 200 to 1000 architectures. NASNet's settings (`PAPER`) are for many thousands and are
hardly better than random search after 300:

    rlbench run nas --env TASK --learning-rate 3.5e-4 --baseline moving --entropy-coefficient 1e-5 --updates 400

Smaller batches and more entropy suit searches of 150 architectures or fewer: `--envs 10 --entropy-coefficient 0.01`.

Differences from the papers: the defaults; a token has its own embedding at each position, because only the number of
choices at each position is known. The papers give neither the clip range nor the number of passes nor a largest gradient
norm. The policy rebuilds the state of its LSTM from the observation, which contains all tokens so far, so it needs no state
between steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rlbench.agents._lifetimes import chosen, sample
from rlbench.agents._on_policy import moved, policy_loss
from rlbench.agents._rule import entropy
from rlbench.agents._search import SearchAgent
from rlbench.agents._values import normalise_advantage
from rlbench.backbones.memories.lstm import LSTM
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.interface import Action

IMPOSSIBLE = -1e9
"""Logit of a value that a token does not have; finite, so that its share of the entropy is 0 and not undefined."""
PAPER: Mapping[str, Any] = {
    "learning_rate": 3.5e-4, "baseline": "moving", "entropy_coefficient": 1e-5,
}  # fmt: skip
"""NASNet's settings that differ from the defaults."""


@dataclass(frozen=True, kw_only=True)
class NASConfig:
    """Settings of the controller."""

    envs: int = 20
    """Number of environments in parallel: architectures in one update (paper: B)."""
    embedding_size: int = 32
    """Length of the embedding of a token."""
    memory_size: int = 100
    """Hidden units of the LSTM."""
    learning_rate: float = 5e-3
    """Adam step size (paper: 3.5e-4)."""
    epochs: int = 4
    """Gradient steps on each batch of architectures, each on all of them (K)."""
    clip_range: float = 0.2
    """How far the ratio may move from 1 (epsilon)."""
    ratio: Literal["token", "sequence"] = "token"
    """Whether each token has its own clipped ratio, or the whole sequence has one."""
    baseline: Literal["batch", "moving"] = "batch"
    """batch: rewards have mean 0 and standard deviation 1 in each batch. moving: the moving average of
    earlier rewards is subtracted (paper)."""
    baseline_decay: float = 0.95
    """Weight of the old value in the moving average."""
    entropy_coefficient: float = 1e-3
    """Weight of the entropy (paper: 1e-5)."""
    max_grad_norm: float = 1.0
    """Largest gradient norm; larger gradients are scaled down to it."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and batches too small to standardise."""
        check(self)
        if self.baseline == "batch" and self.envs < 2:
            raise UserError(
                "envs is 1, but the reward of a single architecture cannot be standardised; give 2 or more, or "
                "--baseline moving"
            )


class Controller(nn.Module):
    """Logits of every token given the tokens before it."""

    impossible: Tensor
    """Values that a token does not have, bool [L, N]."""

    def __init__(self, choices: Tensor, embedding_size: int, memory_size: int) -> None:
        """For sequences with these numbers of choices, int64 [L]; all weights are drawn from U(-0.1, 0.1)."""
        super().__init__()
        length, most = len(choices), int(choices.max())
        self.embedding = nn.Embedding(1 + length * most, embedding_size)
        """The first row begins a sequence; then one row for each value at each position."""
        self.memory = LSTM(embedding_size, memory_size)
        self.weight = nn.Parameter(torch.empty(length, most, memory_size))
        self.bias = nn.Parameter(torch.empty(length, most))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
        impossible = torch.arange(most, device=choices.device) >= choices[:, None]
        self.register_buffer("impossible", impossible, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, N] of the first T tokens of sequences, int64 [B, T].

        Those of token t depend only on the tokens before t, which must not be -1.
        """
        batch, steps = tokens.shape
        first = 1 + self.bias.shape[1] * torch.arange(steps - 1, device=tokens.device)
        # Tokens that are not chosen yet read the first row, like the start.
        rows = (first + tokens[:, :-1]).masked_fill(tokens[:, :-1] < 0, 0)
        inputs = self.embedding(torch.cat([torch.zeros_like(tokens[:, :1]), rows], dim=1).T)
        start = self.memory.initial_state(batch, tokens.device)
        never = torch.zeros(steps, batch, device=tokens.device)
        hidden, _ = self.memory.unroll(inputs, start, never)
        bias, weight = self.bias[:steps, None], self.weight[:steps].transpose(1, 2)
        logits = torch.baddbmm(bias, hidden, weight)
        return logits.masked_fill(self.impossible[:steps, None], IMPOSSIBLE).transpose(0, 1)


def controller_loss(
    log_ratio: Tensor, entropies: Tensor, advantage: Tensor, clip_range: Tensor, bonus: float
) -> Tensor:
    """The clipped surrogate of PPO minus the entropy times its weight, a scalar.

    Args:
        log_ratio: Logarithms of the ratios to the old policy, of tokens [B, L] or of whole sequences [B, 1].
        entropies: Entropy of each token, [B, L].
        advantage: Advantage of each sequence, [B].
        clip_range: epsilon, a scalar.
        bonus: Weight of the entropy, c_H.
    """
    same_shape(log_ratio[:, 0], advantage)
    wide = advantage[:, None].expand_as(log_ratio)
    return policy_loss(log_ratio, wide, clip_range) - bonus * entropies.mean()


class NAS(SearchAgent):
    """The controller of MnasNet, for sequences of tokens."""

    Config: ClassVar[type] = NASConfig
    config: NASConfig

    def build(self) -> None:
        """The controller, its optimiser and the moving average of rewards."""
        super().build()
        config = self.config
        self.network = Controller(self.choices, config.embedding_size, config.memory_size)
        self.optimizer = Adam(self.network.parameters(), config.learning_rate)
        self.average = torch.zeros((), device=self.device)

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        return Action(sample(self.next_logits(obs), self.act_generator))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely token."""
        return self.next_logits(obs).argmax(-1)

    def next_logits(self, obs: Tensor) -> Tensor:
        """Logits of the next token, [B, N]."""
        tokens, place = self.read(obs)
        logits: Tensor = self.network(tokens[:, : int(place.max()) + 1])
        return logits[torch.arange(len(obs), device=self.device), place]

    def advantage(self, reward: Tensor) -> Tensor:
        """Advantages [B] of rewards [B]; the moving average takes these rewards in only for the next batch."""
        if self.config.baseline == "batch":
            return normalise_advantage(reward, reward)
        mean, decay = reward.mean(), self.config.baseline_decay
        baseline = self.average if self.updates else mean
        self.average = decay * baseline + (1 - decay) * mean
        return reward - baseline

    def update(self, tokens: Tensor, reward: Tensor) -> Mapping[str, Tensor]:
        """K gradient steps on all sequences."""
        config, advantage = self.config, self.advantage(reward)
        clip_range = torch.tensor(config.clip_range, device=self.device)
        old: Tensor | None = None
        steps: list[dict[str, Tensor]] = []
        for _ in range(config.epochs):
            logits = self.network(tokens)
            log_prob = chosen(logits.log_softmax(-1), tokens)
            if old is None:  # Nothing has moved since it acted.
                old = log_prob.detach()
            log_ratio = log_prob - old
            if config.ratio == "sequence":
                log_ratio = log_ratio.sum(1, keepdim=True)
            entropies = entropy(logits)
            loss = controller_loss(
                log_ratio, entropies, advantage, clip_range, config.entropy_coefficient
            )
            gradient_step(self.optimizer, loss, config.max_grad_norm)
            each = entropies.detach().mean(0)
            steps.append({
                "loss": loss.detach(),
                **moved(log_ratio.detach(), clip_range),
                "entropy": each.mean(),
                **{f"entropy_{t}": x for t, x in enumerate(each)},
            })  # fmt: skip
        return {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}
