"""Bootstrapping error accumulation reduction (BEAR).

Q-learning from fixed data that evaluates the critics only on actions inside the support of the data:

    beta : behaviour model of the data, a conditional VAE
    y    = r + discount * max_i [ lambda min_k Q'_k(s', a_i) + (1 - lambda) max_k Q'_k(s', a_i) ],
           a_1..a_p ~ pi(s')
    Q    : minimise  sum_k (Q_k(s, a) - y)^2
    pi   : minimise  E[ -min_k Q_k(s, a) + alpha * (MMD(beta(s), pi(s)) - epsilon) ],  a ~ pi(s)
    alpha: raised while the MMD is above epsilon, lowered while it is below
    act  : the best by Q_1 of many samples of pi

Kumar et al., 2019, https://arxiv.org/abs/1906.00949

The defaults are the authors' later settings, used for the D4RL paper, except that the behaviour model is
smaller. `PROFILES["d4rl"]` restores its size, and `PROFILES["paper"]` has the settings of the first
release; use them as in `BEARConfig(**PROFILES["paper"])`. Differences from that release: log alpha starts
at 0, not at a random number; `log_std_bounds` cannot be switched off, only set wide.
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
from rlbench.agents._values import best_value, critic_loss, td_target
from rlbench.backbones.heads.policies import TanhGaussian, best_action
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.heads.vae import LATENT_CLIP, ActionVAE, vae_loss
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent

RAW_LIMIT = math.atanh(1 - 1e-6)
"""Raw actions beyond this are tanh = 1 in float32; their log-density is meaningless."""


@dataclass(frozen=True, kw_only=True)
class BEARConfig(ObservingConfig):
    """Settings of BEAR."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and critics."""
    vae_hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of the behaviour model (paper: 750, 750)."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    target_rate: float = 0.005
    """How far target networks move after each update (paper: tau)."""
    policy_learning_rate: float = 1e-4
    """Adam step size of the policy."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critics."""
    vae_learning_rate: float = 3e-4
    """Adam step size of the behaviour model."""
    alpha_learning_rate: float = 1e-3
    """Adam step size of log alpha."""
    log_std_bounds: tuple[float, float] = (-5.0, 2.0)
    """Bounds of the policy's log standard deviation."""
    critics: int = 2
    """Number of critics (paper: K)."""
    soft_clip: float = 0.75
    """Weight of the smallest critic against the largest in the target (paper: lambda)."""
    target_samples: int = 10
    """Number of policy samples from which the target takes the best (paper: p)."""
    target_actions: Literal["policy", "target-policy"] = "policy"
    """Where the target's actions come from: the policy itself or a slow copy."""
    policy_value: Literal["first", "min", "max", "mean"] = "first"
    """Which critic estimate the policy maximises: the smallest critic at its first sample, or the smallest,
    largest or mean critic after averaging each over the samples."""
    std_penalty: float = 0.0
    """Weight of the standard deviation of the critics in the policy's loss; in the
    authors' code it is lambda * sqrt((1 - delta) / delta), which is 1.2 for lambda 0.4 and delta 0.1,
    and the term is off by default."""
    warmup_updates: int = 40_000
    """Number of first updates, in which the policy minimises the constraint alone."""
    constraint: Literal["mmd", "kl"] = "mmd"
    """Constraint on the policy: the MMD to the behaviour model, or its log-likelihood (ablation)."""
    mmd_threshold: float = 0.05
    """Allowed MMD (paper: epsilon)."""
    kl_threshold: float = -2.0
    """Allowed mean of -log pi over behaviour samples, for the KL constraint."""
    constraint_samples: int = 4
    """Samples of the behaviour model and of the policy in the constraint (paper: n)."""
    kernel: Literal["laplacian", "gaussian"] = "laplacian"
    """Kernel of the MMD."""
    kernel_width: float = 20.0
    """Width of the kernel exp(-distance / (2 sigma)), not squared (paper: sigma)."""
    mmd_estimator: Literal["biased", "unbiased"] = "biased"
    """Biased counts pairs of a sample with itself, so the MMD never falls to 0 (authors' code)."""
    noise_clip: float | None = None
    """Bound of the policy's noise in the constraint's samples (first release: 0.5); None: no bound."""
    alpha_mode: Literal["learned", "fixed"] = "learned"
    """Whether the weight of the constraint is learned from its violation or fixed."""
    fixed_alpha: float = 100.0
    """Weight of the constraint if it is fixed."""
    alpha_min: float = math.exp(-5)
    """Lower bound of the learned weight."""
    alpha_max: float = math.exp(10)
    """Upper bound of the learned weight; with few samples the weight reaches it and stays there."""
    act_samples: int = 100
    """Number of policy samples from which `act` takes the best."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and bounds in the wrong order."""
        check(self)
        if self.alpha_min > self.alpha_max:
            raise UserError(
                f"alpha_min is {self.alpha_min} and alpha_max is {self.alpha_max}; give an alpha_min "
                "that is not above alpha_max"
            )
        if self.mmd_estimator == "unbiased" and self.constraint_samples < 2:
            raise UserError(
                f"constraint_samples is {self.constraint_samples}; the unbiased MMD needs 2 or "
                "more, so raise it or choose mmd_estimator biased"
            )


