"""Faulty actions of a user's agent are refused and named as its own."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from rlbench.agents import PPO, SAC
from rlbench.benchmarks.tables import summary
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.faults import Actions
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.contract import BrokenAction
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import with_hash
from rlbench.interface import Action, Spec, State
from rlbench.measures import RETURN
from tests.benchmarks.test_faults import words
from tests.rlbench.test_cli import refused

UNIT = Box(-1, 1, (1,))
NAN = float("nan")


def taken(space: Space[Any], action: Any, **options: Any) -> Any:
    agent: Any = SimpleNamespace(spec=Spec(UNIT, space))
    given = torch.as_tensor(action)
    return Actions(agent)(Action(given), len(given), **options)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(3), [0, 2]),
        (Discrete(3), [2.0]),
        (Discrete(3), [True]),
        (Discrete(3, start=-1), [-1, 1]),
        (MultiDiscrete([2, 3]), [[1, 2]]),
        (UNIT, [[1.0], [-1.0]]),
        (UNIT, [[1.000001]]),
        (Box(0, 1, (1,)), [[-0.000001]]),
        (Box(0, np.inf, (1,)), [[1e30]]),
        (Box(0.1, 0.7, (1,), np.float64), torch.tensor([[0.1], [0.7]])),
        (Box(0, 9, (1,), np.int32), [[9]]),
    ],
)
def test_actions_inside_the_space_are_taken_as_they_are(space: Space[Any], action: Any) -> None:
    assert np.array_equal(taken(space, action), torch.as_tensor(action).numpy())


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (Discrete(3), [0, 7], r"the action 7, expected one of Discrete\(3\)"),
        (Discrete(3), [3], "the action 3, "),
        (Discrete(3), [-1], "the action -1, "),
        (Discrete(3, start=1), [0], "the action 0, "),
        (Discrete(3), [1.5], r"the action 1\.5, "),
        (MultiDiscrete([2, 3]), [[2, 0]], r"the action \[2, 0\], "),
        (UNIT, [[0.0], [1e6]], r"the action \[1000000\.0\], expected one of Box"),
        (UNIT, [[-1.001]], "the action "),
        (UNIT, [[1j]], "the action "),
        (Box(0, np.inf, (1,)), [[-0.1]], "the action "),
        (Box(0, 9, (1,), np.int32), [[1.5]], "the action "),
        (UNIT, [0.0], r"actions of shape \[1\], expected \[1, 1\]"),
        (Discrete(3), [[1]], r"actions of shape \[1, 1\], expected \[1\]"),
    ],
)
def test_other_actions_are_refused(space: Space[Any], action: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        taken(space, action)
    assert not isinstance(error.value, BrokenAction)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_an_action_that_is_not_finite_is_the_initial_agents_or_what_it_learned(
    value: float,
) -> None:
    with pytest.raises(BrokenAction, match=r"became \[(nan|inf)\]"):
        taken(Box(-1, 1, (1,)), [[value]])
    with pytest.raises(UserError, match="before its first update, expected finite") as error:
        taken(Box(-1, 1, (1,)), [[value]], learned=False)
    assert not isinstance(error.value, BrokenAction)


def changed(chosen: Action) -> Action:
    """What the faulty agents do to an action; tests replace it."""
    return chosen


class Online(PPO):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return changed(super().act(obs, explore=explore, state=state))


class Replaying(SAC):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return changed(super().act(obs, explore=explore, state=state))


@pytest.mark.parametrize("kind", ["Online", "Replaying"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: Action(x.action + 9, x.extras), "returned the action .* expected one of Box"),
        (
            lambda x: Action(x.action.repeat(2, 1), x.extras),
            r"of shape \[2, 1\], expected \[1, 1\]",
        ),
        (lambda x: Action(x.action * NAN, x.extras), r"action \[nan\] before its first update"),
    ],
)
def test_a_run_names_the_agent_whose_action_is_at_fault(
    kind: str, change: Any, expected: str, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "changed", change)
    name = f"tests.benchmarks.test_actions:{kind}"
    with pytest.raises(
        UserError, match=f"`act` of {name} returned .*{expected}|{expected}"
    ) as error:
        begin(name)
    assert name in str(error.value)


def begin(name: str) -> None:
    from rlbench.agents import load_agent
    from rlbench.benchmarks.training.config import RunConfig

    agent = load_agent(name)
    own = {"random_steps": 8} if agent is Replaying else {"rollout_steps": 8}
    settings = agent.Config(hidden=(8,), batch_size=4, **own)
    Run(name, settings, RunConfig(env="tests.odd:good", updates=3, out=Path("run"))).start()


def test_an_extra_that_is_missing_later_is_named(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def forget(chosen: Action) -> Action:
        calls.append(1)
        kept = dict(chosen.extras)
        if len(calls) > 3:
            del kept[min(kept)]
        return Action(chosen.action, kept)

    monkeypatch.setattr(sys.modules[__name__], "changed", forget)
    with pytest.raises(UserError, match=r"Online returned the extra .* with some steps only"):
        begin("tests.benchmarks.test_actions:Online")


def test_an_agent_that_exits_is_named(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "changed", lambda chosen: sys.exit(5))
    with pytest.raises(UserError, match=r"Online raised SystemExit in act: 5; this comes from"):
        begin("tests.benchmarks.test_actions:Online")


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_refused(
    episodes: int, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"{episodes} episodes cannot be played; give 1 or more"):
        EpisodesEvaluator(find_task("tests.odd:good"), episodes)
    none = [str(episodes) if word == "2" else word for word in words("sac", "good")]
    assert f"eval_episodes is {episodes}; give 1 or more" in refused(capsys, none)
    assert not Path("run").exists()
    assert main(words("ppo", "good")) == 0
    capsys.readouterr()
    told = refused(capsys, ["evaluate", "run", "--episodes", str(episodes), "--trust"])
    assert f"episodes is {episodes}; give 1 or more" in told


@pytest.mark.parametrize("key", ["learner", "run", "data", "reference_returns", "measures"])
def test_a_config_that_lacks_something_is_damaged(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"env": "a", "updates": 5, "seed": 0}
    whole = {"learner": {"name": "m", "settings": {}}, "run": run, "data": None,
             "reference_returns": None, "measures": [asdict(RETURN)]}  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    folder.start(whole)
    with pytest.raises(UserError, match="run has not been evaluated yet"):
        summary.collect([folder.path], unfinished=True)
    folder.add_evaluation(5, {"return": np.array([1.0, 2.0])})
    folder.save_checkpoint(5, {})
    saved = summary.collect([folder.path])
    file, results = folder.path / "config.json", tmp_path / "results.json"
    values: list[Any] = ["missing", "text", {}]
    for value in values:
        for place, content in ((file, folder.config()), (results, saved[0])):
            damaged = {name: x for name, x in content.items() if name != key}
            if value != "missing":
                damaged[key] = value
            text = json.dumps([damaged] if place == results else with_hash(damaged))
            (tmp_path / "damaged").mkdir(exist_ok=True)
            (tmp_path / "damaged" / place.name).write_text(text)
        with pytest.raises(UserError, match=r"config\.json is damaged; restore it from a"):
            RunFolder(tmp_path / "damaged").config()
        with pytest.raises(UserError, match=r"results\.json holds no results"):
            summary.collect([tmp_path / "damaged/results.json"])
