"""Nerfies: a moving scene from pictures with known cameras, as one canonical radiance field and a field of rigid motions for each frame.

    C(r) = sum_i w_i c(x_i'),   w_i = T_i (1 - exp(-sigma(x_i') d_i)),   T_i = exp(-sum_{j<i} sigma(x_j') d_j)

is the colour of a ray with samples x_i, where c and sigma are networks (NeRF) in the canonical scene, d_i are distances between samples, and

    x' = e^[r] x + G v,   (r, v) = W(gamma_alpha(x), omega_t)

is where the point x of frame t is in the canonical scene: an SE(3) motion by a network W with a code omega_t for each frame. Coarse to fine: the
encoding gamma_alpha has frequencies 2^j with weights that rise one after the other as alpha grows from 0 to their number m,

    w_j(alpha) = (1 - cos(pi clip(alpha - j, 0, 1))) / 2

    minimise  E |C(r) - pixel|^2 + lambda E[ rho(sum_k (log s_k)^2) ] + mu E[ rho(|W(x) - x|^2) ]

The second term keeps the warp elastic: s_k are the singular values of its Jacobian, 1 for rigid motions, at the surfaces that rays meet. The third
keeps points of the background where they are. rho is the Geman-McClure loss.

`deformation=none` is NeRF, which treats the scene as static; with `latent` it reads the code of the frame, as NeRF with latent codes does.

Measures, on pictures from other cameras: `psnr`, -10 log10 of the mean squared error, in dB, and `robot_psnr`, the same inside the mask (of the
whole picture if the mask is empty); `stretch`, the mean |log s_k| at the surfaces inside the mask. If examples have a `pose`, `pose_r2` is the
share of its variance that a linear map of the frame's code explains, each frame by a map fitted to all others.

Park et al., 2021, https://arxiv.org/abs/2011.12948; settings from https://github.com/google/nerfies, `gpu_vrig_paper.gin`

Differences from the authors' code: small networks and few samples by default, and no second network for finer samples unless `fine_samples` is
given. The elastic loss is taken at `elastic_samples` samples, drawn in proportion to the weights w_i, instead of at all samples, weighted by them:
the same in expectation. No code for each camera, because training has one camera. Samples are in equal steps from the nearest to the furthest
depth that the examples give.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.backbones.layers.radiance import (
    CAMERA,
    RadianceField,
    Rays,
    WarpField,
    geman_mcclure,
    log_stretches,
    rays_of,
    refined_depths,
    rendering_weights,
    spread_depths,
    window,
)
from rlbench.backbones.models._captures import scene_of
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, SIZE, Range, check
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure

ELASTIC_SCALE, BACKGROUND_SCALE = 0.03, 0.001
"""Scales of the robust losses, of logarithms and of metres."""
JITTER = 0.001
"""Standard deviation of the noise that is added to points of the background, in metres."""
LAST_STEP_SIZE = 0.1
"""Last step size as a share of the first: from 1e-3 to 1e-4 in the authors' code."""
ANNEALED = 0.32
"""Share of a run in which alpha grows: 80,000 of 250,000 updates in the authors' code."""
RAYS_AT_ONCE = 1_024
"""Rays that are rendered at once in measurements; many more no longer fit into the caches of a CPU."""
PROBED = 64
"""Rays inside the mask of each picture at which stretches are measured."""
BANDS = Range(lambda x: 0 <= x <= 16, "a number from 0 to 16")
LAYERS = Range(lambda x: 1 <= x <= 100, "1 or more, up to 100")


