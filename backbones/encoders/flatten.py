"""Raw values in a row, for observations of any shape."""

from torch import nn

from rlbench.backbones.encoders._base import Kind


def flatten_layers(channels: int) -> nn.Module:
    """One vector of all values, whatever the number of channels."""
    return nn.Flatten()


FLATTEN = Kind(flatten_layers, "anything")
