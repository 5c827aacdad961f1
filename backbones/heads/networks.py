"""Networks over observations of any kind."""

from collections.abc import Sequence

from rlbench.backbones.encoders._base import Encoded, Observations, encoded, size_of
from rlbench.backbones.layers.mlp import MLP, Network


def mlp(
    observations: Observations, hidden: Sequence[int], out_size: int, more: int = 0
) -> Network | Encoded:
    """A multi-layer perceptron over observations.

    Args:
        observations: Length of a vector, or an encoder.
        hidden: Hidden layer sizes.
        out_size: Number of outputs.
        more: Length of the additional input of `conditioned`.
    """
    return encoded(observations, MLP(size_of(observations) + more, hidden, out_size))