PROFILES: dict[str, dict[str, Any]] = {
    "d4rl": {"vae_hidden": (750, 750)},
    "paper": {
        "hidden": (400, 300),
        "vae_hidden": (750, 750),
        "batch_size": 100,
        "policy_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "vae_learning_rate": 1e-3,
        "log_std_bounds": (-20.0, 20.0),
        "target_actions": "target-policy",
        "policy_value": "min",
        "warmup_updates": 20_000,
        "constraint_samples": 10,
        "kernel_width": 10.0,
        "noise_clip": 0.5,
        "act_samples": 10,
    },
}
"""Settings of the authors' two releases that differ from the defaults."""


def mmd(behaviour: Tensor, policy: Tensor, config: BEARConfig) -> Tensor:
    """Distance between two sets of raw actions: root of the squared MMD, [B].

    Args:
        behaviour: Samples of the behaviour model, [B, N, A].
        policy: Samples of the policy, [B, N, A].
        config: Sets kernel, width and estimator.
    """
    same_shape(behaviour, policy)
    count = policy.shape[1]

    def total(x: Tensor, y: Tensor) -> Tensor:
        if config.kernel == "laplacian":
            size = torch.cdist(x, y, p=1.0)
        else:
            size = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.exp(size / (-2 * config.kernel_width)).sum((1, 2))

    within = total(behaviour, behaviour) + total(policy, policy)
    if config.mmd_estimator == "biased":
        within = within / count**2
    else:
        # k(x, x) = 1, so the pairs of a sample with itself add up to N in each set.
        within = (within - 2 * count) / (count * (count - 1))
    squared = within - 2 * total(behaviour, policy) / count**2
    # The root has no gradient at 0 (authors' constant).
    return (squared.clamp(min=0) + 1e-6).sqrt()


def select_value(values: Tensor, config: BEARConfig) -> Tensor:
    """The value that the policy maximises, [B], from the values of the critics, [K, B]."""
    if config.policy_value == "max":
        value = values.amax(dim=0)
    elif config.policy_value == "mean":
        value = values.mean(dim=0)
    else:
        value = values.amin(dim=0)
    if config.std_penalty:
        # Not std(): its gradient is infinite if the critics agree.
        spread = (values.var(dim=0, correction=0) + 1e-6).sqrt()
        value = value - config.std_penalty * spread
    return value


def policy_loss(value: Tensor, distance: Tensor, alpha: Tensor, threshold: float) -> Tensor:
    """Mean of -Q + alpha * (distance - epsilon); value and distance are [B]."""
    same_shape(value, distance)
    return (alpha * (distance - threshold) - value).mean()


def alpha_loss(log_alpha: Tensor, distance: Tensor, threshold: float) -> Tensor:
    """Its gradient raises alpha if the mean distance [B] is above the threshold."""
    # Detached: with a gradient here the policy would lose its constraint (a bug in other implementations).
    return -log_alpha.exp() * (distance.detach().mean() - threshold)


