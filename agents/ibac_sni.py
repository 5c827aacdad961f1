"""Information-bottleneck actor-critic with selective noise injection (IBAC-SNI).

PPO on a noisy code z of the observation, with a penalty on the information in the code. Noise regularises,
but it hurts if it affects the actions taken and the values learned; selective noise injection (SNI) uses
it only in a part of the policy's gradient:

    z ~ N(mu(s), sigma(s)^2),  zbar = mu(s);    pi = pi(. | z),  pibar = pi(. | zbar),  Vbar = V(zbar)
    L = lambda PG(pibar) + (1 - lambda) PG(pi)  -  c_H (lambda H(pibar) + (1 - lambda) H(pi))
        + c_V VL(Vbar)  +  beta KL(z | N(0, I)),     PG(p) = PPO's loss with p / pibar_rollout

Igl et al., 2019, https://arxiv.org/abs/1910.12911, equations 5 to 11

`mixture` is lambda; None is IBAC without SNI, with noise in rollouts, critic, updates and evaluations
alike. The regularisers that the paper compares with are settings: `noise` none or dropout, `weight_decay`,
`batch_norm`, `activation_penalty`, `augment`. Dropout's deterministic pass has no mask, or with
`slow_mask` one that stays for a whole rollout and its updates, as in the authors' CoinRun.

Differences from the paper: dropout with SNI uses the mixture in all environments, whereas the authors'
MiniGrid code has only the stochastic term; its values come from the deterministic code, whereas their
CoinRun code trains the values of the stochastic one; time limits bootstrap. Initial weights and weight
decay follow their MiniGrid code for CoinRun too, so biases decay as well, after gradient clipping; batch
normalisation follows their CoinRun code for MiniGrid too, before the ReLU. Without SNI, dropout draws a
mask at each step, and for each observation in evaluations; their CoinRun code keeps one mask for a rollout,
and their script that evaluates MiniGrid agents uses none. The defaults are the settings for MultiRoom with
cells as one-hot vectors, normalised advantages and noise that starts small; `PROFILES` has the authors'
settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.agents._on_policy import (
    Minibatch,
    OnPolicyAgent,
    judge,
    led_out,
    make_head,
    moved,
    policy_loss,
    scaled_advantage,
    some,
    to_env,
    value_clip,
    value_loss,
    whole_batch,
)
from rlbench.agents.ppo import PPOConfig
from rlbench.backbones.encoders import kind_of
from rlbench.backbones.heads.noisy import Noise, NoisyActorCritic
from rlbench.backbones.layers.augment import check_images, cut_out, draw_rectangles
from rlbench.backbones.layers.bottleneck import unit_kl
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import gradient_step
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Learn, Spec, State


@dataclass(frozen=True, kw_only=True)
class IBACSNIConfig(PPOConfig):
    """Settings of IBAC-SNI: those of PPO, for MultiRoom, and its own."""

    encoder: str = "one-hot-grid"
    hidden: tuple[int, ...] = ()
    envs: int = 16
    rollout_steps: int = 128
    epochs: int = 4
    batch_size: int | None = 256
    learning_rate: float = 7e-4
    value_clip_range: float | None = 0.2
    entropy_coefficient: float = 0.01
    code_size: int = 64
    """Length of the code (paper: z)."""
    code_activation: Literal["tanh", "relu"] = "tanh"
    """Activation between the code and the heads."""
    noise: Noise = "bottleneck"
    """Source of the noise in the code."""
    mixture: float | None = 0.5
    """Share of the deterministic code in the policy's loss (paper: lambda); None: no SNI."""
    beta: float = 1e-6
    """Weight of the bottleneck's divergence, in nats."""
    samples: int = 1
    """Stochastic codes of each observation (paper: K)."""
    sigma_offset: float = -5.0
    """Added before the softplus that gives sigma; values below 0 make the noise start small."""
    dropout: float = 0.2
    """Share of the code's units that dropout sets to 0."""
    slow_mask: bool = False
    """Whether dropout's deterministic pass has a mask, which is redrawn after each update."""
    activation_penalty: float = 0.0
    """Weight of the squared length of the deterministic code (paper: 1e-4)."""
    batch_norm: bool = False
    """Whether each convolution is followed by batch normalisation, with batch statistics also when acting."""
    augment: bool = False
    """Whether training images (uint8) are augmented with random rectangles."""
    act_mode: Literal["sample", "mode"] = "sample"
    """How actions are chosen without exploration: from the deterministic code with SNI, else from a stochastic one."""


