"""`rlbench table` of models: a table killed once repeats no finished run, and claims read what was run."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rlbench.benchmarks.papers import identity_mappings, resnet
from rlbench.benchmarks.tables.methods import differences, identities
from rlbench.benchmarks.tables.paper import Grid, Method, Paper, Scale
from rlbench.benchmarks.tables.results import Result, Results
from rlbench.benchmarks.training.loading import load_run
from rlbench.cli import main

ROOT = Path(__file__).parents[2]
RUN = {"updates": 4, "data_size": 128, "eval_every": 2, "log_every": 1, "checkpoint_every": 2}
SHRUNK = (
    "from rlbench.benchmarks.papers import resnet; from rlbench.cli import main\n"
    "from tests.benchmarks.test_table_of_models import shrunk\n"
    "resnet.PAPER = shrunk()\n"
    "main(['table', 'resnet', '--jobs', '1', '--out', 'runs'])"
)


def shrunk() -> Paper:
    """The shallowest networks of the table with one step size and two seeds, for four updates."""
    methods = tuple(
        dataclasses.replace(method, settings={**method.settings, "batch_size": 32})
        for method in resnet.PAPER.grids["small"][0].methods
        if method.settings["learning_rate"] == resnet.STEP_SIZES[0]
    )
    grid = Grid(methods, ("digits",), 2, RUN)
    return dataclasses.replace(resnet.PAPER, grids={"small": (grid,), "full": ()})


def test_a_method_starts_from_the_encoder_of_an_earlier_grid_seed_by_seed(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"encoder": "resnet:units=1,width=4", "batch_size": 16, "learning_rate": 0.0}
    first = Grid(
        (Method("first", "classifier", settings | {"learning_rate": 0.1}),), ("digits",), 2, RUN
    )
    # A learning rate of 0 keeps the weights.
    then = Method("then", "classifier", settings, pretrained=("first", "digits"))
    grids: dict[Scale, tuple[Grid, ...]] = {
        "small": (first, Grid((then,), ("digits",), 2, RUN)),
        "full": (),
    }
    paper = dataclasses.replace(resnet.PAPER, grids=grids, claims=())
    stages = paper.stages("small", Path("x"))
    assert [len(stage.jobs) for stage in stages] == [2, 2]
    monkeypatch.setattr(resnet, "PAPER", paper)
    assert main(["table", "resnet", "--jobs", "1"]) == 0
    # Other seeds are the same method; another pretraining is another method.
    one, other, third = (
        {"run": {"env": "digits", "pretrained": path}, "learner": {"name": "ppo", "settings": {}}, **origin}
        for path, origin in (
            ("a", {"pretrained": {"run": "a", "learner": {"name": "x", "settings": {"y": 1}}, "task": "t", "update": 5}}),
            ("b", {"pretrained": {"run": "b", "learner": {"name": "x", "settings": {"y": 1}}, "task": "t", "update": 5}}),
            ("c", {"pretrained": {"run": "c", "learner": {"name": "x", "settings": {"y": 2}}, "task": "t", "update": 5}}),
        )
    )  # fmt: skip
    mine, same, different = identities([one, other, third])
    assert not differences(mine, same)
    assert differences(mine, different) == {"pretrained"}
    for seed in range(2):
        before, after = (
            load_run(Path(f"runs/resnet-small/{name}-digits-s{seed}"))[0].encoder.state_dict()
            for name in ("first", "then")
        )
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_table_killed_once_repeats_no_finished_run(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = shrunk()
    jobs = [job for _, job in paper.jobs("small", Path("runs/resnet-small"))]
    assert len(jobs) == 4
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SHRUNK], start_new_session=True, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        while not any(job.complete() for job in jobs):
            assert running.poll() is None
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
    finished = {job.folder / "measures.npz" for job in jobs if job.complete()}
    before = {file: file.stat().st_mtime_ns for file in finished}
    assert 0 < len(finished) < 4
    monkeypatch.setattr(resnet, "PAPER", paper)
    assert main(["table", "resnet", "--jobs", "1", "--out", "runs"]) == 0
    assert all(job.complete() for job in jobs)
    assert {file: file.stat().st_mtime_ns for file in finished} == before
    told = capsys.readouterr().out
    assert "Accuracy after 4 updates, mean ± std of 2 seeds" in told
    assert "360 test examples" in told


def results(accuracies: dict[str, list[float]]) -> Results:
    """Runs with a given accuracy on training examples, one for each seed."""
    return Results(
        Result(
            name, "digits", seed, Path(),
            {"measures": [{"name": "accuracy", "unit": "", "higher_is_better": True}],
             "reference_returns": None, "data": None},
            {"train/accuracy": np.array([value]), "accuracy": np.array([0.0])}, 1.0,
        )
        for name, values in accuracies.items()
        for seed, value in enumerate(values)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "units", "values", "holds"),
    [
        ("residual", 9, [0.98, 1.0], True),
        ("residual", 9, [0.97, 1.0], False),
        ("plain", 9, [0.60, 0.1], True),
        ("plain", 9, [0.61, 0.1], False),
        ("plain", 1, [0.95, 1.0], True),
        ("plain", 1, [0.94, 1.0], False),
        ("plain", 3, [0.0, 0.0], True),
    ],
)
def test_the_claim_of_residual_networks_by_hand(
    kind: str, units: int, values: list[float], holds: bool
) -> None:
    """The best of three step sizes decides; all others are worse."""
    found = {
        resnet.name(a_kind, a_units, size): [0.0, 0.0]
        for a_kind in resnet.KINDS
        for a_units in resnet.DEPTHS["small"]
        for size in resnet.STEP_SIZES
    }
    for a_units in resnet.DEPTHS["small"]:
        found[resnet.name("residual", a_units, 0.03)] = [1.0, 1.0]
    found[resnet.name("plain", 1, 0.01)] = [1.0, 1.0]
    best = 0.03 if kind == "residual" else 0.01
    found[resnet.name(kind, units, best)] = values
    verdict = resnet.R1.judge(results(found))
    assert verdict.holds == holds
    shown = f"{kind}, {3 * units} units: {np.mean(values):.3f} (lowest {min(values):.3f}, step size"
    assert shown in verdict.evidence


LOSSES = {
    "identity": 0.01, "full pre-activation": 0.09, "shortcut gate": 0.09, "1x1 convolution": 0.05,
    "exclusive gate": 0.03, "scaled by 0.5": 1.1, "both scaled by 0.5": 2.0, "dropout": 1.1,
    "BN after addition": 1.1, "ReLU before addition": 0.02, "ReLU pre-activation": 9.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, True),
        ({"identity": 0.1}, False),
        ({"full pre-activation": 0.1}, False),
        ({"shortcut gate": 0.1}, False),
        ({"1x1 convolution": 0.029}, False),
        ({"exclusive gate": 0.029}, False),
        ({"dropout": 1.0}, False),
        ({"BN after addition": 0.9}, False),
        ({"scaled by 0.5": 0.9}, False),
        ({"both scaled by 0.5": 0.9}, False),
        ({"ReLU before addition": 0.01}, False),
        ({"ReLU before addition": 0.05}, False),
    ],
)
def test_the_claim_of_identity_mappings_by_hand(
    changed: dict[str, float], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = LOSSES | changed
    monkeypatch.setattr(
        Results, "metric", lambda self, name, task, metric: np.array([losses[name]])
    )
    assert set(losses) == set(identity_mappings.VARIANTS)
    assert identity_mappings.R2.judge(Results([])).holds == holds
