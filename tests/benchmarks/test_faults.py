"""Runs whose environment or agent is at fault: one sentence that says whose fault, and nothing is lost."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.agents.bc import BC
from rlbench.agents.ppo import PPO
from rlbench.agents.sac import SAC, SACConfig
from rlbench.benchmarks.commands import watch as film
from rlbench.benchmarks.training import evaluation
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator, longest_episode
from rlbench.benchmarks.training.recorder import resumable
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import CannotWrite, Diverged, Unsuited, UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Spec, State
from tests.odd import Line, limited
from tests.rlbench.test_cli import refused

SAC_WORDS = ["--random-steps", "8", "--batch-size", "4", "--updates", "6"]
PPO_WORDS = ["--rollout-steps", "8", "--batch-size", "4", "--updates", "2"]
FEW = ["--hidden", "8", "--eval-episodes", "2", "--out", "run"]


def words(agent: str, env: str) -> list[str]:
    own = SAC_WORDS if agent == "sac" else PPO_WORDS
    return ["run", agent, "--env", env if ":" in env else f"tests.odd:{env}", *own, *FEW]


@pytest.mark.parametrize("agent", ["ppo", "sac"])
@pytest.mark.parametrize(
    ("env", "expected", "begun"),
    [
        (
            "raises",
            "tests.odd:raises raised ValueError in step: motor is on fire; this comes",
            True,
        ),
        ("reward_nan", "tests.odd:reward_nan: step 4 of the episode with seed", True),
        (
            "reward_none",
            "tests.odd:reward_none: step 1 of the episode with seed 0 returned the reward None",
            False,
        ),
        ("broken_factory", "tests.odd:broken_factory raised NameNotFound in its factory", False),
        ("InPlace.reset", "has no function 'InPlace.reset'", False),
    ],
)
def test_the_fault_of_an_environment_is_named_as_the_users(
    agent: str, env: str, expected: str, begun: bool, in_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    told = refused(capsys, words(agent, env))
    assert expected in told
    assert "should not happen" not in told
    assert Path("run").exists() == begun, "a check of a few steps comes before the folder"
    assert (
        "; afterwards `rlbench run --resume run --trust` continues from update 0\n" in told
    ) == begun
    if begun:
        assert not Path("run/measures.npz").exists()


def test_an_error_says_from_which_update_all_runs_can_be_resumed(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("s0", "s1")]
    for folder, updates in zip(folders, ([2, 4], [2]), strict=True):
        folder.start({})
        for update in updates:
            folder.save_checkpoint(update, {}, keep=2)
    advice = f"full; afterwards `rlbench run --resume {tmp_path}` continues from update 2"
    with pytest.raises(UserError, match=re.escape(advice)), resumable(folders, tmp_path):
        raise UserError("full")
    with pytest.raises(UserError) as told, resumable(folders, tmp_path):
        raise CannotWrite("full")
    assert str(told.value) == advice
    with pytest.raises(Diverged, match=r"^NaN$"), resumable(folders, tmp_path):
        raise Diverged("NaN")
    with pytest.raises(Unsuited, match=r"^too far$"), resumable(folders, tmp_path):
        raise Unsuited("too far")
    (tmp_path / "s1/config.json").unlink()
    with pytest.raises(UserError, match=r"^gone$"), resumable(folders, tmp_path):
        raise UserError("gone")


def test_debug_shows_where_the_environment_failed(in_folder: Path) -> None:
    with pytest.raises(UserError, match="motor is on fire") as error:
        main([*words("ppo", "raises"), "--debug"])
    cause = error.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__traceback__ is not None


def test_a_module_that_cannot_be_imported_is_named(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("half_written.py").write_text("import numpy\nnumpy.no_such_thing\n")
    monkeypatch.syspath_prepend(str(in_folder))
    told = refused(capsys, words("ppo", "half_written:make"))
    assert "half_written:make raised AttributeError in its module 'half_written'" in told


class Fails(PPO):
    """Fails in one place; its own module is this one."""

    place = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fail("__init__")

    def _fail(self, place: str) -> None:
        if self.place == place:
            raise KeyError("gain")

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        if self.place == "evaluation" and not explore:
            raise KeyError("gain")
        self._fail("act")
        return super().act(obs, explore=explore, state=state)

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        self._fail("learn")
        return super().learn(experience)

    def compiled(self, compiler: Any) -> Any:
        return compiler(self.learn)


class ReturnsNothing(PPO):
    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        return None  # type: ignore[return-value]

    def compiled(self, compiler: Any) -> Any:
        return compiler(self.learn)


@pytest.mark.parametrize(
    ("place", "method"),
    [("__init__", "__init__"), ("act", "act"), ("learn", "learn"), ("evaluation", "act")],
)
def test_the_fault_of_a_custom_agent_is_named_as_the_users(
    place: str, method: str, in_folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Fails, "place", place)
    told = refused(capsys, words("tests.benchmarks.test_faults:Fails", "good"))
    assert (
        f"tests.benchmarks.test_faults:Fails raised KeyError in {method}: 'gain'; this comes from your"
        in told
    )
    assert Path("run").exists() == (place != "__init__")


def test_the_fault_of_a_custom_agent_is_named_in_evaluations_and_films(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words("tests.benchmarks.test_faults:Fails", "good")) == 0
    capsys.readouterr()
    monkeypatch.setattr(Fails, "place", "act")
    named = "tests.benchmarks.test_faults:Fails raised KeyError in act: 'gain'"
    assert named in refused(capsys, ["evaluate", "run", "--episodes", "2", "--trust"])
    with pytest.raises(UserError, match=named):
        list(film.frames(Path("run"), 1, 1, 16, trust=True)[0])
    monkeypatch.setattr(Fails, "place", "__init__")
    assert "in __init__: 'gain'" in refused(
        capsys, ["evaluate", "run", "--episodes", "2", "--trust"]
    )


def test_a_wrong_return_value_of_a_custom_agent_is_explained(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, words("tests.benchmarks.test_faults:ReturnsNothing", "good"))
    assert "tests.benchmarks.test_faults:ReturnsNothing cannot be run (" in told
    assert "`learn` a mapping of scalars" in told


def test_a_fault_of_a_built_in_agent_is_not_blamed_on_the_user(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("gain")

    monkeypatch.setattr(BC, "learn", fail)
    config = RunConfig(env="point-random", data_size=50, updates=2, out=Path("run"))
    with pytest.raises(KeyError, match="gain"):
        Run("bc", BC.Config(hidden=(8,), batch_size=4), config).start()


def test_the_error_for_an_infinite_loss_names_no_missing_checkpoint(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, words("ppo", "huge_reward"))
    assert "value_loss became inf by update 1, so the run was stopped" in told
    assert told.endswith("run holds no checkpoint yet, only its log\n")
    assert RunFolder(Path("run")).checkpoints() == []
    assert RunFolder(Path("run")).evaluations()["update"].size == 0
    assert not Path("run/metrics.jsonl").exists()


class Diverges(SAC):
    """Its policy's weights become nan in update 4, and no metric shows it."""

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        super().learn(experience)
        self.learned = getattr(self, "learned", 0) + 1
        if self.learned == 4:
            with torch.no_grad():
                next(self.policy.parameters()).fill_(float("nan"))
        return {"loss": torch.tensor(0.0)}

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return Action(super().act(obs, explore=explore, state=state).action.nan_to_num())

    def phase(self) -> None:
        return None


