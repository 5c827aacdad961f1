"""`rlbench.results`: all measures of runs as a table."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlbench
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from tests.benchmarks.test_methods import config, finished
from tests.benchmarks.test_plot import PPO, online


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas is not installed."""
    monkeypatch.setitem(sys.modules, "pandas", None)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, of which one has a score and two have environment steps."""
    folder = tmp_path / "runs"
    finished(folder / "a", config("crr"), {5: -8.0, 10: -5.0})
    finished(folder / "b/s0", online("ppo", PPO), {5: 1.0, 10: 2.0})
    finished(folder / "b/s1", online("ppo", PPO, seed=1), {10: 4.0})
    return folder


@pytest.mark.usefixtures("plain")
def test_each_run_is_a_row_with_the_same_columns(runs: Path) -> None:
    crr, *ppo = rlbench.results(runs)
    assert crr == {
        "run": str(runs / "a"), "method": "crr", "learner": "crr", "task": "point-random", "seed": 0,
        "data": crr["data"], "update": 10, "env_steps": None, "score": 50.0, "return": -5.0,
    }  # fmt: skip
    assert [*ppo[0]] == [*crr]
    assert [(row["seed"], row["env_steps"], row["return"]) for row in ppo] == [
        (0, 640, 2.0),
        (1, 640, 4.0),
    ]
    assert ppo[0]["score"] is None
    assert ppo[0]["data"] == "online"


@pytest.mark.usefixtures("plain")
def test_every_evaluation_is_a_row_on_demand(runs: Path) -> None:
    told = [
        (row["update"], row["env_steps"], row["return"])
        for row in rlbench.results(runs, every=True)
    ]
    assert told == [(5, None, -8.0), (10, None, -5.0), (5, 320, 1.0), (10, 640, 2.0), (10, 640, 4.0)]  # fmt: skip


@pytest.mark.usefixtures("plain")
def test_measures_of_other_runs_are_none_and_seeds_are_no_measure(runs: Path) -> None:
    folder = RunFolder(runs / "model")
    folder.start(online("ppo", PPO, seed=2))
    columns = {
        "seed": np.array([1, 2]), "return": np.array([1.0, 3.0]), "held_out/seed": np.array([1, 2]),
        "held_out/return": np.array([5.0, 6.0]), "confusion": np.zeros((2, 3, 3)),
    }  # fmt: skip
    folder.add_evaluation(10, columns)
    folder.save_checkpoint(10, {})
    *others, last = rlbench.results(runs)
    assert (last["return"], last["held_out/return"]) == (2.0, 5.5)
    assert {row["held_out/return"] for row in others} == {None}
    assert not {"confusion", "held_out/seed"} & last.keys()


@pytest.mark.usefixtures("plain")
def test_methods_have_the_settings_in_which_they_differ(tmp_path: Path) -> None:
    finished(tmp_path / "a", config("crr", weight="exp"), {10: -5.0})
    finished(tmp_path / "b", config("crr", weight="binary"), {10: -5.0})
    names = [row["method"] for row in rlbench.results(str(tmp_path))]
    assert names == ["crr (weight=exp)", "crr (weight=binary)"]


def test_it_is_a_data_frame_with_pandas(runs: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table: Any = rlbench.results(runs)
    assert isinstance(table, pandas.DataFrame)
    means = table.groupby(["method", "task"])["return"].agg(["mean", "std"])
    assert means.loc["ppo", "CartPole-v1"].tolist() == [3.0, np.std([2, 4], ddof=1)]


def test_unfinished_and_damaged_runs_are_named_and_left_out(runs: Path) -> None:
    RunFolder(runs / "begun").start(online("ppo", PPO, seed=5))
    (runs / "b/s1/measures.npz").write_bytes(b"x")
    (runs / "c").mkdir()
    (runs / "c/config.json").write_text("{")
    with pytest.warns(UserWarning, match="a run is left out") as warned:
        table = rlbench.results(runs)
    assert len(table) == 2
    texts = sorted(str(w.message) for w in warned)
    assert [text.split(" is ")[1].split(";")[0] for text in texts] == ["left out: " + x for x in (
        f"{runs / 'b/s1/measures.npz'}", f"{runs / 'begun'}", f"{runs / 'c/config.json'}",
    )]  # fmt: skip
    assert {w.filename for w in warned} == {__file__}, "the warning shows the call"


@pytest.mark.filterwarnings("ignore:a run is left out")
@pytest.mark.parametrize("content", [None, "begun"])
def test_no_run_is_a_sentence(tmp_path: Path, content: str | None) -> None:
    if content:
        RunFolder(tmp_path / content).start(online("ppo", PPO))
    with pytest.raises(UserError, match="there is no complete run in "):
        rlbench.results(tmp_path)
