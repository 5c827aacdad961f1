"""MnasNet: published sizes, networks of whole search spaces, and runs that keep their architecture."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from rlbench.architecture import (
    MNASNET_A1,
    MNASNET_B1,
    MNASNET_SMALL,
    Architecture,
    Block,
    live,
    scaled,
)  # fmt: skip
from rlbench.backbones.encoders import make_encoder, spelled_out
from rlbench.backbones.encoders.mnasnet import build
from rlbench.backbones.layers.cost import cost
from rlbench.backbones.layers.mnas import MnasLayer
from rlbench.backbones.models.classifier import ClassifierConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.architectures.space import SPACES, Space
from rlbench.errors import UserError

SMALL = Architecture(
    "",
    4,
    2,
    tuple(Block.parse(x) for x in ("conv_r1_k3_s2_o8_pool", "dwconv_r2_k3_s1_o8_identity")),
)
EVERY = pytest.mark.parametrize("space", SPACES.values(), ids=lambda space: space.name)


# The README of https://github.com/mingxingtan/mnasnet has 3.9 M parameters and 312 M multiply-adds for A1, and 2.0 M and
# 68 M for the small network. torchvision documents 4383312 parameters and 0.31 billion for mnasnet1_0, which is B1.
@pytest.mark.parametrize(
    ("name", "architecture", "parameters", "multiply_adds"),
    [
        ("mnasnet-a1", MNASNET_A1, 3_887_038, 311_579_072),
        ("mnasnet-b1", MNASNET_B1, 4_383_312, 314_415_872),
        ("mnasnet-small", MNASNET_SMALL, 2_030_264, 68_339_184),
    ],
)
def test_the_published_networks_have_the_published_sizes(
    name: str, architecture: Architecture, parameters: int, multiply_adds: int
) -> None:
    x = torch.zeros(1, 3, 224, 224)
    made = build(architecture, (3, 224, 224), 1000)
    assert dataclasses.astuple(cost(made, x)) == (parameters, multiply_adds)
    encoder = make_encoder(f"{name}:stem=2,norm=bn", (3, 224, 224))
    total = cost(nn.Sequential(encoder, nn.Linear(encoder.size, 1000)), x)
    assert dataclasses.astuple(total) == (parameters, multiply_adds)


def test_names_are_architectures_with_a_stem_of_one() -> None:
    encoder = make_encoder("mnasnet-a1", (3, 64, 64))
    shapes = {s: tuple(x.shape[1:]) for s, x in encoder.pyramid(torch.zeros(1, 3, 64, 64)).items()}
    assert shapes == {
        1: (16, 64, 64), 2: (24, 32, 32), 4: (40, 16, 16), 8: (112, 8, 8), 16: (1280, 4, 4),
    }  # fmt: skip
    assert encoder.size == 1280
    kinds = {type(x) for x in encoder.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


# Millions of parameters and of multiply-adds from the same README. It also has 315.2 million at width 1, and not 312, so
# that it seems to count a little more than convolutions and linear layers.
@pytest.mark.parametrize(
    ("width", "parameters", "multiply_adds"),
    [(0.35, 1.7, 63.2), (0.5, 2.1, 105.2), (0.75, 2.9, 226.7), (1.4, 6.1, 591.5)],
)
def test_scaled_networks_have_the_published_sizes(
    width: float, parameters: float, multiply_adds: float
) -> None:
    made = build(scaled(MNASNET_A1, width), (3, 224, 224), 1000)
    found = cost(made, torch.zeros(1, 3, 224, 224))
    assert round(found.parameters / 1e6, 1) == parameters
    assert found.multiply_adds / 1e6 == pytest.approx(multiply_adds, rel=0.03)


def test_the_width_scales_the_encoder_and_its_excitation() -> None:
    x = torch.zeros(1, 3, 16, 16)
    encoder = make_encoder("mnasnet-a1:width=0.5", (3, 16, 16))
    assert [m.shape[1] for m in encoder.pyramid(x).values()] == [8, 16, 24, 56, 1280]
    wanted = build(scaled(MNASNET_A1, 0.5), (3, 16, 16), 1)
    features = cost(wanted, x).parameters - 1281
    assert cost(encoder, x).parameters == features
    for value in ("0", "nan"):
        with pytest.raises(UserError, match="give a number above 0"):
            make_encoder(f"mnasnet-a1:width={value}", (3, 16, 16))


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in network.state_dict().values()]


def structure(network: nn.Module) -> list[Any]:
    """Everything that the function of an initialised network depends on, except its weights."""
    layers = [x for x in network.modules() if isinstance(x, MnasLayer)]
    convolutions = [x for x in network.modules() if isinstance(x, nn.Conv2d)]
    return [
        shapes(network),
        [type(x.skip) for x in layers],
        [(x.kernel_size, x.stride, x.groups) for x in convolutions],
    ]


def drawn(space: Space, count: int) -> list[tuple[int, ...]]:
    rng = random.Random(1)
    return [tuple(rng.randrange(n) for n in space.choices) for _ in range(count)]


def made_of(space: Space, tokens: tuple[int, ...]) -> nn.Module:
    return build(space.decode(tokens), (1, 8, 8), 3)


@EVERY
def test_a_canonical_sequence_builds_the_same_network(space: Space) -> None:
    for tokens in drawn(space, 2):
        torch.manual_seed(0)
        one = made_of(space, tokens)
        torch.manual_seed(0)
        other = made_of(space, space.canonical(tokens))
        assert structure(one) == structure(other)
        x = torch.rand(2, 1, 8, 8)
        assert torch.equal(one.eval()(x), other.eval()(x))


@EVERY
def test_every_token_changes_the_network_unless_it_is_dead(space: Space) -> None:
    (tokens,) = drawn(space, 1)
    mine = structure(made_of(space, tokens))
    for place, count in enumerate(space.choices):
        value = (tokens[place] + 1) % count
        other = (*tokens[:place], value, *tokens[place + 1 :])
        same = space.canonical(other) == space.canonical(tokens)
        assert (structure(made_of(space, other)) == mine) == same, space.labels[place]


def test_a_classifier_drops_features_and_returns_logits() -> None:
    torch.manual_seed(0)
    made: Any = build(SMALL, (3, 9, 9), 5, dropout=0.5)
    assert made.training
    x = torch.rand(4, 3, 9, 9)
    assert made(x).shape == (4, 5)
    assert not torch.equal(made(x), made(x))
    plain: Any = build(SMALL, (3, 9, 9), 5, dropout=0.0, norm="none")
    assert torch.equal(plain(x), plain(x))
    features = plain[0].maps(x)[-1].mean((2, 3))
    torch.testing.assert_close(plain(x), plain[2](features))
    statistics = [x for x in build(SMALL, (3, 9, 9), 5).modules() if isinstance(x, nn.BatchNorm2d)]
    assert statistics
    assert all(x.num_batches_tracked == 0 for x in statistics)


def test_an_architecture_with_a_size_ends_in_a_linear_layer() -> None:
    sized = dataclasses.replace(SMALL, size=16)
    made: Any = build(sized, (3, 9, 9), 5, head="flatten", norm="none", dropout=0.0)
    x = torch.rand(4, 3, 9, 9)
    linear = made[0].head[1]
    assert linear.weight.shape == (16, 8 * 3 * 3)
    features = linear(made[0].maps(x)[-1].flatten(1)).relu()
    torch.testing.assert_close(made(x), made[2](features))
    encoder = make_encoder(f"mnas:{sized.options()},head=flatten", (9, 9, 3))
    assert encoder.size == 16
    assert cost(encoder, torch.zeros(1, 9, 9, 3)).parameters == sum(
        x.numel() for x in build(sized, (3, 9, 9), 5, norm="gn", head="flatten")[0].parameters()  # type: ignore[index]
    )  # fmt: skip


def test_a_last_convolution_only_if_there_is_one() -> None:
    without = make_encoder(f"mnas:{SMALL.options()}", (16, 16, 3))
    last = dataclasses.replace(SMALL, last=32).options()
    assert (without.size, make_encoder(f"mnas:{last}", (16, 16, 3)).size) == (8, 32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((8, 8), 3), "in_shape is \\(8, 8\\); give channels, rows and columns"),
        (((3, 0, 8), 3), "in_shape is"),
        (((3, 8, 8), 0), "out is 0; give 1 class or more"),
    ],
)
def test_classifiers_that_cannot_be_built_are_refused(arguments: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(SMALL, *arguments)
    with pytest.raises(UserError, match=r"dropout is 1\.0"):
        build(SMALL, (3, 8, 8), 3, dropout=1.0)


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_all_parameters_learn_and_deep_maps_keep_a_scale(norm: Any) -> None:
    torch.manual_seed(0)
    made = build(scaled(MNASNET_A1, 0.25), (3, 32, 32), 4, norm=norm)
    out = made(torch.rand(4, 3, 32, 32))
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert 1e-4 < out.std().item() < 10


def test_a_file_names_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("found.json").write_text(json.dumps(SMALL.to_json()))
    torch.manual_seed(0)
    encoder = make_encoder("mnas:found.json,norm=none", (16, 16, 3))
    torch.manual_seed(0)
    other = make_encoder(f"mnas:{SMALL.options()},norm=none", (16, 16, 3))
    x = torch.rand(2, 16, 16, 3)
    assert torch.equal(encoder(x), other(x))
    assert spelled_out("mnas:found.json,norm=none") == f"mnas:{SMALL.options()},norm=none"
    assert spelled_out("mnas:found.json") == f"mnas:{SMALL.options()}"
    assert spelled_out("resnet:units=1") == "resnet:units=1"
    Path("one,two=3.json").write_text(json.dumps(SMALL.to_json()))
    assert spelled_out("mnas:one,two=3.json,norm=none") == f"mnas:{SMALL.options()},norm=none"
    inner = SMALL.options().replace(",", "/")
    assert (
        spelled_out("fpn:width=8,of=mnas/found.json/stem=1")
        == f"fpn:width=8,of=mnas/{inner}/stem=1"
    )
    assert (
        spelled_out("parts:image=fpn/of=mnas//found.json")
        == f"parts:image=fpn/of=mnas//{inner.replace('/', '//')}"
    )
    Path("found.json").write_text("{}")
    with pytest.raises(UserError, match=r"found.json: an architecture has the fields"):
        make_encoder("mnas:found.json", (16, 16, 3))
    with pytest.raises(UserError, match=r"cannot read the architecture lost.json"):
        make_encoder("mnas:lost.json", (16, 16, 3))
    with pytest.raises(UserError, match=r"give its file, as in mnas:FILE.json"):
        make_encoder("mnas", (16, 16, 3))
    with pytest.raises(UserError, match="'x' describes no block"):
        make_encoder("mnas:blocks=x", (16, 16, 3))


def test_a_run_needs_its_architectures_file_only_once(tmp_path: Path) -> None:
    file, folder = tmp_path / "found.json", tmp_path / "run"
    file.write_text(json.dumps(SMALL.to_json()))
    settings = ClassifierConfig(encoder=f"mnas:{file},norm=none", batch_size=4)
    config = RunConfig(
        env="digits", updates=2, eval_every=1, checkpoint_every=1, data_size=50, out=folder,
    )  # fmt: skip
    run = Run("classifier", settings, config, Console(quiet=True))
    run.start()
    saved = json.loads((folder / "config.json").read_text())["learner"]["settings"]["encoder"]
    assert saved == f"mnas:{SMALL.options()},norm=none"
    file.write_text(json.dumps(dataclasses.replace(SMALL, first=8).to_json()))
    learner, _ = load_run(folder)
    assert shapes(learner.encoder) == shapes(run.learner.encoder)
    file.unlink()
    assert Run.resume(folder, Console(quiet=True)).finish() == 0


def test_live_networks_are_what_is_built() -> None:
    dead = dataclasses.replace(SMALL, blocks=(Block("conv", 3, 0.0, "identity", 8, 1, 2),))
    assert structure(build(dead, (1, 8, 8), 2)) == structure(build(live(dead), (1, 8, 8), 2))