@pytest.mark.parametrize(
    ("scored", "saved", "update", "results", "checkpoints"),
    [(2, 2, 4, [2], [2]), (6, 6, 6, [], []), (6, 2, 4, [], [2]), (2, 6, 4, [2], [])],
)
def test_weights_that_are_not_finite_are_neither_scored_nor_saved(
    scored: int, saved: int, update: int, results: list[int], checkpoints: list[int], tmp_path: Path
) -> None:
    config = RunConfig(
        env="tests.odd:good", updates=6, eval_every=scored, eval_episodes=2, checkpoint_every=saved,
        out=tmp_path / "run",
    )  # fmt: skip
    settings = SACConfig(hidden=(8,), random_steps=8, batch_size=4)
    run = Run("tests.benchmarks.test_faults:Diverges", settings, config)
    words = f"a number in the learner's policy became nan or infinite by update {update}, "
    with pytest.raises(UserError, match=words) as error:
        run.start()
    kept = "its checkpoint of update 2" if checkpoints else "no checkpoint yet"
    assert kept in str(error.value)
    assert run.folder.evaluations()["update"].tolist() == results
    assert run.folder.checkpoints() == checkpoints


def test_a_return_that_is_not_finite_is_refused() -> None:
    task = find_task("halfcheetah-medium")
    agent = SAC(SACConfig(hidden=(8,)), Spec.of(task.make()))
    evaluator = EpisodesEvaluator(task, 1)
    step = evaluator.envs.step

    def broken(playing: Any, action: Any) -> Any:
        obs, reward, terminated, truncated = step(playing, action)
        return obs, reward * np.nan, terminated | True, truncated

    evaluator.envs.step = broken  # type: ignore[method-assign]
    with pytest.raises(
        UserError, match="the return of halfcheetah-medium is nan in the episode with"
    ):
        evaluator.returns(agent, 0)


class TestATaskThatNeverEnds:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluation, "MAX_STEPS", 30)

    def test_is_cut_in_evaluations_and_films_with_a_note(
        self, in_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(words("sac", "endless")) == 0
        note = (
            "note: {} of {} episodes were cut after 30 steps, because tests.odd:endless did not end"
        )
        assert note.format(2, 2) in capsys.readouterr().out
        assert main(["evaluate", "run", "--episodes", "3", "--trust"]) == 0
        assert note.format(3, 3) in capsys.readouterr().out
        pictures, _ = film.frames(Path("run"), 1, 1, 16, trust=True)
        assert len(list(pictures)) == 31

    def test_is_not_cut_before_a_longer_limit_of_its_own(self) -> None:
        assert longest_episode(None) == longest_episode(12) == 30
        assert longest_episode(40) == 41
        agent = SAC(SACConfig(hidden=(8,)), Spec.of(Line()))
        for env, steps, cut in ((limited(Line(), 40), 40, False), (Line(), 30, True)):
            env.unwrapped.make_reward = lambda r: 1.0  # type: ignore[attr-defined]
            evaluator = EpisodesEvaluator(Task("line", lambda env=env: env), 1)  # type: ignore[misc]
            assert evaluator.returns(agent, 0)[1].tolist() == [steps]
            assert bool(evaluator.note()) == cut
