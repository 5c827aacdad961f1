"""Segmentation: heads and measures by hand, exact resume, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console

from rlbench.backbones.layers.dense import Bilinear
from rlbench.backbones.models.segmenter import (
    FCNHead,
    Segmenter,
    SegmenterConfig,
    confusion,
    fitted,
    intersection_over_union,
)
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples import Arrays
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SIDE, CLASSES = 16, 3
SPEC: dict[str, Any] = {
    "obs": Box(0, 255, (SIDE, SIDE, 3), np.uint8), "seg": Box(0, CLASSES - 1, (SIDE, SIDE), np.int64),
}  # fmt: skip
NETWORKS = {
    "impala, 8s": ("impala", "fcn-8s"), "resnet, 16s": ("resnet:units=1,width=8", "fcn-16s"),
    "mobilenet, 32s": ("mobilenet-v2:width=0.35", "fcn-32s"), "fc-densenet": ("fc-densenet:growth=4,layers=1", "finest"),
    "unet": ("unet:width=4,pools=2", "finest"),
}  # fmt: skip
EACH = pytest.mark.parametrize(("encoder", "head"), NETWORKS.values(), ids=NETWORKS)


def examples(rows: int = 8, seed: int = 0) -> Examples:
    """Black pictures with a red and a green square of 5x5 pixels; classes 1 and 2, the green one on top."""
    rng = np.random.default_rng(seed)
    obs = np.zeros((rows, SIDE, SIDE, 3), np.uint8)
    seg = np.zeros((rows, SIDE, SIDE), np.int64)
    for row in range(rows):
        for kind in (1, 2):
            y, x = rng.integers(SIDE - 5, size=2)
            obs[row, y : y + 5, x : x + 5] = 200 * np.eye(3, dtype=np.uint8)[kind - 1]
            seg[row, y : y + 5, x : x + 5] = kind
    return Examples({"obs": torch.from_numpy(obs), "seg": torch.from_numpy(seg)})


def source() -> Arrays:
    """A source for runs: 24 pictures for training and 8 for tests."""
    train, test = (
        {k: v.numpy() for k, v in examples(n, s).columns.items()} for n, s in ((24, 0), (8, 1))
    )
    return Arrays(train, test)


def make(seed: int = 0, spec: dict[str, Any] = SPEC, **settings: Any) -> Segmenter:
    return Segmenter(
        SegmenterConfig(**{"encoder": "unet:width=4,pools=2", "head": "finest", **settings}),
        spec,
        seed=seed,
    )


def test_confusion_and_intersection_over_union_by_hand() -> None:
    label = torch.tensor([[[0, 0, 1], [1, 2, 2]]])
    prediction = torch.tensor([[[0, 1, 1], [1, 1, 2]]])
    counts = confusion(prediction, label, 4)
    assert counts[0].tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    found = intersection_over_union(counts[0].numpy())
    np.testing.assert_allclose(found, [1 / 2, 2 / 4, 1 / 2, np.nan])


def test_the_summary_leaves_out_the_background_and_missing_classes() -> None:
    model = make()
    counts = np.array([[[50, 10, 0], [0, 30, 0], [0, 0, 0]], [[40, 0, 0], [10, 10, 0], [0, 0, 0]]])
    found = model.summary({"confusion": counts})
    assert found == {"miou": 40 / 60, "iou_0": 90 / 110, "iou_1": 40 / 60}


def test_fusion_by_hand() -> None:
    torch.manual_seed(0)
    head: Any = FCNHead({2: 4, 4: 5, 8: 6}, classes=3, fused=3)
    maps = {2: torch.randn(2, 4, 8, 8), 4: torch.randn(2, 5, 4, 4), 8: torch.randn(2, 6, 2, 2)}
    coarse, middle, fine = head.scores
    plain = Bilinear(2)(Bilinear(2)(Bilinear(2)(coarse(maps[8]))))
    torch.testing.assert_close(head(maps, (16, 16)), plain)  # Scores of finer maps start at 0.
    for score in (middle, fine):
        torch.nn.init.normal_(score.weight)
    fused = Bilinear(2)(Bilinear(2)(coarse(maps[8])) + middle(maps[4])) + fine(maps[2])
    torch.testing.assert_close(head(maps, (16, 16)), Bilinear(2)(fused))
    assert FCNHead({2: 4, 4: 5, 8: 6}, 3, 1)(maps, (16, 16)).shape == (2, 3, 16, 16)


def test_maps_are_cut_off_or_extended_to_a_size() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert fitted(x, 1, 2).tolist() == [[[[0, 1]]]]
    assert fitted(x, 3, 4).tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5]]]]


@EACH
def test_every_network_learns_the_squares(encoder: str, head: str) -> None:
    model, given = make(encoder=encoder, head=head, learning_rate=3e-3), examples()
    with torch.no_grad():
        before = model.measure(given)["loss"].mean()
    for _ in range(8):
        metrics = model.learn(given)
    assert metrics["loss"] < before
    answer = model.decide(given["obs"])
    assert answer.shape == (8, CLASSES, SIDE, SIDE)
    torch.testing.assert_close(answer.sum(1), torch.ones(8, SIDE, SIDE))


@pytest.mark.parametrize("head", ["finest", "fcn-16s"])
def test_heads_that_leave_layers_unread_are_refused(head: str) -> None:
    encoder = "resnet:units=1,width=8" if head == "finest" else "unet:width=4,pools=2"
    with pytest.raises(UserError, match=f"head is {head}, which does not read the last map"):
        make(encoder=encoder, head=head)


def test_classes_may_be_bytes() -> None:
    given = examples()
    few = Examples({"obs": given["obs"], "seg": given["seg"].to(torch.uint8)})
    one, other = make(), make()
    with torch.no_grad():
        assert same(dict(one.measure(given)), dict(other.measure(few)))
    assert same(dict(one.learn(given)), dict(other.learn(few)))


def test_images_of_odd_sizes_get_a_class_for_every_pixel() -> None:
    spec = {"obs": Box(0, 255, (13, 11, 3), np.uint8), "seg": Box(0, 1, (13, 11), np.int64)}
    for encoder, head in (
        *NETWORKS.values(),
        ("unet:width=4,pools=3", "finest"),
        ("impala", "fcn-32s"),
    ):
        model = make(spec=spec, encoder=encoder, head=head)
        assert model.logits(torch.zeros(2, 13, 11, 3)).shape == (2, 2, 13, 11)


def test_a_segmenter_that_has_learned_its_examples_has_an_iou_near_one() -> None:
    model, given = make(encoder="unet:width=8,pools=1", learning_rate=1e-2), examples()
    for _ in range(60):
        model.learn(given)
    with torch.no_grad():
        found = model.summary({k: x.numpy() for k, x in model.measure(given).items()})
    assert found["miou"] > 0.95


def test_resume_is_exact() -> None:
    settings: dict[str, Any] = {"encoder": "fc-densenet:growth=4,layers=1,dropout=0.5"}
    whole, half, rest = (make(**settings) for _ in range(3))
    for seed in range(4):
        whole.learn(examples(seed=seed))
    for seed in range(2):
        half.learn(examples(seed=seed))
    rest.load_state_dict(half.state_dict())
    for seed in (2, 3):
        rest.learn(examples(seed=seed))
    assert equal(whole, rest)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("encoder", "unet:width=8,pools=2"), ("head", "fcn-8s"), ("learning_rate", 1e-2)],
)
def test_every_setting_has_an_effect(setting: str, value: Any) -> None:
    states = []
    for settings in ({}, {setting: value}):
        model = make(**settings)
        model.learn(examples())
        states.append(tensors(model.state_dict()))
    assert not same(*states)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (SPEC | {"seg": Discrete(3)}, {}, "no column 'seg' with the class of each pixel"),
        ({"obs": SPEC["obs"]}, {}, "they have obs; give a source such as frames-procgen:coinrun"),
        (SPEC | {"seg": Box(1, 3, (16, 16), np.int64)}, {}, "has classes from 1 to 3; number them from 0"),
        (SPEC | {"seg": Box(0, 0, (16, 16), np.int64)}, {}, "has classes from 0 to 0"),
        (SPEC | {"seg": Box(0, 2, (8, 8), np.int64)}, {}, "a class for each of 8x8 pixels, but observations have the shape"),
        (SPEC, {"encoder": "impala", "head": "finest"}, "the finest map of the encoder has the stride 2"),
        (SPEC, {"encoder": "unet:pools=1", "head": "fcn-8s"}, "fuses 3 maps, but the encoder unet:pools=1 has 2"),
        (SPEC, {"encoder": "unet:width=4", "head": "fcn-8s"}, "the last map of the encoder unet:width=4, of stride 1, .*; give the head finest"),
        (SPEC, {"encoder": "resnet:units=1,width=4", "head": "finest"}, "of stride 4, .*; give the head fcn-8s"),
        (SPEC, {"encoder": "nature"}, "no pyramid of maps|too small"),
        (SPEC, {"learning_rate": -1.0}, "learning_rate is -1.0"),
    ],
)  # fmt: skip
def test_columns_and_settings_that_do_not_fit_are_refused(
    spec: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(spec=spec, **settings)


def test_a_batch_of_one_can_be_normalised_unless_a_map_has_one_pixel() -> None:
    settings: dict[str, Any] = {"head": "fcn-8s", "batch_size": 1}
    model = make(encoder="resnet:units=1,width=4,norm=bn", **settings)
    assert model.learn(examples(1))["loss"].isfinite()
    settings["encoder"] = "mobilenet-v2:width=0.1,norm=bn"  # 16 pixels become 1.
    with pytest.raises(UserError, match="normalises over a batch and has a map of one pixel"):
        make(**settings)
    make(**settings | {"batch_size": 2})


def test_a_stopped_run_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str) -> Run:
        config = RunConfig(
            env=f"{__name__}:source",
            updates=4,
            eval_every=2,
            checkpoint_every=2,
            log_every=1,
            out=tmp_path / out,
        )
        settings = SegmenterConfig(encoder="unet:width=4,pools=1", head="finest", batch_size=8)
        return Run("segmenter", settings, config, Console(quiet=True))

    run("whole").start()
    usual, calls = Segmenter.learn, iter(range(4))

    def broken(model: Segmenter, given: Examples) -> Any:
        if next(calls) == 3:
            raise RuntimeError
        return usual(model, given)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "learn", broken)
        stopped = run("broken")
        with pytest.raises(RuntimeError):
            stopped.start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True), trust=True).finish() == 2
    assert_equal(tmp_path / "whole", tmp_path / "broken")
    assert run("whole").folder.last_evaluation()["miou"].shape == (1,)
