"""PixelCNN: receptive fields, log-probabilities and samples against their definitions, values of observations, gains, and resumes."""

import copy
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.density import EPSILON, Values, prediction_gain
from rlbench.backbones.layers.masked import LAYERS, CausalConv, GatedLayer
from rlbench.backbones.layers.pixels import (
    Independent,
    PixelNetwork,
    blind_and_leaks,
    causal,
    drawn,
    log_probability,
    naive_sample,
    receptive_field,
    sample,
)
from rlbench.backbones.models.pixelcnn import PixelCNN, PixelCNNConfig
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal


class Killed(Exception):
    pass


SPEC = {
    "obs": Box(0, 255, (5, 4, 2), np.uint8), "label": Discrete(3), "novel": Discrete(2),
}  # fmt: skip
SMALL: dict[str, Any] = {"levels": 4, "width": 6, "layers": 2, "batch_size": 4}


def make(**settings: Any) -> PixelCNN:
    return PixelCNN(PixelCNNConfig(**{**SMALL, **settings}), SPEC)


def batch(seed: int = 0, size: int = 6) -> Examples:
    drawn = torch.Generator().manual_seed(seed)
    obs = torch.randint(256, (size, 5, 4, 2), generator=drawn, dtype=torch.uint8)
    return Examples({"obs": obs, "label": torch.arange(size) % 3, "novel": torch.arange(size) % 2})


def train(model: PixelCNN, updates: int, first: int = 0) -> PixelCNN:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def window(rows: int, columns: int, row: int, column: int, reach: int, above: int) -> Tensor:
    """Pixels before a pixel that are at most `reach` columns away and at most `above` rows, bool [rows, columns]."""
    r, c = torch.arange(rows)[:, None], torch.arange(columns)
    before = (r < row) | ((r == row) & (c < column))
    near = (abs(c - column) <= reach) & (row - r <= above)
    return before & near


@pytest.mark.parametrize("layers", range(1, 6))
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_the_gated_form_sees_exactly_the_pixels_before_and_the_plain_one_has_its_blind_spot(
    kernel: int, layers: int
) -> None:
    rows, columns, row, column = 18, 37, 17, 18
    reach = layers * (kernel // 2)
    size: dict[str, Any] = {"width": 4, "layers": layers, "kernel": kernel}
    gated = PixelNetwork(1, 2, rows, columns, form="gated", **size)
    found = receptive_field(gated, 0, row, column)[0]
    # The last vertical layer sees one row more, by the shift.
    assert torch.equal(found, window(rows, columns, row, column, reach, reach + 1))
    plain = PixelNetwork(1, 2, rows, columns, form="plain", **size)
    found = receptive_field(plain, 0, row, column)[0]
    square = window(rows, columns, row, column, reach, reach)
    # A layer goes to the right only together with at least one row up.
    up = row - torch.arange(rows)[:, None]
    blind = torch.arange(columns) - column > up.clamp(max=layers) * (kernel // 2)
    assert torch.equal(found, square & ~blind)
    assert bool((square & blind).any()) == (layers > 1)


def test_the_blind_spot_of_the_papers_example_has_ten_pixels() -> None:
    both = [PixelNetwork(1, 2, 11, 11, form=form, width=4, layers=5) for form in LAYERS]
    missed = [
        int((window(11, 11, 8, 5, 5, 5) & ~receptive_field(x, 0, 8, 5)[0]).sum()) for x in both
    ]
    assert missed == [0, 10]


@pytest.mark.parametrize("attention", [0, 1])
@pytest.mark.parametrize("form", ["gated", "plain"])
def test_no_value_affects_an_earlier_one_or_itself(form: Any, attention: int) -> None:
    network = PixelNetwork(3, 2, 3, 4, form=form, width=6, layers=3, attention=attention)
    for channel, row, column in itertools.product(range(3), (0, 2), range(4)):
        found = receptive_field(network, channel, row, column)
        before = causal(network, channel, row, column)
        assert not (found & ~before).any()
        if form == "gated":
            assert torch.equal(found, before)  # The whole image is within reach.
    assert causal(network, 1, 0, 1).nonzero().tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [2, 0, 0]]  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_masks_of_one_layer(first: bool) -> None:
    layer = GatedLayer(3, 3, 3, 3, 0, first=first)
    x = torch.rand(1, 3, 3, 3, requires_grad=True)
    for group in range(3):
        (gradient,) = torch.autograd.grad(layer(x.detach(), x, None)[1][0, group, 1, 1], x)
        seen = {tuple(place) for place in gradient[0].nonzero().tolist()}
        own = {(g, 1, 1) for g in range(group if first else group + 1)}
        assert seen == own | {(g, 1, 0) for g in range(3)}


def test_uniform_predictions_have_log2_levels_bits() -> None:
    for form in ("gated", "plain", "independent"):
        model = make(form=form, levels=16)
        for p in model.network.parameters():
            torch.nn.init.zeros_(p)
        assert model.measure(batch())["bits"].tolist() == pytest.approx([4.0] * 6)


@pytest.mark.parametrize(
    ("channels", "attention", "condition"),
    [(1, 0, "none"), (1, 2, "map"), (3, 0, "map"), (3, 1, "vector")],
)
@pytest.mark.parametrize("form", ["gated", "plain"])
def test_samples_equal_those_of_the_naive_loop_and_have_the_probability_of_their_steps(
    form: Any, channels: int, attention: int, condition: str
) -> None:
    size = {"none": 0}.get(condition, 2)
    network = PixelNetwork(
        channels, 3, 4, 3, form=form, one_hot=channels == 3, width=6, layers=2, kernel=5, attention=attention, condition=size,
    ).double()  # fmt: skip
    torch.manual_seed(channels)
    for p in network.parameters():
        p.data.normal_(std=0.5)
    noise = torch.rand(3, channels, 4, 3).double()
    shape = {"none": None, "vector": (3, 2, 1, 1), "map": (3, 2, 4, 3)}[condition]
    given = None if shape is None else torch.randn(shape).double()
    images, log_p = naive_sample(network, noise, given)
    fast, of_steps = sample(network, noise, given)
    assert torch.equal(images, fast)
    assert torch.allclose(log_p, of_steps)
    assert torch.allclose(log_p, log_probability(network(images, given), images))


def test_values_are_drawn_by_their_probabilities() -> None:
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(5, 3)
    value, log_p = drawn(logits, torch.tensor([0.0, 0.49, 0.51, 0.76, 1 - 1e-8]))
    assert value.tolist() == [0, 0, 1, 2, 2]
    assert log_p.exp().tolist() == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25])


