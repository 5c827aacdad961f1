"""PPO with a bonus for rarely seen observations, from pseudo-counts of a density model.

    PG(x)  = log p'(x) - log p(x)                              prediction gain: p' has learned x once more
    N(x)   = 1 / (exp(c n^-1/2 max(PG(x), 0)) - 1)             pseudo-count after n steps
    r'_t   = r_t + bonus * N(x_{t+1})^-1/2

where the density p is a gated PixelCNN that learns online from the agent's own observations, and x_{t+1} is the observation after the step.
An observation that the agent has seen often is predicted well, so that learning it once more changes little: its pseudo-count is large
and its bonus small. Unlike the novelty of `novelty-ppo`, counts continue across episodes. Evaluations use the rewards of the environment
alone.

Bellemare et al., 2016, https://arxiv.org/abs/1606.01868; Ostrovski et al., 2017, https://arxiv.org/abs/1703.01310, section 3

Differences from the papers: PPO in place of DQN with Monte Carlo returns. The density model learns from a whole rollout at once, with Adam; p' is
one step of RMSProp on x alone from the density before the rollout, so that the gain does not depend on the other observations. Observations
are not downscaled, and categories keep their values. The first rollout, from which the density model has yet to learn, has no bonus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.layers.density import Values, prediction_gain
from rlbench.backbones.layers.pixels import PixelNetwork, log_probability
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import COUNT, POSITIVE, RATE, SIZE, TWO, Range
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Learn


@dataclass(frozen=True, kw_only=True)
class CountPPOConfig(PPOConfig):
    """Settings of PPO, of the bonus and of the density model."""

    bonus: float = 1.0
    """Weight of the bonus (paper: beta)."""
    gain_scale: float = 0.1
    """Scale of the prediction gain (paper: c)."""
    gain: float = 1e-4
    """Step size of RMSProp in the prediction gain."""
    levels: int | None = None
    """Number of values of a pixel; None: as many as observations can have. See `rlbench run pixelcnn --help`."""
    quantise: bool = True
    """Whether values of bytes are brightness; otherwise they are categories, such as 11 levels in MiniGrid and MultiRoom."""
    density_width: int = 16
    """Feature maps of each stack of the density model's layers."""
    density_layers: int = 2
    """Layers of the density model."""
    density_learning_rate: float = 1e-3
    """Step size of Adam for the density model."""
    density_batch_size: int = 64
    """Observations in one step of the density model; one update passes once through the observations of a rollout."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "gain_scale": POSITIVE, "gain": POSITIVE, "levels": TWO, "density_width": SIZE, "density_layers": SIZE,
        "density_learning_rate": RATE, "density_batch_size": COUNT,
    }  # fmt: skip


def count_bonus(gain: Tensor, scale: float, steps: int) -> Tensor:
    """N^-1/2 of prediction gains of any shape; see the module.

    >>> gain = torch.tensor([-1.0, 0.0, 2.0])
    >>> [round(x, 4) for x in count_bonus(gain, 0.5, 4).square().log1p().tolist()]
    [0.0, 0.0, 0.5]

    Args:
        gain: Prediction gains in nats.
        scale: c.
        steps: n, 1 or more.
    """
    return torch.expm1(scale * steps**-0.5 * gain.clamp(min=0)).sqrt()


class CountPPO(PPO):
    """PPO with a bonus from pseudo-counts."""

    Config: ClassVar[type] = CountPPOConfig
    config: CountPPOConfig

    def build(self) -> None:
        """PPO's parts, and the density model with its optimiser."""
        config = self.config
        super().build()
        self.reading = Values.of(
            self.spec.observation_space, config.levels, quantise=config.quantise
        )
        channels, rows, columns = self.reading.shape
        if config.density_width < channels:
            raise UserError(
                f"density_width is {config.density_width}, but observations have {channels} channels; give at least as many"
            )
        self.density = PixelNetwork(
            *(channels, self.reading.levels, rows, columns), one_hot=not self.reading.scaled,
            width=config.density_width, layers=config.density_layers,
        )  # fmt: skip
        self.density_optimizer = Adam(self.density.parameters(), config.density_learning_rate)
        self.seen = 0
        """Steps that the density model has learned from (paper: n)."""

    def bonus(self, obs: Tensor) -> Tensor:
        """N^-1/2 of observations [..., *obs_shape] under the density as it is, [...]."""
        lead = obs.shape[: obs.dim() - self.reading.axes]
        if not self.seen:
            return torch.zeros(lead, device=obs.device)
        x = self.reading.read(obs.flatten(0, len(lead) - 1))
        # Many steps of a rollout lead to the same observation.
        different, place = x.flatten(1).unique(dim=0, return_inverse=True)
        different = different.view(-1, *x.shape[1:])
        gain = prediction_gain(self.density, self.density_optimizer, different, self.config.gain)
        return count_bonus(gain, self.config.gain_scale, self.seen)[place].view(lead)

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO on the rewards with the bonus, then one pass of the density model over the rollout."""
        bonus = self.bonus(rollout.final_obs)
        rewarded = replace(rollout, reward=rollout.reward + self.config.bonus * bonus)
        metrics = super()._learn(step, rewarded)
        return {**metrics, "bonus": bonus.mean(), "bits": self._learn_density(rollout.final_obs)}

    def _learn_density(self, obs: Tensor) -> Tensor:
        """One pass over observations [T, V, ...]; returns the mean of the bits per value before each step."""
        x = self.reading.read(obs.flatten(0, 1))
        order = torch.randperm(len(x), generator=self.generator, device=x.device)
        bits = []
        for rows in order.split(self.config.density_batch_size):
            loss = -log_probability(self.density(x[rows]), x[rows]).mean()
            bits.append(gradient_step(self.density_optimizer, loss / x[0].numel()))
        self.seen += len(x)
        return torch.stack(bits).mean() / torch.tensor(2.0).log()
