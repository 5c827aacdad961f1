"""Pre-training: objectives and losses by hand, the columns that they need, frozen encoders, and resumes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.readout import picture_readout, vector_readout
from rlbench.backbones.models._objectives import (
    NOISE,
    OBJECTIVES,
    constant_losses,
    cross_entropies,
    edges,
    grey,
    squared_errors,
)
from rlbench.backbones.models.pretext import Pretext, PretextConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SIDE = 8
COLOURS = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
SPEC: dict[str, Any] = {
    "obs": COLOURS, "next_obs": COLOURS, "seg": Box(0, 2, (SIDE, SIDE), np.int64), "depth": Box(0, np.inf, (SIDE, SIDE)),
    "normals": Box(-1, 1, (SIDE, SIDE, 3)), "azimuth": Box(-1, 1, (1,)), "action": Box(-1, 1, (4,)), "return": Box(-9, 9, (1,)),
}  # fmt: skip
ENCODER = "resnet:units=1,width=2,stages=2"


def make(objective: str, seed: int = 0, spec: Mapping[str, Any] = SPEC, **settings: Any) -> Pretext:
    config = PretextConfig(**{"encoder": ENCODER, "width": 4, **settings}, objective=objective)  # type: ignore[arg-type]
    return Pretext(config, spec, seed=seed)


def batch(seed: int = 0, rows: int = 12) -> Examples:
    """A bright square somewhere in each picture, and labels that follow from its place."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, SIDE - 2, size=(rows, 2))
    seg = np.zeros((rows, SIDE, SIDE), np.int64)
    for row, (y, x) in enumerate(at):
        seg[row, y : y + 3, x : x + 3] = 1 + (x > 2)
    obs = (seg[..., None] * np.array([100, 60, 20])).astype(np.uint8) + 10
    share = (at / SIDE).astype(np.float32)
    columns = {
        "obs": obs, "next_obs": np.roll(obs, 1, axis=2), "seg": seg, "depth": 5.0 - 2 * (seg > 0),
        "normals": np.eye(3)[seg], "azimuth": share[:, :1], "action": np.tile(share, 2), "return": share[:, 1:],
    }  # fmt: skip
    found = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()}
    return Examples({k: x.float() if x.dtype == torch.float64 else x for k, x in found.items()})


def test_edges_and_grey_values_by_hand() -> None:
    step = torch.tensor([[0.0, 0, 1, 1]]).expand(4, 4)[None, None]
    assert edges(step)[0, 0].tolist() == [[0, 0.5, 0.5, 0]] * 4
    assert edges(step.transpose(2, 3))[0, 0].tolist() == step.new_tensor([[0, 0.5, 0.5, 0]] * 4).T.tolist()  # fmt: skip
    colours = torch.tensor([1.0, 0.5, 0.25])[None, :, None, None]
    assert grey(colours).item() == pytest.approx(0.299 + 0.2935 + 0.0285)
    assert grey(torch.tensor([0.25, 0.75])[None, :, None, None]).item() == 0.5


def test_targets_by_hand() -> None:
    examples = batch()
    picture = examples["obs"].permute(0, 3, 1, 2) / 255
    expected = {
        "autoencoding": picture, "denoising": picture, "colourisation": picture, "edges": edges(grey(picture)),
        "segmentation": examples["seg"], "depth": 1 / examples["depth"][:, None],
        "normals": examples["normals"].permute(0, 3, 1, 2), "azimuth": examples["azimuth"],
        "inverse-dynamics": examples["action"], "return": examples["return"],
    }  # fmt: skip
    assert expected.keys() == OBJECTIVES.keys()
    for objective, target in expected.items():
        model = make(objective)
        torch.testing.assert_close(model.target(examples), target)
        code = model.codes(model.views(examples, model.generator))
        assert model.losses(model.readout(code), target).shape == (12,)


def test_every_objective_is_a_setting() -> None:
    known = get_args(get_type_hints(PretextConfig)["objective"])
    assert known == tuple(OBJECTIVES)


