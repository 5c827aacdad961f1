"""What is kept of a run and when, and that a run cut off anywhere ends as one never cut off."""

import dataclasses
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from rlbench.agents import load_agent
from rlbench.backbones.models.segmenter import Segmenter
from rlbench.benchmarks.training import evaluation
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.interrupt import GRACE, Interrupt, Unfinished, look
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.recorder import Recorder, describe, describe_returns
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import find_task
from rlbench.errors import Interrupted, UserError
from rlbench.seeding import derive
from tests.kill_and_resume import assert_equal

QUIET = Console(quiet=True)
SETTINGS: dict[str, dict[str, Any]] = {
    "bc": {"hidden": (8,), "batch_size": 8},
    "iql": {"hidden": (8,), "batch_size": 8},
    "sac": {"hidden": (8,), "batch_size": 8, "random_steps": 6, "replay_size": 20},
    "ppo": {"hidden": (8,), "envs": 2, "rollout_steps": 7, "batch_size": 7, "epochs": 2},
    "recurrent-ppo": {"memory_size": 4, "envs": 2, "rollout_steps": 7, "epochs": 2},
}


def made(out: Path, agent: str = "bc", **options: Any) -> Run:
    config: dict[str, Any] = {
        "env": "point-random", "data_size": 100, "updates": 7, "eval_every": 3, "log_every": 3,
        "checkpoint_every": 3, "eval_episodes": 2, "seed": 5, "compile": "off",
    }  # fmt: skip
    if agent not in ("bc", "iql"):
        config["data"] = "none"
    settings = load_agent(agent).Config(**SETTINGS[agent])
    return Run(agent, settings, RunConfig(**config | options, out=out), QUIET)


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_last_update_is_logged_evaluated_and_saved_though_nothing_is_due(
    tmp_path: Path,
) -> None:
    run = made(tmp_path / "run", snapshot_every=2)
    run.start()
    assert [line["update"] for line in lines(tmp_path / "run")] == [3, 6, 7]
    assert run.folder.evaluations()["update"].tolist() == [3, 6, 7]
    assert run.folder.checkpoints() == [7]
    names = sorted(x.stem for x in (tmp_path / "run/snapshots").glob("*.json"))
    assert names == [f"update-{u:09d}" for u in (2, 4, 6)]


def test_every_evaluation_has_seeds_of_its_own(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    run.start()
    wanted = [
        [derive(derive(5, "evaluation", update), "episode", e) for e in range(2)]
        for update in (3, 6, 7)
    ]
    assert run.folder.evaluations()["seed"].tolist() == wanted


def test_the_speed_is_that_of_updates_without_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, now = made(tmp_path / "run", eval_every=2, log_every=4, updates=8), 0.0

    class Evaluations:
        def __init__(self, *given: Any) -> None:
            self.usual = EpisodesEvaluator(*given)

        def columns(self, *given: Any, **named: Any) -> Any:
            nonlocal now
            now += 100.0
            return self.usual.columns(*given, **named)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.usual, name)

    monkeypatch.setattr(evaluation, "EpisodesEvaluator", Evaluations)
    monkeypatch.setattr("rlbench.benchmarks.training.recorder.time.monotonic", lambda: now)
    learn = run.learner.learn

    def slowly(experience: Any) -> Mapping[str, Tensor]:
        nonlocal now
        now += 0.5
        return dict(learn(experience))

    run.learner.learn = slowly
    run.start()
    told = [tuple(line.values()) for line in lines(tmp_path / "run", "timing.jsonl")]
    # Update, updates per second, seconds in all: four updates and one evaluation before the first.
    assert told == [(4, 2.0, 102.0), (8, 2.0, 304.0)]


NOTHING_DUE: dict[str, Any] = {"log_every": 9, "checkpoint_every": 9, "eval_every": 9}
"""In a run of 7 updates, before the last."""


def kept_by(run: Run) -> Recorder:
    run.folder.start(run.description())
    return run.recorder(ProgressLine(QUIET, "", run.config.updates, "updates", 0))


