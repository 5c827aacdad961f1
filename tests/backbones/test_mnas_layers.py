"""Layers of MnasNet's search space against their equations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.architecture import Block
from rlbench.backbones.layers.cost import cost
from rlbench.backbones.layers.mnas import MnasLayer, PoolSkip, SqueezeExcitation

BLOCK = Block("mbconv3", 3, 0.0, "none", 8, 1, 1)


def layer(channels: int = 8, stride: int = 1, norm: Any = "gn", **changes: Any) -> Any:
    torch.manual_seed(0)
    made = MnasLayer(channels, replace(BLOCK, **changes), stride, norm)
    with torch.no_grad():  # Affine maps that are not the identity.
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def images(channels: int = 8, side: int = 5) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


def normed(part: Any, x: Tensor) -> Tensor:
    """A convolution and its normalisation."""
    out: Tensor = part[1](part[0](x))
    return out


def test_an_inverted_residual_expands_filters_and_projects_linearly() -> None:
    made, x = layer(op="mbconv6", kernel=5, filters=4), images()
    expand, depthwise, project = made.body
    assert [tuple(part[0].weight.shape) for part in made.body] == [
        (48, 8, 1, 1), (48, 1, 5, 5), (4, 48, 1, 1),
    ]  # fmt: skip
    h = normed(depthwise, normed(expand, x).relu()).relu()
    torch.testing.assert_close(made(x), normed(project, h))
    assert (made(x) < 0).any()


def test_a_separable_convolution_filters_and_projects() -> None:
    made, x = layer(op="dwconv", filters=4), images()
    depthwise, project = made.body
    assert depthwise[0].weight.shape == (8, 1, 3, 3)
    torch.testing.assert_close(made(x), normed(project, normed(depthwise, x).relu()))
    assert (made(x) < 0).any()


def test_a_convolution_ends_in_a_relu() -> None:
    made, x = layer(op="conv", kernel=5, filters=4), images()
    (conv,) = made.body
    assert conv[0].weight.shape == (4, 8, 5, 5)
    torch.testing.assert_close(made(x), normed(conv, x).relu())


def test_activations_are_not_cut_at_six() -> None:
    (conv,) = layer(op="conv", norm="none").body
    assert conv(100 * images()).max() > 6


@pytest.mark.parametrize(("op", "wide"), [("conv", 4), ("dwconv", 8), ("mbconv3", 24)])
def test_excitation_comes_before_the_projection_with_channels_of_the_input(
    op: str, wide: int
) -> None:
    made, x = layer(op=op, filters=4, se=0.25), images()
    (excitation,) = (part for part in made.body if isinstance(part, SqueezeExcitation))
    assert excitation.squeeze.weight.shape == (2, wide, 1, 1)  # 2 = 0.25 * 8, whatever the map has.
    assert excitation.excite.weight.shape == (wide, 2, 1, 1)
    parts = list(made.body)
    h = x
    for part in parts[: parts.index(excitation)]:
        h = part(h)
    means = h.mean((2, 3))
    squeezed = F.linear(
        means, excitation.squeeze.weight[:, :, 0, 0], excitation.squeeze.bias
    ).relu()
    gate = F.linear(squeezed, excitation.excite.weight[:, :, 0, 0], excitation.excite.bias)
    h = h * gate.sigmoid()[:, :, None, None]
    wanted = h if op == "conv" else normed(parts[-1], h)
    torch.testing.assert_close(made(x), wanted)


def test_excitation_has_at_least_one_channel_and_rounds_down() -> None:
    squeezed = {
        channels: layer(channels, se=0.25).body[2].squeeze.out_channels
        for channels in (2, 7, 11, 12)
    }
    assert squeezed == {2: 1, 7: 1, 11: 2, 12: 3}


@pytest.mark.parametrize("op", ["conv", "dwconv", "mbconv3", "mbconv6"])
def test_an_identity_is_added_only_if_nothing_changes_shape(op: str) -> None:
    x = images()
    same = layer(op=op, skip="identity")
    torch.testing.assert_close(same(x), x + same.body(x))
    for other in (
        layer(op=op, skip="identity", stride=2),
        layer(op=op, skip="identity", filters=4),
    ):
        assert other.skip is None
        torch.testing.assert_close(other(x), other.body(x))
    assert layer(op=op, skip="none").skip is None


@pytest.mark.parametrize("side", [4, 5])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("op", ["conv", "dwconv", "mbconv3"])
def test_a_pooled_input_is_added_whatever_the_shape(op: str, kernel: int, side: int) -> None:
    x = images(side=side)
    for stride, filters in ((1, 8), (2, 12), (2, 4)):
        made = layer(op=op, kernel=kernel, skip="pool", stride=stride, filters=filters)
        small = -(-side // stride)
        assert made(x).shape == (2, filters, small, small)
        torch.testing.assert_close(made(x), made.body(x) + PoolSkip(filters, stride)(x))


def test_pooling_is_the_mean_of_the_pixels_that_exist() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    # Pixels at rows and columns 0 and 2; 0, 1, 4, 5 and 1, 2, 3, 5, 6, 7, and so on.
    wanted = torch.tensor([[2.5, 4.0], [8.5, 10.0]])
    pooled = PoolSkip(3, 2)(x)
    assert pooled.shape == (1, 3, 2, 2)
    torch.testing.assert_close(pooled[0, 0], wanted)
    assert (pooled[0, 1:] == 0).all()
    both = torch.cat([x, -x], dim=1)
    torch.testing.assert_close(PoolSkip(1, 2)(both)[0, 0], wanted)


def test_multiply_adds_by_hand() -> None:
    x = images()
    # 25 pixels; E, D and P, and 2 * 2 channels in the excitation, which has one pixel.
    made = layer(op="mbconv3", filters=4, se=0.25)
    assert cost(made, x).multiply_adds == 25 * (8 * 24 + 24 * 9 + 24 * 4) + 2 * 24 * 2
    assert cost(layer(op="dwconv", kernel=5, stride=2), x).multiply_adds == 9 * (8 * 25 + 8 * 8)
    assert cost(layer(op="conv", stride=2), x).multiply_adds == 9 * 9 * 8 * 8


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_convolutions_have_biases_only_without_normalisation(norm: Any) -> None:
    made = layer(se=0.25, norm=norm)
    excitation = [
        x for part in made.body if isinstance(part, SqueezeExcitation) for x in part.children()
    ]
    others = [x for x in made.modules() if isinstance(x, nn.Conv2d) and x not in excitation]
    assert len(excitation) == 2
    assert all(x.bias is not None for x in excitation)
    assert {x.bias is not None for x in others} == {norm == "none"}