def test_probabilities_of_all_images_sum_to_one() -> None:
    network = PixelNetwork(2, 2, 2, 2, width=4, layers=2, attention=1)
    every = torch.tensor(list(itertools.product(range(2), repeat=8))).view(-1, 2, 2, 2)
    assert log_probability(network(every), every).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_number_of_weights_by_hand() -> None:
    # Vertical 2x3 and horizontal 1x2 from the image (of which mask A leaves the left pixel), link, out; then two 1x1.
    network = PixelNetwork(1, 2, 4, 4, one_hot=False, width=3, layers=1)
    parts = [6 * 6 + 6, 6 * 1 + 6, 36 + 6, 9 + 3, 9 + 3, 3 * 2 + 2]
    assert weights(network) == sum(parts)


def weights(network: torch.nn.Module) -> int:
    """Weights that are not masked."""
    masked = [int((x.mask == 0).sum()) for x in network.modules() if isinstance(x, CausalConv)]
    return sum(p.numel() for p in network.parameters()) - sum(masked)


@pytest.mark.parametrize("levels", range(2, 257))
def test_every_level_is_read_again_from_its_observation(levels: int) -> None:
    values = Values.of(Box(0, 255, (levels, 1), np.uint8), levels, quantise=True)
    x = torch.arange(levels).view(1, 1, levels, 1)
    assert torch.equal(values.read(values.observed(x)), x)


