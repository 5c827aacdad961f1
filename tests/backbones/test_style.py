"""Style transfer: losses by hand, the search for pixels, the network that redraws."""

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlbench.backbones.analyses import style as analysis
from rlbench.backbones.analyses.style import (
    Job,
    Style,
    StyleConfig,
    correlation,
    encoder_of,
    jobs,
    picture_of,
    transferred,
)
from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.painter import Painter, Styled
from rlbench.backbones.layers.style import content_loss, gram, style_loss
from rlbench.backbones.models import style_network
from rlbench.backbones.models.style_network import StyleNetwork, StyleNetworkConfig
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.photographs import photograph, scaled

SIDE = 8
VGG = "vgg:width=4,blocks=2"


def drawing(name: str) -> np.ndarray[Any, Any]:
    """A picture in place of a photograph, 16x16: stripes for a brick, noise for everything else."""
    rng = np.random.default_rng(len(name))
    found = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
    if name == "brick":
        found[:] = 80 * (np.arange(16) % 4)[:, None, None]
    return found


@pytest.fixture(autouse=True)
def _drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "photograph", drawing)
    monkeypatch.setattr(style_network, "photograph", drawing)


def encoder(name: str = VGG, shape: tuple[int, ...] = (SIDE, SIDE, 3)) -> Any:
    torch.manual_seed(0)
    return make_encoder(name, shape).eval()


def test_losses_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    assert gram(maps).tolist() == [[[2.5, 1.5], [1.5, 4.5]]]
    target = torch.tensor([[[2.5, 0.5], [0.5, 3.5]]])
    # (0 + 1 + 1 + 1) / (6.25 + 0.25 + 0.25 + 12.25); the second layer fits its target.
    other = torch.ones(1, 1, 2, 3)
    assert float(style_loss([maps, other], [target, gram(other)])) == pytest.approx(3 / 19 / 2)
    wanted = torch.tensor([[[[1.0, 0.0]], [[2.0, 2.0]]]])
    assert content_loss(maps, wanted).tolist() == pytest.approx([(4 + 1 + 4) / 9])
    assert content_loss(0 * maps, maps).tolist() == style_loss([0 * maps], [gram(maps)]).tolist() == [1.0]  # fmt: skip
    with pytest.raises(ValueError, match="expected one shape"):
        content_loss(maps, wanted[..., :1])


def test_gram_matrices_do_not_depend_on_places_nor_on_the_size() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator)
    moved = maps.flatten(2)[..., torch.randperm(20, generator=generator)].view_as(maps)
    torch.testing.assert_close(gram(moved), gram(maps))
    torch.testing.assert_close(gram(torch.cat([maps, maps], dim=3)), gram(maps))
    assert float(style_loss([moved], [gram(maps)]).max()) < 1e-9


def test_the_maps_of_vgg_by_hand() -> None:
    network = encoder("vgg:width=2,blocks=2,pool=max", (6, 6, 1))
    first, second = network.layers.blocks
    assert [x.weight.shape[0] for x in (first[1], first[5], second[1], second[5])] == [2, 2, 4, 4]
    assert not any(x.bias.any() for x in (first[1], first[5], second[1], second[5]))
    obs = torch.randint(256, (1, 6, 6, 1), dtype=torch.uint8)

    def block(x: Tensor, layers: Any) -> Tensor:
        for conv in (layers[1], layers[5]):
            padded = np.pad(x[0].detach().numpy(), ((0, 0), (1, 1), (1, 1)), "reflect")
            x = torch.relu(nn.functional.conv2d(torch.from_numpy(padded)[None], conv.weight))
        return x

    fine = block(obs.permute(0, 3, 1, 2) / 255 - 0.449, first)
    for pool, kind in (("max", nn.MaxPool2d), ("average", nn.AvgPool2d)):
        network = encoder(f"vgg:width=2,blocks=2,pool={pool}", (6, 6, 1))
        found = network.pyramid(obs)
        assert [*found] == [1, 2]
        torch.testing.assert_close(found[1], fine, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[2], block(kind(2)(fine), second), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="blocks of vgg is 0"):
        make_encoder("vgg:blocks=0", (8, 8, 3))


