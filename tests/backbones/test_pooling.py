"""Heads from maps to vectors, encoders with these heads on images of other sizes, and pyramids of maps."""

import pytest
import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.pooling import LEVELS, SpatialSoftmax, make_head
from rlbench.errors import UserError

FIXED_LENGTH = ("gap", "spp", "spatial-softmax")
ENCODERS = [
    "nature", "impala", "resnet:units=1,width=8", "mobilenet-v2:width=0.1", "fc-densenet:growth=2",
]  # fmt: skip


def images(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_heads_by_hand() -> None:
    x = torch.arange(12.0).view(1, 2, 2, 3)
    x[0, 1, 0, 0] = 20
    assert make_head("gap", LEVELS)(x)[0].tolist() == pytest.approx([2.5, (20 + 45) / 6])
    assert make_head("flatten", LEVELS)(x).tolist() == [x.flatten().tolist()]
    # Level 1, then level 2, whose bins both contain the middle one of the three columns.
    assert make_head("spp", "1-2")(x).tolist() == [[5, 20, 1, 2, 4, 5, 20, 8, 10, 11]]


def test_the_pyramid_of_the_paper_has_21_bins() -> None:
    head = make_head("spp", LEVELS)
    for rows, columns in ((4, 4), (5, 13), (16, 7)):
        x = torch.randn(2, 3, rows, columns)
        out = head(x)
        assert out.shape == (2, 3 * 21)
        torch.testing.assert_close(out[:, :3], x.amax((2, 3)))
    x = torch.randn(1, 1, 8, 12)
    windows = x.unfold(2, 2, 2).unfold(3, 3, 3).amax((4, 5))  # ceil(a / n) is floor(a / n).
    torch.testing.assert_close(head(x)[:, 5:], windows.flatten(1))


def test_spatial_softmax_gives_rows_and_columns_of_peaks() -> None:
    x = torch.zeros(1, 3, 3, 5)
    x[0, 0, 2, 0] = x[0, 1, 0, 4] = 100
    rows, columns = SpatialSoftmax()(x).view(2, 3)
    torch.testing.assert_close(rows, torch.tensor([1.0, -1.0, 0.0]))
    torch.testing.assert_close(columns, torch.tensor([-1.0, 1.0, 0.0]))
    assert SpatialSoftmax()(torch.randn(1, 2, 1, 1)).tolist() == [[0, 0, 0, 0]]
    sure = torch.zeros(1, 1, 1, 2)
    sure[..., 1] = torch.tensor(3.0).log()  # Shares 1/4 and 3/4.
    torch.testing.assert_close(SpatialSoftmax()(sure), torch.tensor([[0.0, 0.5]]))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("head", FIXED_LENGTH)
def test_encoders_with_heads_of_fixed_length_read_images_of_any_size(kind: str, head: str) -> None:
    name = f"{kind}{',' if ':' in kind else ':'}head={head},levels=1-2"
    encoder = make_encoder(name, (48, 48, 3))
    for rows, columns in ((48, 48), (60, 44), (53, 71)):
        features = encoder(images(2, rows, columns, 3))
        assert features.shape == (2, encoder.size)
        assert features.isfinite().all()


def test_grids_of_any_size_have_the_same_number_of_features() -> None:
    encoder = make_encoder("one-hot-grid:head=spp,levels=1-2", (9, 9, 3))
    assert encoder.size == 32 * 5
    for size in (9, 13, 20):
        assert encoder(images(2, size, size, 3)).shape == (2, encoder.size)


@pytest.mark.parametrize(
    ("kind", "strides"),
    [("impala", (2, 4, 8)), ("resnet:units=1,width=4", (1, 2, 4)),
     ("resnet:units=1,width=4,stages=2", (1, 2)), ("mobilenet-v2:width=0.1", (1, 2, 4, 8, 16)),
     ("mobilenet-v2:width=0.1,stem=2", (2, 4, 8, 16, 32)), ("fc-densenet:growth=2", (1, 2, 4, 8)),
     ("fc-densenet:growth=2,pools=1", (1, 2))],
)  # fmt: skip
@pytest.mark.parametrize("last", [True, False])
def test_pyramids_have_a_map_for_each_stride(
    kind: str, strides: tuple[int, ...], last: bool
) -> None:
    encoder = make_encoder(kind, (64, 32, 3) if last else (3, 64, 32))
    for rows, columns in ((64, 32), (32, 96)):
        obs = images(2, rows, columns, 3) if last else images(2, 3, rows, columns)
        pyramid = encoder.pyramid(obs)
        assert tuple(pyramid) == strides
        for stride, x in pyramid.items():
            assert x.shape[0] == 2
            assert x.shape[2:] == (rows // stride, columns // stride)


@pytest.mark.parametrize("kind", ENCODERS[1:])
def test_features_are_the_head_of_one_of_the_maps(kind: str) -> None:
    encoder = make_encoder(kind, (3, 32, 32)).eval()
    obs = images(3, 2, 3, 32, 32)
    pyramid, features = encoder.pyramid(obs), encoder(obs)
    *_, head = encoder.layers.children()
    last = pyramid[1 if "dense" in kind else max(pyramid)]
    assert last.shape[:2] == (3, 2)
    torch.testing.assert_close(head(last.flatten(0, 1)), features.flatten(0, 1))


def test_encoders_without_maps_refuse_a_pyramid() -> None:
    with pytest.raises(UserError, match="this encoder has no pyramid of maps; use mobilenet-v2"):
        make_encoder("nature", (3, 36, 36)).pyramid(images(1, 3, 36, 36))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet:head=spp,levels=1-9", "finest level has 9x9 bins, but the map has 8x8 pixels"),
        ("impala:head=mean", "head of impala is 'mean'; give one of gap, spp, spatial-softmax"),
        (
            "impala:head=spp,levels=1-x",
            "levels is '1-x'; give whole numbers, 1 or more, as in 1-2-4",
        ),
        ("impala:head=spp,levels=0", "levels is '0'; give whole numbers"),
        ("resnet:,units=1", "there is no option '' of the encoder resnet"),
        ("resnet:gate_bias=nan", "gate_bias of resnet is nan; give a finite number"),
        (
            "resnet:width=1000000000000",
            "is too large for the memory, with observations of shape",
        ),
        ("mobilenet-v2:width=1e300", "is too large for the memory"),
        ("sigmoid-mlp:units=9000000000000000", "is too large for the memory"),
        ("impala:padding=resize,side=10000000", "is too large for the memory"),
        ("nature:norm=batch", "norm of nature is 'batch'; give one of bn, gn, none"),
        ("mobilenet-v2:width=0", "width of mobilenet-v2 is 0.0; give a number above 0"),
        ("mobilenet-v2:width=nan", "width of mobilenet-v2 is nan; give a number above 0"),
        ("mobilenet-v2:stem=0", "stem of mobilenet-v2 is 0; give 1 or more"),
        ("mobilenet-v2:shortcut=all", "give one of bottleneck, expansion, none"),
        ("fc-densenet:layers=2-3", "has 2 numbers, but 3 pools make 7 blocks; give 1 or 7 numbers"),
        ("fc-densenet:dropout=1", "dropout of fc-densenet is 1.0; give 0 or more and below 1"),
        ("fc-densenet:pools=0", "pools of fc-densenet is 0; give 1 or more"),
        ("fc-densenet:pools=6", "too small for the encoder fc-densenet:pools=6"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_encoder(name, (3, 32, 32))


def test_images_too_small_for_the_pyramid_are_refused_when_they_are_read() -> None:
    encoder = make_encoder("resnet:units=1,width=4,head=spp", (3, 16, 16))
    assert encoder.size == 16 * 21
    assert isinstance(encoder, nn.Module)
    with pytest.raises(UserError, match="but the map has 3x4 pixels; give larger observations"):
        encoder(images(1, 3, 12, 16))
