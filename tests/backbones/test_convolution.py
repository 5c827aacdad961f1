"""Batch normalisation and its folding, depthwise kernels, dense layers, costs."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.convolution import convolution, folded, normalisation, normalised
from rlbench.backbones.layers.cost import Cost, cost
from rlbench.backbones.layers.dense import Bilinear, as_convolution, bilinear_kernel
from rlbench.errors import UserError


def standardised(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation channel by channel, with the means and the unbiased variances."""
    out, means, variances = torch.zeros_like(x), [], []
    for c in range(x.shape[1]):
        values = [pixel for image in x[:, c] for row in image for pixel in row]
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        deviation = (squares / len(values) + 1e-5) ** 0.5
        out = out + F.one_hot(torch.tensor(c), x.shape[1]).view(1, -1, 1, 1) * (
            gamma[c] * (x[:, c : c + 1] - mean) / deviation + beta[c]
        )
        means.append(mean)
        variances.append(squares / (len(values) - 1))
    return out, torch.stack([*means]), torch.stack([*variances])


def test_batch_normalisation_equals_its_slow_definition() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    norm: Any = normalisation("bn", 2).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    upstream = torch.randn_like(x)
    wanted, means, variances = standardised(x, norm.weight, norm.bias)
    inputs = (x, norm.weight, norm.bias)
    slow = torch.autograd.grad((wanted * upstream).sum(), inputs)
    out = norm(x)
    fast = torch.autograd.grad((out * upstream).sum(), inputs)
    torch.testing.assert_close(out, wanted, atol=1e-6, rtol=0)
    for ours, theirs in zip(slow, fast, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * means)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variances)


@pytest.mark.parametrize(("bias", "kernel", "groups"), [(True, 3, 1), (False, 1, 1), (False, 3, 4)])
def test_a_folded_convolution_equals_both_layers(bias: bool, kernel: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = convolution(4, 4, kernel, "none" if bias else "bn", 2, depthwise=groups > 1).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    norm: Any = nn.BatchNorm2d(4).double()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    made = folded(layer, norm.eval())
    torch.testing.assert_close(made(x), norm(layer(x)), atol=1e-12, rtol=0)
    assert type(made) is type(layer)
    with pytest.raises(UserError, match="has no running statistics to fold"):
        folded(layer, nn.BatchNorm2d(4, track_running_stats=False))


def test_depthwise_convolutions_keep_the_scale_and_see_one_channel() -> None:
    torch.manual_seed(0)
    layer = convolution(512, 512, 3, "bn", depthwise=True)
    assert layer.weight.shape == (512, 1, 3, 3)
    assert layer.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    x = torch.zeros(1, 512, 3, 3)
    x[:, 7] = 1
    assert layer(x).sum((2, 3)).nonzero()[:, 1].tolist() == [7]


@pytest.mark.parametrize("kind", ["nature", "impala", "grid", "one-hot-grid"])
def test_norm_normalises_every_convolution_and_the_default_none(kind: str) -> None:
    shape, layers = ((9, 9, 3) if "grid" in kind else (3, 36, 36)), {}
    for norm in ("none", "gn", "bn"):
        made = make_encoder(f"{kind}:norm={norm}", shape)
        layers[norm] = [x for x in made.modules() if isinstance(x, nn.GroupNorm | nn.BatchNorm2d)]
        convolutions = [x for x in made.modules() if isinstance(x, nn.Conv2d)]
    assert not layers["none"]
    assert make_encoder(kind, shape).state_dict().keys() == {
        *make_encoder(f"{kind}:norm=none", shape).state_dict()
    }
    assert all(isinstance(x, nn.GroupNorm) and x.num_groups == 8 for x in layers["gn"])
    assert all(isinstance(x, nn.BatchNorm2d) for x in layers["bn"])
    assert len(layers["gn"]) == len(layers["bn"]) == len(convolutions) > 0
    assert [x.num_features for x in layers["bn"]] == [x.out_channels for x in convolutions]


def test_a_normalisation_follows_its_convolution() -> None:
    network = normalised(nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU()), "gn")
    assert [type(x) for x in network.modules()] == [
        nn.Sequential, nn.Sequential, nn.Conv2d, nn.GroupNorm, nn.ReLU,
    ]  # fmt: skip
    assert normalisation("gn", 12).num_groups == 1
    assert isinstance(normalisation("none", 8), nn.Identity)


def test_the_bilinear_kernel_by_hand() -> None:
    wanted = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(bilinear_kernel(2), wanted[:, None] * wanted)
    third = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0]) / 3
    torch.testing.assert_close(bilinear_kernel(3), third[:, None] * third)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_a_bilinear_deconvolution_is_interpolation_away_from_the_borders(factor: int) -> None:
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    ours = Bilinear(factor)(x)
    theirs = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert ours.shape == theirs.shape == (2, 3, 5 * factor, 6 * factor)
    inside = slice(factor, -factor)
    torch.testing.assert_close(ours[..., inside, inside], theirs[..., inside, inside])
    assert not Bilinear(factor).state_dict()


def test_a_classifier_as_convolution_equals_the_classifier_of_every_window() -> None:
    torch.manual_seed(0)
    encoder = make_encoder("nature", (3, 44, 52))  # Maps of 2x3, without padding; strides of 8.
    linear = nn.Linear(encoder.size, 5)
    images = torch.rand(2, 3, 68, 76) * 255
    *convolutions, _ = encoder.layers.children()
    dense = as_convolution(linear, 64, 2, 3)(nn.Sequential(*convolutions)(images / 255))
    assert dense.shape == (2, 5, 4, 4)
    for row in range(4):
        for column in range(4):
            top, left = 8 * row, 8 * column
            window = images[:, :, top : top + 44, left : left + 52]
            wanted = linear(encoder(window))
            torch.testing.assert_close(dense[:, :, row, column], wanted, atol=1e-5, rtol=0)


def test_a_map_size_that_does_not_fit_the_linear_layer_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"reads 12 values, but a map of 3 channels and 2x3 pixels has 18"
    ):
        as_convolution(nn.Linear(12, 2), 3, 2, 3)
    assert as_convolution(nn.Linear(18, 2, bias=False), 3, 2, 3).bias is None


def test_costs_by_hand_do_not_depend_on_the_batch_size() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),  # 3x3 outputs of 4 * 9 weights
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 3, 2, stride=2),  # 3x3 inputs of 4 * 3 * 4 weights
        nn.Flatten(),
        nn.Linear(3 * 36, 5),
    )
    network[1].eval()
    wanted = Cost(36 + 4 + 8 + 48 + 3 + 540 + 5, 9 * 36 + 9 * 48 + 540)
    assert (
        cost(network, torch.zeros(1, 2, 6, 6)) == cost(network, torch.zeros(3, 2, 6, 6)) == wanted
    )
    assert network.training
    assert not network[1].training
    assert not any(layer._forward_hooks for layer in network)