def search(
    weight: float, network: Any, *, start: Tensor | None = None, iterations: int = 30
) -> tuple[Tensor, float, float]:
    """A picture, its content loss and its style loss."""
    content = picture_of("chelsea", None, SIDE, True)

    def features(x: Tensor) -> Any:
        return network.pyramid(255 * x)

    with torch.no_grad():
        wanted = features(content)[2]
        grams = [gram(x) for x in features(picture_of("brick", None, SIDE, True)).values()]
    begin = content if start is None else start
    made = transferred(features, begin, wanted, grams, Job("brick", weight, 2), 20.0, iterations)
    with torch.no_grad():
        maps = features(made)
        return made, float(content_loss(maps[2], wanted)), float(style_loss(list(maps.values()), grams))  # fmt: skip


def test_a_larger_content_weight_keeps_more_content_and_less_style() -> None:
    network = encoder()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():  # As in `rlbench analyse`.
        found = [search(weight, network)[1:] for weight in (0.1, 10.0, 1000.0)]
    content, style = zip(*found, strict=True)
    assert content[0] > content[1] > content[2]
    assert style[0] < style[1] < style[2]
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_the_search_takes_pictures_in_any_memory_order_and_stays_between_black_and_white() -> None:
    network = encoder()
    noise = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    start = noise.permute(0, 2, 3, 1)
    assert not start.is_contiguous()
    made, _, style = search(1.0, network, start=start)
    again, *_ = search(1.0, network, start=start.contiguous())
    assert torch.equal(made, again)
    assert 0 <= float(made.min()) < float(made.max()) <= 1
    assert style < 0.6 * search(1.0, network, start=start, iterations=1)[2]
    assert not torch.equal(start, made)


def test_each_style_and_then_the_other_settings_of_the_first() -> None:
    config = StyleConfig(styles=("a", "b"), content_weights=(1.0, 5.0), content_strides=(4, 2))
    found = [(x.style, x.content_weight, x.stride) for x in jobs(config, [1, 2, 4])]
    assert found == [("a", 1, 4), ("b", 1, 4), ("a", 5, 4), ("a", 1, 2)]
    assert [x.stride for x in jobs(StyleConfig(styles=("a",)), [1, 2, 8])] == [8]
    with pytest.raises(
        UserError, match="content_strides has 3, but the encoder has maps of the strides 1, 2"
    ):
        list(jobs(StyleConfig(content_strides=(3,)), [1, 2]))


class Subject:
    """A learner with an encoder."""

    device = torch.device("cpu")

    def __init__(self, name: str = VGG, shape: tuple[int, ...] = (SIDE, SIDE, 3)) -> None:
        self.encoder = encoder(name, shape)


def analysed(config: StyleConfig, subject: Any, obs: Tensor | None = None) -> Any:
    examples = {} if obs is None else {"frames": Examples({"obs": obs})}
    with torch.no_grad():
        return Style(config).analyse([subject], examples)


