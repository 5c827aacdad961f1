"""Encoders: sizes, channels and scales."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.grid import OneHot
from rlbench.backbones.heads.noisy import normalise_rows
from rlbench.backbones.optim import SGD, Adam, gradient_step
from rlbench.backbones.spaces import suited_encoder
from rlbench.errors import UserError


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("kind", "shape", "size", "count"),
    [
        ("flatten", (3, 4), 12, 0),
        # 3*16*4 + 16, 16*32*4 + 32, 32*32*4 + 32; ((11 - 1) // 2 - 2)^2 * 32
        ("grid", (11, 11, 3), 288, 208 + 2080 + 4128),
        ("grid", (9, 9, 3), 128, 208 + 2080 + 4128),
        ("grid", (10, 10, 7), 128, 464 + 2080 + 4128),
        # 4*32*64 + 32, 32*64*16 + 64, 64*64*9 + 64; 84 -> 20 -> 9 -> 7
        ("nature", (4, 84, 84), 3136, 8224 + 32832 + 36928),
        ("nature", (64, 64, 3), 1024, 6176 + 32832 + 36928),
        ("impala", (3, 64, 64), 2048, 97_600),
        ("impala", (64, 64, 3), 2048, 97_600),
        # 9*64, 3 * 9*64*64, and two numbers for each of 4 * 64 channels; 20 -> 10 -> 5 -> 2 -> 1
        ("conv4", (20, 20, 1), 64, 576 + 3 * 36_864 + 512),
        ("conv4:width=8,layers=2,norm=none", (3, 9, 9), 32, 216 + 8 + 576 + 8),
    ],
)
def test_features_and_parameters(kind: Any, shape: Any, size: int, count: int) -> None:
    encoder = make_encoder(kind, shape)
    assert encoder.size == size
    assert parameters(encoder) == count
    obs = torch.randint(0, 11, (2, *shape), dtype=torch.uint8)
    assert encoder(obs).shape == (2, size)


def test_impala_with_a_layer_of_512_has_the_published_number_of_parameters() -> None:
    encoder = make_encoder("impala", (3, 64, 64))
    total = parameters(encoder) + parameters(nn.Linear(encoder.size, 512))
    assert total == 1_146_688  # 1.15 M


@pytest.mark.parametrize("kind", ["nature", "impala"])
def test_channels_may_be_first_or_last_and_values_bytes_or_floats(kind: Any) -> None:
    torch.manual_seed(0)
    first = make_encoder(kind, (3, 64, 64))
    torch.manual_seed(0)
    last = make_encoder(kind, (64, 64, 3))
    obs = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    features = first(obs)
    torch.testing.assert_close(last(obs.permute(0, 2, 3, 1)), features)
    assert torch.equal(first(obs.float()), features)


def test_conv4_is_what_few_shot_learning_uses_and_has_maps() -> None:
    encoder = make_encoder("conv4:width=8", (1, 28, 28))
    theirs = nn.Sequential()
    for channels in (1, 8, 8, 8):
        theirs += nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )  # fmt: skip
    theirs.append(nn.Flatten())
    for own, other in zip(encoder.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(own.data)
    obs = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(encoder(obs), theirs(obs / 255))
    maps = encoder.pyramid(obs)
    assert {stride: tuple(x.shape) for stride, x in maps.items()} == {
        2: (3, 8, 14, 14), 4: (3, 8, 7, 7), 8: (3, 8, 3, 3), 16: (3, 8, 1, 1),
    }  # fmt: skip
    for words, name in (
        ("layers of conv4 is 0", "conv4:layers=0"),
        ("too small", "conv4:layers=5"),
    ):
        with pytest.raises(UserError, match=words):
            make_encoder(name, (1, 28, 28))


def test_images_are_scaled_to_one_and_grids_are_not() -> None:
    cases: list[tuple[Any, tuple[int, ...], float]] = [
        ("nature", (3, 64, 64), 255.0),
        ("impala", (3, 64, 64), 255.0),
        ("grid", (3, 11, 11), 1.0),
    ]
    for kind, shape, scale in cases:
        encoder: Any = make_encoder(kind, shape if kind != "grid" else (11, 11, 3))
        obs = torch.rand(1, *shape)
        given = scale * obs if kind != "grid" else obs.permute(0, 2, 3, 1)
        torch.testing.assert_close(encoder(given), encoder.layers(obs))


@pytest.mark.parametrize(
    ("kind", "shape"), [("grid", (11, 11)), ("impala", (9, 64, 64)), ("nature", (3, 10, 10))]
)
def test_shapes_that_do_not_fit_are_refused_in_one_sentence(kind: Any, shape: Any) -> None:
    with pytest.raises(UserError, match=f"encoder {kind}"):
        make_encoder(kind, shape)


def test_rows_of_linear_layers_get_length_one() -> None:
    convolution, linear = nn.Conv2d(1, 2, 2), nn.Linear(8, 5)
    before = convolution.weight.clone()
    normalise_rows(nn.Sequential(convolution, nn.Flatten(), linear))
    torch.testing.assert_close(linear.weight.norm(dim=1), torch.ones(5))
    assert (linear.bias == 0).all()
    assert torch.equal(convolution.weight, before)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("grid", (4, 84, 84)), ("one-hot-grid", (10, 10, 7)), ("nature", (84, 84, 7))],
)
def test_only_grids_may_have_any_number_of_channels(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"takes (images|grids)(,| with 1, 3 or 4) channels"):
        make_encoder(kind, shape)


def test_cells_become_one_hot_channels() -> None:
    grid = torch.tensor([[10.0, 0.0, 3.0], [2.0, 5.0, 0.0]]).view(1, 1, 2, 3).permute(0, 3, 1, 2)
    channels = OneHot()(grid)
    assert channels.shape == (1, 21, 1, 2)
    assert channels[0, :, 0, 0].nonzero().flatten().tolist() == [10, 11, 11 + 6 + 3]
    assert channels[0, :, 0, 1].nonzero().flatten().tolist() == [2, 11 + 5, 11 + 6]
    assert make_encoder("one-hot-grid", (9, 9, 3)).size == 128
    assert make_encoder("one-hot-grid:pool=none", (7, 7, 3)).size == 512
    assert make_encoder("grid", (7, 7, 3)).size == 32


def test_a_cell_of_an_unknown_kind_has_no_channel() -> None:
    channels = OneHot()(torch.tensor([200.0, 6.0, 4.0]).view(1, 3, 1, 1))
    assert channels.shape == (1, 21, 1, 1)
    assert (channels == 0).all()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("one-hot-grid", (9, 9, 3)), ("impala", (16, 16, 3)), ("nature", (36, 36, 3))],
)
@pytest.mark.parametrize(("ours", "pytorchs"), [(Adam, torch.optim.Adam), (SGD, torch.optim.SGD)])
def test_a_step_follows_the_gradient_whatever_the_order_of_the_pixels(
    kind: Any, shape: tuple[int, ...], ours: Any, pytorchs: Any
) -> None:
    # Convolutions give gradients in the order of their inputs, which need not be the parameters'.
    torch.manual_seed(0)
    encoder = make_encoder(kind, shape)
    theirs = copy.deepcopy(encoder)
    obs = torch.randint(0, 4, (5, *shape), dtype=torch.uint8)
    mine, reference = ours(encoder.parameters(), 0.01), pytorchs(theirs.parameters(), lr=0.01)
    for _ in range(2):
        gradient_step(mine, encoder(obs).square().sum())
        reference.zero_grad()
        theirs(obs).square().sum().backward()
        reference.step()
    for own, other in zip(encoder.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_the_width_of_nature_multiplies_its_filters() -> None:
    wide, plain = (make_encoder(f"nature{x}", (3, 36, 36)) for x in (":width=1.5", ""))
    shapes = [[x.shape[:2] for x in made.parameters() if x.dim() == 4] for made in (plain, wide)]
    assert shapes == [[(32, 3), (64, 32), (64, 64)], [(48, 3), (96, 48), (96, 96)]]
    with pytest.raises(UserError, match="width of nature is 0"):
        make_encoder("nature:width=0", (3, 36, 36))


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((7, 7, 3), "grid"), ((10, 10, 7), "grid"), ((7, 15, 3), "grid"), ((16, 16, 4), "impala"),
        ((3, 16, 20), "impala"), ((3, 15, 20), "flatten"), ((6, 15, 3), "flatten"), ((5, 7, 3), "flatten"), ((64, 64, 2), "flatten"),
        ((64, 64, 1), "impala"), ((64, 64), "flatten"), ((2, 3, 4, 5), "flatten"),
    ],
)  # fmt: skip
def test_the_suited_encoder_reads_observations(shape: tuple[int, ...], name: str) -> None:
    assert suited_encoder(shape) == name
    encoder = make_encoder(name, shape)
    assert encoder(torch.zeros(2, *shape)).shape == (2, encoder.size)


def test_images_may_be_two_frames_with_their_channels_last() -> None:
    encoder = make_encoder("nature", (64, 64, 6))
    obs = torch.randint(256, (2, 64, 64, 6), dtype=torch.uint8)
    assert encoder(obs).shape == (2, encoder.size)
    assert suited_encoder((64, 64, 6)) == "impala"
    for name, shape in (("nature", (6, 64, 64)), ("one-hot-grid", (10, 10, 6))):
        with pytest.raises(UserError, match="channels"):
            make_encoder(name, shape)


def test_an_encoder_of_grids_names_one_for_images() -> None:
    with pytest.raises(
        UserError, match="with 1, 3 or 4 channels, channels last; give the encoder impala"
    ):
        make_encoder("one-hot-grid", (3, 84, 84))
    with pytest.raises(UserError, match="takes grids, channels last; give the encoder impala"):
        make_encoder("grid", (3, 84, 84))
