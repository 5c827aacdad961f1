"""Summaries and pictures of runs."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rlbench.benchmarks.tables.plot import plot
from rlbench.benchmarks.tables.summary import collect, markdown
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN
from tests.run_files import edit


def finished(
    path: Path, seed: int, returns: list[float], held_out: list[float] | None = None
) -> Path:
    """A folder as a run leaves it, with one evaluation after its 10 updates."""
    folder = RunFolder(path)
    folder.start(
        {
            "learner": {"name": "bear", "settings": {}},
            "run": {"env": "halfcheetah-medium", "updates": 10, "seed": seed},
            "data": {
                "kind": "generated",
                "name": "x",
                "source": "x",
                "sha256": "",
                "details": {"score": 43.4},
            },
            "reference_returns": [-280.178953, 12135.0],
            "measures": [asdict(RETURN)],
        }
    )
    columns = {"seed": np.array([1, 2]), "return": np.array(returns)}
    if held_out is not None:
        columns |= {"held_out/seed": np.array([1, 2]), "held_out/return": np.array(held_out)}
    folder.add_evaluation(10, columns)
    folder.save_checkpoint(10, {})
    return path


def test_a_summary_by_hand(tmp_path: Path) -> None:
    # (12135 - -280.18) * 0.5 - 280.18 = 5927.41 scores 50; the reference itself scores 100.
    half = 5927.4105235
    one = finished(tmp_path / "a", 0, [half, half])
    other = finished(tmp_path / "b", 1, [12135.0 - 100, 12135.0 + 100])
    runs = collect([one, other])
    assert json.loads(json.dumps(runs))[1]["evaluations"]["return"] == [[12035.0, 12235.0]]
    start = "| bear | halfcheetah-medium |"
    assert markdown(runs).splitlines()[2:] == [
        f"{start} 0 | generated | 43.4 | 2 | return 5,927 ± 0 (5,927 to 5,927) | 50.0 |",
        f"{start} 1 | generated | 43.4 | 2 | return 12,135 ± 100 (12,035 to 12,235) | 100.0 |",
        "| **bear** | halfcheetah-medium | mean of 2 | | | | | **75.0 ± 25.0** |",
    ]


def test_a_file_of_results_stands_for_its_runs(tmp_path: Path) -> None:
    one, other = (finished(tmp_path / str(i), i, [1.0, 2.0]) for i in range(2))
    file = tmp_path / "results.json"
    file.write_text(json.dumps(collect([one])))
    assert collect([file, other]) == collect([one, other])
    plot([file], tmp_path / "curves.svg")
    file.write_text('[{"learner": 1}]')
    with pytest.raises(UserError, match=r"results\.json holds no results"):
        collect([file])


def test_a_run_that_is_not_complete_is_not_summarised(tmp_path: Path) -> None:
    path = finished(tmp_path / "a", 0, [1.0, 2.0])
    edit(path, lambda config: config["run"].update(updates=20))
    with pytest.raises(UserError, match="is not complete"):
        collect([path])
    assert collect([path], unfinished=True)[0]["run"]["updates"] == 20
    plot([path], tmp_path / "curves.svg")


def test_held_out_levels_have_a_separate_curve(tmp_path: Path) -> None:
    plot([finished(tmp_path / "a", 0, [1.0, 2.0], [0.0, 1.0])], tmp_path / "curves.svg")
    assert "bear on halfcheetah-medium, held out, 1 seed" in (tmp_path / "curves.svg").read_text()


def test_a_picture_names_agent_task_and_seeds(tmp_path: Path) -> None:
    runs = [finished(tmp_path / name, i, [1.0, 2.0]) for i, name in enumerate("ab")]
    plot(runs, tmp_path / "out" / "curves.svg")
    assert (
        "bear on halfcheetah-medium, mean of 2 seeds"
        in (tmp_path / "out" / "curves.svg").read_text()
    )
    with pytest.raises(UserError, match="contains no run"):
        plot([tmp_path / "nowhere"], tmp_path / "x.svg")


def test_runs_in_another_precision_are_kept_apart(tmp_path: Path) -> None:
    runs = [finished(tmp_path / name, i, [1.0, 2.0]) for i, name in enumerate("ab")]
    edit(runs[1], lambda config: config["run"].update(precision="bfloat16"))
    plot(runs, tmp_path / "curves.svg")
    assert "bear in bfloat16 on halfcheetah-medium, 1 seed" in (tmp_path / "curves.svg").read_text()
    assert "| **bear in bfloat16** | halfcheetah-medium | mean of 1 |" in markdown(collect(runs))