PROFILES: dict[str, dict[str, Any]] = {
    "multiroom": {"encoder": "grid", "normalise_advantage": False, "sigma_offset": 0.0},
    "coinrun": {
        "encoder": "impala", "envs": 32, "rollout_steps": 256, "epochs": 3, "batch_size": 1024,
        "discount": 0.999, "learning_rate": 5e-4, "normalise_advantage": True,
        "value_coefficient": 0.25, "code_size": 256, "code_activation": "relu",
        "beta": 1e-4 / math.log(2), "samples": 12, "weight_decay": 1e-4,
        "augment": True,
    },
}  # fmt: skip
"""The authors' settings that differ from the defaults. They read MultiRoom's grid as plain numbers, with
which training is too slow on two cores. For CoinRun their beta is in bits, and their value loss is halved."""


class IBACSNI(OnPolicyAgent):
    """PPO with a noisy code and selective noise injection."""

    Config: ClassVar[type] = IBACSNIConfig
    config: IBACSNIConfig
    network: NoisyActorCritic
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 600, "eval_every": 50, "eval_episodes": 100, "log_every": 5,
        "checkpoint_every": 50,
    }  # fmt: skip

    def make_network(self) -> NoisyActorCritic:
        """Policy and value on one noisy code."""
        config, space = self.config, self.spec.observation_space
        if config.augment:
            _check_augmented(config, self.spec)
        return NoisyActorCritic(
            space, partial(make_head, self.form), config.encoder, config.hidden, config.code_size,
            config.noise, sigma_offset=config.sigma_offset, dropout=config.dropout,
            slow_mask=config.slow_mask, activation=config.code_activation,
            batch_norm=config.batch_norm, frozen=config.freeze,
        )  # fmt: skip

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The authors' settings for CoinRun; step size and clip range fall over the whole run."""
        if task.startswith("coinrun"):
            return PROFILES["coinrun"] | {"decay_updates": max(updates, 1)}
        return {}

    def explore(self, obs: Tensor) -> Action:
        """Sampled actions, whatever the `act_mode`.

        Log-probabilities and values are stored with the step if they cannot be recomputed later: without
        SNI they depend on the noise of the code, with `batch_norm` on the other observations of the step.
        """
        extras: dict[str, Tensor] = {}
        if self.config.augment:
            channels = obs.shape[-1 if self.network.encoder.channels_last else 1]
            extras["cut_out"] = draw_rectangles(len(obs), channels, self.act_generator)
            obs = self._cut_out(obs, extras["cut_out"])
        obs, head = self.normaliser(obs), self.network.head
        if self.config.mixture is not None:
            params, value = self.network(obs)
            sample = head.draw(params, randn(params.shape, self.act_generator))
            if self.config.batch_norm:
                extras |= {"log_prob": head.log_prob(params, sample), "value": value}
        else:
            codes = self.network.noisy(
                self.network.code(obs), self.config.samples, self.act_generator
            )
            params, values = self.network.read(codes)
            # A sample of a mixture is a sample of any of its parts; all are equal before the noise.
            sample = head.draw(params[0], randn(params[0].shape, self.act_generator))
            extras["log_prob"] = mixture_log_prob(head.log_prob(params, _each(sample, params)))
            extras["value"] = values.mean(0)
        return Action(to_env(self.form, sample), {"sample": sample, **extras})

    @property
    def acting_noise(self) -> tuple[int, ...] | None:
        """Noise of the code (without SNI, Z) and of the sample (A), [Z + A]; None if neither is used."""
        size = self.config.code_size if self._acts_noisily else 0
        size += self.form.size if self.config.act_mode == "sample" else 0
        return (size,) if size else None

    @property
    def _acts_noisily(self) -> bool:
        return self.config.mixture is None and self.config.noise != "none"

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions chosen by `act_mode`; without `noise`, the most likely ones of the deterministic code."""
        network, head, size = self.network, self.network.head, self.config.code_size
        code = network.code(self.normaliser(obs))
        z = code.mean * network.mask
        if noise is not None and self._acts_noisily:
            z, noise = network.noisy_by(code, noise[:, :size]), noise[:, size:]
        params, _ = network.read(z)
        if noise is None or self.config.act_mode == "mode":
            return to_env(self.form, head.mode(params))
        return to_env(self.form, head.draw(params, noise))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits, or means in units of half the range, for the code without noise."""
        mean = self.network.code(self.normaliser(obs)).mean
        return self.network.read(mean * self.network.mask)[0]

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        metrics = super()._learn(step, rollout)
        if self.config.slow_mask:
            # For the next rollout: this one was collected with the old mask.
            self.network.redraw_mask(self.generator)
        return metrics

    def gradient_step(self, batch: Minibatch) -> Mapping[str, Tensor]:
        """One step down the loss of a minibatch; see the equation at the top of the file."""
        config, network, head = self.config, self.network, self.network.head
        advantage, code = scaled_advantage(config, batch), network.code(batch.obs)
        share = config.mixture or 0.0
        pi_loss = entropy = torch.zeros((), device=self.device)
        metrics: dict[str, Tensor] = {}
        if config.mixture is not None:
            params, value = network.read(code.mean * network.mask)
            log_ratio = head.log_prob(params, batch.sample) - batch.log_prob
            pi_loss = share * policy_loss(log_ratio, advantage, self.clip_range)
            entropy = share * head.entropy(params).mean()
            metrics |= moved(log_ratio.detach(), self.clip_range)
        if share < 1:
            params, values = network.read(network.noisy(code, config.samples, self.generator))
            log_prob = mixture_log_prob(head.log_prob(params, _each(batch.sample, params)))
            log_ratio = log_prob - batch.log_prob
            pi_loss = pi_loss + (1 - share) * policy_loss(log_ratio, advantage, self.clip_range)
            # Entropy of the parts: the mixture's entropy has no closed form.
            entropy = entropy + (1 - share) * head.entropy(params).mean()
            noisy = moved(log_ratio.detach(), self.clip_range)
            if config.mixture is None:
                value, metrics = values.mean(0), noisy
            else:
                metrics |= {f"{name}_stochastic": x for name, x in noisy.items()}
        limit = value_clip(config, self.clip_range)
        v_loss = value_loss(value, batch.value, batch.target, limit)
        loss = pi_loss - config.entropy_coefficient * entropy + config.value_coefficient * v_loss
        loss = loss + config.activation_penalty * code.mean.square().sum(-1).mean()
        if code.sigma is not None:
            each = unit_kl(code.mean, code.sigma)
            loss = loss + config.beta * each.sum(-1).mean()
            metrics |= told(each.detach(), code.sigma.detach())
        gradient_step(self.optimizer, loss, config.max_grad_norm)
        return {
            "policy_loss": pi_loss.detach(),
            "value_loss": v_loss.detach(),
            "entropy": entropy.detach(),
            **metrics,
        }

    @torch.no_grad()
    def _batch(self, rollout: Trajectories) -> Minibatch:
        """All steps of a rollout, [T * V, ...], evaluated with the policy that acted."""
        obs, extras = self._seen(rollout), rollout.extras
        if "log_prob" in extras:  # `act` stored them because they cannot be recomputed.
            log_prob, value = extras["log_prob"], extras["value"]
        else:
            log_prob, value = judge(self.network, obs, rollout)
        after = self._value(rollout.final_obs[led_out(rollout)])
        seen = replace(rollout, obs=obs, reward=self.scaler(rollout, self.discount))
        mixing = self.config.gae_lambda
        return whole_batch(seen, log_prob, value, after, self.discount, mixing).flat()

    def _log_prob(self, rollout: Trajectories) -> Tensor:
        """Log-probabilities of `some` samples under the current policy of the deterministic code, [T, V]."""
        probed = some(rollout)
        return judge(self.network, self._seen(probed), probed)[0]

    def _value(self, obs: Tensor) -> Tensor:
        """Values of observations as in acting, [B]: without SNI they have the code's noise."""
        obs = self.normaliser(obs)
        if self.config.mixture is not None:
            return self.network.value(obs)
        codes = self.network.noisy(self.network.code(obs), self.config.samples, self.generator)
        return self.network.read(codes)[1].mean(0)

    def _seen(self, rollout: Trajectories) -> Tensor:
        """The observations as the policy saw them, [T, V, ...]."""
        obs = rollout.obs
        if self.config.augment:
            rectangles = rollout.extras["cut_out"].flatten(0, 1)
            obs = self._cut_out(obs.flatten(0, 1), rectangles).view_as(obs)
        seen: Tensor = self.normaliser(obs)
        return seen

    def _cut_out(self, obs: Tensor, rectangles: Tensor) -> Tensor:
        return cut_out(obs, rectangles, channels_last=self.network.encoder.channels_last)


def _check_augmented(config: IBACSNIConfig, spec: Spec) -> None:
    """Raises a UserError unless observations are images that can be augmented."""
    if kind_of(config.encoder)[0].takes != "images":
        raise UserError(
            f"augment draws rectangles over images, but the encoder {config.encoder} does not "
            "read images; leave augment off, or use an encoder such as impala and an "
            "environment with images"
        )
    check_images(spec.observation_space)


def mixture_log_prob(log_prob: Tensor) -> Tensor:
    """Log-probability under a mixture of K policies of equal weight, [B], from each policy's, [K, B].

    >>> mixture_log_prob(torch.tensor([[0.2], [0.6]]).log()).exp()
    tensor([0.4000])
    """
    return log_prob.logsumexp(0) - math.log(len(log_prob))


def told(each: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Information in the code: total nats, units above 0.1 nats, mean sigma; both inputs are [B, Z]."""
    return {
        "information": each.sum(-1).mean(),
        "active_units": (each.mean(0) > 0.1).float().sum(),
        "sigma": sigma.mean(),
    }


def _each(sample: Tensor, params: Tensor) -> Tensor:
    """Repeats a sample [B, ...] for each of K policies, [K, B, ...]."""
    return sample.expand(len(params), *sample.shape)
