"""Analyses: by hand on tiny episodes, and on the command line."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlbench.backbones.analyses._base import bootstrap
from rlbench.backbones.analyses._events import Episodes, Sums, rise, usual
from rlbench.backbones.analyses.company import ALONE, CONTESTED, JOINT, events
from rlbench.backbones.analyses.edges import CAPTURED, OTHERS, agent_curves, item_curves, stays
from rlbench.backbones.analyses.other_tasks import OtherTasks, OtherTasksConfig
from rlbench.benchmarks.training import analysing
from rlbench.benchmarks.training.analysing import AnalysisJob, perform, read_analysis
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.files import write_atomically
from rlbench.measures import Measure
from tests.rlbench.test_cli import refused

T = 10
NAN = float("nan")


def world(places: list[Any], taken: list[tuple[int, int, int]], gone: int = T) -> Episodes:
    """One episode on a 6x6 grid: two agents and two items of one type.

    Args:
        places: Row and column of each node at all steps, or a list of T of them.
        taken: Step, agent and item of each event.
        gone: Step from which the first item is not there.
    """
    obs = np.zeros((1, T, 4, 11), np.float32)
    for node, place in enumerate(places):
        obs[0, :, node, :2] = np.array(place) / 5
    obs[0, :, 2:, 4] = 1
    obs[0, :, 2:, 5] = 1
    obs[0, gone:, 2, 5] = 0
    events = np.zeros((1, T, 2, 2), np.uint8)
    for step, agent, item in taken:
        events[0, step, agent, item] = 1
    columns = {"obs": obs, "alive": np.ones((1, T), np.uint8), "taken": events}
    return Episodes.of(Examples({name: torch.from_numpy(x) for name, x in columns.items()}))


def test_distances_availability_and_types_of_an_episode() -> None:
    found = world([(0, 0), (2, 3), (0, 5), (5, 5)], [(6, 0, 0)], gone=7)
    assert found.distance[0, 0].tolist() == [[0, 5, 5, 10], [5, 0, 4, 5]]
    assert found.available[0, :, 0].tolist() == [True] * 7 + [False] * 3
    assert found.types.tolist() == [0, 0]
    assert np.flatnonzero(found.soon(np.asarray(found.taken.any(2)))[0, :, 0]).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_a_signal_around_an_event() -> None:
    found = world([(0, 0)] * 4, [])
    signal = np.arange(T, dtype=float)[None]
    around = found.around(signal, np.array([0, 0]), np.array([7, 2]))
    np.testing.assert_array_equal(around[0], np.arange(1.0, 9.0))
    np.testing.assert_array_equal(around[1], [NAN, NAN, NAN, NAN, 0, 1, 2, 3])
    np.testing.assert_array_equal(rise(around), [(4 + 5 + 6) / 3 - 1.5, NAN])


def test_means_at_a_distance_and_step() -> None:
    signal = np.array([[[1.0, 2.0, 6.0]], [[3.0, 5.0, 7.0]]])
    distance = np.array([[[1, 1, 2]], [[1, 2, 2]]])
    where = np.array([[[True, True, True]], [[True, True, False]]])
    np.testing.assert_allclose(usual(signal, distance, where), [[[2, 2, 5.5]], [[2, 5.5, 5.5]]])


def test_curves_of_items() -> None:
    found = world([(0, 0), (2, 3), (0, 5), (5, 5)], [(6, 0, 0)], gone=7)
    signal = np.arange(T)[None, :, None, None] + 100.0 * np.arange(2) + np.zeros((1, T, 2, 2))
    signal[0, :, 1] += 1_000
    curves = {
        name: (values, rows) for name, values, rows in item_curves(signal, np.arange(2), found)
    }
    np.testing.assert_array_equal(curves[CAPTURED][0], [np.arange(8.0)])
    np.testing.assert_array_equal(curves[OTHERS][0], [100 + np.arange(8.0)])
    assert curves[CAPTURED][1].tolist() == [0]


def test_curves_of_agents() -> None:
    """Agent 1 waits at item 1 from step 7 on, agent 0 arrives in step 9 and both take it; agent 1 took item 0 alone.

    What it took in step 2 does not count, because six steps before are not known.
    """
    first = [(0, 0)] * 9 + [(5, 5)]
    second = [(0, 5)] * 7 + [(5, 5)] * 3
    taken = [(2, 1, 0), (6, 1, 0), (9, 0, 1), (9, 1, 1)]
    found = world([first, second, (0, 5), (5, 5)], taken)
    signal = np.zeros((1, T, 2, 2))
    signal[0, :, 0, 1] = 10 + np.arange(T)  # To agent 0 from agent 1.
    signal[0, :, 1, 0] = np.arange(T)
    curves = {name: values for name, values, _ in agent_curves(signal, found)}
    np.testing.assert_array_equal(
        np.sort(curves["joint"], 0), [[*range(3, 10), NAN], [*range(13, 20), NAN]]
    )
    np.testing.assert_array_equal(curves["solo"], [np.arange(8.0)])
    # From the agent that arrived first, agent 1, to the later one, minus the reverse.
    np.testing.assert_allclose(curves["from the first to the later agent, less the reverse"], [10])


def test_consecutive_steps() -> None:
    there = np.array([[1, 1, 0, 1, 1, 1]], bool)
    assert stays(there).tolist() == [[1, 2, 0, 1, 2, 3]]


def test_events_of_company() -> None:
    found = world([(0, 4), (0, 5), (0, 5), (5, 5)], [(6, 1, 0), (7, 0, 1), (8, 0, 1), (8, 1, 1)])
    steps = {
        name: (step.tolist(), agent.tolist()) for name, (_, step, agent) in events(found, 2).items()
    }
    assert steps == {JOINT: ([8, 8], [0, 1]), ALONE: ([7], [0]), CONTESTED: ([6], [1])}


def test_sums_leave_out_nans() -> None:
    found = Sums.of(np.array([[1.0, NAN], [2.0, 5.0]]), np.array([1, 1]), 3)
    assert found.sums.tolist() == [[0, 0], [3, 5], [0, 0]]
    assert found.counts.tolist() == [[0, 0], [2, 1], [0, 0]]


def test_intervals_cover_the_mean() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 1.0, 400)
    mean, low, high = bootstrap(values, np.ones(400))
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert np.isnan(bootstrap(np.zeros(3), np.zeros(3))).all()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one update on Stag Hunt: models of actions, and of returns with and without edges between agents."""
    folder = tmp_path_factory.mktemp("runs")
    short = [
        "--env",
        "episodes-stag-hunt",
        "--updates",
        "1",
        "--data-size",
        "16",
        "--batch-size",
        "16",
    ]
    for name, words in {
        "actions": ["rfm-predictor"], "lstm": ["rfm-predictor", "--network", "mlp-lstm"],
        "returns": ["rfm-returns"], "without": ["rfm-returns", "--network", "rfm-noaa"],
    }.items():  # fmt: skip
        assert main(["run", *words, *short, "--out", str(folder / name)]) == 0
    digits = ["--env", "digits", "--encoder", "flatten", "--updates", "1"]
    assert main(["run", "classifier", *digits, "--out", str(folder / "digits")]) == 0
    return folder


