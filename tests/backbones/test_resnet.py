"""Residual networks: units against their equations, shapes, parameters, options."""

from itertools import product
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.encoders import kind_of, make_encoder
from rlbench.backbones.encoders.resnet import Order, Shortcut, Unit, resnet_layers
from rlbench.errors import UserError

ORDERS, SHORTCUTS = get_args(Order), get_args(Shortcut)


def unit(order: Any = "original", shortcut: Any = "identity", **settings: Any) -> Any:
    options: dict[str, Any] = {
        "channels": 8,
        "width": 8,
        "stride": 1,
        "block": "basic",
        "norm": "gn",
    } | settings
    torch.manual_seed(0)
    made = Unit(**options, order=order, shortcut=shortcut, gate_bias=-1.0)
    with torch.no_grad():  # Affine maps that are not the identity.
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def images(channels: int = 8, size: int = 6) -> Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("order", ORDERS)
def test_a_unit_is_its_order_of_normalisation_relu_and_convolution(order: Any) -> None:
    made, x = unit(order), images()
    (c1, c2), (n1, n2) = made.convolutions, made.norms
    wanted = {
        "original": lambda: (x + n2(c2(n1(c1(x)).relu()))).relu(),
        "norm-after-addition": lambda: n2(x + c2(n1(c1(x)).relu())).relu(),
        "relu-before-addition": lambda: x + n2(c2(n1(c1(x)).relu())).relu(),
        "relu-preactivation": lambda: x + n2(c2(n1(c1(x.relu())).relu())),
        "full-preactivation": lambda: x + c2(n2(c1(n1(x).relu())).relu()),
    }[order]()
    torch.testing.assert_close(made(x), wanted)


def test_a_bottleneck_is_three_convolutions_with_the_stride_at_the_middle_one() -> None:
    made, x = unit(block="bottleneck", channels=32), images(32)
    (c1, c2, c3), (n1, n2, n3) = made.convolutions, made.norms
    wanted = (x + n3(c3(n2(c2(n1(c1(x)).relu())).relu()))).relu()
    torch.testing.assert_close(made(x), wanted)
    assert [c.kernel_size[0] for c in made.convolutions] == [1, 3, 1]
    halving = unit(block="bottleneck", channels=32, stride=2)
    assert [c.stride[0] for c in halving.convolutions] == [1, 2, 1]


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_is_what_the_paper_says(shortcut: Any) -> None:
    made, x = unit("full-preactivation", shortcut).eval(), images()
    (c1, c2), (n1, n2) = made.convolutions, made.norms
    residual = c2(n2(c1(n1(x).relu())).relu())
    gate = made.gate(x).sigmoid() if "gate" in shortcut else torch.zeros(())
    wanted = {
        "identity": x + residual,
        "none": residual,
        "scale": x / 2 + residual,
        "scale-both": x / 2 + residual / 2,
        "exclusive-gate": (1 - gate) * x + gate * residual,
        "shortcut-gate": (1 - gate) * x + residual,
        "conv": (made.mapping(x) if shortcut == "conv" else x) + residual,
        "dropout": x / 2 + residual,
    }[shortcut]
    torch.testing.assert_close(made(x), wanted)


def test_dropout_drops_half_of_the_shortcut_and_does_not_scale_the_rest() -> None:
    made, x = unit("full-preactivation", "dropout"), images(size=32)
    made.train()
    with torch.no_grad():
        (c1, c2), (n1, n2) = made.convolutions, made.norms
        skipped = made(x) - c2(n2(c1(n1(x).relu())).relu())
        kept = skipped.abs() > 1e-3
        torch.testing.assert_close(skipped[kept], x[kept], atol=1e-4, rtol=1e-4)
        assert kept.float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("bias", [-6.0, 0.0])
def test_gates_begin_open_where_their_bias_is_below_zero(bias: float) -> None:
    made = Unit(8, 8, 1, "basic", "gn", "shortcut-gate", "original", bias)
    nn.init.zeros_(made.gate.weight)
    assert made.gate(images()).sigmoid().mean().item() == pytest.approx(
        1 / (1 + 2.718281828**-bias)
    )