def test_findings_of_photographs_and_frames() -> None:
    from PIL import Image

    obs = torch.randint(
        256, (3, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    config = StyleConfig(
        content="test:2", styles=("brick", "grass"), iterations=20, side=SIDE, content_weights=(1.0, 50.0),
        content_strides=(2, 1),
    )  # fmt: skip
    found = analysed(config, Subject(), obs)
    columns = found.columns
    assert columns["style"].tolist() == ["brick", "grass", "brick", "brick"]
    assert columns["picture"].shape == (4, SIDE, SIDE, 3)
    assert columns["distances"].shape == (4, 2)
    own = columns["distances"][np.arange(4), [0, 1, 0, 0]]
    assert own.tolist() == columns["style_loss"].tolist()
    assert (columns["style_loss"] < columns["start_loss"]).all()
    assert (
        found.numbers["brick, content weight 50, stride 2: content loss"]
        == columns["content_loss"][2]
    )
    sheet = np.asarray(Image.open(io.BytesIO(found.files["pictures.png"])))
    assert sheet.shape == (4 * SIDE, 10 * SIDE, 3)
    np.testing.assert_array_equal(
        sheet[: 2 * SIDE : 2, : 2 * SIDE : 2], scaled(obs[2].numpy(), SIDE)
    )
    np.testing.assert_array_equal(
        sheet[2 * SIDE :: 2, 4 * SIDE : 6 * SIDE : 2], columns["picture"][1]
    )
    # Noise is further from the content than the content itself.
    noisy = analysed(StyleConfig(content="test:2", styles=("brick",), iterations=1, side=SIDE, start="noise"), Subject(), obs)  # fmt: skip
    assert noisy.columns["correlation"][0] < columns["correlation"][0]


def test_channels_may_come_first() -> None:
    torch.manual_seed(0)
    last, first = Subject(), Subject(shape=(3, SIDE, SIDE))
    config = StyleConfig(content="chelsea", styles=("brick",), iterations=5, side=SIDE)
    one, other = (analysed(config, x).columns for x in (last, first))
    assert one["layout"][0] == pytest.approx(other["layout"][0], abs=0.02)
    assert np.abs(one["picture"].astype(int) - other["picture"].astype(int)).mean() < 2


def test_correlations_by_hand() -> None:
    assert correlation(torch.tensor([[0.0, 1, 2]]), torch.tensor([[4.0, 2, 0]])) == pytest.approx(
        -1
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"content": "test:3"}, "there is no picture test:3; the run has 2 test examples"),
        ({"content": "test:x"}, "there is no picture test:x"),
        ({"content": "test:0"}, r"test examples have the shape \(16, 8, 3\)"),
    ],
)
def test_pictures_that_are_not_there(settings: Any, words: str) -> None:
    obs = torch.zeros(2, 16, 8, 3, dtype=torch.uint8)
    with pytest.raises(UserError, match=words):
        analysed(StyleConfig(**settings), Subject(), obs)


