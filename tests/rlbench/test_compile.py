"""A compiled update does what `learn` does; its recording is tested without the compiler's work."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, fx

from rlbench.accelerate import compile as compiling
from rlbench.accelerate.compile import compiled_learn, interpreted, why_not
from rlbench.agents.bc import BC, BCConfig
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.benchmarks.training import choices
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from tests.agents.case import SPEC, make
from tests.agents.test_every_agent import NAMES
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import assert_close, equal
from tests.probe_envs import random_batch, random_experience

COMPILED = [name for name in NAMES if make(name).phase() is not None]


def compare(name: str, updates: int, backend: Any, **settings: Any) -> None:
    agent, twin = make(name, **settings), make(name, **settings)
    learn = compiled_learn(twin, backend)
    for seed in range(updates):
        wanted = agent.learn(random_experience(agent, seed))
        got = learn(random_experience(twin, seed))
        assert list(got) == list(wanted)
        for metric, value in wanted.items():
            torch.testing.assert_close(got[metric], value, rtol=1e-4, atol=1e-5, msg=metric)
            assert not got[metric].requires_grad
    assert_close(agent, twin)


def test_which_agents_are_compiled() -> None:
    assert set(NAMES) - set(COMPILED) == {
        "awr", "decision-transformer", "recurrent-crr", "sb3-sac", "sb3-td3",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_recorded_updates_equal_those_of_learn(name: str) -> None:
    compare(name, 5, interpreted)


def test_hard_targets_are_copied_in_a_phase_of_their_own() -> None:
    compare("crr", 7, interpreted, target_update="hard", target_every=3)


def test_the_policy_s_step_size_falls_in_recorded_updates() -> None:
    compare("iql", 5, interpreted, policy_decay_updates=4)


@pytest.mark.parametrize(
    "settings", [{"critic": "categorical", "policy": "mixture"}, {"gradient_clip": 0.1}]
)
def test_settings_of_crr_are_recorded(settings: dict[str, Any]) -> None:
    compare("crr", 3, interpreted, **settings)


def test_a_compiler_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no header\nat all")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", fail)
    agent = make("bc")
    with pytest.raises(
        UserError, match=r"compiled \(no header\); start the run with --compile off"
    ):
        compiled_learn(agent)(random_experience(agent))


def test_each_phase_and_shape_is_recorded_once() -> None:
    recorded = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
        recorded.append(graph)
        return interpreted(graph, inputs)

    agent = make("td3")
    learn = compiled_learn(agent, backend)
    for seed in range(6):
        learn(random_experience(agent, seed))
    assert len(recorded) == 2
    learn(random_batch(agent.spec, rows=3))
    assert len(recorded) == 3


class Rebinds(BC):
    """Breaks the promise of `phase`."""

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        metrics = super().learn(experience)
        self.last = metrics["policy_loss"]
        return metrics


def test_an_attribute_with_a_new_value_is_refused() -> None:
    agent = Rebinds(Rebinds.Config(hidden=(4,)), SPEC)
    agent.last = torch.zeros(())
    with pytest.raises(TypeError, match=r"Rebinds\.learn gives 'last' a new value"):
        compiled_learn(agent, interpreted)(random_experience(agent))


def test_an_agent_without_a_phase_cannot_be_compiled() -> None:
    assert why_not(make("awr")) == "AWR has no compiled form"


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert why_not(make("bc")) == "no C++ compiler (g++, clang++ or cl) was found"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_updates_equal_those_of_learn(name: str) -> None:
    if why_not(make(name)):
        pytest.skip("there is no C++ compiler")
    compare(name, 5, compiling.inductor)


@pytest.mark.slow
def test_a_second_run_finds_the_compiled_program() -> None:
    if why_not(make("bc")):
        pytest.skip("there is no C++ compiler")
    from torch._dynamo.utils import counters

    found = []
    for _ in range(2):
        compare("bc", 1, compiling.inductor)
        found.append(counters["inductor"]["fxgraph_cache_hit"])
    assert found[1] > found[0]


def run(folder: Path, **options: Any) -> Run:
    chosen: dict[str, Any] = {"env": "halfcheetah-random", "data_size": 1000, "eval_episodes": 1}
    config = RunConfig(**chosen | options, out=folder)
    made = Run("bc", BCConfig(hidden=(8,)), config, Console(quiet=True))
    made.learner  # noqa: B018  (The learner decides whether it is compiled.)
    return made


@pytest.mark.parametrize(
    ("updates", "asked", "given"),
    [
        (49_999, "auto", "off"), (50_000, "auto", "on"), (50_000, "off", "off"), (1, "on", "on"),
    ],
)  # fmt: skip
def test_long_runs_compile(
    updates: int, asked: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "why_not", lambda agent: None)
    assert run(tmp_path, updates=updates, compile=asked).config.compile == given


def test_gradient_steps_within_an_update_count() -> None:
    agent = PPO(PPOConfig(envs=2, rollout_steps=50, batch_size=30, epochs=3), SPEC)
    assert agent.compiled_steps == 3 * 4


def test_what_cannot_be_compiled_is_left_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "why_not", lambda agent: "the compiler is on holiday")
    assert run(tmp_path, updates=50_000).config.compile == "off"
    with pytest.raises(UserError, match="the compiler is on holiday; give --compile off"):
        run(tmp_path, updates=1, compile="on")


def test_a_resumed_agent_equals_an_uninterrupted_one() -> None:
    """Not even the first update after a resume may be done in another way."""
    whole, first, rest = make("td3"), make("td3"), make("td3", seed=1)
    learn, begin, resume = (compiled_learn(x, interpreted) for x in (whole, first, rest))
    for seed in range(6):
        learn(random_experience(whole, seed))
    for seed in range(3):
        begin(random_experience(first, seed))
    rest.load_state_dict(first.state_dict())
    for seed in range(3, 6):
        resume(random_experience(rest, seed))
    assert equal(whole, rest)


@pytest.mark.slow
def test_a_compiled_run_killed_twice_ends_as_one_never_killed(tmp_path: Path) -> None:
    arguments = ["td3-bc", "--env", "halfcheetah-random", "--data-size", "2000", "--compile", "on"]
    arguments += ["--updates", "20000", "--eval-every", "5000", "--checkpoint-every", "200"]
    arguments += ["--hidden", "16", "--batch-size", "16", "--eval-episodes", "2"]
    assert "killed 2 times" in killed_equals_unkilled(arguments, tmp_path, kills=2, seed=0)
