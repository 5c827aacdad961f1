"""Proximal policy optimisation (PPO).

Steps of the current policy are used for several passes of gradient descent; a clip removes the
incentive to move the probability of an action far from its old value:

    ratio = pi(a | s) / pi_old(a | s)
    L  = mean max( -ratio A, -clip(ratio, 1 - eps, 1 + eps) A )  -  c_H H(pi)  +  c_V (V(s) - G)^2
    G  = TD(lambda) return,   A = G - V_old(s)    (generalised advantage estimation)

Schulman et al., 2017, https://arxiv.org/abs/1707.06347, equations 7 and 9; advantages: Schulman et al.,
2016, https://arxiv.org/abs/1506.02438

Differences from the paper: the details with which later code learns better are settings (Huang et al.,
2022, "The 37 implementation details of PPO"): advantages normalised in each minibatch, gradients
clipped, values clipped, orthogonal weights, running normalisation of observations and rewards. Continuous
actions are clipped samples of a Gaussian, in units of half the range. `A2C` is one pass over the whole
rollout: there the ratio is 1 and nothing is clipped.

There are two differences from that code and from Stable-Baselines3, made because a policy that had solved
its task unlearned it: the standard deviation that divides the advantages has a lower bound (see
`normalise_advantage` in `_values.py`), and an update that ends too far from the old policy is undone
(`kl_limit`). Clipping alone does not prevent such updates: beyond the clip range the policy has no
gradient, but Adam's momentum and, through a shared encoder, the value loss still move it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._on_policy import (
    Minibatch,
    OnPolicyAgent,
    judge,
    led_out,
    make_head,
    ppo_loss,
    some,
    to_env,
    whole_batch,
)
from rlbench.backbones.heads.actor_critic import ActorCritic
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import gradient_step
from rlbench.backbones.ranges import check
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, State


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of PPO."""

    encoder: str | None = None
    """Encoder shared by policy and value: a name of `rlbench.backbones.encoders`, such as impala, grid or
    resnet:units=1,width=8. None: observations are vectors, which both read with separate networks, as
    they do after `flatten`."""
    freeze: bool = False
    """Freeze the encoder's weights, for example those that --pretrained loads."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes, after the encoder if there is one."""
    envs: int = 1
    """Number of environments in parallel (paper: N)."""
    rollout_steps: int = 2_048
    """Steps in each environment before each update (paper: T)."""
    epochs: int = 10
    """Passes over these steps in one update (paper: K)."""
    batch_size: int | None = 64
    """Steps in one gradient step (paper: M); None takes all of a rollout."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size."""
    gae_lambda: float = 0.95
    """Weight of long over short advantages."""
    clip_range: float = 0.2
    """How far the probability of an action may move from 1 times the old one (paper: epsilon)."""
    value_clip_range: float | None = None
    """How far a value may move from the old one; None: no limit."""
    normalise_advantage: bool = True
    """Whether the advantages of each gradient step are normalised to mean 0 and standard deviation 1 (less
    if they are small compared with the returns)."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy (paper: c_2)."""
    value_coefficient: float = 0.5
    """Weight of the squared error of the values (paper: c_1)."""
    max_grad_norm: float = 0.5
    """Largest gradient norm; larger gradients are scaled down to it."""
    weight_decay: float = 0.0
    """Weight decay: this times each weight or bias is added to its gradient."""
    target_kl: float | None = None
    """KL divergence; an update stops after the pass in which the policy has moved 1.5 times this far.
    None: no stop."""
    kl_limit: float | None = 0.3
    """Largest divergence, in nats, of the new policy from the old one; an update that ends beyond it is
    undone. None: no limit, and the divergence is not measured. Like TRPO's line search (Schulman et al.,
    2015, appendix C), but without a second try on the same steps."""
    decay_updates: int | None = None
    """Number of updates over which step size and clip ranges fall linearly to 0; None: they are constant."""
    normalise_obs: bool = False
    """Whether observations get mean 0 and deviation 1, by running statistics."""
    normalise_reward: bool = False
    """Whether rewards are divided by the running deviation of discounted returns."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and minibatches too small to normalise."""
        check(self)
        if self.normalise_advantage and self.minibatch_size < 2:
            raise UserError(
                f"batch_size is {self.batch_size} and a rollout has {self.envs} x "
                f"{self.rollout_steps} steps, but the advantage of a single step cannot be normalised; "
                "give minibatches of 2 steps or more, or --no-normalise-advantage"
            )

    @property
    def minibatch_size(self) -> int:
        """Environment steps in one gradient step; the last of a pass may have fewer."""
        steps = self.envs * self.rollout_steps
        return min(self.batch_size or steps, steps)

    @property
    def gradient_steps(self) -> int:
        """Gradient steps in one update that goes through all passes."""
        return self.epochs * math.ceil(self.envs * self.rollout_steps / self.minibatch_size)


class PPO(OnPolicyAgent):
    """PPO for continuous or discrete actions."""

    Config: ClassVar[type] = PPOConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 500, "eval_every": 25, "log_every": 1, "checkpoint_every": 25,
    }  # fmt: skip
    config: PPOConfig
    network: ActorCritic

    def make_network(self) -> ActorCritic:
        """Policy and value, after a shared encoder if there is one."""
        return ActorCritic(
            self.read_space, partial(make_head, self.form), self.config.encoder,
            self.config.hidden, frozen=self.config.freeze,
        )  # fmt: skip

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy, which `learn` receives unclipped."""
        params = self._params(obs)
        sample = self.network.head.draw(params, randn(params.shape, self.act_generator))
        return Action(to_env(self.form, sample), {"sample": sample})

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely action."""
        return to_env(self.form, self.network.head.mode(self._params(obs)))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits, or means in units of half the range."""
        return self._params(obs)

    def _params(self, obs: Tensor) -> Tensor:
        """Parameters of the policy's distribution, [B, A]."""
        return self.network.policy(self.normaliser(obs))

    def gradient_step(self, batch: Minibatch) -> Mapping[str, Tensor]:
        """One step down the loss of a minibatch."""
        loss, metrics = ppo_loss(self.config, self.network, batch, self.clip_range)
        gradient_step(self.optimizer, loss, self.config.max_grad_norm)
        return metrics

    @torch.no_grad()
    def _batch(self, rollout: Trajectories) -> Minibatch:
        """All steps of a rollout, [T * V, ...].

        The policy has not changed since it acted, so its probabilities and values are computed here, for
        all steps at once.
        """
        obs = self.normaliser(rollout.obs)
        log_prob, value = judge(self.network, obs, rollout)
        after = self.network.value(self.normaliser(rollout.final_obs[led_out(rollout)]))
        seen = replace(rollout, obs=obs, reward=self.scaler(rollout, self.discount))
        mixing = self.config.gae_lambda
        return whole_batch(seen, log_prob, value, after, self.discount, mixing).flat()

    def _log_prob(self, rollout: Trajectories) -> Tensor:
        """Log-probabilities of `some` samples of a rollout under the current policy, [T, V]."""
        probed = some(rollout)
        return judge(self.network, self.normaliser(probed.obs), probed)[0]
