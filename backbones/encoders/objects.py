"""Encoder of objects: a trained SSD finds them, and small networks with shared weights read them as a set.

The detector's weights are frozen. Each of the K best detections becomes a node

    v_k = (centre, width, height, score, one-hot class)      with centre and sides as shares of the image

and the features do not depend on the order of the nodes:

    sum      sum_k phi(v_k)                                  (Zaheer et al., 2017, https://arxiv.org/abs/1703.06114, theorem 2)
    graph    two graph network blocks, with an edge from each object to each other one; the features are the context of the
             second one, as in the relational forward model's encoder and decoder (Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044)

Frames without objects have the features 0 with `sum`. An agent's copy of the detector is saved with its other weights.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import (
    Encoder,
    FromRun,
    Kind,
    at_least_one,
    freeze,
    use_running_statistics,
)
from rlbench.backbones.layers.graph import Graph, GraphBlock, Widths, absent, connect
from rlbench.backbones.layers.mlp import MLP
from rlbench.backbones.layers.single_shot import BOXES, SSDHead, decoded, default_sides, detections
from rlbench.backbones.options import as_option, inner_name
from rlbench.backbones.ranges import INSIDE, within
from rlbench.errors import UserError

CANDIDATES = 4
"""Detections before duplicates are suppressed, for each object that is read."""
AT_ONCE = 16
"""Images that a CPU passes through the detector at once: their maps stay in its cache, which makes the encoder 1.5 to 2 times as fast."""
SUPPRESS = 0.45
"""Largest overlap of two detections of the same class, as in SSD."""


class Detector(nn.Module):
    """The encoder and the head of an SSD, with the names that they have there."""

    def __init__(self, encoder: Encoder, head: SSDHead) -> None:
        """See `models/ssd.py`."""
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] and probabilities [B, N, 1 + C], "no object" first, of raw images [B, channels, H, W]."""
        logits, codes = self.head(self.encoder.pyramid(images))
        return decoded(self.head, logits, codes, (images.shape[2], images.shape[3]))


class Objects(FromRun):
    """From images to a set of detected objects, and from the set to features."""

    models = ("ssd",)
    detector: Detector
    fixed = "layers, classes or default boxes", "maps or smallest"

    one_program = False
    """How often duplicates are looked for depends on the detections."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        of: str = "conv4/layers=5/width=32/norm=gn",
        maps: int = 4,
        scales: int = 4,
        smallest: float = 0.1,
        largest: float = 0.8,
        classes: int = 1,
        objects: int = 10,
        score: float = 0.3,
        reads: Literal["sum", "graph"] = "sum",
        width: int = 64,
    ) -> None:
        """An untrained detector; `objects:RUN` gives the options up to `classes`, and its weights.

        Args:
            shape: Channels, rows and columns of an image.
            of: The detector's encoder, with its options after slashes.
            maps: See `SSDConfig`, also for the next three.
            scales: Number of scales of default boxes.
            smallest: First scale.
            largest: Last scale.
            classes: Number of classes of objects.
            objects: Largest number of objects that are read, those with the highest scores (K).
            score: Objects have a higher score.
            reads: How the set is read; see the module.
            width: Number of features, and of units of each layer.

        Raises:
            UserError: An option has no such value, or `of` has too few maps.
        """
        super().__init__()
        at_least_one("objects", maps=maps, scales=scales, classes=classes, objects=objects, width=width)  # fmt: skip
        within("objects", INSIDE, score=score)
        self.shape, self.objects, self.score = shape, objects, score
        encoder = make_encoder(inner_name(of), shape)
        use_running_statistics(encoder)
        with torch.no_grad():
            found = encoder.pyramid(torch.zeros(1, *shape))
        if not maps <= min(len(found), scales):
            raise UserError(
                f"maps of objects is {maps}, but {of} has {len(found)} maps and there are {scales} scales; give no more than either"
            )
        sides = default_sides(scales, smallest, largest) * min(shape[1:])
        head = SSDHead({stride: found[stride] for stride in sorted(found)[-maps:]}, sides, classes)
        self.detector = Detector(encoder, head)
        freeze(self.detector)
        node = 5 + classes
        self.phi, self.blocks = None, nn.ModuleList()
        if reads == "sum":
            self.phi = MLP(node, (width,), width)
        else:
            between = Widths(width, width, width)
            self.blocks.append(GraphBlock(Widths(0, node, 0), between, width, "mean"))
            self.blocks.append(GraphBlock(between, between, width, "mean"))
            self.links = connect(objects, 0)

    @property
    def trained(self) -> nn.Module:
        """See `FromRun`."""
        return self.detector

    @staticmethod
    def network_of(model: Any) -> Detector:
        """See `FromRun`."""
        return Detector(model.encoder, model.head)

    @staticmethod
    def options_of(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """See `FromRun`."""
        maps, scales = settings["maps"], settings["scales"]
        return {
            "of": as_option(settings["encoder"]),
            "maps": maps,
            "scales": scales,
            "smallest": settings["smallest_scale"],
            "largest": settings["largest_scale"],
            # Of each default box, four numbers are its position, and one is the score of "no object".
            "classes": len(state["head"]["convolutions.0.bias"])
            // (BOXES * math.ceil(scales / maps))
            - 5,
        }

    @torch.no_grad()
    def nodes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes of detected objects, [B, K, 5 + C], and 1.0 where there is one, [B, K].

        Args:
            images: Raw values, [B, channels, H, W].
        """
        parts = images.split(AT_ONCE) if images.device.type == "cpu" else (images,)
        boxes, scores = map(torch.cat, zip(*map(self.detector, parts), strict=True))
        found = detections(
            boxes, scores[..., 1:], self.score, SUPPRESS, CANDIDATES * self.objects, self.objects
        )
        low, high, score, kind = found[..., :2], found[..., 2:4], found[..., 4:5], found[..., 5]
        side = low.new_tensor([images.shape[3], images.shape[2]])
        one_hot = F.one_hot(kind.long(), scores.shape[2])[..., 1:]
        nodes = torch.cat([(low + high) / 2 / side, (high - low) / side, score, one_hot], dim=-1)
        return nodes, (kind > 0).float()

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, width] of images, raw values [B, channels, H, W]."""
        nodes, exist = self.nodes(images)
        if self.phi is not None:
            return (self.phi(nodes) * exist[..., None]).sum(dim=1)  # type: ignore[no-any-return]
        mask, nodes = exist.T, nodes.transpose(0, 1)
        graph = Graph(absent(nodes, len(self.links.senders)), nodes, nodes[0, :, :0])
        for block in self.blocks:
            graph = block(graph, self.links, mask)
        return torch.relu(graph.context)


OBJECTS = Kind(Objects, "images", sized=True)