def test_analyses_on_the_command_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", "edges", str(runs / "actions")]) == 0
    out = capsys.readouterr().out
    assert "items of type 0: rise, captured" in out
    folder = runs / "actions" / "analyses" / "edges"
    assert f"kept in {folder}" in out
    assert {path.name for path in folder.iterdir()} >= {
        "analysis.json",
        "columns.npz",
        "curves.csv",
    }
    rows = list(csv.DictReader((folder / "curves.csv").open()))
    assert {row["panel"] for row in rows} == {"items of type 0", "items of type 1", "agents"}
    assert {float(row["x"]) for row in rows} == set(range(-6, 2))
    found = read_analysis(folder)
    line = found.panels[0]["lines"][0]
    sums, counts = (found.columns[f"items of type 0: captured, {x}"] for x in ("sums", "counts"))
    np.testing.assert_allclose(line["value"], sums.sum(0) / counts.sum(0))
    assert AnalysisJob("edges", {}, (runs / "actions",)).complete()
    assert not AnalysisJob("edges", {"layer": "encoder"}, (runs / "actions",)).complete()


def test_results_of_other_settings_and_runs_stay_beside_each_other(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "without", tmp_path / "run")
    shutil.copytree(runs / "without", tmp_path / "same")
    one, other, same = str(tmp_path / "run"), str(runs / "without"), str(tmp_path / "same")
    folder = tmp_path / "run" / "analyses"
    made = []
    for words in ([other], [same], [other, "--close", "1"]):
        assert main(["analyse", "company", one, *words]) == 0
        made.append(capsys.readouterr().out.split("kept in ")[1].strip())
    assert made == [str(folder / x) for x in ("company", "company-2", "company-3")]
    jobs = [AnalysisJob("company", {}, (Path(one), Path(x))) for x in (other, same)]
    assert [job.folder for job in jobs] == [folder / "company", folder / "company-2"]
    assert all(job.complete() for job in jobs)
    # A damaged result is replaced.
    (folder / "company" / "columns.npz").write_bytes(b"")
    assert jobs[0].folder == folder / "company"
    assert not jobs[0].complete()


