"""Proximal policy optimisation (PPO).

Steps of the present policy are used for several passes of gradient descent, during which a clip takes
away the reason to move the probability of any action far from what it was:

    ratio = pi(a | s) / pi_old(a | s)
    L  = mean max( -ratio A, -clip(ratio, 1 - eps, 1 + eps) A )  -  c_H H(pi)  +  c_V (V(s) - G)^2
    G  = TD(lambda) return,   A = G - V_old(s)    (generalised advantage estimation)

Schulman et al., 2017, https://arxiv.org/abs/1707.06347, equations 7 and 9; advantages: Schulman et al.,
2016, https://arxiv.org/abs/1506.02438

Differences from the paper: the details by which later code learns better are settings (Huang et al.,
2022, "The 37 implementation details of PPO"): advantages normalised in each minibatch, gradients
clipped, values clipped, orthogonal weights, running normalisation of observations and rewards. Actions
of a box are clipped samples of a Gaussian in units of half the box. `A2C` is one pass over the whole
rollout: there the ratio is 1 and no clip acts.

There are two differences from that code and from Stable-Baselines3, made because a policy that had solved
its task unlearned it: the standard deviation that divides the advantages has a lower bound (see
`normalise_advantage` in `_values.py`), and an update that ends too far from the old policy is undone
(`kl_limit`). Clipping alone does not prevent such updates: beyond the clip range the policy has no
gradient, but Adam's momentum and, through a shared encoder, the value loss still move it.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._values import lambda_returns, normalise_advantage
from rlbench.backbones.heads.actor_critic import ActorCritic
from rlbench.backbones.heads.distributions import Categorical, Gaussian, Head
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.layers.normalise import RewardScaler, RunningNormaliser
from rlbench.backbones.optim import Adam, Snapshot, gradient_step
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox, action_form
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, Learn, Spec, State
from rlbench.seeding import derive, initialising

PROBES = 256
"""About how many steps of a rollout are used to measure how far the policy has moved."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of PPO."""

    encoder: str | None = None
    """Encoder shared by policy and value: a name of `rlbench.backbones.encoders`, such as impala, grid or
    resnet:units=1,width=8. None: observations are vectors, which both read with networks of their own, as
    they do after `flatten`."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes, after the encoder where there is one."""
    envs: int = 1
    """Environments side by side (paper: N)."""
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
    """Longest gradient; longer ones are shortened to it."""
    weight_decay: float = 0.0
    """This times a weight or bias is added to its gradient."""
    target_kl: float | None = None
    """An update stops after the pass in which the policy has moved 1.5 times this far; None never
    does."""
    kl_limit: float | None = 0.3
    """Largest divergence, in nats, of the new policy from the old one; an update that ends beyond it is
    undone. None: no limit, and the divergence is not measured. Like TRPO's line search (Schulman et al.,
    2015, appendix C), but without a second try on the same steps."""
    decay_updates: int | None = None
    """Updates over which step size and clip ranges fall linearly to 0; None: they are constant."""
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


@dataclass(frozen=True)
class Minibatch:
    """Steps of a rollout in any order; every column starts with [B]."""

    obs: Tensor
    """Observations as the networks read them, [B, ...]."""
    sample: Tensor
    """Samples of the old policy, [B] or [B, A]."""
    log_prob: Tensor
    """Their log-probabilities then, [B]."""
    value: Tensor
    """Values then, [B]."""
    advantage: Tensor
    """Advantages, [B]."""
    target: Tensor
    """Returns that the value shall tell, [B]."""


def policy_loss(log_ratio: Tensor, advantage: Tensor, clip_range: Tensor) -> Tensor:
    """The clipped surrogate, equation 7; log-ratios and advantages are [B].

    >>> loss = policy_loss(torch.tensor([2.0, 0.5]).log(), torch.tensor([1.0, -1.0]), torch.tensor(0.2))
    >>> round(float(loss), 4)  # mean of -1.2 and 0.8
    -0.2
    """
    same_shape(log_ratio, advantage)
    ratio = log_ratio.exp()
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    return torch.maximum(-ratio * advantage, -clipped * advantage).mean()


def value_loss(
    value: Tensor, old: Tensor, target: Tensor, clip_range: Tensor | float | None
) -> Tensor:
    """Mean squared error, all [B]; the larger of two where a clip holds the value near the old."""
    same_shape(value, old, target)
    error = (value - target).square()
    if clip_range is not None:
        limit = torch.as_tensor(clip_range, device=value.device)
        held = old + (value - old).clamp(-limit, limit)
        error = torch.maximum(error, (held - target).square())
    return error.mean()


