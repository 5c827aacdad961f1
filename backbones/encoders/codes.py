"""Encoder of codes: a trained VQ-VAE turns an image into whole numbers, and a small network reads them.

    h = W ReLU(conv(a_i)),    a_i = the learned vector of the code k_i                of each grid of codes

The quantiser's weights are frozen, and the vectors a are learned anew, so that the agent sees nothing but the codes: 320 numbers of 7 bits
for an image of 64x64 pixels with the defaults. Replay buffers therefore hold the codes and not the images. An agent's copy of the quantiser is saved with its other weights.

Razavi et al., 2019, https://arxiv.org/abs/1906.00446
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import FromRun, Kind, at_least_one, freeze
from rlbench.backbones.layers.quantised import MOST_CODES, Quantiser
from rlbench.backbones.ranges import Range, within
from rlbench.errors import UserError

BYTE = 256
NUMBER = Range(lambda x: 1 <= x <= MOST_CODES, f"1 or more, up to {MOST_CODES:,}")


class Codes(FromRun):
    """From images to codes, and from codes to features."""

    models = ("vq-vae",)
    fixed = "layers or codebooks", "codes or top"

    def __init__(
        self,
        shape: tuple[int, int, int],
        codes: int = 128,
        size: int = 32,
        channels: int = 64,
        blocks: int = 2,
        top: int = 1,
        width: int = 16,
        units: int = 128,
    ) -> None:
        """An untrained quantiser; `codes:RUN` gives the options up to `top`, and its weights.

        Args:
            shape: Channels, rows and columns of an image.
            codes: Vectors of each codebook.
            size: Length of these vectors.
            channels: Channels of the quantiser's convolutions.
            blocks: Its residual blocks.
            top: Whether it has a top grid, 1 or 0.
            width: Length of the vectors that are learned for codes.
            units: Number of features.

        Raises:
            UserError: An option is below 1, there are too many codes, or the sides of images are not multiples of 8, or of 4 without a top grid.
        """
        super().__init__()
        within("codes", NUMBER, codes=codes)
        at_least_one("codes", size=size, channels=channels, width=width, units=units)
        if top not in (0, 1):
            raise UserError(f"top of codes is {top}; give 1 for two grids of codes or 0 for one")
        if any(side % (8 if top else 4) for side in shape[1:]):
            raise UserError(
                f"images have {shape[1]}x{shape[2]} pixels, but the encoder codes needs sides that are multiples of {8 if top else 4}"
            )
        self.shape = shape
        self.quantiser = Quantiser(
            shape[0], codes=codes, size=size, width=channels, blocks=blocks, top=bool(top)
        )
        freeze(self.quantiser)
        self.wide = codes > BYTE
        self.vectors = nn.ModuleList(nn.Embedding(codes, width) for _ in range(1 + top))
        self.read = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=2 - i, padding=1) for i in range(1 + top)
        )
        with torch.no_grad():
            size_of = self._maps(self.codes(torch.zeros(1, *shape))).shape[1]
        self.out = nn.Linear(size_of, units)

    @property
    def trained(self) -> nn.Module:
        """See `FromRun`."""
        return self.quantiser

    @staticmethod
    def network_of(model: Any) -> nn.Module:
        """See `FromRun`."""
        network: nn.Module = model.network
        return network

    @staticmethod
    def options_of(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """See `FromRun`."""
        return {
            "codes": settings["codes"],
            "size": settings["code_size"],
            "channels": settings["width"],
            "blocks": settings["blocks"],
            "top": int(settings["top"]),
        }

    @torch.no_grad()
    def codes(self, images: Tensor) -> list[Tensor]:
        """Codes of images, raw values [B, C, H, W]: int64 [B, H / 4, W / 4] and, with a top grid, [B, H / 8, W / 8]."""
        return [codes for _, codes in self.quantiser.outputs(images / 255 - 0.5)]

    def compact(self, x: Tensor) -> Tensor:
        """Codes of images, raw values [B, C, H, W], in bytes: uint8 [B, N], two for each code if there are more than 256."""
        flat = torch.cat([codes.flatten(1) for codes in self.codes(x)], dim=1)
        if not self.wide:
            return flat.to(torch.uint8)
        return torch.stack([flat // BYTE, flat % BYTE], dim=-1).flatten(1).to(torch.uint8)

    def of_compact(self, found: Tensor) -> Tensor:
        """Features [B, units] of codes in bytes."""
        flat = found.long()
        if self.wide:
            high, low = flat.unflatten(1, (-1, 2)).unbind(-1)
            flat = BYTE * high + low
        sides = [(self.shape[1] // k, self.shape[2] // k) for k in (4, 8)[: len(self.vectors)]]
        parts = flat.split([rows * columns for rows, columns in sides], dim=1)
        return self._features([x.unflatten(1, side) for x, side in zip(parts, sides, strict=True)])

    def _maps(self, codes: Sequence[Tensor]) -> Tensor:
        """What the networks of the grids see, [B, D]."""
        each = zip(codes, self.vectors, self.read, strict=True)
        parts = [torch.relu(read(vectors(x).movedim(-1, 1))) for x, vectors, read in each]
        return torch.cat([x.flatten(1) for x in parts], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, units] of images, raw values [B, C, H, W]."""
        return self._features(self.codes(images))

    def _features(self, codes: Sequence[Tensor]) -> Tensor:
        return torch.relu(self.out(self._maps(codes)))


CODES = Kind(Codes, "images", sized=True)
