"""Critic regularized regression (CRR).

Clone the actions of the data, each weighted by the critic's estimate of its advantage:

    A    = Q(s, a) - V(s),   V = mean or max of Q(s, a_1), ..., Q(s, a_m),   a_j ~ pi(s)
    pi   : maximise  E[ f(A) log pi(a | s) ],   f = 1[A > 0],  exp(A / beta)  or  1
    y    = r + discount * Q'(s', a'),   a' ~ pi'(s')
    Q    : minimise  sum_k (Q_k(s, a) - y)^2,  or the cross-entropy of distributions of the return
    act  : by the critic-weighted policy: one of n samples of pi, drawn by softmax(Q / temperature)

Wang et al., 2020, https://arxiv.org/abs/2006.15134

The paper's agents are `weight` and `baseline`: CRR exp (the default), CRR binary (binary, mean), CRR
binary max (binary, max); weight `all` is behaviour cloning, the same updates as BC. With
discrete actions, the target and the `mean` baseline are exact expectations, and acting through the critic
weighs all actions; `max` and `min` still use samples, because no action is better than the best of all.

Differences from the paper: the defaults are twin critics, of which the smaller counts, a Gaussian policy
and normalised observations; the authors use one categorical critic on [0, 100], a mixture of Gaussians and
raw observations (`PROFILES["authors"]`), with LSTM layers as in `RecurrentCRR`. Their LayerNorm stays: with
plain layers the critics diverged on Hopper's data. Both critics see the batch before the policy does.
"""

import copy
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import clipped_exp, critic_loss, likelihood_loss, td_target
from rlbench.backbones.encoders import Observations
from rlbench.backbones.heads.categorical_q import CategoricalQ, cross_entropy, project
from rlbench.backbones.heads.policies import (
    Choice,
    Params,
    Policy,
    PolicyKind,
    best_action,
    make_policy,
)
from rlbench.backbones.heads.q_ensemble import QEnsemble
from rlbench.backbones.layers.mlp import LayerKind
from rlbench.backbones.layers.noise import gumbel, randn
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import POSITIVE, Range, check
from rlbench.backbones.spaces import ActionBox, action_form
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Action, Agent, State


@dataclass(frozen=True, kw_only=True)
class CRRConfig(ObservingConfig):
    """Settings of CRR."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and critics."""
    layers: LayerKind = "normed"
    """Kind of network: plain, with LayerNorm, or normalised residual blocks as in the authors' code."""
    policy: PolicyKind = "gaussian"
    """Distribution of continuous actions; free-gaussian has one standard deviation for all states."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy and critics."""
    gradient_clip: float | None = None
    """Largest gradient norm of policy and of critics (authors' code: 40); None: no limit. A limit that is
    often reached hides rare ends of episodes from a scalar critic."""
    normalise_obs: bool = True
    """Bring observations to zero mean and unit variance with the statistics of the data set."""
    weight: Literal["exp", "binary", "all"] = "exp"
    """How an advantage becomes a weight: exponential, 1 if it is positive, or always 1 (paper: f)."""
    baseline: Literal["mean", "max", "min"] = "mean"
    """Statistic of the policy's actions with which the action of the data is compared."""
    advantage_samples: int = 4
    """Policy samples for the baseline (paper: m); not used by the mean of discrete actions."""
    beta: float = 1.0
    """Increase in advantage that multiplies the weight by e, in units of return; smaller is greedier."""
    max_weight: float = 20.0
    """Upper bound of the exponential weight."""
    critic: Literal["scalar", "categorical"] = "scalar"
    """Whether critics estimate the expected return or its distribution."""
    critics: int = 2
    """Number of critics, of which the smallest counts."""
    atoms: int = 51
    """Number of returns in the distribution of a categorical critic."""
    value_range: tuple[float, float] = (0.0, 100.0)
    """Smallest and largest of them; discounted returns must lie between."""
    conservatism: float = 0.0
    """Discrete actions only: weight of logsumexp Q(s, .) - Q(s, a) in the critic's loss (CQL)."""
    target_samples: int = 1
    """Policy samples in the target; not used for discrete actions."""
    target_actions: Literal["target-policy", "policy"] = "target-policy"
    """Where the target's actions come from: a slow copy of the policy, or the policy itself."""
    target_update: Literal["soft", "hard"] = "soft"
    """Targets move by target_rate after each update, or are copied every target_every updates."""
    target_rate: float = 0.005
    """How far soft targets move after each update (paper's successors: tau)."""
    target_every: int = 100
    """Updates between the copies of hard targets."""
    act_mode: Literal["critic-weighted", "argmax-q", "mode", "sample"] = "critic-weighted"
    """How actions are chosen without exploration; exploration samples the policy."""
    act_samples: int = 16
    """Number of policy samples from which the critic chooses; it sees all discrete actions."""
    act_temperature: float = 1.0
    """Temperature of the critic-weighted choice, in units of return."""

    ranges: ClassVar[Mapping[str, Range]] = {"beta": POSITIVE}

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and normalised layers without a hidden layer."""
        check(self)
        if not self.hidden and self.layers != "mlp":
            raise UserError(
                f"hidden is (), but layers {self.layers} needs a hidden layer; give one size or more, or set "
                "layers to mlp"
            )


PROFILES: dict[str, dict[str, Any]] = {
    "authors": {
        "hidden": (1024, 1024, 1024, 1024, 1024),
        "layers": "residual",
        "policy": "mixture",
        "learning_rate": 1e-4,
        "gradient_clip": 40.0,
        "normalise_obs": False,
        "critic": "categorical",
        "critics": 1,
        "atoms": 21,
        "target_update": "hard",
    },
}
"""Settings of the authors' release, without its recurrent layers, that differ from the defaults."""


