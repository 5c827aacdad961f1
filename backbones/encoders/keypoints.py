"""Encoder of key points: where a trained network of the model `pose-mrf` finds them.

The network's weights are frozen. The features are the expected row and column of each key point under its heat map, from -1 to 1
(spatial soft-argmax). If images have several frames of three channels, as in `halfcheetah-pixels-medium`, each frame is read by itself, and
the features of the first frame come first, then the features of the next one. An agent's copy of the network is saved with its
other weights.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import (
    FromRun,
    Kind,
    at_least_one,
    freeze,
    use_running_statistics,
)
from rlbench.backbones.layers.pooling import SpatialSoftmax
from rlbench.backbones.layers.pose import PoseNetwork
from rlbench.backbones.options import as_option, inner_name
from rlbench.backbones.ranges import Range, within
from rlbench.errors import UserError

CHANNELS = 3
"""Channels of one frame."""
ODD = Range(lambda x: 1 <= x <= 99 and x % 2 == 1, "an odd number from 1 to 99")
AT_ONCE = 16
"""Frames that a CPU passes through the network at once, so that their messages stay in its cache."""


def make_network(
    encoder: str, shape: tuple[int, int, int], branches: int, width: int, kernel: int, points: int
) -> PoseNetwork:
    """A network that finds key points.

    Args:
        encoder: Name of the encoder of each branch.
        shape: Channels, rows and columns of an image.
        branches: Number of resolutions.
        width: Channels of the head.
        kernel: Odd side of the head's first convolutions.
        points: Number of key points.
    """
    channels, *sides = shape
    smaller = [(channels, *(side // 2**n for side in sides)) for n in range(branches)]
    return PoseNetwork([make_encoder(encoder, x) for x in smaller], shape, width, kernel, points)


class KeyPoints(FromRun):
    """From images to the positions of key points."""

    models = ("pose-mrf",)
    detector: PoseNetwork
    fixed = "layers or key points", "branches or points"

    def __init__(
        self,
        shape: tuple[int, int, int],
        of: str = "conv4/layers=2/width=32/norm=gn",
        branches: int = 2,
        hidden: int = 32,
        kernel: int = 3,
        points: int = 8,
        maps: Literal["spatial", "detector"] = "spatial",
    ) -> None:
        """An untrained network; `keypoints:RUN` gives all options, and its weights.

        Args:
            shape: Channels, rows and columns of an image.
            of: Encoder of the network's branches, with its options after slashes.
            branches: Number of resolutions that the network reads.
            hidden: Channels of the network's head.
            kernel: Odd side of the head's first convolutions.
            points: Number of key points (K).
            maps: Heat maps of the spatial model, or of the detector alone.

        Raises:
            UserError: An option is out of range, or the images do not have a whole number of frames.
        """
        super().__init__()
        at_least_one("keypoints", branches=branches, hidden=hidden, points=points)
        within("keypoints", ODD, kernel=kernel)
        if shape[0] % CHANNELS:
            raise UserError(
                f"images have {shape[0]} channels, but the encoder keypoints reads frames of {CHANNELS}; give a task with colour images"
            )
        self.shape = (CHANNELS, *shape[1:])
        self.spatial = maps == "spatial"
        self.detector = make_network(inner_name(of), self.shape, branches, hidden, kernel, points)
        use_running_statistics(self.detector)
        freeze(self.detector)
        self.expected = SpatialSoftmax()

    @property
    def trained(self) -> nn.Module:
        """See `FromRun`."""
        return self.detector

    @staticmethod
    def network_of(model: Any) -> PoseNetwork:
        """See `FromRun`."""
        network: PoseNetwork = model.network
        return network

    @staticmethod
    def options_of(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """See `FromRun`."""
        trained = (
            settings["stages"] != "detector" and state["updates"] > settings["detector_updates"]
        )
        return {
            "of": as_option(settings["encoder"]),
            "branches": settings["branches"],
            "hidden": settings["width"],
            "kernel": settings["kernel"],
            "points": len(state["network"]["detector.out.bias"]),
            "maps": "spatial" if trained else "detector",
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features [B, frames * 2K] of images, raw values [B, frames * channels, H, W]."""
        frames = images.unflatten(1, (-1, CHANNELS)).flatten(0, 1)
        # A split in an exported program would fix the number of parts.
        exported = torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()  # type: ignore[no-untyped-call, attr-defined]
        in_parts = images.device.type == "cpu" and not exported
        parts = frames.split(AT_ONCE) if in_parts else (frames,)
        found = [self.expected(self.detector(part, spatial=self.spatial)) for part in parts]
        features: Tensor = torch.cat(found).unflatten(0, (-1, images.shape[1] // CHANNELS))
        return features.flatten(1)


KEYPOINTS = Kind(KeyPoints, "images", sized=True)