def test_learners_that_do_not_suit() -> None:
    with pytest.raises(UserError, match="the run has 0 test examples"):
        analysed(StyleConfig(content="test:0"), Subject())
    with pytest.raises(
        UserError, match="does not read pictures of 8x8 pixels with three colour channels"
    ):
        analysed(StyleConfig(side=SIDE), Subject(shape=(SIDE, SIDE, 1)))
    with pytest.raises(
        UserError, match="has no encoder with a pyramid of maps; give a run with one"
    ):
        encoder_of(Subject("flatten"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("style_weight", -1.0), ("iterations", 0), ("content_weights", ()), ("content_weights", (1.0, 0.0)),
        ("content_strides", (0,)), ("styles", ()), ("styles", ("brick", "brick")), ("side", 4),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{setting} is .*; give"):
        StyleConfig(**{setting: value})


def test_photographs() -> None:
    pytest.importorskip("skimage")
    astronaut, brick = photograph("astronaut"), photograph("brick")
    assert astronaut.shape == brick.shape == (512, 512, 3)
    assert (brick[..., 0] == brick[..., 2]).all()
    assert photograph("coffee").shape == (400, 400, 3)
    assert not astronaut.flags.writeable
    with pytest.raises(UserError, match="there is no picture 'rocket'; give one of astronaut"):
        photograph("rocket")


def test_scaled_pictures_are_means_of_areas() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(256, size=(12, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(scaled(picture, 12), picture)
    halves = np.rint(picture.reshape(6, 2, 6, 2, 3).mean((1, 3)))
    np.testing.assert_array_equal(scaled(picture, 6), halves)
    # Pixels of 12 / 8: the first one covers one and a half pixels in each direction.
    weights = np.array([2 / 3, 1 / 3])
    expected = np.einsum("i,ijc,j->c", weights, picture[:2, :2].astype(float), weights)
    np.testing.assert_array_equal(scaled(picture, 8)[0, 0], np.rint(expected))
    large = scaled(picture, 24)
    np.testing.assert_array_equal(large[::2, 1::2], picture)


# The network that redraws.


def make(**changes: Any) -> StyleNetwork:
    settings = {
        "styles": ("brick", "grass"), "encoder": VGG, "width": 4, "blocks": 1, "learning_rate": 0.02, **changes,
    }  # fmt: skip
    return StyleNetwork(
        StyleNetworkConfig(**settings), {"obs": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)}
    )


def batch(seed: int, count: int = 4) -> Examples:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(256, size=(count, 2, 2, 3), dtype=np.uint8)
    return Examples({"obs": torch.from_numpy(blocks.repeat(4, axis=1).repeat(4, axis=2))})


def test_instance_normalisation_with_a_scale_and_shift_for_each_style() -> None:
    torch.manual_seed(0)
    layer = Styled(2, 3, 2)
    with torch.no_grad():
        layer.scale[1], layer.shift[1] = torch.tensor([2.0, 3, 4]), torch.tensor([5.0, 6, 7])
    maps = torch.randn(3, 2, 6, 6)
    found = layer(maps, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(found.mean((2, 3))[1], torch.tensor([5.0, 6, 7]))
    torch.testing.assert_close(
        found.std((2, 3), correction=0)[1], torch.tensor([2.0, 3, 4]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(found[2], layer(maps[2:], torch.tensor([0]))[0])
    torch.testing.assert_close(layer(maps[1:2], torch.tensor([0])), (found[1:2] - layer.shift[1][:, None, None]) / layer.scale[1][:, None, None])  # fmt: skip


def test_a_painter_keeps_sizes_and_reads_channels_first_or_last() -> None:
    torch.manual_seed(0)
    last = Painter((9, 7, 3), 2, 4, 1)
    first = Painter((3, 9, 7), 2, 4, 1)
    first.load_state_dict(last.state_dict())
    obs = torch.randint(256, (2, 9, 7, 3), dtype=torch.uint8)
    style = torch.tensor([0, 1])
    made = last.paint(obs, style).detach()
    assert made.shape == obs.shape
    assert 0 <= float(made.min()) < float(made.max()) <= 255
    torch.testing.assert_close(
        first.paint(obs.permute(0, 3, 1, 2), style), made.permute(0, 3, 1, 2)
    )
    torch.testing.assert_close(255 * last(obs)[0].view(3, 9, 7), made[0].permute(2, 0, 1))
    with pytest.raises(UserError, match="styles need pictures with 1 or 3 channels"):
        Painter((4, 5, 5), 2, 4, 1)
    for small in ((2, 16, 3), (3, 16, 2), (1, 1, 1)):
        with pytest.raises(UserError, match="3 or more rows and columns"):
            Painter(small, 2, 4, 1)
    Painter((3, 3, 3), 2, 4, 1)
    with pytest.raises(UserError, match="blocks of the painter is 0"):
        Painter((9, 7, 3), 2, 4, 0)


def test_the_network_learns_both_styles_and_its_encoder_does_not() -> None:
    model = make(content_weight=0.1, width=8, learning_rate=0.01)
    before = copy.deepcopy(model.encoder.state_dict())
    with torch.no_grad():
        first = {name: float(x.mean()) for name, x in model.measure(batch(99, 32)).items()}
    for seed in range(80):
        model.learn(batch(seed))
    with torch.no_grad():
        after = {name: float(x.mean()) for name, x in model.measure(batch(99, 32)).items()}
    assert after["loss"] < 0.5 * first["loss"]
    assert after["style_loss"] < 0.5 * after["start"]
    assert all(torch.equal(x, before[name]) for name, x in model.encoder.state_dict().items())
    assert not list(model.encoder.parameters())
    obs = batch(99)["obs"]
    made = [model.painter.paint(obs, torch.full((4,), k)) for k in range(2)]
    maps = [model.maps(x) for x in made]
    distances = [[float(style_loss(m, [x[k : k + 1].expand(4, -1, -1) for x in model.grams]).detach().mean()) for k in range(2)] for m in maps]  # fmt: skip
    assert distances[0][0] < distances[0][1]
    assert distances[1][1] < distances[1][0]


def test_measures_by_hand() -> None:
    model, given = make(content_weight=2.0, style_weight=3.0, styles=("brick",)), batch(3)
    with torch.no_grad():
        found = model.measure(given)
        obs = given["obs"]
        made = model.decide(obs)
        wanted = [gram(x).expand(4, -1, -1) for x in model.encoder.pyramid(model._styles).values()]
        maps, own = (list(model.encoder.pyramid(x).values()) for x in (obs, made))
    torch.testing.assert_close(found["start"], style_loss(maps, wanted))
    torch.testing.assert_close(found["style_loss"], style_loss(own, wanted))
    torch.testing.assert_close(found["content_loss"], content_loss(own[-1], maps[-1]))
    torch.testing.assert_close(found["loss"], 2 * found["content_loss"] + 3 * found["style_loss"])


def test_an_encoder_without_maps_is_refused() -> None:
    with pytest.raises(UserError, match="no pyramid"):
        make(encoder="flatten")
    with pytest.raises(UserError, match="styles is"):
        make(styles=())
    spec = {"obs": spaces.Box(0, 1, (SIDE, SIDE, 3))}
    with pytest.raises(
        UserError, match=r"from 0 to 255, but the observations are .*; give a source with uint8"
    ):
        StyleNetwork(StyleNetworkConfig(encoder=VGG), spec)


def test_grey_pictures_and_channels_first() -> None:
    for shape in ((1, SIDE, SIDE), (SIDE, SIDE, 1), (3, SIDE, SIDE)):
        spec = {"obs": spaces.Box(0, 255, shape, np.uint8)}
        model = StyleNetwork(
            StyleNetworkConfig(encoder=VGG, styles=("brick",), width=2, blocks=1), spec
        )
        obs = torch.randint(256, (2, *shape), dtype=torch.uint8)
        assert torch.isfinite(model.learn(Examples({"obs": obs}))["loss"])
        assert model.decide(obs).shape == obs.shape


def test_a_run_of_a_classifier_can_be_analysed(tmp_path: Path) -> None:
    from rlbench.benchmarks.training.analysing import read_analysis
    from rlbench.cli import main

    rng = np.random.default_rng(0)
    columns = {
        f"{split}/{name}": x
        for split in ("train", "test")
        for name, x in (("obs", rng.integers(256, size=(6, 8, 8, 3), dtype=np.uint8)), ("label", np.arange(6) % 2))
    }  # fmt: skip
    np.savez(tmp_path / "pictures.npz", **columns)  # type: ignore[arg-type]
    run = tmp_path / "run"
    words = [
        "--encoder",
        VGG,
        "--batch-size",
        "4",
        "--updates",
        "1",
        "--eval-every",
        "0",
        "--out",
        str(run),
    ]
    assert main(["run", "classifier", "--env", f"{tmp_path}/pictures.npz", *words]) == 0
    asked = ["--content", "test:0", "--styles", "test:1", "--iterations", "3", "--side", "8"]
    assert main(["analyse", "style", str(run), *asked]) == 0
    folder = run / "analyses" / "style"
    assert (folder / "pictures.png").read_bytes().startswith(b"\x89PNG")
    assert read_analysis(folder).columns["picture"].shape == (1, 8, 8, 3)
