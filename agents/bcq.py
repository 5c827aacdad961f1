"""Batch-constrained deep Q-learning (BCQ).

Q-learning from fixed data among the actions of a behaviour model, each moved a little by a learned
perturbation:

    beta : behaviour model of the data, a conditional VAE
    xi   : xi(s, a) = clip(a + phi * tanh(net(s, a)), -1, 1), maximises Q_1(s, xi(s, a)), a ~ beta(s)
    y    = r + discount * max_i [ lambda min_k Q'_k(s', a_i) + (1 - lambda) max_k Q'_k(s', a_i) ],
           a_i = xi'(s', beta(s')), i = 1..n
    Q    : minimise  sum_k (Q_k(s, a) - y)^2
    act  : the best by Q_1 of many perturbed actions of beta

Fujimoto et al., 2019, https://arxiv.org/abs/1812.02900, algorithm 1

Differences from the authors' code: networks of 256-256 units instead of 400-300 and a VAE of 256-256
instead of 750-750 by default, batches of 256 and step sizes of 3e-4, as in the other agents;
`PROFILES["authors"]` has theirs.
"""

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import best_value, critic_loss, td_target
from rlbench.backbones.encoders import Encoded
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.heads.policies import best_action
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.heads.vae import LATENT_CLIP, ActionVAE, vae_loss
from rlbench.backbones.layers.mlp import Network
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent


@dataclass(frozen=True, kw_only=True)
class BCQConfig(ObservingConfig):
    """Settings of BCQ."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of perturbation and critics."""
    vae_hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of the behaviour model."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of all networks."""
    target_rate: float = 0.005
    """How far target networks move after each update (paper: tau)."""
    perturbation: float = 0.05
    """Largest perturbation of an action, whose range is [-1, 1] (paper: Phi)."""
    soft_clip: float = 0.75
    """Weight of the smallest critic against the largest in the target (paper: lambda)."""
    target_samples: int = 10
    """Number of actions from which the target takes the best (paper: n)."""
    act_samples: int = 100
    """Number of actions from which `act` takes the best."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


CACHED_ROWS = 1600
"""Samples of the target that are evaluated together on a CPU."""

PROFILES: dict[str, dict[str, Any]] = {
    "authors": {
        "hidden": (400, 300),
        "vae_hidden": (750, 750),
        "batch_size": 100,
        "learning_rate": 1e-3,
    },
}
"""Settings of the authors' code that differ from the defaults."""


def perturbation_loss(value: Tensor) -> Tensor:
    """Mean of -Q_1(s, xi(s, a)); values are [B]."""
    return -value.mean()


class BCQ(Agent):
    """BCQ for continuous actions."""

    Config: ClassVar[type] = BCQConfig
    consumes = Transitions
    compile_from = 2_000
    config: BCQConfig

    def build(self) -> None:
        """Behaviour model, perturbation and critics, with an optimiser each, and slow copies of the last two."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, action_size = partial(config.observations, spec), self.box.size
        self.vae = ActionVAE(see(), action_size, config.vae_hidden)
        self.policy = mlp(see(), config.hidden, action_size, more=action_size)
        self.critic = QEnsemble(see(), action_size, config.hidden, members=2)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.vae_optimizer = Adam(self.vae.parameters(), config.learning_rate)
        self.policy_optimizer = Adam(self.policy.parameters(), config.learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)

    def explore(self, obs: Tensor) -> Action:
        """A single sampled and perturbed action, whatever its value."""
        noise = randn((len(obs), 1, self.vae.latent_size), self.act_generator)
        return Action(self.decide(obs, noise))

    @property
    def acting_noise(self) -> tuple[int, int]:
        """Shape of the latents of the behaviour model, [N, L]."""
        return self.config.act_samples, self.vae.latent_size

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The best perturbed action, by the first critic, among one for each latent in `noise`, [B, N, L]."""
        assert noise is not None
        latent = noise.clamp(-LATENT_CLIP, LATENT_CLIP)
        actions = self.perturb(self.policy, obs, self.vae.decode_raw(obs, latent).tanh())
        return self.box.from_unit(best_action(actions, self.critic.first(obs, actions)))

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor:
        """Q_1, [B]."""
        return self.critic.first(obs, self.box.to_unit(action))

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of behaviour model, critics, perturbation and target networks."""
        obs, action = experience.obs, self.box.to_unit(experience.action)
        reconstruction, mean, log_std = self.vae(obs, action, self.generator)
        model_loss = gradient_step(
            self.vae_optimizer, vae_loss(reconstruction, action, mean, log_std)
        )
        target = self._target(experience)
        values = self.critic(obs, action)
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))

        likely = self.vae.sample_raw(obs, 1, LATENT_CLIP, self.generator)[:, 0].tanh()
        value = self.critic.first(obs, self.perturb(self.policy, obs, likely))
        pi_loss = gradient_step(self.policy_optimizer, perturbation_loss(value))
        polyak(self.target_policy, self.policy, self.config.target_rate)
        polyak(self.target_critic, self.critic, self.config.target_rate)
        return {
            "vae_loss": model_loss,
            "critic_loss": q_loss,
            "policy_loss": pi_loss,
            "q_target": target.mean(),
            "q_data": values.detach().mean(),
        }

    def perturb(self, policy: Network | Encoded, obs: Tensor, action: Tensor) -> Tensor:
        """xi(s, a) of actions [B, A] or [B, N, A], of the same shape."""
        shift = self.config.perturbation * policy.conditioned(obs, action).tanh()
        return (action + shift).clamp(-1, 1)

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        # Activations of so few rows stay in the cache of a processor; a GPU is faster with all at once.
        size = len(batch.reward)
        if self.device.type == "cpu":
            size = max(1, CACHED_ROWS // self.config.target_samples)
        next_value = torch.cat([self._best_value(obs) for obs in batch.next_obs.split(size)])
        return td_target(batch.reward, batch.terminated, next_value, self.discount)

    def _best_value(self, obs: Tensor) -> Tensor:
        """Value of the best sample at each observation, [B]."""
        count = self.config.target_samples
        likely = self.vae.sample_raw(obs, count, LATENT_CLIP, self.generator).tanh()
        values = self.target_critic(obs, self.perturb(self.target_policy, obs, likely))
        return best_value(values, self.config.soft_clip)
