"""Region proposals alone: boxes that may hold an object of any class, measured by how many objects they find.

The equations are in `_proposals.py`. With the encoder `fpn`, all of whose maps have the same number of channels, this is the experiment of
feature pyramid networks: each map has default boxes of one size, instead of one map with all sizes.

Measures: `recall`, COCO's average recall: the share of objects that one of the `proposals` boxes finds, averaged over overlaps from 0.5
to 0.95; `recall_small`, `recall_medium`, `recall_large` for objects by size; see `_detection.py`. Classes are not used.

Lin et al., 2017, https://arxiv.org/abs/1612.03144, section 5.1; Ren et al., 2015, https://arxiv.org/abs/1506.01497

Differences from the papers: images have 64 pixels, encoders are small and not pre-trained, except with --pretrained; Adam with a constant step
size; duplicates are suppressed among the proposals of all maps together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.backbones.models._detection import RECALL, average_recalls, coco, objects_of, truth
from rlbench.backbones.models._proposals import ProposalConfig, ProposalNetwork, encoder_with_maps
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class ProposalsConfig(ProposalConfig):
    """Settings of region proposals."""

    proposals: int = 20
    """Largest number of proposals of an image (paper: 1,000)."""
    learning_rate: float = 1e-3
    """Adam step size."""
    batch_size: int = 16
    """Examples in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        self.check_sizes()


class RegionProposals(Model):
    """The first stage of Faster and Mask R-CNN."""

    Config: ClassVar[type] = ProposalsConfig
    measures = (RECALL,)
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 4_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: ProposalsConfig

    def build(self) -> None:
        """Encoder, proposal network and their optimiser."""
        coco()
        config, self.objects = self.config, objects_of(self.spec)
        self.encoder, maps = encoder_with_maps(config, self.objects)
        self.proposals = ProposalNetwork(maps, config, self.objects)
        parameters = [*self.encoder.parameters(), *self.proposals.parameters()]
        self.optimizer = Adam(parameters, config.learning_rate)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Proposals of images, [B, P, 5]: box and score; zeros where there are fewer."""
        found = self.proposals.propose(*self.proposals(self.encoder.pyramid(obs)))
        return torch.cat([found.boxes, found.scores[..., None]], dim=-1)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        boxes, classes = truth(experience)
        with drawing_from(self.generator):
            logits, codes = self.proposals(self.encoder.pyramid(experience["obs"]))
            parts = self.proposals.loss(logits, codes, boxes, classes > 0)
        objectness, localisation = (part.mean() for part in parts)
        return {
            "loss": gradient_step(self.optimizer, objectness + localisation),
            "objectness": objectness.detach(),
            "localisation": localisation.detach(),
        }

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Proposals [B, P, 5], and objects [B, M, 5]: box and class."""
        boxes, classes = truth(examples)
        return {
            "proposals": self.decide(examples["obs"]),
            "objects": torch.cat([boxes, classes[..., None].float()], dim=-1),
        }

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Average recalls; see `average_recalls`."""
        return average_recalls(columns["objects"], columns["proposals"])
