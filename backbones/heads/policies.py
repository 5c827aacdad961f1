"""Stochastic policies over continuous actions in the unit box and over discrete actions.

All have one form. Called with observations a policy returns the parameters of its distribution, from
which everything else follows, so that one pass is enough for samples and densities. The caller provides
the noise: `candidates` turns standard normal noise into N actions with their weights. Samples of
continuous actions weigh 1 / N each; a policy over discrete actions returns all actions, each with its
probability, so that expectations are exact; `samples` draws from it as from the others.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, encoded, size_of
from rlbench.backbones.layers.mlp import LAYERS, LayerKind
from rlbench.backbones.layers.noise import gumbel, randn, uniform

Params = tuple[Tensor, ...]
"""Parameters of a distribution, each [B, ...]."""
PolicyKind = Literal["gaussian", "free-gaussian", "tanh-gaussian", "mixture"]


class Policy(nn.Module, ABC):
    """A distribution of actions in [-1, 1]; `action_size` and `noise_size` are set by subclasses."""

    action_size: int
    """Length of an action, A."""
    noise_size: int
    """Length of the noise behind one candidate, Z."""

    @abstractmethod
    def actions(self, params: Params, noise: Tensor) -> Tensor:
        """Samples of standard normal noise [B, N, Z], reparameterised, [B, N, A]."""

    @abstractmethod
    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """Log-density of actions [B, A], [B]."""

    @abstractmethod
    def mode(self, params: Params) -> Tensor:
        """The action to take without sampling, [B, A]."""

    def draw(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """One sample for each observation, for continuous actions, [B, A]."""
        noise = randn((len(obs), 1, self.noise_size), generator)
        return self.actions(self(obs), noise)[:, 0]

    def candidates(self, params: Params, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions to take an expectation over.

        Args:
            params: Parameters that the policy returned for observations [B, D].
            noise: Standard normal, [B, N, Z].

        Returns:
            Actions, [B, N, A], and the logs of their weights, [B, N].
        """
        return self.samples(params, noise)

    def samples(self, params: Params, noise: Tensor) -> tuple[Tensor, Tensor]:
        """N actions drawn from the policy, [B, N, A], and the logs of their weights, [B, N]."""
        actions = self.actions(params, noise)
        return actions, torch.zeros_like(actions[..., 0]).log_softmax(-1)


def make_policy(
    kind: PolicyKind,
    observations: Observations,
    action_size: int,
    hidden: Sequence[int],
    layers: LayerKind = "mlp",
) -> Policy:
    """A policy over continuous actions, by name, with the constants of its sources."""
    if kind == "mixture":
        return GaussianMixture(observations, action_size, hidden, layers=layers)
    if kind == "tanh-gaussian":
        # BRAC's behaviour model.
        return TanhGaussian(
            observations, action_size, hidden, (-5.0, 0.0), smooth=True, margin=1e-3, layers=layers
        )
    return ClippedGaussian(
        observations,
        action_size,
        hidden,
        (-5.0, 2.0),
        free_std=kind == "free-gaussian",
        layers=layers,
    )


