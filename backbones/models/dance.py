"""Everybody Dance Now: draws a robot in the poses of another one, from stick figures.

    I_t = G(s_t, I_{t-1}),   I_0 = G(s_0, 0)                 s: stick figures, I: drawn pictures, x: true ones

    minimise over G   L_G + lambda_FM L_FM + lambda_P (L_P(I_{t-1}, x_{t-1}) + L_P(I_t, x_t))
    minimise over D   L_D,   of the real (s_{t-1}, s_t, x_{t-1}, x_t) and the fake (s_{t-1}, s_t, I_{t-1}, I_t)

The losses are in `layers/translation.py`. Two consecutive frames are drawn in training, and gradients pass from the second one through
the first; the discriminators see both, so that changes between frames must look real (temporal smoothing). Without `smoothing`, frames are drawn and
judged one by one. In measurements a whole clip is drawn from its stick figures alone. After `face_after` updates, G and D are fixed, and
a second generator learns to correct a square F around the face, with its own discriminator:

    I_F' = I_F + G_f(s_F, I_F),     minimise over G_f   L_G / 2 + 2 lambda_P L_P(I_F', x_F),    judged with s_F

Measures, of clips of the other robot's movements: `ssim`, `l1`; `flicker`, the error of the differences between consecutive frames near the body;
`face_error`, and `face_before`, the same without the correction.

Chan et al., 2019, https://arxiv.org/abs/1808.07371, section 4; Wang et al., 2018 (pix2pixHD), https://arxiv.org/abs/1711.11585

Differences from the paper: robots whose poses are known take the place of videos and of a pose detector, so that the true pictures of a transfer are
known too; pictures of 64x64 pixels and smaller networks; the perceptual loss reads a network of this suite, by default one with random weights,
instead of a trained VGG-19; a constant step size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders._base import freeze
from rlbench.backbones.layers.translation import (
    MultiScale,
    discriminator_loss,
    feature_matching,
    judgement,
    make_generator,
    perceptual_loss,
)
from rlbench.backbones.models._clips import crops, moved, pasted, scores, shape_of
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure

MOMENTUM = 0.5
"""Decay rate of Adam's first moments, as in pix2pixHD."""
FACE_WEIGHT = 0.5
"""Weight of the adversarial loss of faces."""
FACE_PERCEPTUAL = 2.0
"""Factor of the perceptual loss of faces, which the authors' code does not halve."""


