"""Conservative Q-learning (CQL).

Offline SAC whose critics are pushed down on all actions and up on the actions of the data:

    Q : minimise  sum_k (Q_k(s, a) - y)^2 + weight * E[ logsumexp_a' Q_k(s, a') - Q_k(s, a) ]

The log-sum-exp is estimated by importance sampling from uniform actions and from the policy's at s
and at s', all of them evaluated at s. As in the authors' code, the samples are summed and
not averaged, so that `gap_threshold` is their tau; the result exceeds the logarithm of the integral by
log(3 `penalty_samples`).

Kumar et al., 2020, https://arxiv.org/abs/2006.04779, equation 4, CQL(H)

Differences from the authors' code: the policy maximises Q from the first update (theirs imitates the
data for 40,000 updates); the temperature has the step size of the critics, not the policy's; the policy is
updated after the critics. As in their code, the target has no entropy term. The default is SAC's two hidden
layers; the authors use three (`PROFILES["authors"]`). A learned weight starts at `conservatism`; theirs
starts at 1 and multiplies a fixed weight, which also scales the gap that tau bounds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._values import SMALLEST_WEIGHT, critic_loss, td_target
from rlbench.agents.sac import SAC, SACConfig
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Transitions


@dataclass(frozen=True, kw_only=True)
class CQLConfig(SACConfig):
    """Settings of CQL: those of SAC and its own."""

    policy_learning_rate: float = 1e-4
    """Adam step size of the policy; critics and temperature have `learning_rate`."""
    conservatism: float = 5.0
    """Weight of the penalty (paper: alpha; authors' code for MuJoCo: 5 or 10)."""
    penalty_samples: int = 10
    """Uniform actions, and actions of the policy at s and at s', in the log-sum-exp."""
    gap_threshold: float | None = None
    """If this is a number, the weight is learned, starting at `conservatism`: it grows while the penalty is
    above the number (paper: tau, CQL-Lagrange). None: the weight is fixed."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and a weight of 0 if it is learned."""
        super().__post_init__()
        if self.gap_threshold is not None and self.conservatism == 0:
            raise UserError(
                "conservatism is 0, whose logarithm cannot be learned; give a number above 0 or "
                "leave gap_threshold out"
            )


PROFILES: dict[str, dict[str, Any]] = {"authors": {"hidden": (256, 256, 256)}}
"""Settings of the authors' MuJoCo script that differ from the defaults."""

MOST_WEIGHT = 1e6
"""Upper bound of a learned weight (authors' code)."""


def log_sum_exp(values: Tensor, log_densities: Tensor) -> Tensor:
    """Importance-sampling estimate of log(N x integral of exp Q(s, a) over actions), [K, B].

    Args:
        values: Q of sampled actions, [K, B, N].
        log_densities: Log-densities of the actions under the distributions they were drawn from, [B, N].
    """
    same_shape(values[0], log_densities)
    return (values - log_densities).logsumexp(-1)


def penalty(log_sums: Tensor, values: Tensor) -> Tensor:
    """Mean of logsumexp Q - Q(s, a) over B of each critic, [K]; both inputs are [K, B]."""
    same_shape(log_sums, values)
    return (log_sums - values).mean(dim=1)


def weight_loss(log_weight: Tensor, penalty: Tensor, threshold: float) -> Tensor:
    """Its gradient raises the weight if the mean penalty [K] is above the threshold."""
    return -log_weight.exp() * (penalty.detach().mean() - threshold)


class CQL(SAC):
    """CQL(H) with twin critics and the learned temperature of SAC."""

    Config: ClassVar[type] = CQLConfig
    compile_from = 2_000
    config: CQLConfig

    def build(self) -> None:
        """SAC's parts, an optimiser with a step size of its own for the policy, and the learned weight."""
        super().build()
        config = self.config
        self.policy_optimizer = Adam(self.policy.parameters(), config.policy_learning_rate)
        self.log_weight = torch.full(
            (), max(config.conservatism, SMALLEST_WEIGHT), device=self.device
        ).log_().requires_grad_()  # fmt: skip
        self.weight_optimizer = Adam([self.log_weight], config.learning_rate)

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of critics, policy, temperature, weight and target critics."""
        batch, weight = experience, self.log_weight.detach().exp()
        temperature = self.log_temperature.detach().exp()
        target = self._target(batch, temperature)
        gap, values = self._penalty(batch)
        loss = critic_loss(values, target) + weight * gap.sum()
        q_loss = gradient_step(self.critic_optimizer, loss)
        metrics = self._update_policy(batch.obs, temperature)
        if self.config.gap_threshold is not None:
            loss = weight_loss(self.log_weight, gap, self.config.gap_threshold)
            gradient_step(self.weight_optimizer, loss)
            with torch.no_grad():
                self.log_weight.copy_(self.log_weight.clamp(max=math.log(MOST_WEIGHT)))
        polyak(self.target_critic, self.critic, self.config.target_rate)
        return {
            "critic_loss": q_loss,
            "q_target": target.mean(),
            "q_data": values.detach().mean(),
            "penalty": gap.detach().mean(),
            "conservatism": weight,
            **metrics,
        }

    @torch.no_grad()
    def _target(self, batch: Transitions, temperature: Tensor) -> Tensor:
        """The target without the entropy, unlike in SAC."""
        next_action, _ = self.policy.sample(batch.next_obs, self.generator)
        next_value = self.target_critic(batch.next_obs, next_action).amin(dim=0)
        return td_target(batch.reward, batch.terminated, next_value, self.discount)

    def _penalty(self, batch: Transitions) -> tuple[Tensor, Tensor]:
        """The penalty of each critic, [K], and the values of the data's actions, [K, B]."""
        count, size = self.config.penalty_samples, self.box.size
        with torch.no_grad():
            shape = (len(batch.obs), count, size)
            uniform = 2 * torch.rand(shape, generator=self.generator, device=self.device) - 1
            here, here_log_prob = self.policy.sample_many(batch.obs, count, self.generator)
            there, there_log_prob = self.policy.sample_many(batch.next_obs, count, self.generator)
            uniform_log_prob = here_log_prob.new_full(shape[:2], -size * math.log(2))
            densities = torch.cat([uniform_log_prob, here_log_prob, there_log_prob], dim=1)
            data = self.box.to_unit(batch.action)
            actions = torch.cat([data[:, None], uniform, here, there], dim=1)
        values = self.critic(batch.obs, actions)
        return penalty(log_sum_exp(values[..., 1:], densities), values[..., 0]), values[..., 0]
