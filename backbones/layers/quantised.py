"""Vector quantisation: maps of vectors as maps of whole numbers, and the networks between images and such codes.

van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, and Razavi et al., 2019, https://arxiv.org/abs/1906.00446; layers as in
https://github.com/rosinality/vq-vae-2-pytorch
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMOOTHING = 1e-5
"""Added to the counts of a codebook, as in the authors' code, so that none is 0."""
MOST_CODES = 2**16
"""Largest number of vectors in a codebook, so that a code fits in two bytes."""
DEAD = 1.0
"""Count below which a vector is replaced with an output of the encoder, as in Jukebox (Dhariwal et al., 2020,
https://arxiv.org/abs/2005.00341); counts begin at 1, so that a much smaller one would only be reached after hundreds of updates."""


class Codebook(nn.Module):
    """K vectors, each of which follows the mean of the encoder's outputs that are nearest to it."""

    vectors: Tensor
    """e, [K, D]."""
    counts: Tensor
    """N, running mean of the number of outputs of a batch that are nearest to each vector, [K]."""
    sums: Tensor
    """m, running mean of the sum of these outputs, [K, D]."""
    begun: Tensor
    """Whether the first batch was seen, bool []."""

    def __init__(self, codes: int, size: int) -> None:
        """Random vectors, which the first update replaces."""
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, size))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", torch.zeros(codes, size))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, z: Tensor) -> Tensor:
        """Number of the nearest vector at each pixel, int64 [B, H, W], of maps [B, D, H, W]."""
        flat = z.movedim(1, -1)
        distance = self.vectors.square().sum(1) - 2 * flat @ self.vectors.T
        return distance.argmin(dim=-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors of codes [B, H, W], as maps [B, D, H, W]."""
        return F.embedding(codes, self.vectors).movedim(-1, 1)

    @torch.no_grad()
    def begin(self, z: Tensor, generator: torch.Generator) -> None:
        """Replaces the vectors with outputs of the encoder, [B, D, H, W], if these are the first."""
        if not self.begun:
            self.vectors.copy_(self._some(z, generator))
            self.sums.copy_(self.vectors)
            self.begun.fill_(True)

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor, decay: float, generator: torch.Generator) -> None:
        """Moves the vectors towards the means of the outputs that are nearest to them.

            N <- decay N + (1 - decay) n,    m <- decay m + (1 - decay) sum z,    e = m / N

        with N smoothed so that no count is 0. Vectors that are no longer used start again from random outputs of the batch.

        Args:
            z: Outputs of the encoder, [B, D, H, W].
            codes: Their codes, int64 [B, H, W].
            decay: Share of the old means.
            generator: Draws the new vectors.
        """
        flat, chosen = z.movedim(1, -1).flatten(0, -2), codes.flatten()
        count = torch.zeros_like(self.counts).index_add_(0, chosen, torch.ones_like(flat[:, 0]))
        total = torch.zeros_like(self.sums).index_add_(0, chosen, flat)
        self.counts.mul_(decay).add_(count, alpha=1 - decay)
        self.sums.mul_(decay).add_(total, alpha=1 - decay)
        dead = self.counts < DEAD
        self.sums.copy_(torch.where(dead[:, None], self._some(z, generator), self.sums))
        self.counts.masked_fill_(dead, 1.0)
        whole = self.counts.sum()
        smooth = (self.counts + SMOOTHING) / (whole + len(self.counts) * SMOOTHING) * whole
        self.vectors.copy_(self.sums / smooth[:, None])

    def _some(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Random outputs, one for each vector, [K, D]."""
        flat = z.movedim(1, -1).flatten(0, -2)
        rows = torch.rand(len(self.vectors), generator=generator, device=z.device) * len(flat)
        return flat[rows.long()]


def straight_through(z: Tensor, e: Tensor) -> Tensor:
    """The value of `e` with the gradient of `z`."""
    return z + (e - z).detach()


class Residual(nn.Module):
    """x + conv1(relu(conv3(relu(x))))."""

    def __init__(self, width: int) -> None:
        """For maps of `width` channels; half as many between the convolutions."""
        super().__init__()
        self.first = nn.Conv2d(width, max(width // 2, 1), 3, padding=1)
        self.second = nn.Conv2d(max(width // 2, 1), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape."""
        found: Tensor = x + self.second(torch.relu(self.first(torch.relu(x))))
        return found


def halving(inputs: int, width: int, blocks: int, times: int) -> nn.Sequential:
    """Convolutions with stride 2, `times` of them, then residual blocks; [B, inputs, H, W] to [B, width, H / 2^times, W / 2^times]."""
    sizes = [inputs, *[max(width // 2, 1)] * (times - 1), width]
    layers: list[nn.Module] = []
    for one, other in pairwise(sizes):
        layers += [nn.Conv2d(one, other, 4, stride=2, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(width, width, 3, padding=1), *(Residual(width) for _ in range(blocks))]
    return nn.Sequential(*layers, nn.ReLU())


def doubling(inputs: int, width: int, blocks: int, outputs: int, times: int) -> nn.Sequential:
    """The reverse: residual blocks, then transposed convolutions."""
    sizes = [width, *[max(width // 2, 1)] * (times - 1), outputs]
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1)]
    layers += [*(Residual(width) for _ in range(blocks)), nn.ReLU()]
    for one, other in pairwise(sizes):
        layers += [nn.ConvTranspose2d(one, other, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Quantiser(nn.Module):
    """Encoder, codebooks and decoder of a VQ-VAE with one level of codes, or with a coarser one above it."""

    def __init__(
        self, channels: int, *, codes: int, size: int, width: int, blocks: int, top: bool
    ) -> None:
        """For images whose sides are multiples of 4, with a top level of 8.

        Args:
            channels: Channels of an image.
            codes: Vectors of each codebook, K.
            size: Length of a vector, D.
            width: Channels of the convolutions.
            blocks: Residual blocks of each part.
            top: Whether there is a top level.
        """
        super().__init__()
        self.encode_bottom = halving(channels, width, blocks, 2)
        self.to_bottom = nn.Conv2d(width + size * top, size, 1)
        self.bottom = Codebook(codes, size)
        self.decoder = doubling(size * (1 + top), width, blocks, channels, 2)
        self.top: Codebook | None = None
        if top:
            self.encode_top = halving(width, width, blocks, 1)
            self.to_top = nn.Conv2d(width, size, 1)
            self.top = Codebook(codes, size)
            self.decode_top = doubling(size, width, blocks, size, 1)
            self.enlarge = nn.ConvTranspose2d(size, size, 4, stride=2, padding=1)

    def outputs(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Outputs of the encoder before they are quantised, [B, D, h, w], and their codes, int64 [B, h, w]: of the bottom level, then of the top.

        Args:
            x: Images, [B, C, H, W].
            generator: Draws the first vectors of the codebooks, if they are still to be chosen.
        """
        fine = self.encode_bottom(x)
        found = []
        if self.top is not None:
            z = self.to_top(self.encode_top(fine))
            if generator is not None:
                self.top.begin(z, generator)
            codes = self.top(z)
            found = [(z, codes)]
            above = self.decode_top(straight_through(z, self.top.lookup(codes)))
            fine = torch.cat([above, fine], dim=1)
        z = self.to_bottom(fine)
        if generator is not None:
            self.bottom.begin(z, generator)
        return [(z, self.bottom(z)), *found]

    def images(self, bottom: Tensor, top: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] of vectors of the bottom level and of the top level, if there is one, [B, D, h, w] each."""
        parts = [bottom] if top is None else [self.enlarge(top), bottom]
        found: Tensor = self.decoder(torch.cat(parts, dim=1))
        return found
