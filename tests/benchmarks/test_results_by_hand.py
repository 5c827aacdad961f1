"""Results of runs by hand: the last evaluation, its unit, and what tells runs apart."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.tables.methods import differences
from rlbench.benchmarks.tables.results import Missing, read_result
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN

NAN, INFINITY = float("nan"), float("inf")


def run(folder: Path, **columns: list[list[float]]) -> Path:
    """A run of 20 updates, evaluated after 10 and 20, whose returns of -10 and 30 score 0 and 100."""
    config: dict[str, Any] = {
        "learner": {"name": "bc", "settings": {}}, "run": {"env": "task", "seed": 3, "updates": 20},
        "data": None, "reference_returns": [-10, 30], "measures": [asdict(RETURN)],
    }  # fmt: skip
    RunFolder(folder).start(config)
    (folder / "timing.jsonl").write_text(json.dumps({"update": 20, "seconds": 7.5}) + "\n")
    np.savez(folder / "measures.npz", update=[10, 20], seed=[[1, 2], [3, 4]], **columns)  # type: ignore[arg-type]
    RunFolder(folder).save_checkpoint(20, {})
    return folder


def test_a_result_is_the_last_evaluation_in_the_unit_of_the_score(tmp_path: Path) -> None:
    columns = {
        "return": [[99.0, 99.0], [0.0, 20.0]],
        "held_out/return": [[99.0, 99.0], [-10.0, 10.0]],
    }
    found = read_result("mine", run(tmp_path / "run", **columns))
    assert (found.method, found.task, found.seed) == ("mine", "task", 3)
    assert found.columns["return"].tolist() == [0, 20]
    assert (found.score, found.held_out_score, found.seconds) == (50.0, 25.0, 7.5)
    assert found.data_kind == "online"
    alone = read_result("mine", run(tmp_path / "alone", **{"return": columns["return"]}))
    with pytest.raises(Missing, match="no held-out levels"):
        _ = alone.held_out_score


@pytest.mark.parametrize("wrong", [NAN, INFINITY, -INFINITY])
def test_one_return_that_is_not_finite_leaves_no_result(tmp_path: Path, wrong: float) -> None:
    fine, first, last = [[1.0, 2.0]] * 2, [[wrong, 2.0], [1.0, 2.0]], [[1.0, 2.0], [1.0, wrong]]
    read_result("mine", run(tmp_path / "first", **{"return": first, "held_out": first}))
    for name, columns in (("a", {"return": last}), ("b", {"return": fine, "held_out": last})):
        with pytest.raises(UserError, match="NaN or infinite"):
            read_result("mine", run(tmp_path / name, **columns))


def test_what_one_lacks_is_a_difference_though_the_other_has_none() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == {"b", "c", "d"}
    assert differences({"a": None}, {}) == {"a"}
    assert differences({}, {"a": None}) == {"a"}
    assert differences({"a": None}, {"a": None}) == set()
