"""Runs that differ only in the seed are seeds of one method; all others are kept apart."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.tables import report
from rlbench.benchmarks.tables.methods import kept_name, labels
from rlbench.benchmarks.tables.plot import plot
from rlbench.benchmarks.tables.report import ReportConfig
from rlbench.benchmarks.tables.summary import collect, markdown
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN

DATA = {
    "kind": "generated", "name": "point-random", "source": "uniform", "sha256": "aaaaaaaabbbb",
    "details": {"transitions": 300, "score": 1.0},
}  # fmt: skip

SEEDED = DATA | {"details": {"transitions": 300, "score": None, "seeded": True}}
"""Drawn anew for each seed."""


def config(agent: str = "crr", data: Any = DATA, **options: Any) -> dict[str, Any]:
    """A config.json; options are settings of the agent, or of the run if they are in RUN."""
    run = {"env": "point-random", "seed": 0, "updates": 10, "data_size": 300, "eval_episodes": 2,
           "precision": "float32", "device": "cpu", "log_every": 5}  # fmt: skip
    run |= {name: options.pop(name) for name in list(options) if name in run}
    settings = {"weight": "exp", "learning_rate": 0.0003, "hidden": [4]} | options
    return {
        "learner": {"name": agent, "settings": settings},
        "run": run,
        "data": data,
        "reference_returns": [-10.0, 0.0],
        "measures": [asdict(RETURN)],
        "versions": {"rlbench": "0"},
    }


def named(*configs: dict[str, Any]) -> list[str]:
    return labels([each["learner"]["name"] for each in configs], configs)


def finished(path: Path, given: dict[str, Any], returns: dict[int, float]) -> Path:
    """A run folder with evaluations of two episodes, 1 below and 1 above a mean return."""
    folder = RunFolder(path)
    folder.start(given)
    for update, mean in returns.items():
        columns = {"seed": np.array([1, 2]), "return": np.array([mean - 1, mean + 1])}
        folder.add_evaluation(update, columns)
        folder.save_checkpoint(update, {})
    return path


def test_runs_that_differ_only_in_the_seed_keep_their_name() -> None:
    assert (
        named(config(), config(seed=1), config(seed=2, device="cuda", log_every=7)) == ["crr"] * 3
    )


def test_a_name_is_followed_only_by_the_settings_that_differ() -> None:
    assert named(config(), config(weight="binary", learning_rate=0.01)) == [
        "crr (weight=exp, learning_rate=0.0003)",
        "crr (weight=binary, learning_rate=0.01)",
    ]
    assert named(config(hidden=[4]), config(hidden=[8, 8])) == [
        "crr (hidden=(4,))",
        "crr (hidden=(8, 8))",
    ]


@pytest.mark.parametrize(
    ("option", "value"), [("updates", 20), ("eval_episodes", 50), ("precision", "bfloat16")]
)
def test_options_that_affect_the_result_keep_runs_apart(option: str, value: Any) -> None:
    before = config()["run"][option]
    assert named(config(), config(**{option: value})) == [
        f"crr ({option}={before})",
        f"crr ({option}={value})",
    ]


def test_settings_that_differ_are_named_on_all_tasks_but_presets_are_not() -> None:
    # A preset may depend on the task without making two methods; two weights on one task do.
    one = config(env="hopper-medium", learning_rate=0.1)
    assert named(config(), one) == ["crr", "crr"]
    assert named(config(), config(weight="binary"), one) == [
        "crr (weight=exp)",
        "crr (weight=binary)",
        "crr (weight=exp)",
    ]


def test_imported_models_are_methods_of_their_own_because_their_training_is_unknown() -> None:
    one, two = (config() | {"imported": {"sha256": x * 64}} for x in "ab")
    names = named(config(), one, two)
    assert len(set(names)) == 3
    assert "imported=aaaaaaaa" in names[1]
    assert named(one, one)[0] == named(one, one)[1]


def test_runs_on_different_data_are_different_methods() -> None:
    other = DATA | {"sha256": "ccccccccdddd"}
    assert named(config(), config(data=other, seed=1)) == [
        "crr (data=aaaaaaaa)",
        "crr (data=cccccccc)",
    ]
    # A size says more than a hash does, and so does a kind.
    assert named(config(), config(data=other, data_size=900)) == [
        "crr (data_size=300)",
        "crr (data_size=900)",
    ]
    assert named(config(), config(data=None)) == [
        "crr (data=generated, data_size=300)",
        "crr (data=online)",
    ]


def test_different_data_on_one_task_do_not_change_names_on_others() -> None:
    other = DATA | {"sha256": "ccccccccdddd"}
    elsewhere = config(env="hopper-medium", data=DATA | {"sha256": "eeeeeeee"})
    assert named(config(), config(data=other), elsewhere)[2] == "crr"


def test_data_that_are_drawn_anew_for_each_seed_are_identified_by_size() -> None:
    drawn = [
        config("vib", env="signals-2", seed=s, data=SEEDED | {"sha256": str(s)}) for s in (0, 1)
    ]
    assert named(*drawn) == ["vib", "vib"]
    drawn[1]["run"]["data_size"] = 64
    assert named(*drawn) == ["vib (data_size=300)", "vib (data_size=64)"]


def test_a_setting_or_option_added_after_a_run_counts_as_its_default() -> None:
    # CRR's default of beta is 1; a run without a precision used float32.
    old = config()
    del old["run"]["precision"]
    assert named(old, config(seed=1, beta=1.0)) == ["crr", "crr"]
    assert named(old, config(beta=0.5)) == ["crr (beta=1.0)", "crr (beta=0.5)"]


def test_settings_of_an_agent_that_is_not_installed_are_compared_as_they_are() -> None:
    mine = config("nobodys.module:Agent")
    assert named(mine, config("nobodys.module:Agent", knob=3)) == [
        "nobodys.module:Agent",
        "nobodys.module:Agent (knob=3)",
    ]


def test_two_agents_under_one_name_are_two_methods() -> None:
    both = [config(), config("td3", weight="none")]
    assert labels(["mine", "mine"], both) == ["mine, crr", "mine, td3"]


def test_the_same_run_twice_is_refused_and_both_places_are_named(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / name, config(), {10: -5.0}) for name in "ab")
    with pytest.raises(
        UserError, match=r"a and .*b hold the same run: crr on point-random, seed 0"
    ):
        collect([a, b])
    with pytest.raises(UserError, match="hold the same run"):
        plot([a, b], tmp_path / "x.svg")
    file = tmp_path / "results.json"
    file.write_text(json.dumps(collect([a])))
    with pytest.raises(UserError, match=r"results\.json and .*b hold the same run"):
        collect([file, b])
    assert not (tmp_path / "x.svg").exists()


def test_a_summary_averages_only_over_seeds_of_one_method(tmp_path: Path) -> None:
    # A return of -5 between -10 and 0 scores 50.
    runs = [
        finished(tmp_path / "a", config(), {10: -5.0}),
        finished(tmp_path / "b", config(seed=1), {10: -7.0}),
        finished(tmp_path / "c", config(weight="binary"), {10: -1.0}),
    ]
    assert markdown(collect(runs)).splitlines()[-2:] == [
        "| **crr (weight=exp)** | point-random | mean of 2 | | | | | **40.0 ± 10.0** |",
        "| **crr (weight=binary)** | point-random | mean of 1 | | | | | **90.0 ± 0.0** |",
    ]


def test_a_report_of_different_settings_shows_two_methods(tmp_path: Path) -> None:
    finished(tmp_path / "runs/crr-point-random-s0", config(), {5: -9.0, 10: -5.0})
    other = config(weight="binary", learning_rate=0.01)
    finished(tmp_path / "runs/crr-point-random-s0-2", other, {5: -9.0, 10: -1.0})
    report.make(ReportConfig((tmp_path / "runs",), out=tmp_path / "r.html", films=False))
    text = (tmp_path / "r.html").read_text()
    for label, score in (
        ("crr (weight=exp, learning_rate=0.0003)", "50.0"),
        ("crr (weight=binary, learning_rate=0.01)", "90.0"),
    ):
        assert f"<td>{label}</td><td>point-random</td><td>0</td><td>10</td><td>{score}</td>" in text
        assert f"<summary>{label} on point-random</summary>" in text


def test_a_report_of_overlapping_folders_has_each_run_once(tmp_path: Path) -> None:
    path = finished(tmp_path / "runs/crr-point-random-s0", config(), {10: -5.0})
    report.make(ReportConfig((tmp_path / "runs", path), out=tmp_path / "r.html", films=False))
    assert "1 run of rlbench" in (tmp_path / "r.html").read_text()


def test_a_report_of_tasks_without_common_seeds_has_no_profiles(tmp_path: Path) -> None:
    for agent in ("crr", "bc"):
        for task, seed in (("point-random", 0), ("point-mixed", 1)):
            given = config(agent, env=task, seed=seed)
            finished(tmp_path / f"runs/{agent}-{task}-s{seed}", given, {10: -5.0})
    report.make(ReportConfig((tmp_path / "runs",), out=tmp_path / "r.html", films=False))
    assert "Performance profiles" not in (tmp_path / "r.html").read_text()


def test_a_folder_of_a_custom_agent_has_the_agents_name(tmp_path: Path) -> None:
    name = "my_world:Mine"
    for end in ("", "-2"):
        path = finished(tmp_path / f"my_world-Mine-point-random-s0{end}", config(name), {10: 0.0})
        assert kept_name(path, RunFolder(path).config()) == name


def test_curves_are_averaged_at_the_updates_that_all_seeds_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    drawn = {}
    runs = [
        finished(tmp_path / "a", config(), {5: -8.0, 10: -6.0}),
        finished(tmp_path / "b", config(seed=1), {10: -2.0, 20: 0.0}),
    ]

    def savefig(self: Any, *_: Any, **__: Any) -> None:
        for line in self.axes[0].lines:
            drawn[line.get_label()] = (list(line.get_xdata()), list(line.get_ydata()))

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    plot(runs, tmp_path / "x.svg")
    # At update 10 the seeds score 40 and 80; they share no other update.
    assert drawn["crr on point-random, mean of 2 seeds"] == ([10], [60.0])


def test_scores_and_returns_never_share_an_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    seen = []
    raw = config(env="CartPole-v1", data=None) | {"reference_returns": None}
    runs = [
        finished(tmp_path / "a", config(), {10: -5.0}),
        finished(tmp_path / "b", raw, {10: 100.0}),
    ]

    def savefig(self: Any, *_: Any, **__: Any) -> None:
        axes = self.axes[0]
        seen.append((axes.get_ylabel(), [line.get_ydata()[0] for line in axes.lines]))

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    plot(runs, tmp_path / "x.svg")
    plot(runs[:1], tmp_path / "x.svg")
    assert seen == [
        ("return", [-5.0, -5.0, 100.0, 100.0]),
        ("D4RL-normalised score", [50.0, 50.0]),
    ]


def test_the_means_in_the_docs_come_from_the_committed_returns() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "results.md").read_text()
    header = "| task (data) | BC | TD3+BC | IQL | AWAC | CRR |"
    agents = ["bc", "td3-bc", "iql", "awac", "crr"]
    # The runs of seed 0 are on the data of the table, except for those named here.
    for section, file in (
        ("## The offline agents on D4RL's", "d4rl-small"),
        ("## Three of those tasks at the agents' default", "d4rl-default-sizes"),
    ):
        table = text.partition(section)[2].partition(header)[2].partition("\n\n")[0]
        groups: dict[tuple[str, str], list[str]] = {}
        for line in markdown(collect([docs / f"results/{file}.json"])).splitlines():
            if "mean of" in line:
                _, name, task, count, *_, spread, _ = (x.strip(" *") for x in line.split("|"))
                number = count.removeprefix("mean of ")
                key = name.partition(" (")[0], task
                groups.setdefault(key, []).append(
                    spread if number == "3" else f"{spread} ({number})"
                )
        rows = [line.split("|")[1:-1] for line in table.splitlines() if "(generated)" in line]
        assert len(rows) in (3, 6)
        for task, *cells in ([x.strip() for x in row] for row in rows):
            for agent, cell in zip(agents, cells, strict=True):
                found = groups[agent, task.removesuffix(" (generated)")]
                assert cell in found
                assert all(other.endswith("(1)") for other in found if other != cell)
