"""VQ-VAE-2: images as one or two grids of codes, each of which is the number of a vector in a codebook.

    q(z) = e_k,   k = argmin_j |z - e_j|                                             z = E(x), an output of the encoder

    minimise  |x - D(e)|^2 + beta |sg[e] - z|^2

    N_k <- gamma N_k + (1 - gamma) n_k,   m_k <- gamma m_k + (1 - gamma) sum z,   e_k = m_k / N_k

where n_k of a batch's outputs z have the code k, and sg stops gradients. The decoder's gradient passes from e to z unchanged
(straight through). With `top`, a grid of half the resolution is quantised first and decoded; the bottom grid, of a quarter of the image's
resolution, is computed from the image and from it, so that it only has to add details.

Measures: `mse`, the mean squared error of brightness from 0 to 1; `perplexity_bottom` and `perplexity_top`, the exponential of the entropy of codes
over all examples, at most K; `bits`, the size of an image's codes; `low`, how much of the difference between two images at low
frequencies (means of 16x16 pixels) remains if only the bottom codes are exchanged, the energy as a share of the whole difference.

Razavi et al., 2019, https://arxiv.org/abs/1906.00446; van den Oord et al., 2017, https://arxiv.org/abs/1711.00937

Differences from the papers: the layers are those of a smaller reimplementation (see `layers/quantised.py`). Vectors begin as outputs of the encoder for
the first batch, and those that are used less than once a batch start again from outputs; otherwise many codes may never be used.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.layers.quantised import MOST_CODES, Quantiser, straight_through
from rlbench.backbones.models._base import input_space
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import BELOW_ONE, NOT_NEGATIVE, Range, check
from rlbench.backbones.spaces import CHANNELS
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure

CODES = Range(lambda x: 2 <= x <= MOST_CODES, f"2 or more, up to {MOST_CODES:,}")
LOW = 16
"""Pixels of a side of the squares over which low frequencies are means."""


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig:
    """Settings of the VQ-VAE."""

    top: bool = True
    """Whether there is a second, coarser grid of codes."""
    codes: int = 128
    """Vectors of each codebook (paper: K)."""
    code_size: int = 32
    """Length of a vector (paper: D)."""
    width: int = 64
    """Channels of the convolutions."""
    blocks: int = 2
    """Residual blocks of the encoder and of the decoder of each grid."""
    beta: float = 0.25
    """Weight of the commitment of the encoder's outputs to their vectors."""
    decay: float = 0.99
    """Share of the old means in an update of a codebook (paper: gamma)."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    batch_size: int = 32
    """Images in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "codes": CODES,
        "beta": NOT_NEGATIVE,
        "decay": BELOW_ONE,
    }

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def image_shape(space: Space[Any], multiple: int) -> tuple[tuple[int, int, int], bool]:
    """Channels, rows and columns of images, and whether the channels are last.

    Raises:
        UserError: Observations are not images of bytes, or their sides are not multiples of a number.
    """
    shape = tuple(space.shape or ())
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(shape) != 3:
        raise UserError(
            f"observations are {space}; this model needs images of bytes with channels first or last, such as --env frames-procgen:coinrun"
        )
    last = shape[0] not in CHANNELS
    channels, rows, columns = (shape[2], *shape[:2]) if last else shape
    if channels not in CHANNELS or rows % multiple or columns % multiple:
        raise UserError(
            f"observations have the shape {shape}; this model needs 1, 3 or 4 channels and sides that are multiples of {multiple}"
        )
    return (channels, rows, columns), last