@dataclass(frozen=True, kw_only=True)
class DanceConfig:
    """Settings of Everybody Dance Now."""

    smoothing: bool = True
    """Draw each frame given the one before it, and judge pairs of frames."""
    face_after: int | None = None
    """Updates after which the networks of whole pictures are fixed and the face is learned; None: no face."""
    width: int = 16
    """Channels of the generator at the size of the picture (64 in the paper)."""
    halvings: int = 2
    """Strided convolutions of the generator (4 in the paper)."""
    blocks: int = 3
    """Residual blocks of the generator (9 in the paper)."""
    judge_width: int = 16
    """Channels of a discriminator's first layer (64 in the paper)."""
    scales: int = 2
    """Number of discriminators, each of which sees pictures of half the size of the one before it."""
    matching_weight: float = 10.0
    """Weight of feature matching (paper: lambda_FM)."""
    perceptual_weight: float = 5.0
    """Weight of the perceptual loss (paper: lambda_P, 10, which the authors' code halves for whole pictures)."""
    encoder: str = "vgg:width=16"
    """Network of the perceptual loss, with options after a colon; it does not learn and needs a pyramid (see docs/encoders.md)."""
    learning_rate: float = 1e-3
    """Adam step size of all networks (2e-4 in the paper)."""
    batch_size: int = 2
    """Clips in one update; two consecutive frames of each are drawn."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "halvings": Range(lambda x: 1 <= x <= 10, "1 to 10"), "scales": Range(lambda x: 1 <= x <= 10, "1 to 10"), "judge_width": SIZE,
        "face_after": COUNT, "matching_weight": NOT_NEGATIVE, "perceptual_weight": NOT_NEGATIVE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Dance(Model):
    """Everybody Dance Now."""

    Config: ClassVar[type] = DanceConfig
    measures = (
        Measure("ssim"), Measure("l1", higher_is_better=False), Measure("flicker", higher_is_better=False),
        Measure("face_error", higher_is_better=False), Measure("face_before", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 500, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: DanceConfig

    def build(self) -> None:
        """Generators, discriminators, and an optimiser for each."""
        config, shape = self.config, shape_of(self.spec)
        coarse = 2**config.halvings
        if (
            shape.rows % coarse
            or shape.columns % coarse
            or min(shape.rows, shape.columns) < 2 * coarse
        ):
            raise UserError(
                f"pictures have {shape.rows}x{shape.columns} pixels, which cannot be halved {config.halvings} times to sides of 2 or more; give fewer --halvings"
            )
        if min(shape.rows, shape.columns) < 8 * 2**config.scales:
            raise UserError(
                f"pictures have {shape.rows}x{shape.columns} pixels, too few for {config.scales} discriminators; give fewer --scales"
            )
        read, size = shape.parts + 3, (config.width, config.halvings, config.blocks)
        judged = read * (1 + config.smoothing)
        self.network = make_generator(read, 3, *size)
        self.judge = MultiScale(judged, config.judge_width, config.scales)
        halvings = min(config.halvings, 2)
        self.face_network = make_generator(read, 3, config.width, halvings, config.blocks)
        # The correction begins at 0.
        for parameter in self.face_network[-2].parameters():
            nn.init.zeros_(parameter)
        self.face_judge = MultiScale(read, config.judge_width, 1)
        self.encoder = make_encoder(config.encoder, (shape.rows, shape.columns, 3))
        freeze(self.encoder)
        self.encoder.pyramid(torch.zeros(1, shape.rows, shape.columns, 3, device=self.device))
        networks = (self.network, self.judge, self.face_network, self.face_judge)
        self.optimizer, self.judge_optimizer, self.face_optimizer, self.face_judge_optimizer = (
            Adam(x.parameters(), config.learning_rate, momentum=MOMENTUM) for x in networks
        )
        self.updates = 0

    def drawn(self, sticks: Tensor, before: Tensor | None) -> Tensor:
        """A picture [B, 3, H, W] of stick figures [B, K, H, W] after the picture `before`; None for none."""
        before = before if self.config.smoothing else None
        past = sticks.new_zeros(len(sticks), 3, *sticks.shape[2:]) if before is None else before
        out: Tensor = self.network(torch.cat([sticks, past], dim=1))
        return out

    def corrected(self, sticks: Tensor, drawn: Tensor, face: Tensor) -> Tensor:
        """The square around the face, [B, 3, CROP, CROP], corrected."""
        square = crops(drawn, face)
        residual = self.face_network(torch.cat([crops(sticks, face), square], dim=1))
        corrected: Tensor = (square + residual).clamp(-1, 1)
        return corrected

    @property
    def has_face(self) -> bool:
        """Whether the face is learned by now."""
        return self.config.face_after is not None and self.updates > self.config.face_after

    def perceived(self, pictures: Tensor) -> list[Tensor]:
        """Maps of pictures [B, 3, H, W], from fine to coarse."""
        return list(self.encoder.pyramid(127.5 * (pictures.movedim(1, -1) + 1)).values())

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of a generator and of its discriminators."""
        sticks, true = moved(experience["obs"]), moved(experience["frames"])
        rows = torch.arange(len(sticks), device=sticks.device)
        last = sticks.shape[1] - 1
        t = torch.randint(last, (len(rows),), generator=self.generator, device=sticks.device)
        s, x = ([z[rows, t], z[rows, t + 1]] for z in (sticks, true))
        self.updates += 1
        if self.has_face:
            return self._learn_face(s, x, experience["face"][rows, t + 1])
        first = self.drawn(s[0], None)
        made = [first, self.drawn(s[1], first)]
        if self.config.smoothing:
            real, fake = (torch.cat([*s, *z], dim=1) for z in (x, made))
        else:  # Single frames, as further rows.
            real, fake = (torch.cat([torch.cat(s), torch.cat(z)], dim=1) for z in (x, made))
        judged_real, judged_fake = self.judge(real), self.judge(fake)
        perceived = [self.perceived(torch.cat(z)) for z in (x, made)]
        adversarial, matching = (
            judgement(judged_fake, 1.0),
            feature_matching(judged_real, judged_fake),
        )
        perceptual = 2 * perceptual_loss(*perceived)  # The sum over both frames.
        config = self.config
        loss = (
            adversarial + config.matching_weight * matching + config.perceptual_weight * perceptual
        )
        gradient_step(self.optimizer, loss)
        judge = discriminator_loss(judged_real, self.judge(fake.detach()))
        gradient_step(self.judge_optimizer, judge)
        return {
            "adversarial_loss": adversarial.detach(), "matching_loss": matching.detach(), "perceptual_loss": perceptual.detach(),
            "judge_loss": judge.detach(), "l1": (torch.cat(made) - torch.cat(x)).detach().abs().mean() / 2,
        }  # fmt: skip

    def _learn_face(self, s: list[Tensor], x: list[Tensor], face: Tensor) -> Mapping[str, Tensor]:
        """One step of the face's generator and discriminator; the other networks are fixed."""
        with torch.no_grad():
            drawn = self.drawn(s[1], self.drawn(s[0], None))
        made, true, sticks = self.corrected(s[1], drawn, face), crops(x[1], face), crops(s[1], face)
        real, fake = (torch.cat([sticks, z], dim=1) for z in (true, made))
        adversarial = judgement(self.face_judge(fake), 1.0)
        perceptual = perceptual_loss(self.perceived(true), self.perceived(made))
        loss = (
            FACE_WEIGHT * adversarial + FACE_PERCEPTUAL * self.config.perceptual_weight * perceptual
        )
        gradient_step(self.face_optimizer, loss)
        judge = discriminator_loss(self.face_judge(real), self.face_judge(fake.detach()))
        gradient_step(self.face_judge_optimizer, judge)
        return {
            "adversarial_loss": adversarial.detach(), "matching_loss": torch.zeros_like(judge).detach(),
            "perceptual_loss": perceptual.detach(), "judge_loss": judge.detach(), "l1": (made - true).detach().abs().mean() / 2,
        }  # fmt: skip

    def clip(self, obs: Tensor) -> Tensor:
        """Pictures of clips [B, T, H, W, K] of stick figures, drawn one after the other without the face, [B, T, 3, H, W]."""
        sticks, made = moved(obs), list[Tensor]()
        for t in range(sticks.shape[1]):
            made.append(self.drawn(sticks[:, t], made[-1] if made else None))
        return torch.stack(made, dim=1)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures of clips [B, T, H, W, K] of stick figures, [B, T, H, W, 3], from 0 to 255."""
        return 127.5 * (self.clip(obs).movedim(2, -1) + 1)

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """See the module; [B] each."""
        made, face = self.clip(examples["obs"]), examples["face"].flatten(0, 1)
        found = scores(made, examples)
        before = found["face_error"]
        if self.has_face:
            sticks, flat = moved(examples["obs"]).flatten(0, 1), made.flatten(0, 1)
            whole = pasted(flat, face, self.corrected(sticks, flat, face))
            found = scores(whole.view_as(made), examples)
        return {**found, "face_before": before}