@dataclass(frozen=True, kw_only=True)
class NerfiesConfig:
    """Settings of Nerfies."""

    deformation: Literal["se3", "latent", "none"] = "se3"
    """How frames differ: by a field of rigid motions, by a code that the radiance field reads, or not at all."""
    width: int = 64
    """Units of the layers of the radiance field."""
    depth: int = 4
    """Layers of its trunk."""
    bands: int = 8
    """Frequencies of the encoding of points."""
    direction_bands: int = 4
    """Frequencies of the encoding of directions."""
    warp_width: int = 64
    """Units of the layers of the warp."""
    warp_depth: int = 3
    """Layers of the trunk of the warp."""
    warp_bands: int = 6
    """Frequencies of the encoding of points that the warp reads (paper: m)."""
    code_size: int = 8
    """Size of the code of a frame (paper: omega)."""
    samples: int = 32
    """Samples on a ray."""
    fine_samples: int = 0
    """Further samples where a first network finds surfaces, read by a second network; 0: one network."""
    rays: int = 1_024
    """Rays in one update, from pixels of the batch."""
    elastic_weight: float = 1e-3
    """Weight of the elastic loss (paper: lambda)."""
    elastic_samples: int = 64
    """Samples at which the elastic loss is computed."""
    background_weight: float = 1.0
    """Weight of the loss of background points (paper: mu); needs the column `points`."""
    anneal_updates: int | None = None
    """Updates in which the frequencies of the warp are added one after the other; by default 32 % of the run. None in code: all from the start."""
    decay_updates: int | None = None
    """Updates in which the step size falls exponentially to a tenth; by default the whole run. None in code: constant."""
    learning_rate: float = 1e-3
    """First Adam step size."""
    batch_size: int = 20
    """Pictures from which one update draws rays."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "depth": LAYERS, "warp_depth": LAYERS, "warp_width": SIZE, "rays": SIZE, "elastic_samples": SIZE,
        "bands": BANDS, "direction_bands": BANDS, "warp_bands": BANDS,
        "samples": Range(lambda x: 3 <= x <= 10_000, "3 or more, up to 10,000"),
        "fine_samples": Range(lambda x: 0 <= x <= 10_000, "0 or more, up to 10,000"),
        "elastic_weight": NOT_NEGATIVE, "background_weight": NOT_NEGATIVE, "anneal_updates": COUNT,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


@dataclass(frozen=True)
class Rendered:
    """What rays show."""

    colour: Tensor
    """[R, 3]."""
    weight: Tensor
    """Share of each sample in the colour, [R, S]."""
    point: Tensor
    """The samples in the frame, [R, S, 3]."""


class Nerfies(Model):
    """Nerfies, and its baselines."""

    Config: ClassVar[type] = NerfiesConfig
    measures = (
        Measure("robot_psnr", "dB"), Measure("psnr", "dB"), Measure("stretch", higher_is_better=False),
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 3_000, "eval_every": 1_500, "checkpoint_every": 500, "log_every": 100,
    }  # fmt: skip
    config: NerfiesConfig

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Schedules over the whole run."""
        return {"anneal_updates": max(1, round(ANNEALED * updates)), "decay_updates": updates}

    def build(self) -> None:
        """Codes, fields and their optimiser."""
        config = self.config
        self.size, frames = scene_of(self.spec, self._needed())
        self.codes = nn.Embedding(frames, config.code_size)
        nn.init.uniform_(self.codes.weight, 0, 0.05)
        conditioned = config.code_size if config.deformation == "latent" else 0
        shape = config.width, config.depth, config.bands, config.direction_bands, conditioned
        self.fields = nn.ModuleList(
            RadianceField(*shape) for _ in range(2 if config.fine_samples else 1)
        )
        parts: list[nn.Module] = [self.fields]
        self.warp: WarpField | None = None
        if config.deformation == "se3":
            self.warp = WarpField(
                config.warp_width, config.warp_depth, config.warp_bands, config.code_size
            )
            parts.append(self.warp)
        if config.deformation != "none":
            parts.append(self.codes)
        self.optimizer = Adam(
            (x for part in parts for x in part.parameters()), config.learning_rate
        )
        self.updates = 0

    def _needed(self) -> tuple[str, ...]:
        """Columns that the settings need."""
        holds = self.config.deformation == "se3" and self.config.background_weight > 0
        return ("mask", "camera", *(("points",) if holds else ()))

    @property
    def bands_weight(self) -> Tensor | None:
        """Weights of the warp's frequencies, [m]; None if all are 1."""
        config = self.config
        if config.anneal_updates is None or self.updates >= config.anneal_updates:
            return None
        alpha = config.warp_bands * self.updates / config.anneal_updates
        return window(config.warp_bands, alpha).to(self.device)

    def render(
        self, rays: Rays, code: Tensor, generator: torch.Generator | None = None
    ) -> list[Rendered]:
        """What rays show, by each of the networks; the last one is the best.

        Args:
            rays: R rays.
            code: Codes of their frames, [R, C].
            generator: Draws the places of samples; None: the middles of intervals.
        """
        config = self.config

        def places(count: int) -> Tensor | None:
            if generator is None:
                return None
            shape = len(rays.origin), count
            return torch.rand(shape, generator=generator, device=self.device)

        depth = spread_depths(rays, config.samples, places(config.samples))
        found = [self._rendered(self.fields[0], rays, code, depth)]
        if config.fine_samples:
            drawn = places(config.fine_samples)
            if drawn is None:
                steps = torch.arange(config.fine_samples, device=self.device) + 0.5
                drawn = (steps / config.fine_samples).expand(len(depth), -1)
            depth = refined_depths(depth, found[0].weight, drawn)
            found.append(self._rendered(self.fields[1], rays, code, depth))
        return found

    def _rendered(self, field: nn.Module, rays: Rays, code: Tensor, depth: Tensor) -> Rendered:
        length = rays.direction.norm(dim=1, keepdim=True)
        point = rays.origin[:, None] + depth[..., None] * rays.direction[:, None]
        canonical = point
        if self.warp is not None:
            own = code[:, None].expand(-1, depth.shape[1], -1)
            canonical = self.warp(point, own, self.bands_weight)
        condition = code if self.config.deformation == "latent" else None
        colour, density = field(canonical, rays.direction / length, condition)
        weight = rendering_weights(density, depth, length)
        return Rendered((weight[..., None] * colour).sum(1), weight, point)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures [B, H, W, 3] with values from 0 to 1, of views: the numbers of a camera and that of a frame, [B, 16]."""
        rows, columns = self.size
        pixel = torch.arange(rows * columns, device=obs.device)
        pictures = []
        for view in obs:
            parts = []
            for some in pixel.split(RAYS_AT_ONCE):
                camera = view[:CAMERA].expand(len(some), -1)
                rays = rays_of(camera, some // columns, some % columns, self.size)
                code = self.codes(view[CAMERA:].long()).expand(len(some), -1)
                parts.append(self.render(rays, code)[-1].colour)
            pictures.append(torch.cat(parts).view(rows, columns, 3))
        return torch.stack(pictures)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        config = self.config
        if config.decay_updates is not None:
            share = min(1.0, self.updates / config.decay_updates)
            self.optimizer.learning_rate.fill_(config.learning_rate * LAST_STEP_SIZE**share)
        count = len(experience) * self.size[0] * self.size[1]
        pixel = torch.randint(count, (config.rays,), generator=self.generator, device=self.device)
        rays, code, target = self._drawn(experience, pixel)
        found = self.render(rays, code, self.generator)
        errors = [(x.colour - target).square().mean() for x in found]
        loss, metrics = torch.stack(errors).sum(), {"error": errors[-1].detach()}
        if self.warp is not None and config.elastic_weight > 0:
            stretch = self._stretches(found[0], code, config.elastic_samples, self.generator)
            elastic = geman_mcclure(stretch.square().sum(1), ELASTIC_SCALE).mean()
            loss = loss + config.elastic_weight * elastic
            metrics |= {"elastic": elastic.detach(), "stretch": stretch.detach().abs().mean()}
        if self.warp is not None and config.background_weight > 0:
            background = self._background(experience["points"].flatten(0, 1))
            loss = loss + config.background_weight * background
            metrics["background"] = background.detach()
        self.updates += 1
        return {"loss": gradient_step(self.optimizer, loss), **metrics}

    def _drawn(self, examples: Examples, pixel: Tensor) -> tuple[Rays, Tensor, Tensor]:
        """Rays, codes [R, C] and colours [R, 3] of pixels [R], numbers in the order of pictures, rows and columns."""
        rows, columns = self.size
        picture, place = pixel // (rows * columns), pixel % (rows * columns)
        row, column = place // columns, place % columns
        rays = rays_of(examples["camera"][picture], row, column, self.size)
        colour = examples["obs"][picture, row, column] / 255
        return rays, self.codes(examples["frame"][picture]), colour

    def _stretches(
        self, found: Rendered, code: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Logarithms of the singular values of the warp's Jacobian at surfaces, [N, 3].

        Args:
            found: What rays show.
            code: Codes of the rays, [R, C].
            count: N; a sample of each of the first N rays is drawn in proportion to its weight.
            generator: Draws them.
        """
        assert self.warp is not None
        # Neither this nor the singular values accept NaN: the measures of a run that diverged are refused in one sentence.
        weight = found.weight[:count].detach().nan_to_num(1.0)
        sample = torch.multinomial(weight, 1, generator=generator)
        point = found.point[:count].gather(1, sample[..., None].expand(-1, -1, 3)).squeeze(1)
        jacobians = self.warp.jacobians(point, code[:count], self.bands_weight)
        return log_stretches(jacobians.nan_to_num())

    def _background(self, points: Tensor) -> Tensor:
        """The mean loss of points [N, 3] that do not move, each in a random frame."""
        assert self.warp is not None
        noise = torch.randn(points.shape, generator=self.generator, device=self.device)
        points = points + JITTER * noise
        frames, count = self.codes.num_embeddings, (len(points),)
        frame = torch.randint(frames, count, generator=self.generator, device=self.device)
        moved = self.warp(points, self.codes(frame), self.bands_weight)
        return geman_mcclure((moved - points).square().sum(1), BACKGROUND_SCALE).mean()

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """`psnr`, `robot_psnr` and `stretch` of each picture, [B], the code of its frame [B, C], and its `pose` if there is one."""
        frame, mask = examples["frame"], examples["mask"] > 0
        drawn = self.decide(torch.cat([examples["camera"], frame[:, None]], dim=1))
        error = (drawn - examples["obs"] / 255).square().mean(3)
        inside = torch.where(mask.any((1, 2))[:, None, None], mask, True)
        robot = (error * inside).sum((1, 2)) / inside.sum((1, 2))
        columns = {
            "robot_psnr": decibels(robot), "psnr": decibels(error.mean((1, 2))),
            "stretch": torch.zeros_like(robot), "code": self.codes(frame),
        }  # fmt: skip
        if self.warp is not None:
            columns["stretch"] = self._stretch(examples, inside)
        return columns | ({"pose": examples["pose"]} if "pose" in examples.columns else {})

    def _stretch(self, examples: Examples, inside: Tensor) -> Tensor:
        """The mean |log s| at surfaces that `PROBED` random pixels inside a mask [B, H, W] show, [B]."""
        places = torch.multinomial(
            inside.flatten(1).float(), PROBED, replacement=True, generator=self.measure_generator
        )
        first = torch.arange(len(inside), device=self.device)[:, None] * inside[0].numel()
        rays, code, _ = self._drawn(examples, (first + places).flatten())
        shown = self.render(rays, code)[0]
        found = self._stretches(shown, code, len(code), self.measure_generator)
        return found.abs().mean(1).view(len(inside), PROBED).mean(1)

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`pose_r2`, if there are poses and enough pictures."""
        code = columns["code"]
        if "pose" not in columns or len(code) < code.shape[1] + 3 or not np.isfinite(code).all():
            return {}
        return {"pose_r2": explained(code, columns["pose"])}


def decibels(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratios of mean squared errors; at most 100."""
    return -10 * error.clamp(min=1e-10).log10()


def explained(x: NDArray[Any], y: NDArray[Any]) -> float:
    """R^2 of linear predictions of y [N, J] from x [N, C], of each row by a map that is fitted to all others.

    At most 1; 0 for the mean of the other rows, and below 0 for worse predictions.
    """
    read = np.c_[x.astype(float), np.ones(len(x))]
    hat = read @ np.linalg.pinv(read)
    left = np.maximum(1 - hat.diagonal(), 1e-9)[:, None]
    error = (y - hat @ y) / left
    constant = (y - y.mean(0)) * len(y) / (len(y) - 1)
    return 1 - float(np.square(error).sum() / max(np.square(constant).sum(), 1e-12))