def perplexity(codes: NDArray[Any], size: int) -> float:
    """Exponential of the entropy of codes, from 1 to the number of vectors.

    >>> round(perplexity(np.array([[0, 1], [2, 3]]), 8), 6)
    4.0
    """
    share = np.bincount(codes.astype(np.int64).ravel(), minlength=size) / codes.size
    return float(np.exp(-(share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum()))


class VQVAE(Model):
    """The VQ-VAE."""

    Config: ClassVar[type] = VQVAEConfig
    measures = (Measure("mse", higher_is_better=False),)
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: VQVAEConfig

    def build(self) -> None:
        """The network and its optimiser."""
        config = self.config
        self.shape, self.channels_last = image_shape(input_space(self.spec), 8 if config.top else 4)
        self.network = Quantiser(
            self.shape[0], codes=config.codes, size=config.code_size, width=config.width, blocks=config.blocks, top=config.top
        )  # fmt: skip
        self.optimizer = Adam(self.network.parameters(), config.learning_rate)

    def images(self, obs: Tensor) -> Tensor:
        """Images from -0.5 to 0.5, [B, C, H, W], of observations [B, ...]."""
        x = obs.movedim(3, 1) if self.channels_last else obs
        return x.float() / 255 - 0.5

    @torch.no_grad()
    def codes(self, obs: Tensor) -> list[Tensor]:
        """Codes of observations: of the bottom grid, int64 [B, H / 4, W / 4], and of the top grid, if there is one, [B, H / 8, W / 8]."""
        return [codes for _, codes in self.network.outputs(self.images(obs))]

    @torch.no_grad()
    def decode(self, codes: list[Tensor]) -> Tensor:
        """Observations, bytes [B, ...], of codes as `codes` returns them."""
        x = self._decoded(codes)
        x = ((x.clamp(-0.5, 0.5) + 0.5) * 255).round().to(torch.uint8)
        return x.movedim(1, 3) if self.channels_last else x

    def _decoded(self, codes: list[Tensor]) -> Tensor:
        books = (self.network.bottom, self.network.top)
        return self.network.images(
            *(book.lookup(x) for book, x in zip(books, codes, strict=False) if book is not None)
        )

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Reconstructions, brightness from 0 to 1, [B, C, H, W]."""
        return self._decoded(self.codes(obs)) + 0.5

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent, and one update of the codebooks."""
        config, x = self.config, self.images(experience["obs"])
        found = self.network.outputs(x, self.generator)
        books = (self.network.bottom, self.network.top)
        vectors, commitment = [], torch.zeros((), device=x.device)
        for book, (z, codes) in zip(books, found, strict=False):
            assert book is not None
            e = book.lookup(codes)
            vectors.append(straight_through(z, e))
            commitment = commitment + F.mse_loss(z, e)
        mse = F.mse_loss(self.network.images(*vectors), x)
        gradient_step(self.optimizer, mse + config.beta * commitment)
        for book, (z, codes) in zip(books, found, strict=False):
            assert book is not None
            book.update(z.detach(), codes, config.decay, self.generator)
        return {"mse": mse.detach(), "commitment": commitment.detach()}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Of each example: `mse` [B], its codes, and the energies of low frequencies `low_changed` and `low_whole`, [B] each."""
        x, codes = self.images(examples["obs"]), self.codes(examples["obs"])
        own = self._decoded(codes)
        found = {"mse": (own - x).square().flatten(1).mean(1)}
        found |= {f"codes_{name}": y for name, y in zip(("bottom", "top"), codes, strict=False)}
        if len(codes) == 2:
            other = [codes[0].roll(1, 0), codes[1]]
            pairs = {"low_changed": self._decoded(other) - own, "low_whole": own.roll(1, 0) - own}
            for name, difference in pairs.items():
                means = F.avg_pool2d(difference, min(LOW, *self.shape[1:]))
                found[name] = means.square().flatten(1).mean(1)
        return found

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """Perplexities, bits of an image, and `low` if there are two grids; see the module."""
        found, bits = {}, 0.0
        for name in ("bottom", "top"):
            if (codes := columns.get(f"codes_{name}")) is not None:
                found[f"perplexity_{name}"] = perplexity(codes, self.config.codes)
                bits += codes[0].size * math.log2(self.config.codes)
        found["bits"] = bits
        if "low_whole" in columns and (whole := float(columns["low_whole"].sum())) > 0:
            found["low"] = float(columns["low_changed"].sum()) / whole
        return found
