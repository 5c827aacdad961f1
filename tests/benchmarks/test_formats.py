"""Run folders of earlier formats: read, resumed and tabled.

The folders in `format_1` were stopped after update 5 of 6 with a checkpoint of update 3; one is complete.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlbench.benchmarks.tables.results import read_result
from rlbench.benchmarks.tables.summary import collect
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.measures import RETURN
from tests.run_files import edit

OLD = Path(__file__).parents[1] / "format_1"
STOPPED = ("bc", "ppo", "sac")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the old folders."""
    monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(OLD, tmp_path / "runs"))


@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_run_of_format_1_is_resumed_in_format_3(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(folder / name)
    before = run.evaluations()
    assert before["update"].tolist() == [2, 4]
    assert not run.complete()
    assert Run.resume(run.path).finish() == 3
    assert capsys.readouterr().out.count("did not hash all of its files") == 1
    after = run.evaluations()
    assert after["update"].tolist() == [2, 4, 6]
    # Episodes that were evaluated before the checkpoint are kept.
    for measure in ("seed", "return"):
        np.testing.assert_array_equal(after[measure][0], before[measure][0])
    config = json.loads((run.path / "config.json").read_text())
    assert (config["format"], config["learner"]["name"]) == (3, name)
    assert not (run.path / "returns.npz").exists()
    assert main(["evaluate", str(run.path), "--episodes", "2"]) == 0


def test_a_complete_run_of_format_1_is_read_as_it_is(folder: Path) -> None:
    run = RunFolder(folder / "ppo-complete")
    assert run.complete()
    assert Run.resume(run.path).finish() == 0
    assert (run.path / "returns.npz").exists()
    result = read_result("ppo", run.path)
    with np.load(run.path / "returns.npz") as saved:
        assert result.mean("return") == saved["return"][-1].mean()
    collected = collect([run.path])
    assert collected[0]["learner"]["name"] == "ppo"
    assert collected[0]["evaluations"]["update"] == [2, 4, 6]


def test_a_kill_while_a_folder_is_upgraded_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(folder / "ppo")
    before = run.evaluations()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_write_config", killed)
        with pytest.raises(KeyboardInterrupt):
            run.upgrade()
    assert run.config()["learner"]["name"] == "ppo"
    np.testing.assert_array_equal(run.evaluations()["return"], before["return"])
    run.upgrade()
    assert (run.path / "measures.npz").exists()
    np.testing.assert_array_equal(run.evaluations()["return"], before["return"])


def test_results_files_of_format_1_are_read(tmp_path: Path) -> None:
    with np.load(OLD / "ppo-complete" / "returns.npz") as saved:
        columns = {name: saved[name].tolist() for name in saved}
    config = json.loads((OLD / "ppo-complete" / "config.json").read_text())
    columns["held_out"] = columns["return"]
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{**config, "seconds": 1.0, "evaluations": columns}]))
    run = collect([file])[0]
    assert run["evaluations"]["held_out/return"] == columns["return"]
    assert run["measures"][0]["name"] == "return"


@pytest.mark.parametrize("written", [0, 4, "2"])
def test_folders_of_unknown_formats_are_refused(folder: Path, written: object) -> None:
    file = folder / "ppo" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": written}))
    with pytest.raises(UserError, match=f"has format {written}, but this version reads 1 to 3"):
        RunFolder(folder / "ppo").config()


def test_a_changed_config_is_refused_and_changed_facts_are_noted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(folder / "ppo")
    assert Run.resume(run.path).finish() == 3  # Now its checkpoint holds hashes.
    state = run.load_checkpoint()
    assert state is not None
    assert run.changed_files(state) == []
    lines = (run.path / "metrics.jsonl").read_text()
    (run.path / "metrics.jsonl").write_text(lines.replace("0.", "1.", 1))
    assert run.changed_files(state) == ["metrics.jsonl"]
    (run.path / "metrics.jsonl").write_text(lines)
    config = (run.path / "config.json").read_text()
    (run.path / "config.json").write_text(config.replace('"seed": 5', '"seed": 6'))
    with pytest.raises(UserError, match=r"config\.json was changed after it was written"):
        Run.resume(run.path)
    edit(run.path, lambda config: config["run"].update(seed=6))  # The config of another run.
    assert run.changed_files(state) == ["config.json"]
    resumed = Run.resume(run.path)
    with pytest.raises(
        UserError, match=r"config\.json was changed after the checkpoint of update 6"
    ):
        resumed.go_back(state, resumed.make_driver())


def test_any_change_of_a_config_is_refused_and_its_layout_is_free(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    learner = {"name": "bc", "settings": {"rate": 0.25}}
    run.start(
        {"learner": learner, "run": {"env": "a", "updates": 5, "seed": 0}, "data": None}
        | {"reference_returns": None, "measures": [dataclasses.asdict(RETURN)]}
    )
    whole = run.config()
    file = tmp_path / "config.json"
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(UserError, match=r"config\.json (was changed|is damaged|has format)"):
            run.config()
    written = json.loads(content)
    file.write_text(json.dumps(dict(reversed(written.items()))))
    assert run.config() == whole
    del written["sha256"]
    file.write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        run.config()