def test_the_layout_and_the_values_of_observations() -> None:
    def of(space: Any, levels: int | None = None, quantise: bool = True) -> Values:
        return Values.of(space, levels, quantise=quantise)

    assert of(Box(0, 255, (3, 8, 9), np.uint8)).shape == (3, 8, 9)
    assert of(Box(0, 255, (8, 9, 3), np.uint8)).shape == (3, 8, 9)
    assert of(Box(0, 5, (7, 8), np.int64)) == Values((1, 7, 8), 6, False, False, 2)
    assert of(MultiDiscrete(np.full((2, 2), 4))).levels == 4
    obs = torch.tensor([[[0, 15], [16, 255]]], dtype=torch.uint8)
    assert of(Box(0, 255, (2, 2), np.uint8), 16).read(obs).flatten().tolist() == [0, 0, 1, 15]
    last = torch.arange(12).view(1, 2, 2, 3)
    read = of(Box(0, 255, (2, 2, 3), np.uint8), 12, quantise=False).read(last)
    assert read[0, 1].tolist() == [[1, 4], [7, 10]]
    for space, levels, words in (
        (Box(0, 1, (4, 4)), None, "needs images of whole numbers"),
        (Box(0, 255, (4,), np.uint8), None, "needs images of whole numbers"),
        (Box(-1, 5, (4, 4), np.int64), None, "from -1 to 5; this model needs"),
        (Box(0, 5, (4, 4), np.int64), 7, "levels is 7.*give 2 to 6"),
        (Box(0, 5, (4, 4), np.int64), 3, "leave levels out"),
    ):
        with pytest.raises(UserError, match=words):
            of(space, levels)
    with pytest.raises(UserError, match="has values from 0 to 11, but levels is 11"):
        of(Box(0, 255, (2, 2, 3), np.uint8), 11, quantise=False).read(last)


def test_a_condition_changes_images_and_probabilities() -> None:
    model = train(make(condition="label"), 2)
    examples = batch()
    every = model.decide(examples["obs"])
    assert every.shape == (6, 3)
    own = model.log_prob(examples["obs"], examples["label"])
    assert torch.allclose(every.gather(1, examples["label"][:, None])[:, 0], own)
    assert not torch.allclose(every[:, 0], every[:, 1])
    bits = model.measure(examples)["bits"]
    assert torch.allclose(bits, -own / (40 * math.log(2)))


def test_the_encoder_learns_with_the_rest() -> None:
    model = make(encoder="flatten")
    assert isinstance(model.network, PixelNetwork)
    first = model.network.layers[0]
    assert isinstance(first, GatedLayer)
    assert [tuple(x.weight.shape)[1] for x in first.conditions] == [40, 40]  # type: ignore[arg-type]
    model = make(encoder="sigmoid-mlp:units=5,layers=1")
    before = copy.deepcopy(model.encoder)
    train(model, 1)
    assert model.encoder is not None
    assert before is not None
    changed = zip(before.parameters(), model.encoder.parameters(), strict=True)
    assert not any(torch.equal(p, q) for p, q in changed)


def test_samples_look_like_observations() -> None:
    for settings in ({}, {"form": "independent"}, {"condition": "label"}):
        model = make(**settings)
        given = model.condition(batch()["obs"], batch()["label"])
        images, log_p = (
            x for x in model.sample(6, torch.Generator().manual_seed(0), condition=given)
        )
        naive, _ = model.sample(6, torch.Generator().manual_seed(0), condition=given, naive=True)
        assert images.shape == (6, 5, 4, 2)
        assert images.dtype == torch.uint8
        assert set(images.unique().tolist()) == {0, 85, 170, 255}
        assert torch.equal(images, naive)
        assert torch.allclose(log_p, model.log_prob(images, batch()["label"]), atol=1e-3)


def test_the_judge_learns_and_sees_the_class_of_samples() -> None:
    def measured(condition: str | None) -> dict[str, float]:
        model = make(condition=condition, judge="sigmoid-mlp:units=8,layers=1", learning_rate=0.05)
        # Class k is an image of brightness 100 k.
        label = torch.arange(24) % 3
        obs = (100 * label).to(torch.uint8)[:, None, None, None].expand(24, 5, 4, 2)
        examples = Examples({"obs": obs, "label": label})
        for _ in range(60):
            model.learn(examples)
        return {k: float(x.detach().mean()) for k, x in model.measure(examples).items()}

    found, without = measured("label"), measured(None)
    assert found["judge_accuracy"] == 1
    assert found["recognised"] > 0.9
    assert without["recognised"] < 0.6


def test_the_gain_by_a_step_on_each_image() -> None:
    network = PixelNetwork(1, 3, 3, 3, width=4, layers=1, attention=1)
    optimizer = Adam(network.parameters(), 1e-3)
    x = torch.randint(3, (3, 1, 3, 3))
    for _ in range(2):
        gradient_step(optimizer, -log_probability(network(x), x).mean() / 9)
    found = prediction_gain(network, optimizer, x, 0.001)
    for image, gain in zip(x[:, None], found, strict=True):
        twin = copy.deepcopy(network)
        before = log_probability(twin(image), image)[0]
        gradients = torch.autograd.grad(before / 9, list(twin.parameters()))
        with torch.no_grad():
            each = zip(twin.parameters(), gradients, optimizer.second_moments, strict=True)
            for p, gradient, v in each:
                p.add_(0.001 * gradient / (v.sqrt() + EPSILON))
        after = log_probability(twin(image), image)[0]
        assert float(gain) == pytest.approx((after - before).item(), rel=1e-2)
    assert (found > 0).all()


