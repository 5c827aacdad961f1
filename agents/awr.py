"""Advantage-weighted regression (AWR).

Clone the actions of the data, weighted by how much better than expected the episodes continue:

    V  : minimise  E[ (G - V(s))^2 ],   G the TD(lambda) returns of the data
    pi : maximise  E[ min(exp(A / beta), w_max) log pi(a | s) ],   A = (G - V(s)), standardised

Peng et al., 2019, https://arxiv.org/abs/1910.00177, algorithm 1

Differences from the authors' code: value and policy take one step each on the same stretches of
trajectories, whose returns are bootstrapped with V at the end, whereas theirs cover whole episodes and
are computed once for thousands of steps; Adam instead of SGD with momentum; advantages are standardised
over the batch, with a lower bound on their standard deviation (`normalise_advantage`); means are
bounded by tanh instead of a loss.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import clipped_exp, lambda_returns, likelihood_loss, normalise_advantage
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.heads.policies import ClippedGaussian
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import POSITIVE, Range, check
from rlbench.backbones.spaces import ActionBox
from rlbench.checks import same_shape
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent


@dataclass(frozen=True, kw_only=True)
class AWRConfig(ObservingConfig):
    """Settings of AWR."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and value (authors' code: 128, 64)."""
    batch_size: int = 8
    """Stretches of trajectories in one update."""
    sequence_length: int = 32
    """Steps of a stretch."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy and value."""
    mixing: float = 0.95
    """Weight of long over short returns (paper: lambda)."""
    std: float = 0.4
    """Standard deviation of the policy (authors' code: 0.4, for Ant 0.2)."""
    beta: float = 1.0
    """Temperature of the weights, in standard deviations of the advantage."""
    max_weight: float = 20.0
    """Upper bound of the weights."""
    normalise_obs: bool = True
    """Bring observations to zero mean and unit variance with the statistics of the data set."""

    ranges: ClassVar[Mapping[str, Range]] = {"beta": POSITIVE}

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def value_loss(value: Tensor, returns: Tensor) -> Tensor:
    """Mean squared error; both inputs have the same shape."""
    same_shape(value, returns)
    return (value - returns).square().mean()


def advantage_weight(advantage: Tensor, returns: Tensor, beta: float, max_weight: float) -> Tensor:
    """Weights of advantages, standardised first; all have the same shape, and no gradient flows."""
    standardised = normalise_advantage(advantage.detach(), returns)
    return clipped_exp(standardised / beta, max_weight)


class AWR(Agent):
    """AWR on stretches of trajectories."""

    Config: ClassVar[type] = AWRConfig
    consumes = Trajectories
    config: AWRConfig

    def build(self) -> None:
        """Policy and value, with an optimiser each."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        see, log_std = partial(config.observations, spec), math.log(config.std)
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self.policy = ClippedGaussian(
            see(), self.box.size, config.hidden, (log_std, log_std), free_std=True
        )
        self.value = mlp(see(), config.hidden, 1)
        self.policy_optimizer = Adam(self.policy.net.parameters(), config.learning_rate)
        self.value_optimizer = Adam(self.value.parameters(), config.learning_rate)

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        sample = self.policy.draw(self.normaliser(obs), self.act_generator)
        return Action(self.box.from_unit(sample))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean of the policy."""
        return self.box.from_unit(self.policy.mode(self.policy(self.normaliser(obs))))

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """One step of value and policy on all steps of the stretches."""
        batch, obs = experience, self.normaliser(experience.obs)
        with torch.no_grad():
            returns = lambda_returns(
                batch.reward, batch.terminated, batch.truncated,
                self.value(self.normaliser(batch.final_obs)).squeeze(-1),
                self.discount, self.config.mixing,
            )  # fmt: skip
        value = self.value(obs).squeeze(-1)
        v_loss = gradient_step(self.value_optimizer, value_loss(value, returns))

        weight = advantage_weight(
            returns - value, returns, self.config.beta, self.config.max_weight
        )
        data_action = self.box.to_unit(batch.action).flatten(0, 1)
        log_prob = self.policy.log_prob(self.policy(obs.flatten(0, 1)), data_action)
        pi_loss = gradient_step(self.policy_optimizer, likelihood_loss(log_prob, weight.flatten()))
        return {
            "value_loss": v_loss,
            "policy_loss": pi_loss,
            "return": returns.mean(),
            "weight_mean": weight.mean(),
        }