def test_what_the_encoder_reads() -> None:
    examples = batch()
    obs = examples["obs"]

    def views(objective: str) -> list[Tensor]:
        model = make(objective)
        return model.views(examples, torch.Generator().manual_seed(0))

    for objective in OBJECTIVES.keys() - {"denoising", "colourisation", "inverse-dynamics"}:
        (seen,) = views(objective)
        assert seen is obs
    before, after = views("inverse-dynamics")
    assert before is obs
    assert after is examples["next_obs"]
    (one,) = views("colourisation")
    assert torch.equal(one[..., 0], one[..., 1])
    torch.testing.assert_close(
        one[..., :1] / 255, grey(obs.permute(0, 3, 1, 2) / 255).permute(0, 2, 3, 1)
    )
    large = Examples({"obs": torch.full((50, SIDE, SIDE, 3), 128, dtype=torch.uint8)})
    (noisy,) = make("denoising").views(large, torch.Generator().manual_seed(0))
    assert float((noisy - 128).std()) == pytest.approx(NOISE, rel=0.05)
    assert 0 <= float(noisy.min()) < float(noisy.max()) <= 255


def test_channels_first_are_the_same_pictures() -> None:
    spec = {"obs": Box(0, 255, (3, SIDE, SIDE), np.uint8)}
    for objective in ("autoencoding", "colourisation", "edges"):
        last, first = make(objective), make(objective, spec=spec)
        moved = Examples({"obs": batch()["obs"].permute(0, 3, 1, 2)})
        a, b = last.measure(batch()), first.measure(moved)
        torch.testing.assert_close(a["loss"], b["loss"])


def test_losses_by_hand() -> None:
    prediction, target = (
        torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]]),
        torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]]),
    )
    assert squared_errors(prediction, target).tolist() == [2, 4.5]
    assert constant_losses(target, None).tolist() == [0.5, 0.5]  # The mean is (2, 0).
    label = torch.tensor([[[0, 0]], [[0, 1]]])
    share = math.log(0.75), math.log(0.25)
    expected = [-share[0], -(share[0] + share[1]) / 2]
    assert constant_losses(label, 2).tolist() == pytest.approx(expected)
    assert constant_losses(label, 3).tolist() == pytest.approx(expected, abs=2e-4)
    logits = torch.tensor([0.75, 0.25]).log()[:, None, None].expand(2, 2, 1, 2)
    assert cross_entropies(logits, label).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
def test_sizes_of_readouts(doublings: int) -> None:
    code = torch.randn(2, 6, 3, 4)
    readout = picture_readout(6, 5, doublings, 7)
    assert readout(code).shape == (2, 7, 3 << doublings, 4 << doublings)
    assert vector_readout(6, 5, 12, 7)(code).shape == (2, 7)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_learned(objective: str) -> None:
    model = make(objective, encoder="resnet:units=1,width=8,stages=2", width=16, learning_rate=5e-3)
    before = measured(model, batch())
    for _ in range(60):
        model.learn(batch())
    after = measured(model, batch())
    assert after["explained"] > max(0.2, before["explained"])
    assert after["explained"] == pytest.approx(
        1 - after["loss"].mean() / after["constant"].mean(), abs=1e-5
    )


def measured(model: Pretext, examples: Examples) -> dict[str, Any]:
    columns = ExamplesEvaluator(examples).columns(model, seed=0)
    return {**columns, **model.summary(columns)}


def test_the_code_is_the_last_map_of_the_encoder() -> None:
    model = make("inverse-dynamics")
    examples = batch()
    both = model.codes(model.views(examples, model.generator))
    assert both.shape == (12, 8, 4, 4)
    torch.testing.assert_close(both[:, :4], model.encoder.pyramid(examples["obs"])[2])
    torch.testing.assert_close(both[:, 4:], model.encoder.pyramid(examples["next_obs"])[2])
    torch.testing.assert_close(model.decide(examples["obs"]), both[:, :4].mean((2, 3)))


