"""Behaviour regularized actor-critic (BRAC), including KL-control.

Offline actor-critic with a penalty on the divergence from a behaviour model:

    b    : behaviour model, maximises  E[ log b(a | s) ]
    D(s) = mean over samples a ~ pi(s) of  log pi(a | s) - log b(a | s)          (KL, from samples)
    y    = r + discount * (min_k Q'_k(s', a') - alpha D(s')),  a' ~ pi(s')       (value penalty)
    Q    : minimise  sum_k (Q_k(s, a) - y)^2
    pi   : minimise  E[ alpha D(s) - min_k Q_k(s, a) ],  a ~ pi(s)               (regularisation)
    alpha: fixed, or raised while D is above its threshold

Wu et al., 2019, https://arxiv.org/abs/1911.11361: BRAC-v has the penalty in both places, BRAC-p only
in the policy's loss. KL-control as in the BEAR authors' release is BRAC-v with a learned alpha.

Differences from the authors' BRAC code: the behaviour model is trained together with the agent, as in
KL-control, not for a million updates beforehand; the policy's log standard deviation may reach 2 instead of
0; alpha is learned through its logarithm; there is no entropy bonus. Network sizes and step sizes default
to the values of the other agents here; the authors use 300-300 units for critics and 200-200 for policy and
behaviour model, and step sizes of 1e-3 for critics, 3e-5 for the policy, 5e-4 for the behaviour model and
1e-5 for alpha.

Differences from the authors' KL-control, whose settings are in `PROFILES["kl-control"]`: the policy
maximises the smaller of the critics, not the first; policy and targets move at each update, not at every
second one; log alpha starts at 0, not at a random number; the log standard deviation of the behaviour model
has BRAC's bounds.
"""

import copy
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import SMALLEST_WEIGHT, critic_loss, td_target
from rlbench.backbones.heads.policies import TanhGaussian
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent


@dataclass(frozen=True, kw_only=True)
class BRACConfig(ObservingConfig):
    """Settings of BRAC."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy, behaviour model and critics."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    policy_learning_rate: float = 1e-4
    """Adam step size of the policy."""
    learning_rate: float = 3e-4
    """Adam step size of critics and behaviour model."""
    target_rate: float = 0.005
    """How far the target critics move after each update."""
    penalty: Literal["value", "policy"] = "value"
    """Where the divergence is penalised: in values and policy (BRAC-v), or in the policy alone (BRAC-p)."""
    divergence_samples: int = 4
    """Number of the policy's actions that estimate the divergence."""
    warmup_updates: int = 20_000
    """Number of first updates, in which the policy minimises the divergence alone."""
    alpha: float = 1.0
    """Weight of the divergence, in units of return; its initial value if it is learned."""
    alpha_mode: Literal["fixed", "learned"] = "fixed"
    """Whether the weight is fixed or learned from the divergence."""
    divergence_threshold: float = 0.1
    """Allowed divergence in nats, if the weight is learned (KL-control: 0.1)."""
    alpha_learning_rate: float = 1e-3
    """Adam step size of log alpha."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and an alpha of 0 if it is learned."""
        check(self)
        if self.alpha_mode == "learned" and self.alpha == 0:
            raise UserError(
                "alpha is 0, whose logarithm cannot be learned; give a number above 0 or set "
                "alpha_mode to fixed"
            )


PROFILES: dict[str, dict[str, Any]] = {
    "kl-control": {
        "hidden": (400, 300),
        "batch_size": 100,
        "discount": 0.98,
        "policy_learning_rate": 1e-3,
        "learning_rate": 1e-3,
        "divergence_samples": 1,
        "warmup_updates": 0,
        "alpha_mode": "learned",
    },
    "brac-p": {"penalty": "policy"},
}
"""Named sets of settings."""

MOST_ALPHA = math.exp(10)
"""Upper bound of a learned alpha, as in BEAR; the authors have none, but the exponential can overflow."""
LOG_STD_BOUNDS = (-5.0, 2.0)
"""Bounds of the policy's log standard deviation; the behaviour model has BRAC's [-5, 0]."""