class BEAR(Agent):
    """BEAR with a Laplacian or Gaussian MMD, or a KL constraint."""

    Config: ClassVar[type] = BEARConfig
    consumes = Transitions
    compile_from = 10_000
    config: BEARConfig

    def build(self) -> None:
        """Behaviour model, policy, critics and alpha, with an optimiser each, and slow copies."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, action_size = partial(config.observations, spec), len(self.box.half)
        self.vae = ActionVAE(see(), action_size, config.vae_hidden)
        self.policy = TanhGaussian(see(), action_size, config.hidden, config.log_std_bounds)
        self.critic = QEnsemble(see(), action_size, config.hidden, config.critics)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_policy = (
            copy.deepcopy(self.policy).requires_grad_(False)
            if config.target_actions == "target-policy"
            else None
        )
        alpha = 1.0 if config.alpha_mode == "learned" else config.fixed_alpha
        self.log_alpha = torch.tensor(math.log(alpha), device=self.device, requires_grad=True)
        self.threshold = config.mmd_threshold if config.constraint == "mmd" else config.kl_threshold
        self.vae_optimizer = Adam(self.vae.parameters(), config.vae_learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.critic_learning_rate)
        self.policy_optimizer = Adam(self.policy.parameters(), config.policy_learning_rate)
        self.alpha_optimizer = Adam([self.log_alpha], config.alpha_learning_rate)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The authors' kernel for the task, and a warm-up of 40,000 or 8 % of a shorter run."""
        gaussian = task.lower().startswith("halfcheetah")
        return {
            "kernel": "gaussian" if gaussian else "laplacian",
            "warmup_updates": min(40_000, updates * 8 // 100),
        }

    def explore(self, obs: Tensor) -> Action:
        """A single sample of the policy, whatever its value."""
        noise = randn((len(obs), 1, len(self.box.half)), self.act_generator)
        return Action(self.decide(obs, noise))

    @property
    def acting_noise(self) -> tuple[int, ...]:
        """Shape of the noise of the policy's samples, [N, A]."""
        return self.config.act_samples, len(self.box.half)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The best sample, by the first critic, among the policy's samples with `noise`, [B, N, A]."""
        assert noise is not None
        actions = self.policy.raw(obs, noise).tanh()
        return self.box.from_unit(best_action(actions, self.critic.first(obs, actions)))

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor:
        """Q_1, [B]."""
        return self.critic.first(obs, self.box.to_unit(action))

    def phase(self) -> Hashable:
        """Whether the warm-up is over."""
        return self.updates >= self.config.warmup_updates

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of behaviour model, critics, policy, alpha and target networks."""
        obs, action = experience.obs, self.box.to_unit(experience.action)
        reconstruction, mean, log_std = self.vae(obs, action, self.generator)
        model_loss = gradient_step(
            self.vae_optimizer, vae_loss(reconstruction, action, mean, log_std)
        )
        target = self._target(experience)
        values = self.critic(obs, action)
        q_loss = gradient_step(self.critic_optimizer, critic_loss(values, target))

        # Only now, or the graph would contain the critics before their step.
        alpha = self.log_alpha.detach().exp()
        distance, value = self._distance_and_value(obs)
        climbed = value if self.updates >= self.config.warmup_updates else torch.zeros_like(value)
        pi_loss = gradient_step(
            self.policy_optimizer, policy_loss(climbed, distance, alpha, self.threshold)
        )
        self._update_alpha(distance)
        polyak(self.target_critic, self.critic, self.config.target_rate)
        if self.target_policy is not None:
            polyak(self.target_policy, self.policy, self.config.target_rate)
        self.updates += 1
        return {
            "vae_loss": model_loss,
            "critic_loss": q_loss,
            "policy_loss": pi_loss,
            self.config.constraint: distance.detach().mean(),
            "alpha": alpha,
            "alpha_at_cap": (alpha >= 0.999 * self.config.alpha_max).float(),
            "q_target": target.mean(),
            "q_data": values.detach().mean(),
            "q_policy": value.detach().mean(),
        }

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        policy = self.policy if self.target_policy is None else self.target_policy
        raw = policy.sample_raw(batch.next_obs, self.config.target_samples, self.generator)
        values = self.target_critic(batch.next_obs, raw.tanh())
        next_value = best_value(values, self.config.soft_clip)
        return td_target(batch.reward, batch.terminated, next_value, self.discount)

    def _distance_and_value(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's distance from the behaviour model, and its value by the critics; [B] each."""
        count, clip = self.config.constraint_samples, self.config.noise_clip
        behaviour = self.vae.sample_raw(obs, count, LATENT_CLIP, self.generator)
        raw = self.policy.sample_raw(obs, count, self.generator, clip)
        if self.config.constraint == "mmd":
            # Before the tanh, because after it actions near the bound have almost no gradient.
            distance = mmd(behaviour, raw, self.config)
        else:
            behaviour = behaviour.clamp(-RAW_LIMIT, RAW_LIMIT)
            distance = -self.policy.log_density(self.policy(obs), behaviour).mean(dim=1)
        if self.config.policy_value == "first":
            values = self.critic(obs, raw[:, 0].tanh())
        else:
            values = self.critic(obs, raw.tanh()).mean(dim=-1)
        return distance, select_value(values, self.config)

    def _update_alpha(self, distance: Tensor) -> None:
        if self.config.alpha_mode == "fixed":
            return
        gradient_step(self.alpha_optimizer, alpha_loss(self.log_alpha, distance, self.threshold))
        low, high = math.log(self.config.alpha_min), math.log(self.config.alpha_max)
        with torch.no_grad():
            self.log_alpha.copy_(self.log_alpha.clamp(low, high))
