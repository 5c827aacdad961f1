"""Tables whose later grids learn from what agents of earlier grids saw and did."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rlbench.benchmarks.papers import policy_students
from rlbench.benchmarks.tables.paper import (
    AnalysisGrid,
    Claim,
    Grid,
    Method,
    Paper,
    Recording,
    Verdict,
)
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training import teaching
from rlbench.cli import main

CART = "CartPole-v1"
PPO = {"rollout_steps": 16, "batch_size": 16, "epochs": 1, "hidden": (8,)}
STEPS = Recording("steps", (("ppo", CART),), size=16)
SHARED = Recording("shared steps", (("ppo", CART), ("other", CART)), size=64, clients=8)
SHORT = {"updates": 2, "eval_every": 0}


def _told(results: Results) -> Verdict:
    found = [x.numbers["return"] for x in results.analysed("acting", "clone", "steps")]
    return Verdict(None, f"{len(found)} clones, {len(results.of('clone', 'steps'))} runs")


TINY = Paper(
    name="policy-students",
    title="A tiny table",
    reference="Nobody, 2026",
    method="clone",
    grids={
        "small": (
            Grid((Method("ppo", "ppo", PPO), Method("other", "ppo", {**PPO, "hidden": (4,)})), (CART,), 2, {**SHORT, "eval_episodes": 1}),
            Grid((Method("clone", "classifier", {"encoder": "mlp:units=4", "batch_size": 4}),), ("steps",), 2, SHORT, recordings=(STEPS,)),
            Grid((Method("fedavg", "fedavg", {"encoder": "mlp:units=4", "batch_size": 2}),), ("shared steps",), 2, SHORT, recordings=(SHARED,)),
        ),
        "full": (),
    },
    minutes={"small": 1, "full": 1},
    analyses={"small": (AnalysisGrid("acting", ("clone",), ("steps",), 2, {"task": CART, "episodes": 2}),)},
    claims=(Claim("X1", "Clones act", "none", _told),),
)  # fmt: skip


def test_examples_are_recorded_for_each_seed_after_their_agents_have_learned(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policy_students, "PAPER", TINY)
    words = ["table", "policy-students", "--jobs", "1", "--format", "md"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "2 clones, 2 runs" in shown
    assert "| steps (file" in shown
    assert "runs/policy-students" not in shown.split("kept in")[0]
    folder = Path("runs/policy-students-small")
    assert {x.name for x in folder.glob("*.npz")} == {
        f"{name}-s{seed}.npz" for name in ("steps", "shared-steps") for seed in (0, 1)
    }
    files = [np.load(folder / f"steps-s{seed}.npz") for seed in (0, 1)]
    assert [x["train/obs"].shape for x in files] == [(16, 4)] * 2
    assert not np.array_equal(*(x["train/obs"] for x in files))
    assert np.load(folder / "shared-steps-s0.npz")["train/obs"].shape == (8, 8, 4)
    for name in ("write_examples", "write_clients"):
        monkeypatch.setattr(teaching, name, lambda *_, **__: pytest.fail("recorded again"))
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_what_cannot_be_recorded_is_named_and_the_table_goes_on(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agents, clones, _ = TINY.grids["small"]
    small = dataclasses.replace(STEPS, size=2)
    grids = (agents, dataclasses.replace(clones, recordings=(small,)))
    monkeypatch.setattr(policy_students, "PAPER", dataclasses.replace(TINY, grids={"small": grids, "full": ()}))  # fmt: skip
    assert main(["table", "policy-students", "--jobs", "1"]) == 1
    found = capsys.readouterr()
    assert "steps-s0.npz: size is 2; give 4 or more" in found.err.replace("\n", " ")
    assert "2 runs failed" in found.err