def test_a_person_s_wish_to_stop_saves_first_and_does_not_stop_the_last_update(
    tmp_path: Path,
) -> None:
    run = made(tmp_path / "run", updates=2)
    keep = kept_by(run)
    with pytest.raises(Interrupted, match="update 1"):
        keep.after(1, {"loss": torch.tensor(1.0)}, dict, stopping=True)
    assert run.folder.checkpoints() == [1]
    keep.after(2, {"loss": torch.tensor(1.0)}, dict, stopping=True)
    assert run.folder.checkpoints() == [2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("due", ["log_every", "checkpoint_every", "eval_every"])
def test_a_measure_that_is_not_finite_stops_the_run_before_it_is_kept(
    tmp_path: Path, value: float, due: str
) -> None:
    run = made(tmp_path / "run", **NOTHING_DUE | {due: 1})
    with pytest.raises(UserError, match="loss"):
        kept_by(run).after(1, {"loss": torch.tensor(value)}, dict, stopping=False)
    assert run.folder.checkpoints() == []
    assert not len(run.folder.evaluations()["update"])


@pytest.mark.parametrize("due", ["checkpoint_every", "eval_every", "snapshot_every"])
def test_weights_that_are_not_finite_are_neither_kept_nor_evaluated(
    tmp_path: Path, due: str
) -> None:
    run = made(tmp_path / "run", **NOTHING_DUE | {due: 1})
    next(iter(run.learner.policy.parameters())).data[0] = np.nan
    with pytest.raises(UserError, match="learner's policy"):
        kept_by(run).after(1, {"loss": torch.tensor(1.0)}, dict, stopping=False)
    assert run.folder.checkpoints() == []
    assert not (tmp_path / "run" / "snapshots").exists()
    assert not len(run.folder.evaluations()["update"])


def test_what_plays_may_finish_within_the_grace_after_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("rlbench.benchmarks.training.interrupt.time.monotonic", lambda: now)

    def play() -> None:
        nonlocal now
        look()
        signal.raise_signal(signal.SIGINT)
        look()
        now += GRACE
        look()
        now += 0.01
        with pytest.raises(Unfinished):
            look()

    with pytest.raises(KeyboardInterrupt), Interrupt():  # What would follow does not.
        play()
    look()


def test_solved_is_what_is_above_the_limit_and_not_on_it() -> None:
    task = dataclasses.replace(find_task("multiroom-n2"), held_out=None)
    assert task.solved_above == 0.0
    told = describe_returns(task, np.array([0.0, 0.0, 0.3, 0.9]))
    assert told == "return 0.300 ± 0.367 over 4 episodes, solved 50 %"


def test_a_measure_of_all_examples_at_once_is_not_one_example() -> None:
    columns = {"miou": np.array([0.5]), "loss": np.array([1.0, 2.0, 3.0])}
    told = describe(find_task("digits"), Segmenter, columns)
    assert told == "miou 0.500, loss 2.000 nats over 3 examples"


def cut_off(run: Run, updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in the update after so many, when the agent has learned and nothing is kept of it."""
    after, left = Recorder.after, iter(range(updates))

    def dying(*given: Any, **named: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        after(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after", dying)
        with pytest.raises(KeyboardInterrupt):
            run.start()


@pytest.mark.parametrize("agent", SETTINGS)
def test_a_run_cut_off_anywhere_ends_as_one_never_cut_off(
    tmp_path: Path, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, online and on-policy: checkpoint, log and returns, to the last byte."""
    options: dict[str, Any] = {"updates": 9, "log_every": 2, "eval_every": 2}
    made(tmp_path / "whole", agent, **options).start()
    assert len(lines(tmp_path / "whole")) == 5
    for updates in (2, 5, 8):  # Before the first checkpoint, and two updates after others.
        folder = tmp_path / f"cut-{updates}"
        cut_off(made(folder, agent, **options), updates, monkeypatch)
        assert [line["update"] for line in lines(folder)] == list(range(2, updates + 1, 2))
        resumed = Run.resume(folder, QUIET)
        assert resumed.finish() == 9 - 3 * (updates // 3)
        assert_equal(tmp_path / "whole", folder)
        assert resumed.finish() == 0, "a run that is complete has nothing left"


def test_a_resume_goes_back_to_the_newest_checkpoint_and_forgets_what_came_after(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    folder.start({})
    for update in (1, 2, 3, 4):
        folder.log(update, {"loss": 0.5}, {}, 10.0 * update)
        value = np.array([float(update)])
        folder.add_evaluation(update, {"return": value, "held_out/return": -value})
        folder.save_checkpoint(update, {"learner": {"x": update}}, keep=2)
    assert folder.checkpoints() == [3, 4]
    newest, older = folder.load_checkpoint(), folder.load_checkpoint(update=3)
    assert newest is not None
    assert older is not None
    assert (newest["update"], newest["learner"]) == (4, {"x": 4})
    assert (older["update"], older["learner"]) == (3, {"x": 3})
    folder.rewind(3)
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert [line["update"] for line in lines(tmp_path, name)] == [1, 2, 3]
    returns = folder.evaluations()
    assert returns["update"].tolist() == [1, 2, 3]
    assert returns["return"].ravel().tolist() == [1, 2, 3]
    assert returns["held_out/return"].ravel().tolist() == [-1, -2, -3]
    assert folder.seconds() == 30.0


def test_half_of_a_checkpoint_never_counts_while_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, left = RunFolder(tmp_path), []
    folder.start({})
    unlink = Path.unlink

    def watched(path: Path, **named: Any) -> None:
        unlink(path, **named)
        left.append(folder.checkpoints())

    for update in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", watched)
            folder.save_checkpoint(update, {"learner": {"x": torch.zeros(2)}})
    assert left, "the first one was removed"
    assert all(found == [2] for found in left), "from its first file on it does not count"
    assert len(list((tmp_path / "checkpoint").iterdir())) == 2


def test_the_agent_gets_the_statistics_of_the_data_and_a_seed_of_its_run(tmp_path: Path) -> None:
    one, other = (made(tmp_path / str(seed), seed=seed) for seed in (5, 6))
    assert one.data is not None
    obs = one.data.take(torch.arange(len(one.data))).obs
    spec = one.learner.spec
    assert spec.obs_mean is not None
    assert spec.obs_std is not None
    torch.testing.assert_close(spec.obs_mean, obs.mean(0))
    torch.testing.assert_close(spec.obs_std, obs.std(0, correction=0))
    assert spec.return_range == one.data.return_range
    first, second = (next(iter(run.learner.policy.parameters())) for run in (one, other))
    assert not torch.equal(first, second)
