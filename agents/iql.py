"""Implicit Q-learning (IQL).

Q-learning from fixed data that never evaluates an action outside the data: an expectile of the values
of the data's actions replaces their maximum.

    V  : minimise  E[ |tau - 1[u < 0]| u^2 ],   u = min_k Q'_k(s, a) - V(s)
    pi : maximise  E[ min(exp(beta u), 100) log pi(a | s) ]
    Q  : minimise  sum_k (Q_k(s, a) - y)^2,   y = r + discount * V(s')

Kostrikov et al., 2021, https://arxiv.org/abs/2110.06169, equations 5 to 7

The order of the updates (V, policy, Q) and the numeric settings follow the authors' code for MuJoCo.
Differences from it: observations are normalised by default (`normalise_obs`), theirs are raw; rewards are
scaled on every task, by the returns of complete episodes, theirs only on HalfCheetah, Hopper and Walker2d,
with the last, truncated episode included; weights are initialised as in PyTorch's linear layers, theirs are
orthogonal.
"""

import copy
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import clipped_exp, critic_loss, likelihood_loss, td_target
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.heads.policies import ClippedGaussian
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, Spec

RETURN_RANGE = 1000.0
"""Scaled rewards add up to returns this far apart (authors' code for MuJoCo)."""
ACTION_LIMIT = 1 - 1e-5
"""Actions of the data are clipped to this (authors' code)."""


@dataclass(frozen=True, kw_only=True)
class IQLConfig(ObservingConfig):
    """Settings of IQL."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy, critics and value."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy, critics and value."""
    policy_decay_updates: int = 1_000_000
    """Updates over which the policy's step size falls to 0 along a cosine."""
    target_rate: float = 0.005
    """How far the target critics move after each update (paper: alpha)."""
    expectile: float = 0.7
    """Expectile of the values of the data's actions: 1/2 is their mean, near 1 their maximum (paper: tau)."""
    beta: float = 3.0
    """Inverse temperature of the policy's weights (paper: beta)."""
    max_weight: float = 100.0
    """Upper bound of those weights."""
    scale_rewards: bool = True
    """Multiply rewards by 1000 / (largest - smallest return of the data set)."""
    normalise_obs: bool = True
    """Bring observations to zero mean and unit variance with the statistics of the data set (authors'
    code: no)."""
    random_steps: int = 5_000
    """Online: environment steps before the first update, with uniform actions unless --pretrained gives it a policy."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Mean of |tau - 1[u < 0]| u^2 over differences u, [B] (equation 5)."""
    weight = torch.where(difference < 0, 1 - expectile, expectile)
    return (weight * difference.square()).mean()


def advantage_weight(advantage: Tensor, beta: float, max_weight: float) -> Tensor:
    """min(exp(beta A), w_max) without gradient, [B] (equation 7)."""
    return clipped_exp(beta * advantage.detach(), max_weight)


class IQL(Agent):
    """IQL with twin critics."""

    Config: ClassVar[type] = IQLConfig
    consumes = Transitions
    compile_from = 10_000
    explores = True
    config: IQLConfig

    def build(self) -> None:
        """Policy, critics and value, with an optimiser each, and slow copies of the critics."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see = partial(config.observations, spec)
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self.policy = ClippedGaussian(
            see(), self.box.size, config.hidden, (-5.0, 2.0), free_std=True
        )
        self.critic = QEnsemble(see(), self.box.size, config.hidden, members=2)
        self.value = mlp(see(), config.hidden, 1)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.policy_optimizer = Adam(self.policy.parameters(), config.learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)
        self.value_optimizer = Adam(self.value.parameters(), config.learning_rate)
        self.reward_scale = _reward_scale(config, spec)

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The policy's step size falls over the whole run."""
        return {"policy_decay_updates": max(updates, 1)}

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        sample = self.policy.draw(self.normaliser(obs), self.act_generator)
        return Action(self.box.from_unit(sample))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean of the policy."""
        return self.box.from_unit(self.policy.mode(self.policy(self.normaliser(obs))))

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of value, policy, critics and target critics."""
        obs, next_obs = self.normaliser(experience.obs), self.normaliser(experience.next_obs)
        action = self.box.to_unit(experience.action).clamp(-ACTION_LIMIT, ACTION_LIMIT)
        with torch.no_grad():
            slow_value = self.target_critic(obs, action).amin(dim=0)
        v_loss = gradient_step(self.value_optimizer, self._value_loss(obs, slow_value))

        with torch.no_grad():
            value, next_value = self.value(torch.cat([obs, next_obs])).squeeze(-1).chunk(2)
            advantage = slow_value - value
            weight = advantage_weight(advantage, self.config.beta, self.config.max_weight)
        self._decay_policy_step()
        pi_loss = gradient_step(
            self.policy_optimizer,
            likelihood_loss(self.policy.log_prob(self.policy(obs), action), weight),
        )

        reward = self.reward_scale * experience.reward
        target = td_target(reward, experience.terminated, next_value, self.discount)
        values = self.critic(obs, action)
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))
        polyak(self.target_critic, self.critic, self.config.target_rate)
        return {
            "value_loss": v_loss,
            "policy_loss": pi_loss,
            "critic_loss": q_loss,
            "advantage": advantage.mean(),
            "weight_mean": weight.mean(),
            "q_data": values.detach().mean(),
        }

    def _value_loss(self, obs: Tensor, slow_value: Tensor) -> Tensor:
        value = self.value(obs).squeeze(-1)
        same_shape(slow_value, value)
        return expectile_loss(slow_value - value, self.config.expectile)

    def _decay_policy_step(self) -> None:
        optimizer = self.policy_optimizer
        progress = (optimizer.steps / self.config.policy_decay_updates).clamp(max=1.0)
        rate = self.config.learning_rate * 0.5 * (1 + (math.pi * progress).cos())
        optimizer.learning_rate.copy_(rate)


def _reward_scale(config: IQLConfig, spec: Spec) -> float:
    if not config.scale_rewards or spec.return_range is None:
        return 1.0
    low, high = spec.return_range
    # Returns that differ only by the rounding of their sums have no range to scale by.
    apart = high - low > 1e-6 * max(abs(low), abs(high))
    return RETURN_RANGE / (high - low) if apart else 1.0