class PPO(Agent):
    """PPO on a box of actions or on choices."""

    Config: ClassVar[type] = PPOConfig
    consumes = Trajectories
    explores = True
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 500, "eval_every": 25, "log_every": 1, "checkpoint_every": 25,
    }  # fmt: skip
    config: PPOConfig

    def __init__(
        self,
        config: PPOConfig,
        spec: Spec,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """See `Agent`."""
        super().__init__(config, spec, seed=seed, device=device)
        self.form = action_form(spec.action_space, self.device)
        self.normaliser = RunningNormaliser(spec.observation_space, enabled=config.normalise_obs)
        self.scaler = RewardScaler(config.envs, enabled=config.normalise_reward)
        with initialising(derive(seed, "weights")):
            self.network = self._make_network()
        for module in (self.normaliser, self.scaler, self.network):
            module.to(self.device)
        self.optimizer = Adam(
            self.network.parameters(), config.learning_rate,
            epsilon=1e-5, weight_decay=config.weight_decay,
        )  # fmt: skip
        self.clip_range = torch.tensor(config.clip_range, device=self.device)
        self.updates = 0

    def _make_network(self) -> ActorCritic:
        config = self.config
        return ActorCritic(self.spec.observation_space, self._head, config.encoder, config.hidden)

    def _head(self, in_size: int) -> Head:
        kind = Gaussian if isinstance(self.form, ActionBox) else Categorical
        return kind(in_size, self.form.size)

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """A sample of the policy if `explore`, which `learn` sees again unclipped; else its mode."""
        if not explore:
            return Action(self.decide(obs))
        params = self.network.policy(self.normaliser(obs))
        sample = self.network.head.draw(params, randn(params.shape, self.act_generator))
        return Action(self._to_env(sample), {"sample": sample})

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely action."""
        return self._to_env(self.network.head.mode(self.network.policy(self.normaliser(obs))))

    def _to_env(self, sample: Tensor) -> Tensor:
        if isinstance(self.form, ActionBox):
            return self.form.from_unit(sample.clamp(-1, 1))
        return sample + self.form.start

    def phase(self) -> Hashable:
        """One: all gradient steps are alike."""
        return "gradient step"

    @property
    def compiled_steps(self) -> int:
        """Gradient steps in one update."""
        size = self.config.envs * self.config.rollout_steps
        return self.config.epochs * math.ceil(size / self.config.minibatch_size)

    def compiled(self, compiler: Callable[[Learn], Learn]) -> Learn:
        """`learn` with compiled gradient steps."""
        return partial(self._learn, compiler(self.gradient_step))

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """Some passes over one rollout, whose extras are those of `act`."""
        return self._learn(self.gradient_step, experience)

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        self._decay()
        limit = self.config.kl_limit
        passes = self._passes if limit is None else partial(self._limited, limit)
        metrics = passes(step, rollout)
        self._finish(rollout)
        return metrics

    def _limited(self, limit: float, step: Learn, rollout: Trajectories) -> dict[str, Tensor]:
        """All passes over a rollout, undone if the policy has moved further than `limit`."""
        log_prob, before = self._probe(rollout), Snapshot(self.optimizer)
        metrics = self._passes(step, rollout)
        # Half the mean squared log-ratio, an estimate of the KL divergence that few samples disturb little.
        # It stays finite where the update can still be undone.
        divergence = (0.5 * (log_prob - self._probe(rollout)).square().mean()).clamp(max=1e9)
        undone = bool(divergence > limit)
        if undone:
            before.restore()
        return metrics | {"kl_update": divergence, "undone": torch.tensor(float(undone))}

    def _passes(self, step: Learn, rollout: Trajectories) -> dict[str, Tensor]:
        """All gradient steps on a rollout; the means of their metrics."""
        batch, all_metrics = self._flat(rollout), []
        for _ in range(self.config.epochs):
            all_metrics += [step(minibatch) for minibatch in self._minibatches(batch)]
            target = self.config.target_kl
            if target is not None and all_metrics[-1]["kl"] > 1.5 * target:
                break
        metrics = {k: torch.stack([m[k] for m in all_metrics]).mean() for k in all_metrics[0]}
        # Nothing has moved yet: what is not 0 there is noise between acting and learning.
        first = {f"first_{k}": x for k, x in all_metrics[0].items() if k.startswith("kl")}
        return metrics | first

    def _minibatches(self, batch: dict[str, Tensor]) -> Iterator[Minibatch]:
        """All steps of a rollout once, in a new order."""
        order = torch.randperm(len(batch["obs"]), generator=self.generator, device=self.device)
        for rows in order.split(self.config.batch_size or len(order)):
            yield Minibatch(**{k: x[rows] for k, x in batch.items()})

    def _finish(self, rollout: Trajectories) -> None:
        # Statistics for the next rollout on: this one's ratios begin at 1 because nothing moved.
        self.normaliser.update(rollout.obs)
        self.updates += 1

    def gradient_step(self, batch: Minibatch) -> Mapping[str, Tensor]:
        """One step down the loss of a minibatch."""
        config, advantage = self.config, self._scaled(batch)
        params, value = self.network(batch.obs)
        log_ratio = self.network.head.log_prob(params, batch.sample) - batch.log_prob
        pi_loss = policy_loss(log_ratio, advantage, self.clip_range)
        v_loss = value_loss(value, batch.value, batch.target, self.value_clip)
        entropy = self.network.head.entropy(params).mean()
        loss = pi_loss - config.entropy_coefficient * entropy + config.value_coefficient * v_loss
        gradient_step(self.optimizer, loss, config.max_grad_norm)
        return {
            "policy_loss": pi_loss.detach(),
            "value_loss": v_loss.detach(),
            "entropy": entropy.detach(),
            **moved(log_ratio.detach(), self.clip_range),
        }

    @property
    def value_clip(self) -> Tensor | None:
        """How far a value may move in this update; falls with `clip_range`."""
        if self.config.value_clip_range is None:
            return None
        return self.clip_range * (self.config.value_clip_range / self.config.clip_range)

    def _scaled(self, batch: Minibatch) -> Tensor:
        if not self.config.normalise_advantage:
            return batch.advantage
        return normalise_advantage(batch.advantage, batch.target)

    @torch.no_grad()
    def _flat(self, rollout: Trajectories) -> dict[str, Tensor]:
        """The columns of a `Minibatch` for all steps of a rollout, [T * V, ...].

        The policy is still the one that acted, so its probabilities and values are computed here, for
        all steps at once.
        """
        obs, extras = self._seen(rollout).flatten(0, 1), rollout.extras
        sample = extras["sample"].flatten(0, 1)
        if "log_prob" in extras:  # `act` stored them because they cannot be recomputed.
            log_prob, value = extras["log_prob"].flatten(), extras["value"].flatten()
        else:
            log_prob, value = self._evaluate(rollout, obs, sample)
        reward, values = self.scaler(rollout, self.discount), value.view_as(rollout.reward)
        target = lambda_returns(
            reward, rollout.terminated, rollout.truncated, self._next_value(rollout, values),
            self.discount, self.config.gae_lambda,
        ).flatten()  # fmt: skip
        return {
            "obs": obs,
            "sample": sample,
            "log_prob": log_prob,
            "value": value,
            "advantage": target - value,
            "target": target,
        }

    def _seen(self, rollout: Trajectories) -> Tensor:
        """The observations as the policy saw them, [T, V, ...]."""
        seen: Tensor = self.normaliser(rollout.obs)
        return seen

    def _evaluate(
        self, rollout: Trajectories, obs: Tensor, sample: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values under the current networks, [T * V] each."""
        params, value = self.network(obs)
        return self.network.head.log_prob(params, sample), value

    @torch.no_grad()
    def _probe(self, rollout: Trajectories) -> Tensor:
        """Log-probabilities of some samples of a rollout under the current policy, [N]."""
        few = every(rollout, max(1, rollout.reward.numel() // PROBES))
        obs, sample = self._seen(few).flatten(0, 1), few.extras["sample"].flatten(0, 1)
        return self._evaluate(few, obs, sample)[0]

    def _next_value(self, rollout: Trajectories, value: Tensor) -> Tensor:
        """Values of what each step led to, [T, V]: of the next step's, unless the episode was cut."""
        cut = rollout.truncated > 0
        cut[-1] = True
        next_value = torch.cat([value[1:], value[-1:]])
        next_value[cut] = self._value_after(rollout, cut)
        return next_value

    def _value_after(self, rollout: Trajectories, steps: Tensor) -> Tensor:
        """Values of what some of the steps, bool [T, V], led to."""
        return self.network.value(self.normaliser(rollout.final_obs[steps]))

    def _decay(self) -> None:
        if self.config.decay_updates is not None:
            left = max(0.0, 1 - self.updates / self.config.decay_updates)
            self.optimizer.learning_rate.fill_(left * self.config.learning_rate)
            self.clip_range.fill_(left * self.config.clip_range)


def every(rollout: Trajectories, stride: int) -> Trajectories:
    """The steps 0, stride, 2 stride, ... of a rollout."""
    columns = {name: x[::stride] for name, x in vars(rollout).items() if name != "extras"}
    return Trajectories(**columns, extras={name: x[::stride] for name, x in rollout.extras.items()})


def moved(log_ratio: Tensor, clip_range: Tensor) -> dict[str, Tensor]:
    """How far the policy has moved: KL(old, new) by Schulman's estimator, and the clipped share."""
    ratio = log_ratio.exp()
    return {
        "kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
    }
