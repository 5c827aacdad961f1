"""Results in a run folder that were changed or damaged are never shown."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rlbench.benchmarks.tables.results import read_result
from rlbench.benchmarks.tables.summary import collect
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN


def test_damaged_evaluations_are_one_sentence_and_never_other_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start({})
    for update in (4, 8):
        columns = {"seed": np.arange(3), "return": np.arange(3) / 7 + update}
        folder.add_evaluation(update, columns)
    whole, seen = folder.evaluations(), set()
    file = tmp_path / "measures.npz"
    content = file.read_bytes()
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        file.write_bytes(changed)
        try:
            found = folder.evaluations()
        except UserError as error:
            seen.add(str(error))
        else:
            assert all(np.array_equal(column, whole[name]) for name, column in found.items())
    assert seen == {f"{file} is damaged; restore it from a copy"}


@pytest.mark.parametrize("name", ["metrics.jsonl", "measures.npz", "checkpoint"])
def test_changed_results_are_never_shown(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run = {"env": "a", "updates": 8, "seed": 0}
    measures = [dataclasses.asdict(RETURN)]
    folder.start(
        {"learner": {"name": "m", "settings": {}}, "run": run, "data": None, "reference_returns": None}
        | {"measures": measures}
    )  # fmt: skip
    folder.log(8, {"loss": 1.5}, {}, 1.0)
    folder.add_evaluation(8, {"seed": np.arange(2), "return": np.ones(2)})
    folder.save_checkpoint(8, {})
    readers = (lambda: read_result("m", tmp_path), lambda: collect([tmp_path]))
    for read in readers:
        read()
    file = tmp_path / name
    if name == "measures.npz":  # A whole file with other contents.
        np.savez(file, update=[8], seed=[[0, 1]], **{"return": [[1.0, 2.0]]})  # type: ignore[arg-type]
    elif name == "checkpoint":
        file = file / "update-000000008.json"
        file.write_text(file.read_text()[:-9])
    else:
        file.write_bytes(file.read_bytes().replace(b"1.5", b"2.5"))
    words = "is damaged; restore" if name == "checkpoint" else "changed after the checkpoint"
    for read in readers:
        with pytest.raises(UserError, match=f"{file.name} (was )?{words}"):
            read()
