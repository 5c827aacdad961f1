"""The encoder of observations of several parts (`rlbench.packed.Packed`), such as an image, a direction and a text.

Each image and each text has an encoder of its own; all other parts are read as they are. `concat` puts their features side by
side. `film` lets the text choose what is read from the images, feature by feature:

    h = relu((1 + gamma(text)) * x + beta(text))

Perez et al., 2018, https://arxiv.org/abs/1709.07871, equation 2, with an image encoder's features x in place of
the maps of each layer; gamma and beta are one linear layer, as in BabyAI's agents (https://arxiv.org/abs/1810.08272).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import Kind
from rlbench.backbones.options import inner_name
from rlbench.errors import UserError
from rlbench.packed import Packed, is_image
from rlbench.sequences import TokenSequence


class Parts(nn.Module):
    """Reads packed vectors [B, D]."""

    def __init__(
        self,
        space: Packed,
        image: str = "",
        text: str = "token-gru",
        join: Literal["concat", "film"] = "concat",
    ) -> None:
        """Makes the encoders of the parts.

        Args:
            space: The space of the packed vectors.
            image: Encoder of each image, with its options after slashes, as in `resnet/units=1/width=8`.
            text: Encoder of each text, in the same form.
            join: How texts act on images; see the module.

        Raises:
            UserError: A part does not fit its encoder, or `film` lacks an image or a text.
        """
        super().__init__()
        self.space = space
        images = [name for name, part in space.parts.items() if is_image(part)]
        texts = [name for name, part in space.parts.items() if isinstance(part, TokenSequence)]
        if images and not image:
            raise UserError(
                f"the observations have the image {images[0]!r}; name its encoder, as in --encoder "
                "parts:image=one-hot-grid for MiniGrid or parts:image=impala"
            )
        if join == "film" and not (images and texts):
            raise UserError(
                f"with join=film a text acts on an image, but the observations have {', '.join(space.parts)}; give "
                "join=concat"
            )
        self._images, self._texts = images, texts
        # Numbered, because a part may have the name of a method of nn.Module.
        self.encoders = nn.ModuleList(
            make_encoder(
                inner_name(image if name in images else text),
                space.parts[name] if name in texts else tuple(space.parts[name].shape or ()),
            )
            for name in (*images, *texts)
        )
        self.modulate: nn.Linear | None = None
        if join == "film":
            of_images, of_texts = (sum(map(self._size, names)) for names in (images, texts))
            self.modulate = nn.Linear(of_texts, 2 * of_images)

    def forward(self, packed: Tensor) -> Tensor:
        """Features [B, size] of packed vectors [B, D]."""
        parts = self.space.unpack(packed)
        read = {
            name: self._encoder(name)(part) if name in (*self._images, *self._texts) else part
            for name, part in parts.items()
        }
        if self.modulate is None:
            return torch.cat(list(read.values()), dim=-1)
        text = torch.cat([read.pop(name) for name in self._texts], dim=-1)
        image = torch.cat([read.pop(name) for name in self._images], dim=-1)
        return torch.cat([film(image, self.modulate(text)), text, *read.values()], dim=-1)

    def _encoder(self, part: str) -> nn.Module:
        return self.encoders[[*self._images, *self._texts].index(part)]

    def _size(self, part: str) -> int:
        size = self._encoder(part).size
        assert isinstance(size, int)
        return size


def film(x: Tensor, modulation: Tensor) -> Tensor:
    """Features [B, F] after the scales and shifts of a modulation [B, 2 F], and a ReLU.

    >>> film(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0, 0.5, 3.0]])).tolist()
    [[2.5, 3.0]]
    """
    gamma, beta = modulation.chunk(2, dim=-1)
    return torch.relu((1 + gamma) * x + beta)


PARTS = Kind(Parts, "parts")