def test_with_identities_the_last_stage_is_the_sum_of_all_residuals() -> None:
    net: Any = resnet_layers(3, units=4, width=8, stages=1, order="full-preactivation")
    x = net.first(images(3))
    total, seen = x, x
    for each in net.stages[0]:
        total = total + each._residual(each.norms[0](seen).relu())
        seen = each(seen)
    torch.testing.assert_close(seen, total)
    assert (seen < 0).any()  # No ReLU after the addition.


@pytest.mark.parametrize(("order", "shared"), [("full-preactivation", True), ("original", False)])
def test_a_unit_that_changes_its_shape_projects(order: Any, shared: bool) -> None:
    made, x = unit(order, channels=8, width=16, stride=2), images()
    assert made.projection is not None
    if shared:  # One normalisation before both branches, and none after the projection.
        active = made.norms[0](x).relu()
        first, second = made.convolutions
        residual = second(made.norms[1](first(active)).relu())
        torch.testing.assert_close(
            made(x),
            F.conv2d(active, made.projection.weight, stride=2) + residual,
        )
    assert made(x).shape == (3, 16, 3, 3)
    assert isinstance(made.projection, nn.Conv2d) == shared


def test_parameters_are_those_of_the_paper() -> None:
    def count(width: int, units: int) -> int:
        total = 3 * 9 * width + 2 * width
        size = width
        for stage in range(3):
            out = width * 2**stage
            for _ in range(units):
                total += 9 * size * out + 9 * out * out + 4 * out
                if size != out:
                    total += size * out + 2 * out
                size = out
        return total

    net = resnet_layers(3)
    assert sum(p.numel() for p in net.parameters()) == count(16, 3) == 271_824  # 0.27 M, table 6
    convolutions = [
        x for x in net.modules() if isinstance(x, nn.Conv2d) and x.kernel_size == (3, 3)
    ]
    assert len(convolutions) == 6 * 3 + 1
    assert all(x.bias is None for x in net.modules() if isinstance(x, nn.Conv2d))


@pytest.mark.parametrize(("shape", "size"), [((3, 64, 64), 64), ((7, 7, 3), 64), ((4, 33, 20), 64)])
def test_features_of_images_of_any_size(shape: tuple[int, ...], size: int) -> None:
    encoder = make_encoder("resnet:units=1", shape)
    assert encoder.size == size
    obs = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    assert encoder(obs).shape == (2, size)


def test_maps_have_the_strides_one_two_and_four() -> None:
    net = resnet_layers(3, units=1, width=4)
    assert [tuple(x.shape[1:]) for x in net.maps(images(3, 16))] == [
        (4, 16, 16), (8, 8, 8), (16, 4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "order", "shortcut"), [*product(("basic", "bottleneck"), ORDERS, SHORTCUTS)]
)
def test_all_units_learn(block: Any, order: Any, shortcut: Any) -> None:
    net = resnet_layers(3, units=2, width=4, stages=2, block=block, order=order, shortcut=shortcut)
    x = images(3)
    net(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_without_normalisation_convolutions_have_biases() -> None:
    net = resnet_layers(3, units=1, width=4, norm="none")
    assert all(x.bias is not None for x in net.modules() if isinstance(x, nn.Conv2d))
    assert not any(isinstance(x, nn.GroupNorm) for x in net.modules())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet:units=0", "units of resnet is 0; give 1 or more"),
        ("resnet:norm=batch", "norm of resnet is 'batch'; give one of bn, gn, none"),
        ("resnet:depth=20", "there is no option 'depth' of the encoder resnet; it has units"),
        ("resnet:units=two", "units of the encoder resnet is 'two'; give a whole number"),
        ("resnet:gate_bias=x", "gate_bias of the encoder resnet is 'x'; give a number"),
        (
            "flatten:units=1",
            "there is no option 'units' of the encoder flatten, which has no options",
        ),
        ("resnets", "there is no encoder 'resnets'; did you mean resnet?"),
        ("", "there is no encoder ''; give one of flatten"),
    ],
)
def test_wrong_names_and_options_are_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_encoder(name, (3, 16, 16))


def test_options_win_over_those_that_a_name_stands_for() -> None:
    assert kind_of("resnet56")[1] == {"units": 9}
    assert kind_of("resnet20:units=1,norm=none,gate_bias=-3")[1] == {
        "units": 1, "norm": "none", "gate_bias": -3.0,
    }  # fmt: skip
