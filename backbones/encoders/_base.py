"""Code shared by all encoders, from raw observations to features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlbench.backbones.layers.convolution import normalise_convolutions
from rlbench.backbones.layers.mlp import Network
from rlbench.backbones.layers.sizes import Padding, read
from rlbench.backbones.layers.step_norm import StepNorm
from rlbench.backbones.ranges import COUNT, within
from rlbench.errors import UserError


@dataclass(frozen=True)
class Kind:
    """A kind of encoder, declared by its module."""

    layers: Callable[..., nn.Module]
    """Makes the layers from [B, C, H, W] to [B, size], given C and the options of the kind; for tokens and parts from
    [B, D], given the space."""
    takes: Literal["anything", "grids", "images", "tokens", "parts"]
    """Observations that it accepts: arrays of any shape, whose axes are not moved; grids with their
    channels last; images with their channels first or last; `rlbench.sequences.TokenSequence`; `rlbench.packed.Packed`."""
    any_channels: bool = False
    """Whether grids may have any number of channels, and not only 1, 3 or 4."""
    sized: bool = False
    """Whether the layers are made for one size and are given the shape, [C, H, W] for images, in place of C."""
    scale: float = 1.0
    """Factor by which the values are multiplied."""
    memory_format: torch.memory_format = torch.contiguous_format
    """The memory format in which a CPU computes the layers fastest."""


@runtime_checkable
class Maps(Protocol):
    """Layers that also give the maps between their stages."""

    strides: tuple[int, ...]
    """Pixels of the image per pixel of each map."""

    def maps(self, x: Tensor) -> list[Tensor]:
        """A map [B, C, H / s, W / s] for each stride s, rounded up or down."""
        ...


@runtime_checkable
class Compact(Protocol):
    """Layers whose first part is frozen and turns an image into a few bytes, from which the rest computes the features."""

    def compact(self, x: Tensor) -> Tensor:
        """Bytes of images [B, C, H, W], uint8 [B, N]."""
        ...

    def of_compact(self, found: Tensor) -> Tensor:
        """Features [B, size] of such bytes."""
        ...


class Encoder(nn.Module):
    """Layers that read observations with the channels moved to the front and the values scaled."""

    def __init__(
        self,
        kind: Kind,
        layers: nn.Module,
        obs_shape: tuple[int, ...],
        channels_last: bool,
        padding: Padding = "keep",
        side: int = 64,
        zeros: Literal["learn", "keep"] = "learn",
    ) -> None:
        """Finds the number of features with a trial pass.

        Args:
            kind: The kind of encoder.
            layers: Layers from [B, C, H, W], or another shape of observations, to [B, size].
            obs_shape: One observation.
            channels_last: Observations are [B, H, W, C].
            padding: How the padding of images is treated; see `layers/sizes.py`.
            side: Rows and columns after `resize` and `crop`.
            zeros: Whether weights that are 0 learn as others do or stay 0, as in a lottery ticket; biases always learn.

        Raises:
            UserError: `side` is below 1, or the layers do not fit `padding`.
        """
        super().__init__()
        at_least_one("images", side=side)
        if padding == "trim" and any(isinstance(x, nn.Flatten) for x in layers.modules()):
            raise UserError(
                "with padding=trim, images of several sizes need a head whose number of features does not depend "
                "on the size; give head=spp, gap or spatial-softmax"
            )
        self.layers = layers
        self.padding, self.side, self.zeros = padding, side, zeros
        if zeros == "keep":
            for weight in (x for x in layers.parameters() if x.dim() > 1):
                weight.register_hook(partial(_without_zeros, weight))
        self.channels_last = channels_last
        self.kind = kind
        self.obs_dims = len(obs_shape)
        # In evaluation mode the trial changes no running statistics, and one pixel is enough.
        self.eval()
        with torch.no_grad():
            self.size = int(self(torch.zeros(1, *obs_shape)).shape[1])
            """Number of features."""
        self.train()

    def forward(self, obs: Tensor) -> Tensor:
        """Features [..., size] of observations [..., *obs_shape], with one leading dimension or more, or of what `compact` returned."""
        lead = obs.dim() - self.obs_dims
        if lead < 1 and isinstance(self.layers, Compact):
            return self.layers.of_compact(obs)
        if lead > 1:
            return self(obs.flatten(0, lead - 1)).unflatten(0, obs.shape[:lead])  # type: ignore[no-any-return]
        return read(self.layers, self.images(obs), self.padding, self.side)

    def compact(self, obs: Tensor) -> Tensor | None:
        """The bytes on which the features of observations [B, ...] depend, uint8 [B, N]; None if the layers have no such form."""
        if not isinstance(self.layers, Compact) or self.padding != "keep":
            return None
        return self.layers.compact(self.images(obs))

    @property
    def one_program(self) -> bool:
        """Whether the operations are the same for all observations of its shape, so that it can be compiled."""
        return self.padding == "keep" and self.zeros == "learn"

    def pyramid(self, obs: Tensor) -> dict[int, Tensor]:
        """Maps by stride, from fine to coarse.

        Args:
            obs: Observations as for `forward`, of any height and width.

        Returns:
            A map [..., C, H / s, W / s] for each stride s; the features are computed from the encoder's last one.

        Raises:
            UserError: The encoder has no maps.
        """
        if not isinstance(self.layers, Maps):
            raise UserError(
                "this encoder has no pyramid of maps; use mobilenet-v2, mnasnet-a1, resnet, vgg, impala, conv4, fc-densenet, unet or fpn"
            )
        if self.padding != "keep":
            raise UserError(
                f"an encoder with padding={self.padding} has no maps of the whole image; give padding=keep"
            )
        lead = obs.shape[: obs.dim() - self.obs_dims]
        maps = self.layers.maps(self.images(obs.flatten(0, len(lead) - 1)))
        found = zip(self.layers.strides, (x.unflatten(0, lead) for x in maps), strict=True)
        return dict(sorted(found, key=lambda pair: pair[0]))

    def images(self, obs: Tensor) -> Tensor:
        """Input of the layers, [B, C, H, W], from observations with one leading dimension."""
        if self.channels_last:
            obs = obs.permute(0, 3, 1, 2)
        on_cpu = obs.device.type == "cpu"
        obs = obs.contiguous(
            memory_format=self.kind.memory_format if on_cpu else torch.contiguous_format
        )
        return obs.float() * self.kind.scale


def weight_options(zeros: Literal["learn", "keep"] = "learn") -> None:
    """The options of `Encoder` that encoders of grids and of any array have too; only images can be padded."""


def _without_zeros(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a weight, 0 if it is 0."""
    return gradient * (weight.detach() != 0)


