"""Finding agents by name."""

import dataclasses
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import rlbench.agents
import rlbench.names
from rlbench.agents import AGENTS, load_agent
from rlbench.agents.bc import BC
from rlbench.errors import UserError
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Action, Agent


def test_names_are_listed_without_pytorch() -> None:
    code = (
        "import sys, rlbench.agents as a; list(a.AGENTS);"
        "print(sorted({'torch', 'numpy', 'gymnasium', 'stable_baselines3'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_every_name_loads_and_has_a_line_of_description() -> None:
    for name, description in AGENTS.items():
        assert load_agent(name).__name__.lower() == name.replace("-", "")
        assert description
        assert "\n" not in description


def test_classes_and_settings_are_attributes() -> None:
    from rlbench.agents import BEAR, BEARConfig

    assert BEAR.Config is BEARConfig
    with pytest.raises(AttributeError, match="no attribute 'BAER'"):
        rlbench.agents.BAER  # noqa: B018


def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    for module in ("_sb3", "sb3", "sb3_on_policy"):
        monkeypatch.delitem(sys.modules, f"rlbench.agents.{module}", raising=False)
    for name in ("sb3-ppo", "sb3-sac"):
        with pytest.raises(
            UserError, match=r"need the package stable_baselines3; .*rlbench\[sb3\]"
        ):
            load_agent(name)


def test_a_custom_agent_is_named_by_module_and_class() -> None:
    assert load_agent("rlbench.agents.bc:BC") is load_agent("bc")


def test_plug_ins_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "rlbench.agents.bc:BC", "rlbench.agents")
    monkeypatch.setattr(rlbench.names, "registered", lambda group: [entry])
    assert load_agent("mine") is load_agent("bc")
    assert "mine" in AGENTS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("baer", "did you mean bear"),
        ("BEAR", "did you mean bear"),
        ("zzz", "there is no agent 'zzz'; `rlbench list`"),
        ("no_such_module:Agent", "cannot import the module 'no_such_module'"),
        (":BC", "cannot import the module ''"),
        ("rlbench.agents.bc:Nothing", "'Nothing' in the module 'rlbench.agents.bc' is missing"),
        ("rlbench.errors:UserError", "is not a subclass of rlbench.interface.Agent"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_reported_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        load_agent(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "error"), [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(3)", "SystemExit: 3")]
)
def test_a_module_that_fails_on_import_is_reported(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_agent.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_agent", raising=False)
    with pytest.raises(UserError, match=error):
        load_agent("broken_agent:Agent")


@dataclasses.dataclass(frozen=True)
class Bare:
    size: int
    depth: int = 1


class Faulty(BC):
    pass


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Config", None, "the class Faulty has the Config None, expected a frozen dataclass"),
        ("Config", dict, "the class Faulty has the Config <class 'dict'>, expected"),
        ("Config", Bare, "the class Faulty .*; it has a Config without a default for size, so"),
        ("consumes", None, "the class Faulty has consumes = None, expected Transitions or"),
        ("consumes", BC, "the class Faulty has consumes = <class .*BC'>, expected"),
        ("__abstractmethods__", frozenset({"learn"}), "the class Faulty has no method learn"),
    ],
)
def test_a_class_that_lacks_something_of_an_agent_is_named(
    name: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_agent("tests.agents.test_agents:Faulty") is Faulty
    monkeypatch.setattr(Faulty, name, value)
    with pytest.raises(UserError, match=f"agent 'tests.agents.test_agents:Faulty': {words}"):
        load_agent("tests.agents.test_agents:Faulty")


class Empty(Agent):
    """Lacks everything, and takes an observation alone."""

    Config = Bare
    explores = True

    def act(self, obs: Tensor) -> Action:  # type: ignore[override]
        return Action(obs)


def test_everything_that_a_class_lacks_is_named_at_once() -> None:
    with pytest.raises(UserError) as error:
        load_agent("tests.agents.test_agents:Empty")
    assert str(error.value) == (
        "agent 'tests.agents.test_agents:Empty': the class Empty has no method build and learn; it has a method act "
        "that takes (self, obs: torch.Tensor) -> rlbench.interface.Action, expected (self, obs, *, explore=False, "
        "state=None); it has consumes = None, expected Transitions or Trajectories; it has a Config without batch_size "
        "and random_steps and replay_size, so give it each of them (batch_size is the number of transitions in an "
        "update, random_steps is the number of random steps before the first update, replay_size is the number of "
        "transitions in the replay buffer); it has a Config without a default for size, so give one to every setting; "
        "see rlbench.interface.Agent"
    )


@pytest.mark.parametrize(
    ("consumes", "explores", "words"),
    [
        (Transitions, False, "without batch_size, so give it one"),
        (Trajectories, False, "without batch_size and sequence_length, so"),
        (Trajectories, True, "without envs and rollout_steps, so"),
    ],
)
def test_the_settings_that_a_driver_reads_must_be_there(
    consumes: type, explores: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "Config", Bare)
    monkeypatch.setattr(Faulty, "consumes", consumes)
    monkeypatch.setattr(Faulty, "explores", explores)
    with pytest.raises(UserError, match=words):
        load_agent("tests.agents.test_agents:Faulty")


def test_a_property_may_stand_for_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "consumes", Trajectories)
    monkeypatch.setattr(Faulty, "explores", True)
    monkeypatch.setattr(Faulty, "rollout_steps", property(lambda self: 3), raising=False)
    monkeypatch.setattr(BC.Config, "envs", property(lambda self: 2), raising=False)
    assert load_agent("tests.agents.test_agents:Faulty") is Faulty