def test_a_frozen_encoder_does_not_change() -> None:
    frozen, free = make("depth", freeze=True), make("depth")
    for model, stays in ((frozen, True), (free, False)):
        before = {k: x.clone() for k, x in model.encoder.state_dict().items()}
        head = [x.clone() for x in model.readout.parameters()]
        model.learn(batch())
        after = model.encoder.state_dict()
        assert all(torch.equal(x, after[k]) for k, x in before.items()) == stays
        assert not any(
            torch.equal(x, y) for x, y in zip(head, model.readout.parameters(), strict=True)
        )


def test_measuring_does_not_affect_learning() -> None:
    one, other = make("denoising"), make("denoising")
    for seed in range(3):
        one.learn(batch(seed))
        other.learn(batch(seed))
        measured(other, batch(9))
    assert equal(one, other)
    a, b = measured(one, batch(9)), measured(one, batch(9))
    assert np.array_equal(a["loss"], b["loss"])


@pytest.mark.parametrize(
    ("column", "space", "match"),
    [
        ("azimuth", None, "azimuth, which needs numbers in the column 'azimuth'; the examples have obs, next"),
        ("azimuth", Discrete(3), "needs numbers in the column 'azimuth'"),
        ("seg", None, "no column 'seg' with the class of each pixel"),
        ("seg", Box(0, 2, (3,), np.int64), "no column 'seg' with the class of each pixel"),
        ("next_obs", Box(0, 255, (4, 4, 3), np.uint8), "the column 'next_obs' has \\(4, 4, 3\\)"),
        ("depth", Box(0, 1, (3, 3)), "code of 4x4 for targets of 3x3"),
        ("obs", Box(0, 255, (5,), np.uint8), "takes images"),
    ],
)  # fmt: skip
def test_other_examples_are_refused(column: str, space: Any, match: str) -> None:
    spec = {name: x for name, x in ({**SPEC, column: space}).items() if x is not None}
    objective = {"seg": "segmentation", "next_obs": "inverse-dynamics"}.get(column, column)
    with pytest.raises(UserError, match=match):
        make("autoencoding" if objective == "obs" else objective, spec=spec)


def test_settings_and_encoders_out_of_range_are_refused() -> None:
    for settings, match in (
        ({"width": 0}, "width is 0"), ({"batch_size": 0}, "batch_size is 0"), ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"encoder": "flatten"}, "no pyramid of maps"),
        ({"encoder": "resnet:norm=bn", "batch_size": 1}, "normalises over a batch"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=match):
            make("edges", **settings)
    with pytest.raises(UserError, match="objective"):
        PretextConfig(objective="jigsaw")  # type: ignore[arg-type]


def test_every_setting_has_an_effect() -> None:
    usual = tensors(trained(make("edges")))
    other: dict[str, Any] = {
        "objective": "denoising", "encoder": "resnet:units=1,width=4,stages=2", "freeze": True, "width": 5, "learning_rate": 2e-3,
    }  # fmt: skip
    fields = {x.name for x in dataclasses.fields(PretextConfig)}
    assert fields == {*other, "batch_size"}  # The driver draws the batch.
    for name, value in other.items():
        settings = {"objective": "edges", name: value}
        assert not same(tensors(trained(make(**settings))), usual), name


def trained(model: Pretext) -> dict[str, Any]:
    model.learn(batch())
    return model.state_dict()


class Killed(BaseException):
    """Stops a run as a signal would."""


def test_a_killed_run_ends_as_an_unkilled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = {
        f"{split}/obs": batch(seed)["obs"].numpy() for seed, split in enumerate(("train", "test"))
    }
    np.savez(tmp_path / "pictures.npz", **examples)  # type: ignore[arg-type]

    def run(out: Path) -> Run:
        settings = PretextConfig(objective="denoising", encoder=ENCODER, batch_size=4)
        config = RunConfig(
            env=str(tmp_path / "pictures.npz"), updates=4, eval_every=0, checkpoint_every=1, log_every=1, out=out
        )  # fmt: skip
        return Run("pretext", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = Pretext.learn, []

    def learn(model: Pretext, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(Pretext, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    Run.resume(tmp_path / "broken", Console(quiet=True)).finish()
    assert_equal(tmp_path / "whole", tmp_path / "broken")
