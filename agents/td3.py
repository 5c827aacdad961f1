"""Twin delayed deep deterministic policy gradient (TD3).

Deterministic actor-critic that reduces overestimation in three ways: twin critics, a target action with
noise, and a policy that is updated less often than the critics:

    y  = r + discount * min_k Q'_k(s', clip(pi'(s') + clip(noise, -c, c), -1, 1))
    Q  : minimise  sum_k (Q_k(s, a) - y)^2
    pi : maximise  Q_1(s, pi(s)), every d-th update, after which all targets move

Fujimoto et al., 2018, https://arxiv.org/abs/1802.09477, algorithm 1

Differences from the paper: none in the equations; 256-256 layers and one learning rate of 3e-4, as in
the authors' later code. On a data set nothing constrains the policy to the data: this is the
unconstrained Q-learning with which offline methods are compared. `TD3BC` adds a constraint.
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
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent


@dataclass(frozen=True, kw_only=True)
class TD3Config(ObservingConfig):
    """Settings of TD3."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and critics (paper: 400, 300)."""
    batch_size: int = 256
    """Transitions in one update (paper: 100)."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy and critics (paper: 1e-3)."""
    target_rate: float = 0.005
    """How far target networks move after each update of the policy (paper: tau)."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's action (paper: sigma tilde)."""
    target_noise_clip: float = 0.5
    """Bound of that noise (paper: c)."""
    policy_every: int = 2
    """Number of critic updates per policy update (paper: d)."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions that explore (paper: sigma)."""
    random_steps: int = 25_000
    """Online: environment steps before the first update, with uniform actions unless --pretrained gives it a policy."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps."""
    cloning_alpha: float | None = None
    """Weight of the value against the squared error to the actions of the data, in units of the mean
    value (TD3+BC: alpha = 2.5); None: the value alone."""
    normalise_obs: bool = False
    """Bring observations to zero mean and unit variance with the statistics of the data set."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


SMALLEST_VALUE = 1e-8
"""Lower bound of the mean |Q_1| by which the weight of the value term is divided."""


def policy_loss(value: Tensor) -> Tensor:
    """Mean of -Q_1(s, pi(s)); values are [B]."""
    return -value.mean()


def cloning_loss(value: Tensor, action: Tensor, data_action: Tensor, alpha: float) -> Tensor:
    """-lambda Q_1 + squared error, lambda = alpha / mean |Q_1| (TD3+BC, equation 5).

    If all values are 0, only the squared error remains.

    Args:
        value: Q_1(s, pi(s)), [B].
        action: pi(s) in [-1, 1], [B, A].
        data_action: Actions of the data in [-1, 1], [B, A].
        alpha: See `TD3Config.cloning_alpha`.
    """
    same_shape(action, data_action)
    same_shape(value, action[:, 0])
    scale = alpha / value.detach().abs().mean().clamp(min=SMALLEST_VALUE)
    return (action - data_action).square().mean() - scale * value.mean()


class TD3(Agent):
    """TD3 with twin critics."""

    Config: ClassVar[type] = TD3Config
    consumes = Transitions
    compile_from = 20_000
    explores = True
    config: TD3Config

    def build(self) -> None:
        """Policy and critics, with an optimiser each, and slow copies of both."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, action_size = partial(config.observations, spec), len(self.box.half)
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self.policy = mlp(see(), config.hidden, action_size)
        self.critic = QEnsemble(see(), action_size, config.hidden, members=2)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.policy_optimizer = Adam(self.policy.parameters(), config.learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)
        self.updates = 0
        # Kept, because metrics have the same names in the updates without a step of the policy.
        self.q_policy = torch.zeros((), device=self.device)

    def explore(self, obs: Tensor) -> Action:
        """The action of the policy with Gaussian noise."""
        action = self.policy(self.normaliser(obs)).tanh()
        noise = self.config.exploration_noise * randn(action.shape, self.act_generator)
        return Action(self.box.from_unit((action + noise).clamp(-1, 1)))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action of the policy."""
        return self.box.from_unit(self.policy(self.normaliser(obs)).tanh())

    def phase(self) -> Hashable:
        """Whether the next update moves the policy."""
        return (self.updates + 1) % self.config.policy_every == 0

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of the critics and, every `policy_every` updates, of policy and targets."""
        obs, data_action = self.normaliser(experience.obs), self.box.to_unit(experience.action)
        target = self._target(experience)
        values = self.critic(obs, data_action)
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))

        self.updates += 1
        if self.updates % self.config.policy_every == 0:
            action = self.policy(obs).tanh()
            value = self.critic.first(obs, action)
            alpha = self.config.cloning_alpha
            loss = (
                policy_loss(value)
                if alpha is None
                else cloning_loss(value, action, data_action, alpha)
            )
            gradient_step(self.policy_optimizer, loss)
            self.q_policy.copy_(value.detach().mean())
            polyak(self.target_policy, self.policy, self.config.target_rate)
            polyak(self.target_critic, self.critic, self.config.target_rate)
        return {
            "critic_loss": q_loss,
            "q_target": target.mean(),
            "q_data": values.detach().mean(),
            "q_policy": self.q_policy.clone(),
        }

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        obs = self.normaliser(batch.next_obs)
        action = self.target_policy(obs).tanh()
        clip = self.config.target_noise_clip
        noise = (self.config.target_noise * randn(action.shape, self.generator)).clamp(-clip, clip)
        next_value = self.target_critic(obs, (action + noise).clamp(-1, 1)).amin(dim=0)
        return td_target(batch.reward, batch.terminated, next_value, self.discount)
