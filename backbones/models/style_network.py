"""Style transfer in one pass: a network learns to redraw pictures in the styles of others.

    minimise over the weights of f   E over pictures x and styles k [ alpha L_content(f_k(x), x) + beta L_style(f_k(x), s_k) ]

with the losses of Gatys et al. in the maps of a network that does not learn (`layers/style.py`); by default it is untrained, and
`--pretrained RUN` loads its weights from another run. One picture costs one pass of f (`encoders/painter.py`), not an optimisation, so that
agents can use it: `style-ppo` learns from redrawn frames.

Measures, of test pictures in random styles: `loss`, the weighted sum; `style_loss` and `content_loss`; `start`, the style loss of the pictures as they
are, with which `style_loss` should be compared.

Johnson et al., 2016, https://arxiv.org/abs/1603.08155, sections 3.1 and 3.2; Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629, for several
styles in one network

Differences from the papers: losses in a small network with random weights instead of a trained VGG-16, relative to the energy of their targets;
no total variation loss, because these pictures of 64x64 pixels showed no noise without it; smaller networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlbench.backbones.encoders import acting_encoder
from rlbench.backbones.encoders.painter import STYLES, Painter
from rlbench.backbones.layers.augment import check_images
from rlbench.backbones.layers.style import content_loss, gram, style_loss
from rlbench.backbones.models._base import input_space
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import NOT_NEGATIVE, Range, check
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.photographs import photograph, scaled


@dataclass(frozen=True, kw_only=True)
class StyleNetworkConfig:
    """Settings of the style network."""

    styles: tuple[str, ...] = ("brick", "chelsea", "coffee")
    """Pictures with the styles, which scikit-image ships: astronaut, chelsea, coffee, brick, grass, gravel."""
    encoder: str = "vgg"
    """Network in whose maps pictures are compared, with options after a colon; it does not learn and needs a pyramid (see docs/encoders.md)."""
    content_weight: float = 1.0
    """Weight of the content (paper: lambda_c)."""
    style_weight: float = 5.0
    """Weight of the style (paper: lambda_s)."""
    width: int = 16
    """Channels of the network that redraws, at the size of the picture; twice as many at half of it."""
    blocks: int = 2
    """Residual blocks of this network."""
    learning_rate: float = 3e-3
    """Adam step size."""
    batch_size: int = 4
    """Pictures in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "styles": Range(lambda x: 1 <= len(x) <= 1_000, "one picture or more"),
        "content_weight": NOT_NEGATIVE, "style_weight": NOT_NEGATIVE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class StyleNetwork(Model):
    """The style network."""

    Config: ClassVar[type] = StyleNetworkConfig
    measures = (
        Measure("loss", higher_is_better=False), Measure("style_loss", higher_is_better=False),
        Measure("content_loss", higher_is_better=False), Measure("start", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 500, "data_size": 2_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: StyleNetworkConfig

    def build(self) -> None:
        """The network, the fixed encoder and the Gram matrices of the styles."""
        config, space = self.config, input_space(self.spec)
        shape = tuple(space.shape or ())
        check_images(space, STYLES, "give a source")
        self.painter = Painter(shape, len(config.styles), config.width, config.blocks)
        self.encoder = acting_encoder(config.encoder, space, frozen=True)
        self.encoder.pyramid(torch.zeros(1, *shape, device=self.device))  # It must have one.
        self.optimizer = Adam(self.painter.parameters(), config.learning_rate)
        self._styles = torch.cat([self._style(name, shape) for name in config.styles])
        self._grams: list[Tensor] | None = None

    def _style(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The picture of a style in the form of observations, [1, ...]."""
        last = self.painter.channels_last
        rows, columns, channels = shape if last else (*shape[1:], shape[0])
        found = scaled(photograph(name), min(rows, columns))
        if channels == 1:
            found = np.rint(found.mean(axis=2, keepdims=True)).astype(np.uint8)
        picture = torch.from_numpy(found).to(self.device)[None]
        return picture if last else picture.permute(0, 3, 1, 2)

    @property
    def grams(self) -> list[Tensor]:
        """Gram matrices of the styles in each map, [K, C, C]."""
        if self._grams is None:  # After `build`, because --pretrained changes the encoder.
            with torch.no_grad():
                self._grams = [gram(x) for x in self.maps(self._styles)]
        return self._grams

    def losses(self, made: Tensor, maps: list[Tensor], style: Tensor) -> tuple[Tensor, Tensor]:
        """Style loss and content loss, [B] each.

        Args:
            made: Redrawn observations, [B, ...].
            maps: Maps of the observations as they are, [B, C, H, W] each, from fine to coarse.
            style: Style of each, int64 [B].
        """
        found = self.maps(made)
        wanted = [x[style] for x in self.grams]
        return style_loss(found, wanted), content_loss(found[-1], maps[-1])

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """Maps of pictures [B, ...], from fine to coarse."""
        return list(self.encoder.pyramid(pictures).values())

    def random_styles(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """A style for each observation, int64 [B]."""
        count = len(self.config.styles)
        return torch.randint(count, (len(obs),), generator=generator, device=obs.device)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Observations redrawn in the first style, [B, ...], from 0 to 255."""
        return self.painter.paint(obs, torch.zeros(len(obs), dtype=torch.long, device=obs.device))

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent, with a random style for each picture."""
        config, obs = self.config, experience["obs"]
        style = self.random_styles(obs, self.generator)
        with torch.no_grad():
            maps = self.maps(obs)
        made = self.painter.paint(obs, style)
        own, kept = (x.mean() for x in self.losses(made, maps, style))
        loss = config.content_weight * kept + config.style_weight * own
        gradient_step(self.optimizer, loss)
        return {"loss": loss.detach(), "style_loss": own.detach(), "content_loss": kept.detach()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Losses of each picture in a random style, [B] each."""
        config, obs = self.config, examples["obs"]
        style = self.random_styles(obs, self.measure_generator)
        maps = self.maps(obs)
        own, kept = self.losses(self.painter.paint(obs, style), maps, style)
        loss = config.content_weight * kept + config.style_weight * own
        start = style_loss(maps, [x[style] for x in self.grams])
        return {"loss": loss, "style_loss": own, "content_loss": kept, "start": start}
