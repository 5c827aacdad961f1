"""Pre-training: an encoder and a readout learn one of ten objectives, from autoencoding to the prediction of actions.

    minimise  E[ loss( D(E(v_1), ..., E(v_k)), y ) ]

E is the encoder up to its last map, the code; v are the pictures that the objective reads, one for most objectives; D is a small readout of
the codes, whose channels are concatenated; y is the target. The objectives are in `_objectives.py`. The architecture of the encoder does not
depend on the objective, so any agent or model with the same encoder can start from its weights (`--pretrained RUN`), and objectives can be
compared as in Taskonomy (`rlbench analyse transfers`). With `--pretrained RUN --freeze` only the readout is trained, as in one of its
transfers.

Measures: `loss`, and `explained`, 1 - loss / the loss of the best constant prediction on the same examples, which is 0 for
that prediction and 1 at best.

Zamir et al., 2018, https://arxiv.org/abs/1804.08328, section 3.1

Differences from the paper: pictures of 32x32 pixels of simulated robots instead of 512x512 of buildings; a ResNet of width 8 with
codes of 8x8x32 instead of a ResNet-50 with 16x16x8; small readouts trained with squared errors or cross-entropies, where the
paper's have 15 layers and, for some objectives, an adversarial loss; two objectives of control, which the paper does not have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.encoders import acting_encoder, make_encoder
from rlbench.backbones.encoders._base import Maps
from rlbench.backbones.layers.readout import picture_readout, vector_readout
from rlbench.backbones.models._base import input_space, normalises_over_batches
from rlbench.backbones.models._objectives import (
    NOISE,
    OBJECTIVES,
    constant_losses,
    cross_entropies,
    grey,
    squared_errors,
)
from rlbench.backbones.models.segmenter import pixel_classes
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model
from rlbench.measures import Measure
from rlbench.seeding import drawing_from


@dataclass(frozen=True, kw_only=True)
class PretextConfig:
    """Settings of pre-training."""

    objective: Literal[
        "autoencoding", "denoising", "colourisation", "edges", "segmentation", "depth", "normals", "azimuth",
        "inverse-dynamics", "return",
    ] = "autoencoding"  # fmt: skip
    """What is predicted: the picture from itself, from itself with noise or from its grey values; the edges, the class (such as a body part), the
    depth or the surface normal at each pixel; the camera's angle; the action between two pictures; or the return."""
    encoder: str = "resnet:units=1,width=8"
    """Encoder of the observations, with options after a colon; it needs a pyramid of maps (see docs/encoders.md)."""
    freeze: bool = False
    """Freeze the encoder's weights, for example those that --pretrained loads."""
    width: int = 16
    """Channels of the readout."""
    learning_rate: float = 1e-3
    """Adam step size."""
    batch_size: int = 32
    """Examples in one update."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


class Pretext(Model):
    """Pre-training by one objective."""

    Config: ClassVar[type] = PretextConfig
    measures = (Measure("explained"), Measure("loss", higher_is_better=False))
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "data_size": 2_000, "eval_every": 250, "checkpoint_every": 250, "log_every": 50,
    }  # fmt: skip
    config: PretextConfig

    def build(self) -> None:
        """Encoder, readout and their optimiser."""
        config, space = self.config, input_space(self.spec)
        shape = tuple(space.shape or ())
        self.objective = OBJECTIVES[config.objective]
        self.classes: int | None = None
        self._refuse_other_columns(shape)
        make = partial(acting_encoder, frozen=True) if config.freeze else make_encoder
        self.encoder = make(config.encoder, space)
        if config.batch_size == 1 and normalises_over_batches(self.encoder):
            raise UserError(
                f"batch_size is 1, but the encoder {config.encoder} normalises over a batch; give 2 or more, or norm=gn"
            )
        self.encoder.eval()  # A trial pass must change no statistics of batches.
        nothing = {name: torch.ones(1, *(x.shape or ()), device=self.device) for name, x in self.spec.items()}  # fmt: skip
        with torch.no_grad():
            self._code = self.codes(self.views(Examples(nothing), self.generator)).shape[1:]
            self._out = self.target(Examples(nothing)).shape[1:]
        self.encoder.train()
        self.readout = self.make_readout(1)
        parameters = [*self.encoder.parameters(), *self.readout.parameters()]
        self.optimizer = Adam(parameters, config.learning_rate)

    def _refuse_other_columns(self, shape: tuple[int, ...]) -> None:
        """Refuses examples without a column that the objective needs, or with one of another kind."""
        name = self.config.objective
        for column in self.objective.columns:
            space = self.spec.get(column)
            if self.objective.classes:
                self.classes = pixel_classes(self.spec, column)[1]
            elif not isinstance(space, spaces.Box):
                raise UserError(
                    f"objective is {name}, which needs numbers in the column {column!r}; the examples have {', '.join(self.spec)}, "
                    "so give a source such as views-mujoco:halfcheetah, or another objective"
                )
            elif column == "next_obs" and space.shape != shape:
                raise UserError(
                    f"the observations have the shape {shape}, but the column 'next_obs' has {space.shape}; give the same shape"
                )

    def make_readout(self, sources: int) -> nn.Sequential:
        """A new readout for the target of this objective, of the codes of a number of encoders like this one.

        Raises:
            UserError: The sides of the picture are not those of the code times a power of 2.
        """
        channels, rows, columns = self._code
        width = self.config.width
        if len(self._out) == 1:
            return vector_readout(sources * channels, width, rows * columns, self._out[0])
        doublings = max(self._out[1] // rows, 1).bit_length() - 1
        if (rows << doublings, columns << doublings) != tuple(self._out[-2:]):
            raise UserError(
                f"the encoder {self.config.encoder} has a code of {rows}x{columns} for targets of {self._out[-2]}x{self._out[-1]}, "
                "not smaller by a power of 2; give pictures whose sides are multiples of 8"
            )
        return picture_readout(sources * channels, width, doublings, self.classes or self._out[0])

    def picture(self, obs: Tensor) -> Tensor:
        """Observations as pictures with values from 0 to 1, [B, C, H, W]."""
        return (obs.permute(0, 3, 1, 2) if self.encoder.channels_last else obs) / 255

    def views(self, examples: Examples, generator: torch.Generator) -> list[Tensor]:
        """The observations that the objective reads, [B, ...] each; noise is drawn from the generator."""
        obs, reads = examples["obs"], self.objective.reads
        if reads == "both":
            return [obs, examples["next_obs"]]
        if reads == "grey":
            same = 255 * grey(self.picture(obs)).expand_as(self.picture(obs))
            return [same.permute(0, 2, 3, 1) if self.encoder.channels_last else same]
        if reads == "noisy":
            noise = torch.randn(obs.shape, generator=generator, device=obs.device)
            return [(obs + NOISE * noise).clamp(0, 255)]
        return [obs]

    def codes(self, views: list[Tensor]) -> Tensor:
        """The last map of the encoder for each view, with the channels concatenated, [B, C, H, W]."""
        maps = [self.encoder.pyramid(x) for x in views]
        layers = self.encoder.layers
        assert isinstance(layers, Maps)  # `pyramid` refuses others.
        return torch.cat([x[layers.strides[-1]] for x in maps], dim=1)

    def target(self, examples: Examples) -> Tensor:
        """What is predicted, [B, D] or [B, C, H, W]; classes are int64 [B, H, W]."""
        return self.objective.target({**examples.columns, "picture": self.picture(examples["obs"])})

    def losses(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each example, [B]."""
        return (squared_errors if self.classes is None else cross_entropies)(prediction, target)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Features of the encoder, [B, size]."""
        features: Tensor = self.encoder(obs)
        return features

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One step of gradient descent."""
        views = self.views(experience, self.generator)
        with drawing_from(self.generator):  # For encoders with noise.
            prediction = self.readout(self.codes(views))
        loss = self.losses(prediction, self.target(experience)).mean()
        return {"loss": gradient_step(self.optimizer, loss)}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Losses of the readout, and of the best constant prediction on these examples, [B] each."""
        target = self.target(examples)
        prediction = self.readout(self.codes(self.views(examples, self.measure_generator)))
        constant = constant_losses(target, self.classes)
        return {"loss": self.losses(prediction, target), "constant": constant}

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`explained`; see the module."""
        constant = float(columns["constant"].mean(dtype=float))
        return {"explained": 1 - float(columns["loss"].mean(dtype=float)) / max(constant, 1e-12)}