Observations = int | Encoder
"""Input of a head: the length of vectors, or the head's own encoder."""


def size_of(observations: Observations) -> int:
    """Number of features that a head receives."""
    return observations if isinstance(observations, int) else observations.size


def reader(observations: Observations) -> nn.Module:
    """The module from observations to features: the identity for vectors, else the encoder."""
    return nn.Identity() if isinstance(observations, int) else observations


class Encoded(nn.Module):
    """A network after an encoder."""

    def __init__(self, encoder: Encoder, network: Network) -> None:
        """The network reads the encoder's features."""
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, obs: Tensor) -> Tensor:
        """Outputs [B, out] of observations [B, ...]."""
        out: Tensor = self.network(self.encoder(obs))
        return out

    def conditioned(self, obs: Tensor, x: Tensor) -> Tensor:
        """See `Network.conditioned`."""
        return self.network.conditioned(self.encoder(obs), x)


def encoded(observations: Observations, network: Network) -> "Network | Encoded":
    """A network after the encoder, if there is one."""
    return network if isinstance(observations, int) else Encoded(observations, network)


class RunningBatchNorm(_BatchNorm):
    """Batch normalisation with the running statistics, both in learning and in acting.

    With the statistics of the batch, an agent would learn from other features than it acted on: PPO's first
    ratio of probabilities would not be 1. A learning pass updates the statistics after it has used them;
    passes without gradients, as in acting and for targets, do not change them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised vectors [B, C] or maps [B, C, H, W]."""
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        out = F.batch_norm(x, mean.clone(), variance.clone(), self.weight, self.bias, eps=self.eps)
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                axes = [axis for axis in range(x.dim()) if axis != 1]
                count = x.numel() // x.shape[1]
                mean.lerp_(x.mean(axes), self.momentum or 0.0)
                variance.lerp_(x.var(axes, correction=min(1, count - 1)), self.momentum or 0.0)
        return out


def use_running_statistics(network: nn.Module) -> None:
    """Replaces batch normalisation with `RunningBatchNorm`, with the same names in the state; sets `StepNorm.running`."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, RunningBatchNorm):  # It may be frozen.
            continue
        if isinstance(layer, StepNorm):
            layer.running = True
        elif isinstance(layer, _BatchNorm) and layer.track_running_stats:
            running = RunningBatchNorm(layer.num_features)
            running.load_state_dict(layer.state_dict())
            setattr(network, name, running)
        else:
            use_running_statistics(layer)


def freeze(network: nn.Module) -> None:
    """Turns all parameters into buffers: they are saved under the same names, but not trained."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
        if isinstance(module, RunningBatchNorm):
            module.momentum = None


class FromRun(nn.Module, ABC):
    """Layers that read observations through the frozen network of a trained model: `NAME:RUN` gives its options and weights."""

    models: ClassVar[tuple[str, ...]]
    """Names of the models."""
    fixed: ClassVar[tuple[str, str]]
    """What must be as in the model, and examples of options that would change it, in errors."""
    shape: tuple[int, ...]
    """Shape of the observations that the network reads; channels, rows and columns for images."""

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The network; `freeze` it."""

    @staticmethod
    @abstractmethod
    def network_of(model: Any) -> nn.Module:
        """The network of a model, with the same names of its weights as `trained`."""

    @staticmethod
    @abstractmethod
    def options_of(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the layers for a model with these settings and this state."""

    def train(self, mode: bool = True) -> Self:
        """The network stays in evaluation mode."""
        super().train(mode)
        self.trained.eval()
        return self


def batch_normalised(encoder: Encoder, obs_shape: tuple[int, ...]) -> None:
    """Adds batch normalisation after every convolution, always with the statistics of the batch.

    Args:
        encoder: Changed in place.
        obs_shape: Shape of one observation.

    Raises:
        UserError: The encoder has no convolution, or one whose output is a single pixel, for which a
            batch of one observation has no statistics.
    """
    if not normalise_convolutions(encoder, partial(nn.BatchNorm2d, track_running_stats=False)):
        raise UserError(
            "batch_norm needs convolutions, but the encoder has none; leave batch_norm off or use the "
            "encoder nature, impala, grid or one-hot-grid"
        )
    try:
        with torch.no_grad():
            encoder(torch.zeros(1, *obs_shape))
    except ValueError as error:
        raise UserError(
            f"the convolutions reduce observations of shape {obs_shape} to one pixel, too few for "
            "batch_norm; leave batch_norm off or use larger observations"
        ) from error


def at_least_one(encoder: str, **counts: int) -> None:
    """Refuses options of an encoder that are below 1.

    Raises:
        UserError: One is.
    """
    within(encoder, COUNT, **counts)
