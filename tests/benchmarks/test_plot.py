"""`rlbench plot` and the curves of a report: their horizontal axis, and intervals over seeds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.tables import report
from rlbench.benchmarks.tables.curves import x_axis
from rlbench.benchmarks.tables.plot import PlotConfig, make, plot
from rlbench.benchmarks.tables.report import ReportConfig
from rlbench.benchmarks.tables.statistics import mean_intervals
from rlbench.benchmarks.tables.summary import collect
from rlbench.benchmarks.training.finding import run_folders
from rlbench.cli import main
from rlbench.errors import UserError
from tests.benchmarks.test_methods import config, finished

PPO = {"first": 0, "each": 64}
SAC = {"first": 100, "each": 1}


def online(agent: str, steps: dict[str, int] | None, **options: Any) -> dict[str, Any]:
    found = config(agent, env="CartPole-v1", data=None, **options)
    return found | {"reference_returns": None, "env_steps": steps}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last plot shows."""
    figure = pytest.importorskip("matplotlib.figure")
    seen: dict[str, Any] = {}

    def savefig(self: Any, out: Path, **_: Any) -> None:
        (axes,) = self.axes
        lines = [x for x in axes.lines if not x.get_label().startswith("_")]
        seen["label"], seen["out"] = axes.get_xlabel(), out
        seen["markers"] = [x.get_marker() for x in lines]
        seen["curves"] = {x.get_label(): (x.get_xdata(), x.get_ydata()) for x in lines}
        seen["bands"] = [path.vertices for x in axes.collections for path in x.get_paths()]
        seen["title"] = self.legends[0].get_title().get_text()

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    return seen


def test_agents_that_count_updates_differently_share_an_axis_of_steps(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    runs = [
        finished(tmp_path / "a", online("ppo", PPO), {5: 1.0, 10: 2.0}),
        finished(tmp_path / "b", online("sac", SAC), {300: 3.0, 600: 4.0}),
    ]
    plot(runs, tmp_path / "x.svg")
    assert drawn["label"] == "environment steps"
    assert [list(x) for x, _ in drawn["curves"].values()] == [[320, 640], [400, 700]]
    plot(runs, tmp_path / "x.svg", "updates")
    assert drawn["label"] == "updates"
    assert [list(x) for x, _ in drawn["curves"].values()] == [[5, 10], [300, 600]]
    (tmp_path / "results.json").write_text(json.dumps(collect(runs, unfinished=True)))
    plot([tmp_path / "results.json"], tmp_path / "x.svg", "steps")
    assert drawn["label"] == "environment steps"


def test_runs_without_steps_are_drawn_over_updates(tmp_path: Path, drawn: dict[str, Any]) -> None:
    runs = [
        finished(tmp_path / "a", online("ppo", PPO), {5: 1.0}),
        finished(tmp_path / "b", online("crr", None), {5: 1.0}),
    ]
    plot(runs, tmp_path / "x.svg")
    assert drawn["label"] == "updates"
    with pytest.raises(UserError, match="the run of crr on CartPole-v1, seed 0, counts no envir"):
        plot(runs, tmp_path / "x.svg", "steps")


def test_the_band_is_the_interval_over_seeds(tmp_path: Path, drawn: dict[str, Any]) -> None:
    returns = ({5: 1.0, 10: 2.0}, {5: 3.0, 10: 2.0}, {5: 8.0, 10: 5.0})
    runs = [
        finished(tmp_path / f"{seed}", online("ppo", PPO, seed=seed), each)
        for seed, each in enumerate(returns)
    ]
    plot(runs, tmp_path / "x.svg")
    (band,) = drawn["bands"]
    for place, interval in zip(
        (320, 640), mean_intervals([[1, 2], [3, 2], [8, 5]], seed=0), strict=True
    ):
        at = band[band[:, 0] == place, 1]
        assert (at.min(), at.max()) == pytest.approx((interval.low, interval.high))
    assert np.allclose(drawn["curves"]["ppo on CartPole-v1, mean of 3 seeds"][1], [4, 3])
    assert drawn["title"].startswith("bands: 95 %")
    plot(runs[:1], tmp_path / "x.svg")
    assert (drawn["bands"], drawn["title"]) == ([], ""), "one seed has no interval"


def test_single_evaluations_are_points_with_an_interval(
    tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        finished(tmp_path / f"runs/{seed}", online("ppo", PPO, seed=seed), {10: float(seed)})
    make(PlotConfig((tmp_path / "runs",), tmp_path / "x.svg"))
    assert drawn["markers"] == ["o"]
    (interval,) = mean_intervals([[0], [1], [2]], seed=0)
    bar = next(band for band in drawn["bands"] if len(band) == 2)
    assert np.allclose(bar, [[640, interval.low], [640, interval.high]])
    assert "every run has one evaluation" in capsys.readouterr().out.replace("\n", " ")
    several = finished(tmp_path / "several", online("ppo", PPO), {5: 1.0, 10: 2.0})
    make(PlotConfig((several,), tmp_path / "x.svg"))
    assert drawn["markers"] == [""]
    assert "one evaluation" not in capsys.readouterr().out


def test_the_command_takes_folders_of_runs(tmp_path: Path, drawn: dict[str, Any]) -> None:
    for seed in range(2):
        given = online("ppo", PPO, seed=seed)
        finished(tmp_path / f"runs/group/ppo-s{seed}", given, {5: 1.0, 10: 2.0})
    words = ["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "x.png"), "--over", "updates"]
    assert main(words) == 0
    assert (drawn["label"], drawn["out"]) == ("updates", tmp_path / "x.png")
    assert [*drawn["curves"]] == ["ppo on CartPole-v1, mean of 2 seeds"]


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match="nowhere contains no run"):
        make(PlotConfig((tmp_path / "nowhere",), tmp_path / "x.svg"))
    run = finished(tmp_path / "a", online("ppo", PPO), {5: 1.0})
    with pytest.raises(UserError, match=r"x\.doc cannot be written .*; give \.svg, \.png or \.pdf"):
        make(PlotConfig((run,), tmp_path / "x.doc"))


def test_run_folders_are_found_once_in_order(tmp_path: Path) -> None:
    b = finished(tmp_path / "runs/b", online("ppo", PPO), {5: 1.0})
    a = finished(tmp_path / "runs/a", online("ppo", PPO, seed=1), {5: 1.0})
    assert run_folders([b, tmp_path / "runs"]) == [b, a]
    assert run_folders([tmp_path / "nowhere"]) == []


def test_each_task_of_a_report_has_its_axis(tmp_path: Path) -> None:
    finished(tmp_path / "runs/ppo", online("ppo", PPO), {5: 1.0, 10: 2.0})
    finished(tmp_path / "runs/crr", config("crr"), {5: -8.0, 10: -6.0})
    report.make(ReportConfig((tmp_path / "runs",), out=tmp_path / "r.html", films=False))
    page = (tmp_path / "r.html").read_text()
    assert page.count(">environment steps</text>") == page.count(">updates</text>") == 1
    assert ">400</text>" in page, "between 320 and 640 steps"


def test_the_axis_of_no_choice_is_steps_if_all_runs_have_them() -> None:
    label, place = x_axis([online("ppo", PPO), online("sac", SAC)])
    assert (label, place(online("sac", SAC), 7)) == ("environment steps", 107)
    label, place = x_axis([online("ppo", PPO), online("sac", None)])
    assert (label, place(online("ppo", PPO), 7)) == ("updates", 7)
