"""Advantage actor-critic (A2C).

The synchronous form of A3C: a short rollout in several environments, then one gradient step on all of it,
with n-step returns that are bootstrapped after the last step.

Mnih et al., 2016, https://arxiv.org/abs/1602.01783, algorithm S3

It is the first pass of PPO: there the ratio of probabilities is 1, so the gradient of the clipped
surrogate equals the gradient of -A log pi (Huang et al., 2022, https://arxiv.org/abs/2205.09123).

Differences from the paper: environments are stepped as a batch; Adam instead of RMSprop. One gradient step moves the
policy little, so PPO's `kl_limit` is off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlbench.agents.ppo import PPO, PPOConfig


@dataclass(frozen=True, kw_only=True)
class A2CConfig(PPOConfig):
    """Settings of A2C: those of PPO with other defaults."""

    envs: int = 8
    rollout_steps: int = 5
    epochs: int = 1
    batch_size: int | None = None
    learning_rate: float = 7e-4
    gae_lambda: float = 1.0
    normalise_advantage: bool = False
    kl_limit: float | None = None


class A2C(PPO):
    """A2C as a setting of PPO."""

    Config: ClassVar[type] = A2CConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 25_000, "eval_every": 1_250, "log_every": 100, "checkpoint_every": 1_250,
    }  # fmt: skip