def advantage(value: Tensor, others: Tensor, log_weights: Tensor, config: CRRConfig) -> Tensor:
    """Advantage of the actions of the data over the policy's actions, [B].

    Args:
        value: Q(s, a) of the data, [B].
        others: Q(s, a_j) of the policy's actions, [B, N].
        log_weights: Logs of their weights in an expectation, [B, N].
        config: Sets the baseline.
    """
    same_shape(others, log_weights)
    same_shape(value, others[:, 0])
    if config.baseline == "max":
        return value - others.amax(-1)
    if config.baseline == "min":
        return value - others.amin(-1)
    return value - (log_weights.exp() * others).sum(-1)


def advantage_weight(advantage: Tensor, config: CRRConfig) -> Tensor:
    """Weight of each action of the data, without gradient, [B] (paper: f).

    >>> advantage_weight(torch.tensor([-1.0, 0.0, 2.0]), CRRConfig(weight="binary"))
    tensor([0., 0., 1.])
    """
    advantage = advantage.detach()
    if config.weight == "all":
        return torch.ones_like(advantage)
    if config.weight == "binary":
        return (advantage > 0).float()
    return clipped_exp(advantage / config.beta, config.max_weight)


def conservative_loss(every: Tensor, value: Tensor) -> Tensor:
    """Mean of logsumexp Q(s, .) - Q(s, a) over B, sum over K; [K, B, A] and [K, B]."""
    same_shape(every[..., 0], value)
    return (every.logsumexp(-1) - value).mean(1).sum()


