"""PixelCNN: the probability of an image as a product over its values, each given all earlier ones.

    p(x | h) = prod_i p(x_i | x_1, ..., x_{i-1}, h)

    gated   y = tanh(W_f * x + V_f h) . sigmoid(W_g * x + V_g h)       in two stacks: the vertical one sees the rows above a pixel, the
            horizontal one the pixels to its left and, at each layer, the vertical one
    plain   y = ReLU(W * x + V h)                                      one stack of masked square kernels, with a blind spot

    minimise  E[ -log p(x | h) ]

where * is a masked convolution and h what the image depends on: its class (`condition`), the features of an encoder that is trained
with the rest (`encoder`), which makes an autoencoder whose decoder is a PixelCNN, both, or nothing. The channels of a pixel are
predicted one after the other.

Measures: `bits`, -log2 p(x | h) for each value of an image, so that uniform predictions give log2(levels); `blind`, the number of pixels
that come before a pixel of the last row, within the reach of the network, but do not affect it; `leaks`, the number of values that affect it but do not come
before it. With `judge`, a classifier is trained next to the model, and `recognised` is the share of samples to which it assigns
the class for which they were drawn. With `gain`, the prediction gain of each example (Ostrovski et al., 2017); if examples have a column `novel`, `auc` is the
probability that a novel example has a larger gain than another one.

With `tokens`, the values are the codes of a frozen VQ-VAE in place of pixels, which makes the model a prior over them (Razavi et al., 2019,
https://arxiv.org/abs/1906.00446).

van den Oord et al., 2016, https://arxiv.org/abs/1606.05328; plain: https://arxiv.org/abs/1601.06759; self-attention: Chen et al., 2018,
https://arxiv.org/abs/1712.09763; prediction gain: Ostrovski et al., 2017, https://arxiv.org/abs/1703.01310

Differences from the papers: Adam; networks are small. Categories, such as the types of MiniGrid's cells, are read as one-hot vectors.
The plain form has no bottleneck in its blocks. Gated layers have a residual connection in the horizontal stack, except for the first
one, whose mask excludes the pixel itself. `independent` is a baseline that predicts each value from its position alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.codes import Codes
from rlbench.backbones.layers.density import Values, prediction_gain
from rlbench.backbones.layers.pixels import (
    Form,
    Independent,
    PixelNetwork,
    blind_and_leaks,
    log_probability,
    naive_sample,
    sample,
)
from rlbench.backbones.models._base import classes_of, input_space
from rlbench.backbones.models.facenet import area_under_curve
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import NOT_NEGATIVE, SIZE, TWO, Range, check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig:
    """Settings of PixelCNN."""

    form: Form = "gated"
    """Layers with gates in two stacks, plain layers with one stack and a blind spot, or a distribution of each value by itself."""
    condition: str | None = None
    """Column with a class on which images depend, such as label (paper: h)."""
    encoder: str | None = None
    """Encoder of the image whose features are a further condition; the model is then an autoencoder."""
    tokens: str | None = None
    """Encoder codes:RUN with the VQ-VAE of a run, whose codes take the place of the pixels: the model is a prior over them."""
    grid: Literal["top", "bottom"] = "top"
    """Which grid of codes is modelled; the bottom grid is conditioned on the top one, if there is one."""
    levels: int | None = None
    """Number of values of a pixel; None: as many as observations can have, such as 256."""
    quantise: bool = True
    """Whether values of bytes are brightness, which is divided into `levels` equal steps; otherwise they are categories below `levels`, such
    as 11 for MiniGrid's views."""
    width: int = 32
    """Feature maps of each layer, in the gated form of each stack (paper: p)."""
    layers: int = 5
    """Number of layers."""
    kernel: int = 3
    """Side of the kernels (paper: n), an odd number."""
    attention: int = 0
    """Number of layers, counted from the last one, that are followed by self-attention to all earlier pixels."""
    judge: str | None = None
    """Encoder of a classifier of the column `label` that is trained next to the model and classifies samples in measurements."""
    gain: float = 0.0
    """Step size of the prediction gain in measurements, such as 1e-4; 0: it is not measured."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    batch_size: int = 32
    """Images in one update."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "levels": TWO, "layers": SIZE, "gain": NOT_NEGATIVE,
        "attention": Range(lambda x: 0 <= x <= 1_000, "0 or more, up to the number of layers"),
        "kernel": Range(lambda x: 3 <= x <= 99 and x % 2 == 1, "an odd number from 3 to 99"),
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range or have no effect."""
        check(self)
        if self.attention > self.layers:
            raise UserError(
                f"attention is {self.attention}, but there are {self.layers} layers; give at most as many"
            )
        if self.form == "independent" and (self.condition or self.encoder or self.attention):
            raise UserError(
                "the form independent has no condition, encoder or attention; leave them out or give --form gated"
            )
        if self.form == "independent" and self.gain:
            raise UserError("the form independent has no prediction gain; leave gain out")
        if self.tokens and (self.judge or self.gain or self.encoder or self.levels):
            raise UserError(
                "with tokens, the model has no judge, gain, encoder or levels; leave them out"
            )
        if self.gain and (self.condition or self.encoder):
            raise UserError(
                "the prediction gain is measured without a condition; leave gain, or condition and encoder, out"
            )


class PixelCNN(Model):
    """PixelCNN."""

    Config: ClassVar[type] = PixelCNNConfig
    measures = (Measure("bits", "bits per value", higher_is_better=False),)
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: PixelCNNConfig

    def build(self) -> None:
        """The network, what it is conditioned on, the judge, and their optimisers."""
        config = self.config
        space = input_space(self.spec)
        self.tokens = make_encoder(config.tokens, space) if config.tokens else None
        self.above: nn.Sequential | None = None
        if self.tokens is None:
            self.values = Values.of(space, config.levels, quantise=config.quantise)
        else:
            self.values = self._values_of_codes(torch.zeros(1, *(space.shape or ())))
        channels, levels = self.values.shape[0], self.values.levels
        if config.form != "independent" and config.width < channels:
            raise UserError(
                f"width is {config.width}, but images have {channels} channels; give at least as many feature maps"
            )
        if config.attention and config.width % channels:
            raise UserError(
                f"width is {config.width}, which is not a multiple of the {channels} channels, each of which needs a head of attention; "
                f"give {channels * math.ceil(config.width / channels)}"
            )
        self.classes = classes_of(self.spec, config.condition) if config.condition else 0
        self.encoder = make_encoder(config.encoder, space) if config.encoder else None
        size = self.classes + (self.encoder.size if self.encoder else 0)
        if self.above is not None:
            size += config.width
        self.network: PixelNetwork | Independent
        if config.form == "independent":
            self.network = Independent(channels, levels, *self.values.shape[1:])
        else:
            self.network = PixelNetwork(
                *(channels, levels, *self.values.shape[1:]), form=config.form,
                one_hot=not self.values.scaled, width=config.width, layers=config.layers,
                kernel=config.kernel, attention=config.attention, condition=size,
            )  # fmt: skip
        learned = [*self.network.parameters()]
        learned += [] if self.encoder is None else self.encoder.parameters()
        learned += [] if self.above is None else self.above.parameters()
        self.optimizer = Adam(learned, config.learning_rate)
        self.judge: nn.Sequential | None = None
        if config.judge is not None:
            encoder = make_encoder(config.judge, space)
            self.judge = nn.Sequential(
                encoder, nn.Linear(encoder.size, classes_of(self.spec, "label"))
            )
            self.judge_optimizer = Adam(self.judge.parameters(), config.learning_rate)

    def _values_of_codes(self, obs: Tensor) -> Values:
        """The values of the grid of codes that is modelled, and the network that reads the other grid."""
        config, codes = self.config, self.codes(obs)
        if config.grid == "top" and len(codes) == 1:
            raise UserError(
                "grid is top, but the VQ-VAE of tokens has one grid of codes; give --grid bottom"
            )
        count = int(self._reader.quantiser.bottom.counts.numel())
        if config.grid == "bottom" and len(codes) == 2:
            self.above = nn.Sequential(
                nn.Conv2d(count, config.width, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)
            )
        rows, columns = codes[config.grid == "top"].shape[1:]
        return Values((1, rows, columns), count, scaled=False, channels_last=False, axes=2)

    @property
    def _reader(self) -> Codes:
        assert self.tokens is not None
        if not isinstance(self.tokens.layers, Codes):
            raise UserError(
                f"tokens is {self.config.tokens}, which has no codes; give codes:RUN with a run of vq-vae"
            )
        return self.tokens.layers

    def codes(self, obs: Tensor) -> list[Tensor]:
        """Codes of observations: of the bottom grid, and of the top grid if there is one; see `Codes`."""
        assert self.tokens is not None
        return self._reader.codes(self.tokens.images(obs))

    def read(self, obs: Tensor) -> Tensor:
        """The values that are modelled, int64 [B, C, H, W], of observations [B, ...]."""
        if self.tokens is None:
            return self.values.read(obs)
        return self.codes(obs)[self.config.grid == "top"][:, None]

    def condition(self, obs: Tensor, label: Tensor | None) -> Tensor | None:
        """What images depend on, [B, D, 1, 1], or [B, D, H, W] with codes of a top grid; None: nothing.

        Args:
            obs: Images, [B, ...], that an encoder or a VQ-VAE reads if there is one.
            label: Classes, int64 [B], if the model has a condition.
        """
        parts = []
        if self.classes:
            assert label is not None
            parts.append(F.one_hot(label.long(), self.classes).float())
        if self.encoder is not None:
            parts.append(self.encoder(obs).float())
        maps = [x[..., None, None] for x in parts]
        if self.above is not None:
            top = self.codes(obs)[1]
            given = self.above(F.one_hot(top, self.values.levels).movedim(-1, 1).float())
            maps = [*(x.expand(*x.shape[:2], *given.shape[2:]) for x in maps), given]
        return torch.cat(maps, dim=1) if maps else None

    def log_prob(self, obs: Tensor, label: Tensor | None = None) -> Tensor:
        """Log-probability of each image in nats, [B]; see `condition`."""
        x = self.read(obs)
        return log_probability(self.network(x, self.condition(obs, label)), x)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-probability of each image in nats, [B]; with classes, given each of them, [B, classes]."""
        if not self.classes:
            return self.log_prob(obs)
        each = torch.arange(self.classes, device=obs.device)
        return torch.stack([self.log_prob(obs, k.expand(len(obs))) for k in each], dim=1)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator,
        *,
        condition: Tensor | None = None,
        naive: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Images like observations, [count, ...], or grids of codes, int64 [count, H, W], and their log-probabilities in nats, [count].

        Args:
            count: Number of images.
            generator: Draws the noise.
            condition: What they depend on; see the method `condition`.
            naive: Whether the network passes over the whole image for each value, which is slower and gives the same images.
        """
        shape = (count, *self.values.shape)
        noise = torch.rand(shape, generator=generator, device=generator.device)
        if naive or isinstance(self.network, Independent):
            x, log_p = naive_sample(self.network, noise, condition)
        else:
            x, log_p = sample(self.network, noise, condition)
        return self.values.observed(x), log_p

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        obs = experience["obs"]
        label = experience[self.config.condition] if self.config.condition else None
        with drawing_from(self.generator):  # For encoders with noise.
            loss = -self.log_prob(obs, label).mean() / math.prod(self.values.shape)
            gradient_step(self.optimizer, loss)
            metrics = {"bits": loss.detach() / math.log(2)}
            if self.judge is not None:
                judged = F.cross_entropy(self.judge(obs), experience["label"])
                metrics["judge_loss"] = gradient_step(self.judge_optimizer, judged)
        return metrics

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """`bits` of each example, [B]; see the module for the other measures."""
        config, obs = self.config, examples["obs"]
        label = examples[config.condition] if config.condition else None
        bits = -self.log_prob(obs, label) / (math.prod(self.values.shape) * math.log(2))
        found = {"bits": bits}
        if self.judge is not None:
            drawn, _ = self.sample(
                len(obs), self.measure_generator, condition=self.condition(obs, label)
            )
            for name, images in (("recognised", drawn), ("judge_accuracy", obs)):
                found[name] = (self.judge(images).argmax(1) == examples["label"]).float()
        if config.gain:
            x = self.values.read(obs)
            found["gain"] = prediction_gain(self.network, self.optimizer, x, config.gain)
            if isinstance(self.spec.get("novel"), spaces.Discrete):
                found["novel"] = examples["novel"]
        return found

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`blind` and `leaks`, and `auc` of the prediction gain if some examples are novel and some are not."""
        found = {}
        if isinstance(self.network, PixelNetwork):
            found = dict(
                zip(("blind", "leaks"), map(float, blind_and_leaks(self.network)), strict=True)
            )
        if "novel" in columns:
            novel = np.asarray(columns["novel"]) > 0
            if 0 < novel.sum() < len(novel):
                found["auc"] = area_under_curve(-columns["gain"][novel], -columns["gain"][~novel])
        return found
