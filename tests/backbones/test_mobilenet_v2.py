"""MobileNetV2: units against their equations, published sizes, and gradients of all parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.architecture import rounded
from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.mobilenet_v2 import InvertedResidual, mobilenet_v2_layers
from rlbench.backbones.layers.cost import cost


def unit(**settings: Any) -> InvertedResidual:
    torch.manual_seed(0)
    options = {"channels": 8, "out": 8, "stride": 1, "expansion": 3, "norm": "gn"} | settings
    made = InvertedResidual(**options)  # type: ignore[arg-type]
    with torch.no_grad():  # Normalisations whose affine maps are not the identity.
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def images(channels: int = 8) -> Tensor:
    return 3 * torch.randn(2, channels, 5, 5, generator=torch.Generator().manual_seed(1))


def parts(made: InvertedResidual, x: Tensor) -> tuple[Tensor, Tensor, Any]:
    """The expansion, its output from the depthwise convolution, and the linear projection as a function."""
    expand: Any = made.expand
    expanded = expand[1](expand[0](x)).clamp(0, 6)
    filtered = made.filter[1](made.filter[0](expanded)).clamp(0, 6)
    return expanded, filtered, lambda y: made.project[1](made.project[0](y))


def test_a_unit_expands_filters_and_projects_linearly() -> None:
    made, x = unit(), images()
    _, filtered, project = parts(made, x)
    torch.testing.assert_close(made(x), x + project(filtered))
    assert made.filter[0].weight.shape == (24, 1, 3, 3)
    assert (made(x) < 0).any()


def test_the_ablations_change_one_thing_each() -> None:
    x = images()
    made = unit(shortcut="none")
    _, filtered, project = parts(made, x)
    torch.testing.assert_close(made(x), project(filtered))
    made = unit(shortcut="expansion")
    expanded, filtered, project = parts(made, x)
    torch.testing.assert_close(made(x), project(expanded + filtered))
    made = unit(bottleneck="relu6", shortcut="bottleneck")
    _, filtered, project = parts(made, x)
    torch.testing.assert_close(made(x), x + project(filtered).clamp(0, 6))


@pytest.mark.parametrize("settings", [{"stride": 2}, {"out": 16}])
@pytest.mark.parametrize("shortcut", ["bottleneck", "expansion"])
def test_a_unit_that_changes_its_shape_has_no_shortcut(settings: Any, shortcut: str) -> None:
    made, x = unit(**settings, shortcut=shortcut), images()
    _, filtered, project = parts(made, x)
    torch.testing.assert_close(made(x), project(filtered))
    assert made(x).shape[2:] == ((3, 3) if "stride" in settings else (5, 5))


def test_without_expansion_there_is_no_first_convolution() -> None:
    made, x = unit(expansion=1), images()
    assert len([m for m in made.modules() if isinstance(m, nn.Conv2d)]) == 2
    filtered = made.filter[1](made.filter[0](x)).clamp(0, 6)
    torch.testing.assert_close(made(x), x + made.project[1](made.project[0](filtered)))


def test_multiply_adds_of_a_unit_follow_the_papers_formula() -> None:
    made = unit(out=16, expansion=6)
    assert cost(made, images()).multiply_adds == 5 * 5 * 6 * 8 * (8 + 9 + 16)


def test_the_papers_network_has_the_published_size_and_cost() -> None:
    encoder = make_encoder("mobilenet-v2:stem=2,norm=bn", (3, 224, 224))
    total = cost(nn.Sequential(encoder, nn.Linear(encoder.size, 1000)), torch.zeros(1, 3, 224, 224))
    # torchvision documents 3504872 parameters and 0.30 billion multiply-adds; the paper 3.4 M and 300 M.
    assert total.parameters == 3_504_872
    assert total.multiply_adds == 300_774_272
    shapes = {s: tuple(x.shape[1:]) for s, x in encoder.pyramid(torch.zeros(1, 3, 64, 64)).items()}
    assert shapes == {
        2: (16, 32, 32), 4: (24, 16, 16), 8: (32, 8, 8), 16: (96, 4, 4), 32: (1280, 2, 2),
    }  # fmt: skip


def test_channels_are_multiples_of_eight_and_never_below_nine_tenths() -> None:
    for channels in range(1, 400):
        for width in (0.35, 0.5, 0.75, 1.0, 1.4):
            found = rounded(channels * width)
            assert found % 8 == 0
            assert found >= max(8, 0.9 * channels * width)
            assert found <= max(8, channels * width + 8)
    assert [rounded(x) for x in (11.2, 12, 19.9, 20, 32)] == [16, 16, 24, 24, 32]


def test_the_width_multiplies_all_channels_but_does_not_shrink_the_last() -> None:
    narrow, wide = mobilenet_v2_layers(3, width=0.5), mobilenet_v2_layers(3, width=1.4)
    x = torch.zeros(1, 3, 16, 16)
    assert [m.shape[1] for m in narrow.maps(x)] == [8, 16, 16, 48, 1280]
    assert [m.shape[1] for m in wide.maps(x)] == [24, 32, 48, 136, 1792]


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_all_parameters_learn_and_deep_maps_keep_their_scale(norm: Any) -> None:
    torch.manual_seed(0)
    net = mobilenet_v2_layers(3, width=0.1, norm=norm)
    out = net(torch.rand(4, 3, 32, 32))
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert 1e-4 < out.std().item() < 10
    biases = [x.bias is not None for x in net.modules() if isinstance(x, nn.Conv2d)]
    assert set(biases) == {norm == "none"}