def test_the_value_of_company_of_equal_models_is_zero(runs: Path) -> None:
    assert main(["analyse", "company", str(runs / "without"), str(runs / "without")]) == 0
    numbers = json.loads((runs / "without/analyses/company/analysis.json").read_text())["numbers"]
    assert numbers["value of company: all steps"] == 0
    out = runs / "elsewhere"
    both = [str(runs / "returns"), str(runs / "without")]
    assert main(["analyse", "company", *both, "--out", str(out)]) == 0
    assert (
        json.loads((out / "analysis.json").read_text())["numbers"]["value of company: all steps"]
        != 0
    )


def test_results_that_do_not_belong_together_are_never_taken_for_an_analysis(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = AnalysisJob("edges", {}, (runs / "actions",), tmp_path)
    perform(job)
    assert (tmp_path / "curves.csv").exists()

    def full(path: Path, content: bytes) -> None:
        if path.name == "analysis.json":
            raise UserError("the disk is full")
        write_atomically(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(analysing, "write_atomically", full)
        with pytest.raises(UserError, match="the disk is full"):
            perform(AnalysisJob("edges", {"layer": "encoder"}, job.runs, tmp_path))
    assert not job.complete()
    with pytest.raises(UserError, match=r"is damaged \(its hash differs\); make it again"):
        read_analysis(tmp_path)
    perform(job)
    assert job.complete()
    for content in (b"", b"null", b"[]", b'{"panels": 3}', b"\xff"):
        (tmp_path / "analysis.json").write_bytes(content)
        assert not job.complete()
        with pytest.raises(UserError, match="is damaged"):
            read_analysis(tmp_path)
    tasks = ("episodes-stag-hunt-4p",)
    perform(AnalysisJob("other-tasks", {"tasks": tasks}, job.runs, tmp_path))
    assert not (tmp_path / "curves.csv").exists(), "it has no curves"


def test_a_model_on_other_tasks(runs: Path) -> None:
    words = ["analyse", "other-tasks", str(runs / "actions"), "--tasks", "episodes-stag-hunt-4p"]
    assert main(words) == 0
    found = read_analysis(runs / "actions" / "analyses" / "other-tasks")
    assert len(found.columns["episodes-stag-hunt-4p: accuracy"]) == 500
    assert found.numbers.keys() >= {
        "episodes-stag-hunt: accuracy",
        "episodes-stag-hunt-4p: perfect_steps",
    }


def test_an_agent_on_other_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "ppo")
    words = [
        "ppo",
        "--env",
        "CartPole-v1",
        "--updates",
        "1",
        "--rollout-steps",
        "8",
        "--epochs",
        "1",
    ]
    assert main(["run", *words, "--eval-episodes", "2", "--out", run]) == 0
    assert main(["analyse", "other-tasks", run, "--tasks", "CartPole-v0", "--episodes", "3"]) == 0
    found = read_analysis(Path(run) / "analyses" / "other-tasks")
    returns = found.columns["CartPole-v0: return"]
    assert found.numbers == {"CartPole-v0: return": pytest.approx(returns.mean())}
    assert len(set(found.columns["CartPole-v0: seed"])) == 3
    sampling = ["--tasks", "CartPole-v0", "--episodes", "3", "--explore"]
    assert main(["analyse", "other-tasks", run, *sampling]) == 0
    sampled = read_analysis(Path(run) / "analyses" / "other-tasks-2").columns
    assert list(sampled["CartPole-v0: seed"]) == list(found.columns["CartPole-v0: seed"])
    assert list(sampled["CartPole-v0: return"]) != list(returns)
    said = refused(capsys, ["analyse", "other-tasks", run, "--tasks", "Acrobot-v1"])
    assert "Acrobot-v1 has the observation space" in said
    assert "give a task with the same spaces" in said
    assert "give a run of classifier" in refused(capsys, ["analyse", "drift", run])


def test_measures_of_all_examples_at_once_belong_to_the_numbers_only() -> None:
    class Model:
        measures = (Measure("whole"), Measure("loss"), Measure("absent"))

        def measure(self, given: Examples) -> dict[str, torch.Tensor]:
            return {"loss": given["obs"], "raw": given["obs"]}

        def summary(self, columns: dict[str, Any]) -> dict[str, float]:
            return {"whole": columns["raw"].sum(), "more": 0.0}

    given = Examples({"obs": torch.arange(150.0)})
    found = OtherTasks(OtherTasksConfig(tasks=("b",))).analyse([Model()], {"a": given})
    assert found.numbers == {"a: whole": 11175.0, "a: loss": 74.5}
    assert found.columns.keys() == {"a: loss"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give an analysis first: rlbench analyse acting|adversarial|attention-cost|batch-statistics|certify|company|drift|edges|explain|front|gradient-norms|other-tasks|probe|style"),
        (["edgs"], "there is no analysis 'edgs'; did you mean edges?"),
        (["rlbench.interface:Model"], "it is not a subclass of rlbench.backbones.analyses._base.Analysis"),
        (["edges"], "edges needs a run of rfm-predictor; got 0 runs"),
        (["edges", "actions", "actions"], "got 2 runs"),
        (["edges", "nowhere"], "nowhere"),
        (["edges", "lstm"], "the network mlp-lstm has no edges in a layer 'core'; give a run with --network rfm"),
        (["edges", "actions", "--layer", "middle"], "invalid choice"),
        (["edges", "digits"], "the examples have the columns obs, label, but this analysis needs recorded multi-agent episodes"),
        (["company", "actions", "without"], "RFMPredictor does not predict returns; give a run of rfm-returns"),
        (["company", "without", "returns"], "the second run has the network rfm, whose agents may see each other; give"),
        (["company", "returns", "without", "--close", "-1"], "close is -1; give 0 or more"),
        (["other-tasks", "actions"], "no other tasks are given; give --tasks"),
        (["other-tasks", "actions", "--tasks", "x", "--episodes", "0"], "episodes is 0; give 1 or more"),
        (["other-tasks", "actions", "--tasks", "episodes-coin"], "cannot read the examples of episodes-coin"),
        (["other-tasks", "lstm", "--tasks", "episodes-stag-hunt-4p"], "cannot read the examples"),
        (["other-tasks", "digits", "--tasks", "episodes-coin"], "cannot read the examples of episodes-coin (no column"),
        (["other-tasks", "actions", "--tasks", "CartPole-v1"], "CartPole-v1 has no labelled examples"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_one_sentence(
    words: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {path.name for path in runs.iterdir()}
    error = refused(capsys, ["analyse", *(str(runs / x) if x in there else x for x in words)])
    assert message in error