def test_second_moments_by_hand() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = Adam([weight], 0.0)
    assert optimizer.second_moments[0].tolist() == [0, 0]
    for factor in (1.0, 3.0):
        gradient_step(optimizer, (weight * torch.tensor([factor, 2.0])).sum())
    share = 1 - 0.999**2
    expected = [(0.999 * 0.001 * 1 + 0.001 * 9) / share, 4.0]
    assert optimizer.second_moments[0].tolist() == pytest.approx(expected, rel=1e-3)


def test_the_area_counts_novel_examples_with_larger_gains() -> None:
    model = make(gain=1e-3)
    columns = {"gain": np.array([0.1, 0.4, 0.3, 0.2]), "novel": np.array([0, 1, 0, 1])}
    assert model.summary(columns)["auc"] == 0.75
    assert "auc" not in model.summary({**columns, "novel": np.zeros(4)})
    assert set(model.measure(batch())) == {"bits", "gain", "novel"}
    assert set(make().measure(batch())) == {"bits"}


def test_blind_pixels_and_leaks_of_a_model() -> None:
    assert make().summary({}) == {"blind": 0, "leaks": 0}
    assert make(form="independent").summary({}) == {}
    network = PixelNetwork(1, 2, 8, 8, form="plain", width=4, layers=5)
    assert blind_and_leaks(network) == (3, 0)


CHANGES: dict[str, Any] = {
    "form": "plain", "condition": "label", "encoder": "flatten", "levels": 8, "quantise": False, "width": 8, "layers": 3, "kernel": 5,
    "attention": 1, "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_every_setting_has_an_effect(field: str) -> None:
    dark = Examples({**batch().columns, "obs": batch()["obs"] // 64})
    usual, changed = make(), make(**{field: CHANGES[field]})
    for model in (usual, changed):
        for _ in range(2):
            model.learn(dark)
    one, other = (model.measure(dark)["bits"] for model in (usual, changed))
    assert not torch.allclose(one, other)


def test_measuring_changes_nothing() -> None:
    settings = {"judge": "flatten", "condition": "label"}
    model, quiet = (train(make(**settings), 2) for _ in range(2))
    model.measure(batch(5))
    model.measure_generator.set_state(quiet.measure_generator.get_state())
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel": 4}, "kernel is 4; give an odd number"),
        ({"attention": 3}, "attention is 3, but there are 2 layers"),
        ({"width": 1}, "width is 1, but images have 2 channels"),
        ({"width": 7, "attention": 1}, "not a multiple of the 2 channels.*give 8"),
        (
            {"form": "independent", "condition": "label"},
            "has no condition, encoder or attention",
        ),
        ({"form": "independent", "gain": 0.1}, "has no prediction gain"),
        ({"gain": 0.1, "condition": "label"}, "measured without a condition"),
        ({"condition": "colour"}, "no classes in a column 'colour'"),
        ({"levels": 300}, "levels is 300.*give 2 to 256"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(**settings)


def test_the_baseline_learns_the_share_of_each_value() -> None:
    table = Independent(1, 2, 1, 2)
    assert table(torch.zeros(3, 1, 1, 2).long()).shape == (3, 1, 2, 1, 2)
    model = make(form="independent", levels=2, learning_rate=0.1)
    obs = torch.zeros(4, 5, 4, 2, dtype=torch.uint8)
    obs[0] = 255
    for _ in range(100):
        model.learn(Examples({"obs": obs}))
    bits = model.measure(Examples({"obs": obs}))["bits"]
    assert bits.tolist() == pytest.approx([2.0, *[math.log2(4 / 3)] * 3], abs=0.02)


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Run:
        config = RunConfig(
            env="frames-minigrid", data_size=8, updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        settings = PixelCNNConfig(
            levels=11, quantise=False, width=4, layers=1, batch_size=4, condition="label"
        )
        return Run("pixelcnn", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = PixelCNN.learn, []

    def learn(model: PixelCNN, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(PixelCNN, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
