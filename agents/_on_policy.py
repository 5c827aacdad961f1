"""Code shared by agents that learn from their own rollouts: minibatches, losses, passes and their bounds, updates.

The equations and the meaning of the settings are in `ppo.py`; the settings of the other agents extend PPO's.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import Space
from torch import Tensor, nn

from rlbench.agents._values import lambda_returns, normalise_advantage
from rlbench.backbones.heads.actor_critic import ActorCritic
from rlbench.backbones.heads.distributions import Categorical, Gaussian, Head
from rlbench.backbones.heads.noisy import NoisyActorCritic
from rlbench.backbones.layers.normalise import RewardScaler, RunningNormaliser
from rlbench.backbones.optim import Adam, Snapshot
from rlbench.backbones.spaces import ActionBox, ActionChoices, action_form
from rlbench.checks import same_shape
from rlbench.experience import Trajectories, columns_of, with_columns
from rlbench.interface import Agent, Learn

PROBES = 256
"""About how many steps of a rollout are used to measure how far the policy has moved."""


class _Settings(Protocol):
    """The settings that the functions read; frozen dataclasses have them as read-only attributes."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def decay_updates(self) -> int | None: ...
    @property
    def clip_range(self) -> float: ...
    @property
    def value_clip_range(self) -> float | None: ...
    @property
    def normalise_advantage(self) -> bool: ...
    @property
    def entropy_coefficient(self) -> float: ...
    @property
    def value_coefficient(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def target_kl(self) -> float | None: ...


@dataclass(frozen=True)
class Minibatch:
    """Steps of a rollout in any order; every column starts with [B]."""

    obs: Tensor
    """Observations as the networks read them, [B, ...]."""
    sample: Tensor
    """Samples of the old policy, [B] or [B, A]."""
    log_prob: Tensor
    """Log-probabilities of the samples under the old policy, [B]."""
    value: Tensor
    """Values before the update, [B]."""
    advantage: Tensor
    """Advantages, [B]."""
    target: Tensor
    """Value targets, [B]."""

    def __len__(self) -> int:
        """Number of steps, B."""
        return len(self.target)

    def rows(self, steps: int) -> int:
        """The number of rows that `take` needs for `steps` steps."""
        return steps

    def take(self, rows: Tensor) -> "Minibatch":
        """Some of the steps: int64 [M], to M steps."""
        return Minibatch(**{name: x[rows] for name, x in vars(self).items()})

    def flat(self) -> "Minibatch":
        """Steps [T, V, ...] as steps [T * V, ...]."""
        columns = {field.name: getattr(self, field.name) for field in fields(Minibatch)}
        return Minibatch(**{name: x.flatten(0, 1) for name, x in columns.items()})


def make_head(form: ActionBox | ActionChoices, in_size: int) -> Head:
    """The distribution of actions over features of a length."""
    kind = Gaussian if isinstance(form, ActionBox) else Categorical
    return kind(in_size, form.size)


def to_env(form: ActionBox | ActionChoices, sample: Tensor) -> Tensor:
    """Samples of that distribution in the units of the environment; continuous actions are clipped."""
    if isinstance(form, ActionBox):
        return form.from_unit(sample.clamp(-1, 1))
    return sample + form.start


def make_optimizer(config: _Settings, network: nn.Module) -> Adam:
    """Adam with the epsilon of PPO's first release (Dhariwal et al., 2017)."""
    parameters, decay = network.parameters(), config.weight_decay
    return Adam(parameters, config.learning_rate, epsilon=1e-5, weight_decay=decay)


def decay(config: _Settings, updates: int, optimizer: Adam, clip_range: Tensor) -> None:
    """Sets step size and clip range after `updates` updates: both fall linearly to 0."""
    if config.decay_updates is not None:
        left = max(0.0, 1 - updates / config.decay_updates)
        optimizer.learning_rate.fill_(left * config.learning_rate)
        clip_range.fill_(left * config.clip_range)


def value_clip(config: _Settings, clip_range: Tensor) -> Tensor | None:
    """How far a value may move in this update; falls with the clip range of the policy."""
    if config.value_clip_range is None:
        return None
    return clip_range * (config.value_clip_range / config.clip_range)


@torch.no_grad()
def judge(
    network: ActorCritic | NoisyActorCritic, obs: Tensor, rollout: Trajectories
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the samples of a rollout, and values, under the current networks, [T, V] each.

    Args:
        network: Policy and value.
        obs: Input of the network at each step, [T, V, ...].
        rollout: Its extras contain the samples.
    """
    params, value = network(obs.flatten(0, 1))
    log_prob = network.head.log_prob(params, rollout.extras["sample"].flatten(0, 1))
    return log_prob.view_as(rollout.reward), value.view_as(rollout.reward)


def led_out(rollout: Trajectories) -> Tensor:
    """Steps whose next observation is not the observation of another step of the rollout, bool [T, V]."""
    cut = rollout.truncated > 0
    cut[-1] = True
    return cut


def whole_batch(
    rollout: Trajectories,
    log_prob: Tensor,
    value: Tensor,
    after: Tensor,
    discount: float,
    mixing: float,
) -> Minibatch:
    """All steps of a rollout in order, [T, V, ...], with returns and advantages.

    Schulman et al., 2016, https://arxiv.org/abs/1506.02438, equation 16

    Args:
        rollout: Observations and rewards are already normalised as the networks expect them.
        log_prob: Log-probabilities of its samples, [T, V].
        value: Values of its observations, [T, V].
        after: Values of the next observations at the steps that `led_out` marks, [N].
        discount: Discount of one step.
        mixing: See `lambda_returns`.
    """
    next_value = torch.cat([value[1:], value[-1:]])
    next_value[led_out(rollout)] = after
    target = lambda_returns(
        rollout.reward, rollout.terminated, rollout.truncated, next_value, discount, mixing
    )
    sample = rollout.extras["sample"]
    return Minibatch(rollout.obs, sample, log_prob, value, target - value, target)


def scaled_advantage(config: _Settings, batch: Minibatch) -> Tensor:
    """Advantages of a minibatch as its loss weighs them, [B]."""
    if not config.normalise_advantage:
        return batch.advantage
    return normalise_advantage(batch.advantage, batch.target)


def policy_loss(log_ratio: Tensor, advantage: Tensor, clip_range: Tensor) -> Tensor:
    """The clipped surrogate, equation 7 of PPO; log-ratios and advantages are [B].

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
    """Mean squared error, all [B]; with a clip, the larger of the clipped and unclipped error."""
    same_shape(value, old, target)
    error = (value - target).square()
    if clip_range is not None:
        limit = torch.as_tensor(clip_range, device=value.device)
        held = old + (value - old).clamp(-limit, limit)
        error = torch.maximum(error, (held - target).square())
    return error.mean()


def moved(log_ratio: Tensor, clip_range: Tensor) -> dict[str, Tensor]:
    """How far the policy has moved: KL(old, new) by Schulman's estimator, and the clipped share."""
    ratio = log_ratio.exp()
    return {
        "kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
    }


def ppo_loss(
    config: _Settings, network: ActorCritic, batch: Minibatch, clip_range: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a minibatch, equation 9 of PPO, and its metrics."""
    params, value = network(batch.obs)
    log_ratio = network.head.log_prob(params, batch.sample) - batch.log_prob
    pi_loss = policy_loss(log_ratio, scaled_advantage(config, batch), clip_range)
    v_loss = value_loss(value, batch.value, batch.target, value_clip(config, clip_range))
    entropy = network.head.entropy(params).mean()
    loss = pi_loss - config.entropy_coefficient * entropy + config.value_coefficient * v_loss
    return loss, {
        "policy_loss": pi_loss.detach(),
        "value_loss": v_loss.detach(),
        "entropy": entropy.detach(),
        **moved(log_ratio.detach(), clip_range),
    }


def passes(
    config: _Settings, step: Learn, batch: Minibatch, generator: torch.Generator
) -> dict[str, Tensor]:
    """Gradient steps on all of a rollout, each pass in a new order; the means of their metrics.

    Args:
        config: Sets the number of passes, the size of minibatches and the divergence at which passes stop.
        step: One gradient step.
        batch: All of the rollout.
        generator: Draws the orders.
    """
    size = len(batch) if config.batch_size is None else batch.rows(config.batch_size)
    all_metrics = []
    for _ in range(config.epochs):
        order = torch.randperm(len(batch), generator=generator, device=generator.device)
        all_metrics += [step(batch.take(rows)) for rows in order.split(size)]
        target = config.target_kl
        if target is not None and all_metrics[-1]["kl"] > 1.5 * target:
            break
    metrics = {k: torch.stack([m[k] for m in all_metrics]).mean() for k in all_metrics[0]}
    # Nothing has moved yet: a value other than 0 is numerical noise between acting and learning.
    first = {f"first_{k}": x for k, x in all_metrics[0].items() if k.startswith("kl")}
    return metrics | first


@contextmanager
def undone_beyond(
    limit: float | None, optimizer: Adam, network: nn.Module, log_prob: Callable[[], Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Undoes the update inside if it moves the policy further than a limit.

    Like TRPO's line search (Schulman et al., 2015, https://arxiv.org/abs/1502.05477, appendix C), but
    without a second try on the same steps.

    Args:
        limit: Largest divergence of the new policy from the old one, in nats; None measures nothing.
        optimizer: Its state and its parameters are restored.
        network: Its running statistics are restored.
        log_prob: Returns log-probabilities of some samples under the current policy, [T, V].

    Yields:
        Metrics, which are empty until the update ends.
    """
    metrics: dict[str, Tensor] = {}
    if limit is None:
        yield metrics
        return
    old, before = log_prob(), Snapshot(optimizer, network)
    yield metrics
    # Half the mean squared log-ratio, an estimate of the KL divergence with little noise on few samples.
    # It stays finite if the update can still be undone.
    divergence = (0.5 * (old - log_prob()).square().mean()).clamp(max=1e9)
    undone = bool(divergence > limit)
    if undone:
        before.restore()
    metrics |= {"kl_update": divergence, "undone": torch.tensor(float(undone))}


def some(rollout: Trajectories) -> Trajectories:
    """About `PROBES` steps of a rollout, at equal distances in time."""
    stride = max(1, rollout.reward.numel() // PROBES)
    columns = {name: x[::stride] for name, x in columns_of(rollout).items()}
    extras = {name: x[::stride] for name, x in rollout.extras.items()}
    probed: Trajectories = with_columns(replace(rollout, extras=extras), columns)
    return probed


class OnPolicyAgent(Agent):
    """An agent whose update is several passes of gradient steps over one rollout.

    A subclass implements `make_network` and `gradient_step`, and `_batch` and `_log_prob`, which read rollouts.
    """

    consumes = Trajectories
    explores = True
    unlearned: ClassVar[tuple[str, ...]] = ("clip_range", "scaler.returns")
    network: nn.Module

    def build(self) -> None:
        """The network and its optimiser, and the running statistics of observations and returns."""
        config = self.config
        self.form = action_form(self.spec.action_space, self.device)
        self.normaliser = RunningNormaliser(self.read_space, enabled=config.normalise_obs)
        self.scaler = RewardScaler(config.envs, enabled=config.normalise_reward)
        self.network = self.make_network()
        self.optimizer = make_optimizer(config, self.network)
        self.clip_range = torch.tensor(config.clip_range, device=self.device)
        self.updates = 0

    @property
    def read_space(self) -> Space[Any]:
        """Space of what policy and value read; a subclass may make it from observations."""
        return self.spec.observation_space

    @abstractmethod
    def make_network(self) -> Any:
        """The network of policy and value."""

    @abstractmethod
    def gradient_step(self, batch: Any) -> Mapping[str, Tensor]:
        """One gradient step on the loss of a minibatch."""

    @abstractmethod
    def _batch(self, rollout: Trajectories) -> Minibatch:
        """All of a rollout, evaluated with the policy that acted."""

    @abstractmethod
    def _log_prob(self, rollout: Trajectories) -> Tensor:
        """Log-probabilities of `some` samples of a rollout under the current policy, [T, V]."""

    def phase(self) -> Hashable:
        """There is only one phase: all gradient steps are alike."""
        return "gradient step"

    @property
    def compiled_steps(self) -> int:
        """Gradient steps in one update."""
        steps: int = self.config.gradient_steps
        return steps

    def compiled(self, compiler: Callable[[Learn], Learn]) -> Learn:
        """`learn` with compiled gradient steps."""
        return partial(self._learn, compiler(self.gradient_step))

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """Several passes over one rollout, whose extras `act` returned."""
        return self._learn(self.gradient_step, experience)

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        config = self.config
        decay(config, self.updates, self.optimizer, self.clip_range)
        with undone_beyond(
            config.kl_limit, self.optimizer, self.network, lambda: self._log_prob(rollout)
        ) as distance:
            metrics = passes(config, step, self._batch(rollout), self.generator)
        # Updated only now, for the next rollout: the ratios of this one begin at 1 because nothing moved.
        self.normaliser.update(rollout.obs)
        self.updates += 1
        return metrics | distance
