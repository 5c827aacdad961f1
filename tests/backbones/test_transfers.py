"""Transfers of pre-training: a source that knows the target is found, nothing leaks, and `--pretrained auto:` takes the choice."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rlbench.backbones.analyses._affinity import Transfer, affinities, win_rates
from rlbench.backbones.analyses._heat_map import heat_map
from rlbench.backbones.analyses.transfers import Transfers, TransfersConfig, _loss
from rlbench.benchmarks.training.analysing import read_analysis
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import pretrained_folder
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.interface import evaluating
from tests.backbones.test_pretext import ENCODER, batch, make

SMALL: dict[str, Any] = {
    "labels": 16,
    "updates": 10,
    "batch_size": 8,
    "candidates": 2,
    "policies": 20,
}
WIDER = "resnet:units=1,width=8,stages=2"
NAMES = ("autoencoding", "edges", "segmentation", "return")


def runs(*names: str) -> list[Any]:
    return [make(name, seed=i) for i, name in enumerate(names)]


def analysed(learners: list[Any], examples: Any, **settings: Any) -> Any:
    analysis = Transfers(TransfersConfig(**{**SMALL, **settings}))
    analysis.folders = [Path(f"/runs/{x.config.objective}") for x in learners]
    with torch.no_grad():
        for learner in learners:
            learner.encoder.eval()
        return analysis.analyse(learners, {"task": examples})


def test_results_of_all_transfers() -> None:
    learners = runs(*NAMES)
    found = analysed(learners, batch(rows=60))
    count = len(NAMES)
    assert found.columns["objectives"].tolist() == list(NAMES)
    for name in ("affinity", "gain", "quality"):
        matrix = found.columns[name]
        assert matrix.shape == (count, count)
        assert np.isnan(matrix).tolist() == np.eye(count, dtype=bool).tolist(), name
    np.testing.assert_allclose(np.nansum(found.columns["affinity"], axis=0), np.ones(count))
    chosen = found.columns["chosen"]
    assert not chosen.diagonal().any()
    assert 1 <= chosen.any(0).sum() <= 3
    assert set(chosen.sum(1).tolist()) <= {1, 2}
    assert found.columns["random"].shape == (20,)
    best = np.nanargmax(found.columns["affinity"], axis=0)
    gains = found.columns["gain"][best, range(count)]
    for name, gain in zip(NAMES, gains, strict=True):
        assert found.numbers[f"gain of the best source, {name}"] == gain
    share = found.numbers["targets that the best source serves better than scratch"]
    assert share == (gains > 0.5).mean()
    recipe = json.loads(found.files["transfers.json"])["targets"]
    assert list(recipe) == list(NAMES)
    for row, (name, served) in enumerate(recipe.items()):
        assert served["sources"] == [NAMES[s] for s in np.flatnonzero(chosen[row])]
        of_best = max(
            served["sources"], key=lambda s: found.columns["affinity"][NAMES.index(s), row]
        )
        assert served["run"] == f"/runs/{of_best}", name


def test_it_is_the_same_again_and_leaves_the_runs_as_they_are() -> None:
    learners = runs(*NAMES)
    before = [{k: x.clone() for k, x in m.encoder.state_dict().items()} for m in learners]
    one, other = (analysed(learners, batch(rows=60)) for _ in range(2))
    assert one.numbers == other.numbers
    assert one.files == other.files
    for learner, state in zip(learners, before, strict=True):
        after = learner.encoder.state_dict()
        assert all(torch.equal(x, after[k]) for k, x in state.items())


def test_sources_whose_codes_tell_nothing_are_worst() -> None:
    learners = [make(name, seed=i, encoder=WIDER) for i, name in enumerate(NAMES)]
    for blind in learners[:2]:
        blind.encoder.load_state_dict(
            {k: torch.zeros_like(x) for k, x in blind.encoder.state_dict().items()}
        )
    found = analysed(
        learners,
        batch(500, rows=160),
        labels=60,
        updates=30,
        learning_rate=1e-2,
        candidates=1,
        budget=2,
    )
    affinity = found.columns["affinity"]
    assert np.nanargmax(affinity, axis=0).tolist()[2:] == [3, 2]
    assert affinity[2, 3] > 0.6
    assert found.columns["chosen"][2:].tolist() == [
        [False] * 3 + [True],
        [False, False, True, False],
    ]


def test_pairs_are_those_of_the_best_sources_and_read_both_codes() -> None:
    learners = runs(*NAMES)
    analysis = Transfers(TransfersConfig(**SMALL))
    given = batch(rows=60)
    with torch.no_grad():
        losses, scratch, full = analysis._losses(3, learners, given, slice(0, 22))
    singles = [x for x in losses if len(x) == 1]
    assert singles == [(0,), (1,), (2,)]
    shares = affinities(win_rates(np.stack([losses[x][:22] for x in singles])))
    best = tuple(sorted(np.argsort(-shares)[:2].tolist()))
    assert list(losses) == [*singles, best]
    assert all(x.shape == (44,) for x in (*losses.values(), scratch, full))
    # By the definition: a readout of joined codes that learns from the first 16 pictures, measured on the others.
    model = learners[3]
    with torch.no_grad(), evaluating(model):
        code = torch.cat([learners[s].encoder.pyramid(given["obs"])[2] for s in best], dim=1)
        readout = analysis._trained(model, 2, code[:16], given["return"][:16])
        expected = (readout(code[16:]) - given["return"][16:]).square()[:, 0]
        own = model.readout(model.encoder.pyramid(given["obs"])[2]) - given["return"]
    np.testing.assert_allclose(losses[best], expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(full, own[16:].square()[:, 0].numpy(), rtol=1e-4, atol=1e-7)


def test_readouts_learn_from_the_labels_only() -> None:
    learners, given = runs(*NAMES), batch(rows=60)
    other = batch(1, rows=60)
    mixed = type(given)({k: torch.cat([x[:16], other[k][16:]]) for k, x in given.columns.items()})
    analysis = Transfers(TransfersConfig(**SMALL))
    model = learners[3]
    with torch.no_grad():
        codes = [learners[0].codes(model.views(x, model.generator)) for x in (given, mixed)]
        a, b = (analysis._trained(model, 1, x[:16], given["return"][:16]) for x in codes)
        assert torch.equal(a(codes[0]), b(codes[0]))
        fresh = [analysis._from_scratch(model, x.take(slice(0, 16)), 1e-3) for x in (given, mixed)]
    assert torch.equal(fresh[0].readout(codes[0]), fresh[1].readout(codes[0]))


def test_the_better_step_size_from_scratch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    learners, given = runs(*NAMES), batch(rows=60)
    analysis = Transfers(TransfersConfig(**SMALL))
    found = []
    for rates in ((0.0,), (10.0,), (0.0, 10.0)):
        monkeypatch.setattr("rlbench.backbones.analyses.transfers.RATES", rates)
        with torch.no_grad():
            found.append(analysis._losses(0, learners, given, slice(0, 22))[1])
    better = min(found[:2], key=lambda x: float(x[:22].mean()))
    assert not np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], better)


def test_the_choice_is_scored_on_other_pictures_than_it_was_made_on() -> None:
    learners, given = runs(*NAMES), batch(rows=60)
    usual = analysed(learners, given)
    # Other labels of the last half change scores, but neither affinities nor the choice.
    columns = {k: x.clone() for k, x in given.columns.items()}
    columns["return"][38:] += 1
    changed = analysed(learners, type(given)(columns))
    np.testing.assert_array_equal(usual.columns["affinity"], changed.columns["affinity"])
    np.testing.assert_array_equal(usual.columns["chosen"], changed.columns["chosen"])
    assert not np.array_equal(usual.columns["random"], changed.columns["random"])


def test_loss_of_a_choice_by_hand() -> None:
    scores = {((1,), 0): np.array([1.0, 3.0]), ((0, 2), 1): np.array([0.5, 0.5])}
    policy = [Transfer((1,), 0), Transfer((0, 2), 1)]
    assert _loss(policy, scores) == pytest.approx((math.log(2) + math.log(0.5)) / 2)


def test_every_setting_has_an_effect() -> None:
    learners, given = runs(*NAMES), batch(rows=60)
    usual = analysed(learners, given, budget=2)
    other = {
        "labels": 20, "updates": 3, "batch_size": 9, "learning_rate": 1e-2, "candidates": 3, "budget": 3, "policies": 21,
    }  # fmt: skip
    assert {x.name for x in dataclasses.fields(TransfersConfig)} == other.keys()
    for name, value in other.items():
        changed = analysed(learners, given, **{"budget": 2, name: value})
        assert not np.array_equal(usual.columns["random"], changed.columns["random"]), name


def test_other_runs_and_settings_are_refused() -> None:
    for names in (("edges", "edges", "return"), ("edges", "return")):
        with pytest.raises(
            UserError, match="give three or more runs, each with a different objective"
        ):
            analysed(runs(*names), batch())
    other = [*runs("edges", "return"), make("depth", encoder="conv4:layers=2,width=4")]
    with pytest.raises(UserError, match="all with the same encoder"):
        analysed(other, batch())
    with pytest.raises(UserError, match="str has no objective of pre-training"):
        Transfers(TransfersConfig()).analyse(["x"], {"task": batch()})
    with pytest.raises(UserError, match="labels is 11, but there are 12 test pictures"):
        analysed(runs(*NAMES), batch(), labels=11)
    with pytest.raises(UserError, match="budget is 1"):
        TransfersConfig(budget=1)
    for name in ("labels", "updates", "batch_size", "candidates", "budget", "policies"):
        with pytest.raises(UserError, match=f"{name} is 0"):
            TransfersConfig(**{name: 0})


def test_the_target_of_a_learner_that_is_no_pretext_is_the_return(tmp_path: Path) -> None:
    file = tmp_path / "transfers.json"
    file.write_text(
        json.dumps({"targets": {x: {"run": f"/runs/{x}"} for x in ("return", "edges")}})
    )
    other: Any = SimpleNamespace(config=SimpleNamespace(objective="triplet"))
    assert pretrained_folder(f"auto:{file}", other) == Path("/runs/return")
    assert pretrained_folder(f"auto:{file},target=edges", other) == Path("/runs/edges")
    assert pretrained_folder(f"auto:{file}", make("edges")) == Path("/runs/edges")


def test_a_heat_map_by_hand() -> None:
    drawn = heat_map(np.array([[0.0, np.nan], [0.5, 1.0]]), ["a<", "b"], ["c", "d"], "x", "y")
    assert drawn.count("<rect") == 4  # The background and three cells.
    assert "a&lt;" in drawn
    assert [drawn.count(f">{x}</text>") for x in ("0", "50", "100")] == [1, 1, 1]
    assert drawn.count('fill="#f2f6fa"') == drawn.count('fill="#1f5fa8"') == 1


def test_from_runs_to_an_agent_that_starts_from_the_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {
        f"{split}/obs": batch(i, rows=40)["obs"].numpy()
        for i, split in enumerate(("train", "test"))
    }
    np.savez(tmp_path / "pictures.npz", **rows)  # type: ignore[arg-type]
    common = ["--env", str(tmp_path / "pictures.npz"), "--encoder", ENCODER, "--eval-every", "0"]
    names = ("autoencoding", "edges", "colourisation")
    folders = [str(tmp_path / name) for name in names]
    for name, folder in zip(names, folders, strict=True):
        words = ["run", "pretext", *common, "--objective", name, "--updates", "2", "--out", folder]
        assert main(words) == 0
    few = ["--labels", "10", "--updates", "3", "--batch-size", "4", "--policies", "5"]
    assert main(["analyse", "transfers", *folders, *few]) == 0
    out = tmp_path / "autoencoding" / "analyses" / "transfers"
    assert read_analysis(out).columns["affinity"].shape == (3, 3)
    recipe = json.loads((out / "transfers.json").read_text())["targets"]

    # A model is served as the target of its objective.
    again = ["run", "pretext", *common, "--objective", "edges", "--updates", "1", "--freeze"]
    auto = f"auto:{out}/transfers.json"
    assert main([*again, "--pretrained", auto, "--out", str(tmp_path / "again")]) == 0
    source, served = load_run(Path(recipe["edges"]["run"]))[0], load_run(tmp_path / "again")[0]
    theirs = served.encoder.state_dict()
    assert all(torch.equal(x, theirs[k]) for k, x in source.encoder.state_dict().items())
    origin = json.loads((tmp_path / "again" / "config.json").read_text())["pretrained"]
    assert origin["run"] == recipe["edges"]["run"]

    # Another model has no objective.
    labelled = rows | {f"{split}/label": np.arange(40) % 2 for split in ("train", "test")}
    np.savez(tmp_path / "labelled.npz", **labelled)  # type: ignore[arg-type]
    other = [
        "run",
        "classifier",
        "--env",
        str(tmp_path / "labelled.npz"),
        "--encoder", ENCODER, "--batch-size", "8", "--updates", "1",
    ]  # fmt: skip
    capsys.readouterr()
    assert main([*other, "--pretrained", auto, "--out", str(tmp_path / "other")]) == 2
    assert "serves autoencoding, edges, colourisation, but not return; give auto:" in capsys.readouterr().err  # fmt: skip
    named = f"{auto},target=colourisation"
    assert main([*other, "--pretrained", named, "--out", str(tmp_path / "other")]) == 0
    origin = json.loads((tmp_path / "other" / "config.json").read_text())["pretrained"]
    assert origin["run"] == recipe["colourisation"]["run"]
    for text in ("", "[]", '{"targets": {"edges": {}}}'):
        (tmp_path / "bad.json").write_text(text)
        assert main([*other, "--pretrained", f"auto:{tmp_path}/bad.json", "--out", str(tmp_path / "bad")]) == 2  # fmt: skip
        assert "cannot be read" in capsys.readouterr().err
