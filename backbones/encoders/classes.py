"""Encoder of classes: the probabilities that a trained classifier gives to its classes.

    h = softmax(W f(x) + b)

The weights of the classifier, a run of `classifier` or `mixmatch`, are frozen, so that whoever reads h sees nothing but its answer. An agent's copy of
it is saved with its other weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import FromRun, Kind, freeze
from rlbench.backbones.options import as_option, inner_name
from rlbench.backbones.ranges import TWO, within


class Classes(FromRun):
    """From observations to probabilities of classes."""

    models = ("classifier", "mixmatch")
    fixed = "layers or classes", "of or classes"

    def __init__(
        self, shape: tuple[int, ...], of: str = "conv4/layers=3/norm=gn", classes: int = 2
    ) -> None:
        """An untrained classifier; `classes:RUN` gives all options, and its weights.

        Args:
            shape: Shape of one observation.
            of: Encoder of the classifier, with its options after slashes.
            classes: Number of classes (C).

        Raises:
            UserError: The number of classes is below 2, or there is no such encoder for these observations.
        """
        super().__init__()
        within("classes", TWO, classes=classes)
        self.shape = shape
        encoder = make_encoder(inner_name(of), shape)
        self.classifier = nn.Sequential(encoder, nn.Linear(encoder.size, classes))
        freeze(self.classifier)

    @property
    def trained(self) -> nn.Module:
        """See `FromRun`."""
        return self.classifier

    @staticmethod
    def network_of(model: Any) -> nn.Module:
        """See `FromRun`."""
        network: nn.Module = model.whole
        return network

    @staticmethod
    def options_of(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """See `FromRun`."""
        biases = state["head"]["bias"] if "head" in state else state["averaged"]["1.bias"]
        return {"of": as_option(settings["encoder"]), "classes": len(biases)}

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """Probabilities [B, C] of observations [B, ...]."""
        probabilities: Tensor = self.classifier(obs).softmax(dim=-1)
        return probabilities


CLASSES = Kind(Classes, "anything", sized=True)
