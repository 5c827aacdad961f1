"""Neural style transfer with the network of a run: a picture with the content of one picture and the style of another.

    minimise over pixels   alpha L_content + beta L_style

by L-BFGS with a strong-Wolfe line search. The content is compared in one map of the network, the style in all maps of its pyramid;
`layers/style.py` has both losses. The network is not changed. It may be untrained, and any learner with an encoder that has a pyramid may
provide it. Values beyond black and white are clipped at the end, not while the picture is optimised, where they would have no gradient.

Results for each pair of a style and setting: both losses, the style loss before, the style loss with respect to every style (how
far the Gram matrices of the result are from it), and two correlations with the content: of all pixels, and of means over 1/8 of each side. Files:

    pictures.png    the content and the styles, and below each style the result

Gatys et al., 2016, "Image Style Transfer Using Convolutional Neural Networks", CVPR; Gatys et al., 2015, https://arxiv.org/abs/1508.06576

Differences from the paper: any network instead of a trained VGG-19, by default maps of all its blocks instead of five of its sixteen
convolutions, the content in the coarsest of them; pictures of 64x64 pixels; the content itself as the first picture (`start`), as in later code of the
authors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.analyses._base import Analysis, Array, Findings
from rlbench.backbones.analyses._pictures import png
from rlbench.backbones.layers.style import content_loss, gram, style_loss
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, POSITIVE, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.photographs import photograph, scaled

Maps = dict[int, Tensor]
"""Maps [B, C, H, W] by stride."""
COARSE = 8
"""Rows and columns of the means that show the layout of a picture."""
ENLARGED = 2
"""Pixels of the file per pixel of a picture."""
FRAME = "test:"


@dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """Settings of style transfer."""

    content: str = "astronaut"
    """Picture whose content is kept: astronaut, chelsea, coffee, brick, grass or gravel, which scikit-image ships, or test:N, the
    N-th test example of the run's task, from 0."""
    styles: tuple[str, ...] = ("brick", "grass", "gravel")
    """Pictures with the styles, named in the same way."""
    content_weights: tuple[float, ...] = (1.0,)
    """Weights of the content (paper: alpha). The first is used for all styles, further ones for the first style only."""
    style_weight: float = 20.0
    """Weight of the style (paper: beta)."""
    content_strides: tuple[int, ...] = ()
    """Strides of the map in which the content is compared; none: the coarsest. The first is used for all styles, further ones for the
    first style only."""
    start: Literal["content", "noise"] = "content"
    """The picture before the first iteration: the content, or uniform noise as in the paper."""
    iterations: int = 80
    """Iterations of L-BFGS."""
    side: int = 64
    """Rows and columns of all pictures."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "style_weight": NOT_NEGATIVE, "iterations": COUNT,
        "content_weights": Range(lambda x: len(x) > 0 and all(map(POSITIVE.holds, x)), f"one or more numbers, each {POSITIVE.words}"),
        "content_strides": Range(lambda x: all(map(COUNT.holds, x)), "whole numbers of 1 or more"),
        "styles": Range(lambda x: len({*x}) == len(x) > 0, "one picture or more, each once"),
        "side": Range(lambda x: COARSE <= x <= 1_024, f"{COARSE} or more, up to 1,024"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


@dataclass(frozen=True)
class Job:
    """A picture to make."""

    style: str
    content_weight: float
    stride: int


def transferred(
    features: Callable[[Tensor], Maps],
    start: Tensor,
    content: Tensor,
    grams: Sequence[Tensor],
    job: Job,
    style_weight: float,
    iterations: int,
) -> Tensor:
    """The picture with the smallest loss that L-BFGS finds, [1, ...], values from 0 to 1.

    Args:
        features: Maps of a picture by stride, from fine to coarse.
        start: The first picture, [1, ...].
        content: Map of the content at the stride of the job, [1, C, H, W].
        grams: Gram matrix of the style in each map, [1, C, C].
        job: Stride and weight of the content.
        style_weight: Weight of the style.
        iterations: Largest number of iterations.
    """
    picture = start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS(
        [picture], max_iter=iterations, max_eval=None, tolerance_grad=0, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        maps = features(picture)
        kept = content_loss(maps[job.stride], content)
        total = (
            job.content_weight * kept + style_weight * style_loss(list(maps.values()), grams)
        ).sum()
        (gradient,) = torch.autograd.grad(total, picture)
        picture.grad = gradient.contiguous()  # L-BFGS flattens it without a copy.
        return total

    search.step(loss)  # With gradients, also where others are switched off.
    return picture.detach().clamp(0, 1)


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of all values of two pictures.

    >>> round(correlation(torch.tensor([0.0, 1, 2]), torch.tensor([0.0, 3, 2])), 4)
    0.6547
    """
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


