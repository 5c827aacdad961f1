"""Soft Actor-Critic (SAC).

Learn the policy that maximises reward plus entropy, with twin critics:

    y  = r + discount * (min_k Q'_k(s', a') - alpha * log pi(a' | s')),   a' ~ pi(s')
    Q  : minimise  sum_k (Q_k(s, a) - y)^2
    pi : minimise  alpha * log pi(a | s) - min_k Q_k(s, a),               a ~ pi(s)
    alpha: raised while the entropy is below its target -|A|, lowered while it is above

Haarnoja et al., 2018, https://arxiv.org/abs/1812.05905

Differences from the paper: none in the equations. Online, one update follows each environment step;
on a data set nothing constrains the policy to the data.
"""

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import critic_loss, td_target
from rlbench.backbones.heads.policies import TanhGaussian
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent


@dataclass(frozen=True, kw_only=True)
class SACConfig(ObservingConfig):
    """Settings of SAC."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and critics."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy, critics and temperature."""
    target_rate: float = 0.005
    """How far the target critics move towards the critics after each update (paper: tau)."""
    target_entropy_scale: float = 1.0
    """Target entropy is minus this times the number of action dimensions (paper: 1)."""
    initial_temperature: float = 1.0
    """Weight of the entropy at the start (paper: alpha)."""
    random_steps: int = 5_000
    """Online: environment steps before the first update, with uniform actions unless --pretrained gives it a policy."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, such as a temperature of 0, which has no logarithm."""
        check(self)


def policy_loss(log_prob: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Soft value to minimise, mean of alpha * log pi - Q; both inputs have shape [B]."""
    same_shape(log_prob, value)
    return (temperature * log_prob - value).mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Its gradient raises alpha if the mean entropy -log_prob [B] is below the target."""
    return -log_temperature.exp() * (log_prob.detach() + target_entropy).mean()


class SAC(Agent):
    """Soft Actor-Critic with learned temperature."""

    Config: ClassVar[type] = SACConfig
    consumes = Transitions
    compile_from = 10_000
    explores = True
    config: SACConfig

    def build(self) -> None:
        """Policy, critics and temperature, with an optimiser each, and slow copies of the critics."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, action_size = partial(config.observations, spec), len(self.box.half)
        self.policy = TanhGaussian(see(), action_size, config.hidden, (-20.0, 2.0))
        self.critic = QEnsemble(see(), action_size, config.hidden, members=2)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = torch.full(
            (), config.initial_temperature, device=self.device
        ).log_().requires_grad_()  # fmt: skip
        self.target_entropy = -config.target_entropy_scale * action_size
        self.policy_optimizer = Adam(self.policy.parameters(), config.learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)
        self.temperature_optimizer = Adam([self.log_temperature], config.learning_rate)

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        action, _ = self.policy.sample(obs, self.act_generator)
        return Action(self.box.from_unit(action))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The tanh of the mean."""
        return self.box.from_unit(self.policy(obs)[0].tanh())

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of critics, policy, temperature and target critics."""
        temperature = self.log_temperature.detach().exp()
        target = self._target(experience, temperature)
        values = self.critic(experience.obs, self.box.to_unit(experience.action))
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))
        metrics = self._update_policy(experience.obs, temperature)
        polyak(self.target_critic, self.critic, self.config.target_rate)
        return {"critic_loss": q_loss, "q_target": target.mean(), **metrics}

    def _update_policy(self, obs: Tensor, temperature: Tensor) -> dict[str, Tensor]:
        """One step of policy and temperature."""
        action, log_prob = self.policy.sample(obs, self.generator)
        value = self.critic(obs, action).amin(dim=0)
        pi_loss = gradient_step(self.policy_optimizer, policy_loss(log_prob, value, temperature))
        gradient_step(
            self.temperature_optimizer,
            temperature_loss(self.log_temperature, log_prob, self.target_entropy),
        )
        return {
            "policy_loss": pi_loss,
            "temperature": temperature,
            "entropy": -log_prob.detach().mean(),
        }

    @torch.no_grad()
    def _target(self, batch: Transitions, temperature: Tensor) -> Tensor:
        next_action, log_prob = self.policy.sample(batch.next_obs, self.generator)
        next_value = self.target_critic(batch.next_obs, next_action).amin(dim=0)
        soft_value = next_value - temperature * log_prob
        return td_target(batch.reward, batch.terminated, soft_value, self.discount)