class CRR(Agent):
    """CRR for continuous or discrete actions."""

    Config: ClassVar[type] = CRRConfig
    consumes: ClassVar[type[Transitions] | type[Trajectories]] = Transitions
    compile_from = 10_000
    config: CRRConfig

    def build(self) -> None:
        """Policy and critics, with an optimiser each, and slow copies of both."""
        config, spec = self.config, self.spec
        self.form = action_form(spec.action_space, self.device)
        if config.conservatism and isinstance(self.form, ActionBox):
            raise UserError(
                f"conservatism is {config.conservatism}, but the action space is "
                f"{spec.action_space}; it needs discrete actions, so set it to 0 or use cql"
            )
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self._make_networks(partial(config.observations, spec))
        self.updates = 0

    def _make_networks(self, see: Callable[[], Observations]) -> None:
        config, size = self.config, self.form.size
        self.policy: Policy = (
            make_policy(config.policy, see(), size, config.hidden, config.layers)
            if isinstance(self.form, ActionBox)
            else Choice(see(), size, config.hidden, config.layers)
        )
        self.critic: QEnsemble = (
            QEnsemble(see(), size, config.hidden, config.critics, config.layers)
            if config.critic == "scalar"
            else CategoricalQ(
                see(), size, config.hidden, config.critics,
                atoms=config.atoms, value_range=config.value_range, layers=config.layers,
            )
        )  # fmt: skip
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.policy_optimizer = Adam(self.policy.parameters(), config.learning_rate)
        self.critic_optimizer = Adam(self.critic.parameters(), config.learning_rate)

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        obs, noise = self.normaliser(obs), self._acting_draw(len(obs), "sample")
        return Action(self._choose(obs, obs, "sample", noise))

    @property
    def acting_noise(self) -> tuple[int, int] | None:
        """Shape of the noise of the samples and of the choice between them, [N, Z + 1]."""
        return self._noise_shape(self.config.act_mode)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """An action chosen by `act_mode`, with noise [B, N, Z + 1] unless that is the policy's mode."""
        obs = self.normaliser(obs)
        return self._choose(obs, obs, self.config.act_mode, noise)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """The mode of the policy; for discrete actions, the numbers that `act_mode` compares, without noise."""
        obs = self.normaliser(obs)
        return self._readout(obs, obs)

    def _readout(self, policy_in: Tensor, critic_in: Tensor) -> Tensor:
        params = self.policy(policy_in)
        if not self.chooses:
            return self.form.from_unit(self.policy.mode(params))
        if self.acting_noise is None:
            logits: Tensor = params[0]
            return logits
        noise = params[0].new_zeros((len(params[0]), *self.acting_noise))
        return self._scores(policy_in, critic_in, self.config.act_mode, noise)[1]

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor | None:
        """The number by which the critic chose, [B]: Q, or the noisy logit of the draw."""
        if noise is None:
            return None
        obs, action = self.normaliser(obs), self.form.to_unit(action)
        actions, scores = self._scores(obs, obs, self.config.act_mode, noise)
        nearest = (actions - action[:, None]).abs().sum(-1).argmin(1, keepdim=True)
        return scores.gather(1, nearest)[:, 0]

    def phase(self) -> Hashable:
        """Whether the next update copies the targets."""
        return self._copies_targets(self.updates + 1)

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of critics, policy and targets."""
        obs, next_obs = self.normaliser(experience.obs), self.normaliser(experience.next_obs)
        action = self.form.to_unit(experience.action)
        target = self._target(experience.reward, experience.terminated, next_obs, next_obs)
        metrics = self._update_critic(obs, action, target)
        metrics |= self._update_policy(obs, obs, action)
        self._update_targets()
        return metrics

    @torch.no_grad()
    def _target(
        self, reward: Tensor, terminated: Tensor, policy_in: Tensor, critic_in: Tensor
    ) -> Tensor:
        """Target returns [B], or their distributions [B, L]; inputs belong to the next step."""
        policy = self.policy if self.config.target_actions == "policy" else self.target_policy
        noise = self._noise(len(reward), self.config.target_samples)
        actions, log_weights = policy.candidates(policy(policy_in), noise)
        if isinstance(self.target_critic, CategoricalQ):
            each = self.target_critic.lowest(critic_in, actions)
            mixed = (log_weights.exp()[..., None] * each).sum(1)
            return project(mixed, reward, terminated, self.target_critic.atoms, self.discount)
        values = self.target_critic(critic_in, actions).amin(0)
        next_value = (log_weights.exp() * values).sum(-1)
        return td_target(reward, terminated, next_value, self.discount)

    def _update_critic(
        self, critic_in: Tensor, action: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        if isinstance(self.critic, CategoricalQ):
            loss = cross_entropy(self.critic.logits(critic_in, action), target)
            target = target @ self.critic.atoms
        else:
            loss = critic_loss(self.critic(critic_in, action), target)
        if self.config.conservatism:
            choices = torch.eye(self.form.size, device=self.device).expand(len(action), -1, -1)
            every = self.critic(critic_in, choices)
            penalty = conservative_loss(every, (every * action).sum(-1))
            loss = loss + self.config.conservatism * penalty
        loss = gradient_step(self.critic_optimizer, loss, self.config.gradient_clip)
        return {"critic_loss": loss, "q_target": target.mean()}

    def _update_policy(
        self, policy_in: Tensor, critic_in: Tensor, action: Tensor
    ) -> dict[str, Tensor]:
        params = self.policy(policy_in)
        with torch.no_grad():
            others, log_weights = self._others(params, len(action))
            # One call for the data's action and the policy's.
            values = self.critic(critic_in, torch.cat([action[:, None], others], 1)).amin(0)
            better = advantage(values[:, 0], values[:, 1:], log_weights, self.config)
            weight = advantage_weight(better, self.config)
            expected = (log_weights.exp() * values[:, 1:]).sum(-1).mean()
        loss = likelihood_loss(self.policy.log_prob(params, action), weight)
        return {
            "policy_loss": gradient_step(self.policy_optimizer, loss, self.config.gradient_clip),
            "q_data": values[:, 0].mean(),
            "q_policy": expected,
            "weight_mean": weight.mean(),
            # The binary filter can reject almost everything: then the policy hardly learns.
            "weight_nonzero": (weight > 0).float().mean(),
        }

    def _others(self, params: Params, batch: int) -> tuple[Tensor, Tensor]:
        """Policy actions for the baseline, [B, N, A], and the logs of their weights, [B, N]."""
        count = self.config.advantage_samples
        if self.config.baseline == "mean" or not isinstance(self.policy, Choice):
            return self.policy.candidates(params, self._noise(batch, count))
        noise = randn((batch, count, self.form.size), self.generator)
        return self.policy.samples(params, noise)

    def _update_targets(self) -> None:
        self.updates += 1
        if self.config.target_update == "soft":
            self._move_targets(self.config.target_rate)
        elif self._copies_targets(self.updates):
            self._move_targets(1.0)

    def _copies_targets(self, update: int) -> bool:
        return self.config.target_update == "hard" and update % self.config.target_every == 0

    def _move_targets(self, rate: float) -> None:
        polyak(self.target_policy, self.policy, rate)
        polyak(self.target_critic, self.critic, rate)

    def _noise(self, batch: int, count: int) -> Tensor:
        return randn((batch, count, self.policy.noise_size), self.generator)

    def _noise_shape(self, mode: str) -> tuple[int, int] | None:
        if mode == "mode":
            return None
        count = 1 if mode == "sample" else self.config.act_samples
        if isinstance(self.policy, Choice):
            count = self.form.size
        return count, self.policy.noise_size + 1

    def _acting_draw(self, batch: int, mode: str) -> Tensor | None:
        shape = self._noise_shape(mode)
        return None if shape is None else randn((batch, *shape), self.act_generator)

    def _choose(
        self, policy_in: Tensor, critic_in: Tensor, mode: str, noise: Tensor | None
    ) -> Tensor:
        """Actions in the units of the environment."""
        if noise is None:
            return self.form.from_unit(self.policy.mode(self.policy(policy_in)))
        actions, scores = self._scores(policy_in, critic_in, mode, noise)
        return self.form.from_unit(best_action(actions, scores))

    def _scores(
        self, policy_in: Tensor, critic_in: Tensor, mode: str, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Candidates [B, N, A] and what their choice maximises, [B, N]."""
        actions, log_weights = self.policy.candidates(self.policy(policy_in), noise[..., :-1])
        # The largest of logits with Gumbel noise is a draw from their softmax.
        drawn = log_weights + gumbel(noise[..., -1])
        if mode == "sample":
            return actions, drawn
        values = self.critic(critic_in, actions).amin(0)
        if mode == "argmax-q":
            return actions, values
        return actions, drawn + values / self.config.act_temperature
