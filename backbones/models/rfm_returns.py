"""How much reward will each agent still get? A relational forward model of returns on recorded episodes.

At each step the network predicts, for each agent i, the sum of its rewards until the end of the episode:

    minimise  E[ (g_i^t - (G_i^t - mean) / std)^2 ],   G_i^t = sum_{t' >= t} r_i^{t'}

with the running mean and standard deviation of all returns G. The network also reads the fraction of the episode that has
passed. Two such models, with and without edges between agents (--network rfm-noaa), give the value of company: the
difference between their predictions estimates how much the other agents matter for an agent's return at this moment.

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044; the value of company is our way to measure what its
abstract calls the "intensity and valence" of social influence.
"""

from collections.abc import Mapping

from gymnasium.spaces import Box
from torch import Tensor

from rlbench.backbones.layers.normalise import RunningNormaliser
from rlbench.backbones.models._relational import RelationalModel, alive_means
from rlbench.experience import Examples
from rlbench.measures import Measure

EPSILON = 1e-8
"""Added to the variance, because all returns of a game may be equal."""


def returns_to_come(reward: Tensor) -> Tensor:
    """Undiscounted sums of rewards [B, T, A] from each step to the end, [T, B, A].

    >>> returns_to_come(Tensor([[[1.0], [0.0], [2.0]]])).flatten()
    tensor([3., 2., 2.])
    """
    return reward.flip(1).cumsum(1).flip(1).transpose(0, 1)


class RFMReturns(RelationalModel):
    """The model that predicts returns."""

    measures = (
        Measure("loss", "fraction of the variance", higher_is_better=False),
        Measure("error", "reward", higher_is_better=False),
    )
    outputs = 1
    context = 1

    def build(self) -> None:
        """The network, its optimiser and the running statistics of returns."""
        super().build()
        self.normaliser = RunningNormaliser(Box(-1, 1, ()), enabled=True)

    def losses(self, out: Tensor, examples: Examples) -> Tensor:
        """Squared errors of normalised returns, [T, B, A]."""
        target: Tensor = self.normaliser(returns_to_come(examples["reward"]))
        return (out.squeeze(-1) - target).square()

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """Updates the statistics before the network, so that the first targets are normalised too."""
        inside = experience["alive"].T.bool()
        self.normaliser.update(returns_to_come(experience["reward"])[inside])
        return super().learn(experience)

    def returns(self, examples: Examples) -> Tensor:
        """Predicted returns from each step to the end, [T, B, A]."""
        moments = self.normaliser.moments
        out: Tensor = self.predict(examples).out.squeeze(-1)
        returns: Tensor = out * moments.variance.sqrt() + moments.mean
        return returns

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Means over an episode of the squared errors of normalised returns and of the absolute errors, [B] each."""
        error = (self.returns(examples) - returns_to_come(examples["reward"])).abs()
        alive, variance = examples["alive"], self.normaliser.moments.variance + EPSILON
        return {
            "loss": alive_means(error.square() / variance, alive),
            "error": alive_means(error, alive),
        }