class Style(Analysis):
    """Style transfer, and distances between the Gram matrices of pictures."""

    Config: ClassVar[type] = StyleConfig
    runs = ("a run of a learner with an encoder that has a pyramid",)
    agents = True
    config: StyleConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        config, encoder = self.config, encoder_of(learners[0])
        frames = next(iter(examples.values()))["obs"] if examples else None
        device = learners[0].device

        def read(name: str) -> Tensor:
            return picture_of(name, frames, config.side, encoder.channels_last).to(device)

        def features(picture: Tensor) -> Maps:
            return encoder.pyramid(255 * picture)  # type: ignore[no-any-return]

        content = read(config.content)
        styles = {name: read(name) for name in config.styles}
        try:
            wanted = features(content)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the run's encoder does not read pictures of {config.side}x{config.side} pixels with three colour channels ({reason}); give another "
                "--side, or a run on a task with such observations"
            ) from error
        grams = {name: [gram(x) for x in features(y).values()] for name, y in styles.items()}
        start = content
        if config.start == "noise":
            noise = torch.Generator().manual_seed(0)
            start = torch.rand(content.shape, generator=noise).to(device)
        rows: list[dict[str, Any]] = []
        for job in jobs(config, list(wanted)):
            made = transferred(
                features, start, wanted[job.stride], grams[job.style], job, config.style_weight,
                config.iterations,
            )  # fmt: skip
            maps = features(made)
            distances = [float(style_loss(list(maps.values()), x)) for x in grams.values()]
            channels = 1 if not encoder.channels_last else 3
            layout = [
                F.adaptive_avg_pool2d(x.movedim(channels, 1), COARSE) for x in (made, content)
            ]
            rows.append({
                "style": job.style, "content_weight": job.content_weight, "stride": job.stride,
                "start_loss": float(style_loss(list(features(start).values()), grams[job.style])),
                "style_loss": distances[config.styles.index(job.style)],
                "content_loss": float(content_loss(maps[job.stride], wanted[job.stride])),
                "distances": distances, "layout": correlation(*layout),
                "correlation": correlation(made, content), "picture": as_bytes(made, encoder.channels_last),
            })  # fmt: skip
        sources = [
            as_bytes(x, encoder.channels_last)
            for x in (content, *(styles[row["style"]] for row in rows))
        ]
        return Findings(
            numbers(rows, config.styles),
            columns={name: np.array([row[name] for row in rows]) for name in rows[0]},
            files={"pictures.png": sheet(sources, [row["picture"] for row in rows])},
        )


def jobs(config: StyleConfig, strides: Sequence[int]) -> Iterator[Job]:
    """The pictures to make: each style with the first weight and stride, and the first style with all others.

    Raises:
        UserError: The encoder has no map of a stride.
    """
    for stride in config.content_strides:
        if stride not in strides:
            raise UserError(
                f"content_strides has {stride}, but the encoder has maps of the strides {', '.join(map(str, strides))}; give some of these"
            )
    first, *finer = config.content_strides or (strides[-1],)
    weight, *weights = config.content_weights
    for style in config.styles:
        yield Job(style, weight, first)
    for other in weights:
        yield Job(config.styles[0], other, first)
    for stride in finer:
        yield Job(config.styles[0], weight, stride)


def encoder_of(learner: Any) -> Any:
    """The first encoder of a learner.

    Raises:
        UserError: It has none.
    """
    networks = (x for x in vars(learner).values() if isinstance(x, nn.Module))
    for module in (x for network in networks for x in network.modules()):
        if hasattr(module, "pyramid") and hasattr(module.layers, "maps"):
            return module
    raise UserError(
        f"{type(learner).__name__} has no encoder with a pyramid of maps; give a run with one, such as vgg"
    )


def picture_of(name: str, frames: Tensor | None, side: int, channels_last: bool) -> Tensor:
    """A picture by its name, [1, side, side, 3] or [1, 3, side, side], from 0 to 1.

    Args:
        name: See `StyleConfig`.
        frames: Observations of the run's test examples, [N, ...]; None for agents.
        side: Rows and columns.
        channels_last: Whether the channels come last, both in `frames` and in the result.

    Raises:
        UserError: There is no such picture.
    """
    if not name.startswith(FRAME):
        found = photograph(name)
    else:
        number, count = name.removeprefix(FRAME), 0 if frames is None else len(frames)
        if frames is None or not number.isdecimal() or int(number) >= count:
            raise UserError(
                f"there is no picture {name}; the run has {count} test examples, so give test:N with N below this number, or a photograph"
            )
        found = frames[int(number)].cpu().numpy()
        found = found if channels_last else np.moveaxis(found, 0, -1)
        if found.ndim != 3 or found.shape[0] != found.shape[1] or found.shape[2] != 3:
            raise UserError(
                f"the test examples have the shape {tuple(found.shape)}; style transfer needs square pictures with three colour channels, so give photographs"
            )
    picture = torch.from_numpy(scaled(found, side)).float()[None] / 255
    return picture if channels_last else picture.permute(0, 3, 1, 2).contiguous()


def as_bytes(picture: Tensor, channels_last: bool) -> Array:
    """A picture [1, ...] from 0 to 1 as uint8 [H, W, 3]."""
    found = picture[0] if channels_last else picture[0].permute(1, 2, 0)
    return (255 * found).round().byte().cpu().numpy()


def numbers(rows: Sequence[Mapping[str, Any]], styles: Sequence[str]) -> dict[str, float]:
    """The main results by a description of each picture."""
    found: dict[str, float] = {}
    for row in rows:
        name = f"{row['style']}, content weight {row['content_weight']:g}, stride {row['stride']}"
        found |= {
            f"{name}: style loss at the start": row["start_loss"], f"{name}: style loss": row["style_loss"],
            f"{name}: content loss": row["content_loss"],
            **{f"{name}: distance to {x}": y for x, y in zip(styles, row["distances"], strict=True)},
            f"{name}: correlation of the layout": row["layout"], f"{name}: correlation of pixels": row["correlation"],
        }  # fmt: skip
    return found


def sheet(sources: Sequence[Array], results: Sequence[Array]) -> bytes:
    """A PNG file: the content and the styles in a row, [S, S, 3] each, and below each style its result.

    Raises:
        UserError: Pillow is not installed.
    """
    return png([sources, [np.full_like(results[0], 255), *results]], ENLARGED)
