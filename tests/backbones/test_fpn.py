"""Feature pyramid network: the equations by hand, its variants, odd sizes, bad options."""

import pytest
import torch
import torch.nn.functional as F

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.fpn import FPN
from rlbench.errors import UserError

OF = "conv4/layers=3/width=6/norm=gn"
OBS = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


def network(options: str = "") -> FPN:
    layers = make_encoder(f"fpn:of={OF},width=5{options}", (3, 32, 32)).layers
    assert isinstance(layers, FPN)
    return layers


def test_maps_are_those_of_the_equations() -> None:
    layers, x = network(), OBS / 255
    c2, c4, c8 = layers.bottom_up.maps(x)
    m8 = layers.lateral["8"](c8)
    m4 = layers.lateral["4"](c4) + m8.repeat_interleave(2, 2).repeat_interleave(2, 3)
    m2 = layers.lateral["2"](c2) + m4.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = [layers.out[k](m) for k, m in (("2", m2), ("4", m4), ("8", m8))]
    for found, own in zip(layers.maps(x), wanted, strict=True):
        torch.testing.assert_close(found, own)
    features = layers(x)
    assert features.shape == (2, 15)
    torch.testing.assert_close(features[:, 5:10], wanted[1].mean((2, 3)))


def test_the_pyramid_has_all_strides_with_equal_channels() -> None:
    encoder = make_encoder(f"fpn:of={OF},width=5", (3, 32, 32))
    maps = encoder.pyramid(OBS)
    assert {k: x.shape for k, x in maps.items()} == {
        2: (2, 5, 16, 16), 4: (2, 5, 8, 8), 8: (2, 5, 4, 4),
    }  # fmt: skip
    count = sum(x.numel() for x in network().lateral.parameters())
    assert count == 3 * (6 * 5 + 5)


def test_without_the_way_down_a_map_depends_on_its_own_stride_alone() -> None:
    layers, x = network(",paths=lateral"), OBS / 255
    maps = layers.bottom_up.maps(x)
    for stride, own, found in zip(("2", "4", "8"), maps, layers.maps(x), strict=True):
        torch.testing.assert_close(found, layers.out[stride](layers.lateral[stride](own)))


def test_without_laterals_every_map_comes_from_the_coarsest() -> None:
    layers, x = network(",paths=top-down"), OBS / 255
    assert [*layers.lateral] == ["8"]
    coarsest = layers.lateral["8"](layers.bottom_up.maps(x)[-1])
    large = F.interpolate(coarsest, scale_factor=4, mode="nearest")
    torch.testing.assert_close(layers.maps(x)[0], layers.out["2"](large))


def test_a_single_map_is_that_of_the_whole_pyramid() -> None:
    whole, one = network(), network(",only=4")
    assert one.strides == (4,)
    assert [*one.lateral] == ["4", "8"], "the finest map is not read"
    one.load_state_dict(whole.state_dict(), strict=False)
    torch.testing.assert_close(one.maps(OBS / 255)[0], whole.maps(OBS / 255)[1])


def test_weights_begin_as_in_the_authors_code() -> None:
    layers = network()
    for layer in (*layers.lateral.values(), *layers.out.values()):
        assert isinstance(layer, torch.nn.Conv2d)
        assert layer.bias is not None
        assert not layer.bias.any()
        bound = (6 / (layer.weight[0].numel() + layer.weight[:, 0].numel())) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.7 * bound


def test_images_of_odd_sizes() -> None:
    encoder = make_encoder(f"fpn:of={OF},width=5", (29, 45, 3))
    maps = encoder.pyramid(torch.zeros(1, 29, 45, 3))
    assert [tuple(x.shape[2:]) for x in maps.values()] == [(14, 22), (7, 11), (3, 5)]


def test_maps_of_other_encoders_are_equally_wide() -> None:
    for of in ("resnet/units=1/width=4", "impala", "mobilenet-v2/width=0.1"):
        maps = make_encoder(f"fpn:of={of},width=7", (3, 32, 32)).pyramid(OBS)
        assert {x.shape[1] for x in maps.values()} == {7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("of=flatten", "takes anything; give one for images"),
        ("of=nature", "has no pyramid of maps; give conv4"),
        ("of=conv5", "conv4"),
        ("of=conv4/depth=2", "there is no option 'depth'"),
        ("width=0", "width of fpn is 0"),
        ("only=16", r"has maps with strides \[2, 4, 8\]; give one of these, or 0 for all"),
        ("paths=up", "paths"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_encoder(f"fpn:{options}", (3, 32, 32))