class TanhGaussian(Policy):
    """tanh(u), u ~ N(mean(s), std(s)): raw samples u and actions in (-1, 1)."""

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        log_std_bounds: tuple[float, float],
        *,
        smooth: bool = False,
        margin: float = 1e-6,
        layers: LayerKind = "mlp",
    ) -> None:
        """A network with 2A outputs, means and log standard deviations.

        Args:
            observations: Length of an observation, D, or an encoder.
            action_size: Length of an action, A.
            hidden: Hidden layer sizes.
            log_std_bounds: Bounds of the log standard deviation.
            smooth: Whether tanh bounds it instead of a clamp.
            margin: `log_prob` moves actions to at least this distance from +-1.
            layers: Kind of network.
        """
        super().__init__()
        self.net = encoded(
            observations, LAYERS[layers](size_of(observations), hidden, 2 * action_size)
        )
        self.action_size = self.noise_size = action_size
        self.log_std_bounds = log_std_bounds
        self.smooth = smooth
        self.margin = margin

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the raw action, [B, A] each."""
        mean, log_std = self.net(obs).chunk(2, dim=-1)
        low, high = self.log_std_bounds
        if self.smooth:
            return mean, low + 0.5 * (high - low) * (1 + log_std.tanh())
        return mean, log_std.clamp(low, high)

    def actions(self, params: Params, noise: Tensor) -> Tensor:
        """See `Policy`."""
        mean, log_std = params
        return (mean[:, None] + log_std.exp()[:, None] * noise).tanh()

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """See `Policy`; [B, N] for actions [B, N, A]."""
        return self.log_density(params, unsquash(action, self.margin))

    def mode(self, params: Params) -> Tensor:
        """The tanh of the mean, [B, A]."""
        return params[0].tanh()

    def sample(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One action each with its log-density, reparameterised.

        Returns:
            Actions, [B, A], and log pi(a | s), [B].
        """
        actions, log_prob = self.sample_many(obs, 1, generator)
        return actions.squeeze(1), log_prob.squeeze(1)

    def sample_many(
        self, obs: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """`count` actions each, [B, N, A], with their log-densities, [B, N]; reparameterised."""
        mean, log_std = (x[:, None] for x in self(obs))
        noise = randn((len(obs), count, self.action_size), generator)
        raw = mean + log_std.exp() * noise
        return raw.tanh(), _log_density(noise, log_std, raw)

    def raw(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Raw samples u of standard normal noise, N each, reparameterised, [B, N, A]."""
        mean, log_std = self(obs)
        raw: Tensor = mean[:, None] + log_std.exp()[:, None] * noise
        return raw

    def sample_raw(
        self,
        obs: Tensor,
        count: int,
        generator: torch.Generator,
        noise_clip: float | None = None,
    ) -> Tensor:
        """`count` raw samples u each, [B, N, A]; their noise within +-`noise_clip`."""
        noise = randn((len(obs), count, self.action_size), generator)
        if noise_clip is not None:
            noise = noise.clamp(-noise_clip, noise_clip)
        return self.raw(obs, noise)

    def log_density(self, params: Params, raw: Tensor) -> Tensor:
        """Log-density of the actions tanh(raw), [B] or [B, N] for raw [B, A] or [B, N, A]."""
        mean, log_std = params
        if raw.dim() == 3:
            mean, log_std = mean[:, None], log_std[:, None]
        noise = (raw - mean) * (-log_std).exp()
        return _log_density(noise, log_std, raw)


class ClippedGaussian(Policy):
    """N(tanh(mean(s)), std): samples beyond the box are clipped, densities are taken before clipping.

    As in d3rlpy's CRR, in IQL and in AWAC. For actions exactly on the bound the likelihood stays
    finite, unlike the likelihood of a squashed Gaussian.
    """

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        log_std_bounds: tuple[float, float],
        *,
        free_std: bool = False,
        layers: LayerKind = "mlp",
    ) -> None:
        """A network with A means, and A log standard deviations unless these are free.

        Args:
            observations: Length of an observation, D, or an encoder.
            action_size: Length of an action, A.
            hidden: Hidden layer sizes.
            log_std_bounds: Bounds of the log standard deviation.
            free_std: One standard deviation for all states, a separate parameter.
            layers: Kind of network.
        """
        super().__init__()
        outputs = action_size if free_std else 2 * action_size
        self.net = encoded(observations, LAYERS[layers](size_of(observations), hidden, outputs))
        self.free_log_std = nn.Parameter(torch.zeros(action_size)) if free_std else None
        self.action_size = self.noise_size = action_size
        self.log_std_bounds = log_std_bounds

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, [B, A] each."""
        if self.free_log_std is None:
            mean, log_std = self.net(obs).chunk(2, dim=-1)
        else:
            mean = self.net(obs)
            log_std = self.free_log_std.expand_as(mean)
        return mean.tanh(), log_std.clamp(*self.log_std_bounds)

    def actions(self, params: Params, noise: Tensor) -> Tensor:
        """See `Policy`."""
        mean, log_std = params
        return (mean[:, None] + log_std.exp()[:, None] * noise).clamp(-1, 1)

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """See `Policy`."""
        mean, log_std = params
        return _log_normal(action, mean, log_std)

    def mode(self, params: Params) -> Tensor:
        """The mean, [B, A]."""
        return params[0]


class GaussianMixture(Policy):
    """A mixture of diagonal Gaussians; samples beyond the box are clipped.

    As in RL Unplugged's CRR: five components, means that are not squashed, softplus scales.
    """

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        components: int = 5,
        *,
        layers: LayerKind = "mlp",
    ) -> None:
        """A network with the logits, means and scales of all components."""
        super().__init__()
        self.net = encoded(
            observations,
            LAYERS[layers](size_of(observations), hidden, components * (2 * action_size + 1)),
        )
        self.components = components
        self.action_size = action_size
        self.noise_size = action_size + 1

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights [B, M], means and log scales [B, M, A]."""
        logits, rest = self.net(obs).split(
            [self.components, 2 * self.components * self.action_size], dim=-1
        )
        mean, scale = rest.unflatten(-1, (2, self.components, self.action_size)).unbind(1)
        return logits.log_softmax(-1), mean, (F.softplus(scale) + 1e-4).log()

    def actions(self, params: Params, noise: Tensor) -> Tensor:
        """See `Policy`; the last number of the noise chooses the component."""
        log_weight, mean, log_std = params
        # The number of components whose cumulated weight lies below a uniform number.
        below = log_weight.exp().cumsum(-1)[:, None] < uniform(noise[..., -1:])
        chosen = below.sum(-1).clamp(max=self.components - 1)
        index = chosen[..., None].expand(-1, -1, self.action_size)
        actions = mean.gather(1, index) + log_std.gather(1, index).exp() * noise[..., :-1]
        return actions.clamp(-1, 1)

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """See `Policy`."""
        log_weight, mean, log_std = params
        return (log_weight + _log_normal(action[:, None], mean, log_std)).logsumexp(-1)

    def mode(self, params: Params) -> Tensor:
        """The mean of the component with the largest weight, [B, A]."""
        log_weight, mean, _ = params
        index = log_weight.argmax(-1)[:, None, None].expand(-1, 1, self.action_size)
        return mean.gather(1, index)[:, 0].clamp(-1, 1)


class Choice(Policy):
    """A distribution over A discrete actions, which are one-hot vectors [B, A].

    Its candidates need no noise; its samples need noise of shape [B, N, A].
    """

    noise_size = 0

    def __init__(
        self,
        observations: Observations,
        action_size: int,
        hidden: Sequence[int],
        layers: LayerKind = "mlp",
    ) -> None:
        """A network with A logits."""
        super().__init__()
        self.net = encoded(observations, LAYERS[layers](size_of(observations), hidden, action_size))
        self.action_size = action_size

    def forward(self, obs: Tensor) -> Params:
        """Log-probabilities, [B, A]."""
        return (self.net(obs).log_softmax(-1),)

    def actions(self, params: Params, noise: Tensor) -> Tensor:
        """See `Policy`: one-hot vectors, [B, N, A]."""
        drawn = (params[0][:, None] + gumbel(noise)).argmax(-1, keepdim=True)
        # F.one_hot depends on the values of its input, so it cannot be traced for compiling.
        return (drawn == torch.arange(self.action_size, device=noise.device)).float()

    def draw(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """One action for each observation, [B, A]."""
        noise = randn((len(obs), 1, self.action_size), generator)
        return self.actions(self(obs), noise)[:, 0]

    def candidates(self, params: Params, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Every action, [B, A, A], and its log-probability, [B, A], whatever the noise."""
        every = torch.eye(self.action_size, device=noise.device)
        return every.expand(len(noise), -1, -1), params[0]

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """See `Policy`."""
        return (params[0] * action).sum(-1)

    def mode(self, params: Params) -> Tensor:
        """The most likely action, [B, A]."""
        return F.one_hot(params[0].argmax(-1), self.action_size).float()


def best_action(actions: Tensor, scores: Tensor) -> Tensor:
    """The action of the highest score, [B, A], of actions [B, N, A] and scores [B, N]."""
    index = scores.argmax(dim=1)[:, None, None].expand(-1, 1, actions.shape[-1])
    return actions.gather(1, index)[:, 0]


def _log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian; sums over the last dimension."""
    noise = (x - mean) * (-log_std).exp()
    return (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def _log_density(noise: Tensor, log_std: Tensor, raw: Tensor) -> Tensor:
    """Log-density of tanh(raw), where raw = mean + std * noise; sums over the last dimension."""
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return (log_normal - log_tanh_slope(raw)).sum(-1)


def log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), elementwise, in the form that stays finite for large |u|."""
    return 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))


def unsquash(action: Tensor, margin: float) -> Tensor:
    """Raw actions u with tanh(u) = action, after moving actions `margin` inside of +-1.

    At +-1 itself the inverse, and with it the density of the action, is infinite.
    """
    return action.clamp(margin - 1, 1 - margin).atanh()
