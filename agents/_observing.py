"""Settings of agents whose networks read observations through encoders."""

from dataclasses import dataclass

from rlbench.backbones.encoders import Observations, observations_of
from rlbench.interface import Spec


@dataclass(frozen=True, kw_only=True)
class ObservingConfig:
    """Settings of the encoder of observations."""

    encoder: str = "flatten"
    """Encoder of observations, with options after a colon, as in resnet:units=1; each network has its own.
    flatten: raw values as one vector. `rlbench list` shows all."""
    freeze: bool = False
    """Freeze the encoders' weights, for example those that --pretrained loads."""

    def observations(self, spec: Spec) -> Observations:
        """Input of the next network: vectors, or images through a new encoder."""
        return observations_of(spec.observation_space, self.encoder, frozen=self.freeze)