def policy_loss(value: Tensor, divergence: Tensor, alpha: Tensor) -> Tensor:
    """Mean of alpha D - Q; value and divergence are [B]."""
    same_shape(value, divergence)
    return (alpha * divergence - value).mean()


def alpha_loss(log_alpha: Tensor, divergence: Tensor, threshold: float) -> Tensor:
    """Its gradient raises alpha if the mean divergence [B] is above the threshold."""
    return -log_alpha.exp() * (divergence.detach().mean() - threshold)


class BRAC(Agent):
    """BRAC with the Kullback-Leibler divergence in its primal form."""

    Config: ClassVar[type] = BRACConfig
    consumes = Transitions
    compile_from = 10_000
    config: BRACConfig

    def build(self) -> None:
        """Policy, critics, behaviour model and alpha, with an optimiser each, and slow copies of the critics."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, action_size = partial(config.observations, spec), self.box.size
        self.policy = TanhGaussian(see(), action_size, config.hidden, LOG_STD_BOUNDS)
        self.critic = QEnsemble(see(), action_size, config.hidden, members=2)
        self.behaviour = TanhGaussian(
            see(), action_size, config.hidden, (-5.0, 0.0), smooth=True, margin=1e-3
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = torch.full(
            (), max(config.alpha, SMALLEST_WEIGHT), device=self.device
        ).log_().requires_grad_()  # fmt: skip
        self.policy_optimizer = Adam(self.policy.parameters(), config.policy_learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)
        self.behaviour_optimizer = Adam(self.behaviour.parameters(), config.learning_rate)
        self.alpha_optimizer = Adam([self.log_alpha], config.alpha_learning_rate)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The warm-up of the paper, or a tenth of a shorter run."""
        return {"warmup_updates": min(20_000, updates // 10)}

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        action, _ = self.policy.sample(obs, self.act_generator)
        return Action(self.box.from_unit(action))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The tanh of the mean."""
        return self.box.from_unit(self.policy.mode(self.policy(obs)))

    def phase(self) -> Hashable:
        """Whether the warm-up is over."""
        return self.updates >= self.config.warmup_updates

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of behaviour model, critics, policy, alpha and target critics."""
        obs, action = experience.obs, self.box.to_unit(experience.action)
        likelihood = self.behaviour.log_prob(self.behaviour(obs), action).mean()
        model_loss = gradient_step(self.behaviour_optimizer, -likelihood)

        alpha = self.log_alpha.detach().exp()
        target = self._target(experience, alpha)
        values = self.critic(obs, action)
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))

        actions, divergence = self._divergence(obs)
        value = self.critic(obs, actions[:, 0]).amin(dim=0)
        climbed = value if self.updates >= self.config.warmup_updates else torch.zeros_like(value)
        pi_loss = gradient_step(self.policy_optimizer, policy_loss(climbed, divergence, alpha))
        if self.config.alpha_mode == "learned":
            loss = alpha_loss(self.log_alpha, divergence, self.config.divergence_threshold)
            gradient_step(self.alpha_optimizer, loss)
            with torch.no_grad():
                self.log_alpha.copy_(self.log_alpha.clamp(max=math.log(MOST_ALPHA)))
        polyak(self.target_critic, self.critic, self.config.target_rate)
        self.updates += 1
        return {
            "behaviour_loss": model_loss,
            "critic_loss": q_loss,
            "policy_loss": pi_loss,
            "divergence": divergence.detach().mean(),
            "alpha": alpha,
            "q_target": target.mean(),
            "q_data": values.detach().mean(),
        }

    def _divergence(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Samples of the policy, [B, N, A], and its divergence from the behaviour model, [B]."""
        count = self.config.divergence_samples
        actions, log_prob = self.policy.sample_many(obs, count, self.generator)
        behaviour = self.behaviour.log_prob(self.behaviour(obs), actions)
        return actions, (log_prob - behaviour).mean(dim=1)

    @torch.no_grad()
    def _target(self, batch: Transitions, alpha: Tensor) -> Tensor:
        actions, divergence = self._divergence(batch.next_obs)
        next_value = self.target_critic(batch.next_obs, actions[:, 0]).amin(dim=0)
        if self.config.penalty == "value":
            next_value = next_value - alpha * divergence
        return td_target(batch.reward, batch.terminated, next_value, self.discount)
