"""Settings of agents whose networks read observations through encoders."""

from dataclasses import dataclass

from rlbench.backbones.encoders import Observations, observations_of
from rlbench.interface import Spec


@dataclass(frozen=True, kw_only=True)
class ObservingConfig:
    """What reads the observations."""

    encoder: str = "flatten"
    """Encoder of observations, with options after a colon, as in resnet:units=1; each network has its own.
    flatten: raw values in a row. `rlbench list` shows all."""
    freeze: bool = False
    """Keep the encoders' weights as they are, as after --pretrained."""

    def observations(self, spec: Spec) -> Observations:
        """What the next network reads: vectors of a length, or images through a new encoder."""
        return observations_of(spec.observation_space, self.encoder, frozen=self.freeze)
