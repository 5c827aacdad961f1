"""What only a CUDA GPU can show; skipped where there is none."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from rlbench import compute
from rlbench.accelerate.compile import Backend, compiled_learn, inductor, interpreted
from rlbench.accelerate.precision import with_products_in
from rlbench.accelerate.seeds import SeedBatch
from rlbench.agents import BC, load_agent
from rlbench.agents.lpg_meta import LPGMeta, LPGMetaConfig
from rlbench.envs.grids.make import make_lifetimes
from rlbench.interface import Agent, Spec
from tests.agents import test_every_agent, test_on_policy
from tests.agents.case import SPEC, case_of, experience, noise
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import assert_close, tensors
from tests.probe_envs import random_experience
from tests.rlbench.test_compile import COMPILED
from tests.rlbench.test_seeds import stacked

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")

OFFLINE = [name for name in test_every_agent.NAMES if not name.startswith("sb3-")]
ON_POLICY = [case for case in test_on_policy.PAIRS if "sb3" not in str(case.id)]


def moved(data: Any, device: str) -> Any:
    """A dataclass with its tensors, and those of its dicts, on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: move(x) for name, x in value.items()}
        return value.to(device) if isinstance(value, Tensor) else value

    values = {f.name: move(getattr(data, f.name)) for f in dataclasses.fields(data)}
    return dataclasses.replace(data, **values)


def on(device: str, name: str, spec: Spec = SPEC, *, seed: int = 0, **settings: Any) -> Agent:
    """A small agent on a device."""
    agent_class = load_agent(name)
    config = agent_class.Config(**{**case_of(name).small, **settings})
    return agent_class(config, moved(spec, device), seed=seed, device=device)


def batch(agent: Agent, seed: int) -> Any:
    """What an agent of `test_every_agent` learns from, on its device."""
    return moved(random_experience(agent, seed), str(agent.device))


def check(agent: Agent, metrics: Any) -> None:
    assert all(torch.isfinite(x) for x in metrics.values())
    action = agent.act(noise(agent, 7).cuda()).action
    assert action.device.type == "cuda"
    assert all(agent.spec.action_space.contains(row.numpy()) for row in action.cpu())
    for path, value in tensors(agent.state_dict()).items():
        assert torch.isfinite(value.double()).all(), path


@pytest.mark.parametrize("name", OFFLINE)
def test_agents_learn_and_act(name: str) -> None:
    agent = on("cuda", name)
    for seed in range(3):
        metrics = agent.learn(batch(agent, seed))
    check(agent, metrics)


@pytest.mark.parametrize(("name", "spec"), ON_POLICY)
def test_on_policy_agents_learn_and_act(name: str, spec: Spec) -> None:
    agent, actor = on("cuda", name, spec), on("cpu", name, spec)
    for seed in range(2):
        metrics = agent.learn(moved(experience(actor, seed), "cuda"))
    check(agent, metrics)


def test_an_update_equals_that_of_the_cpu() -> None:
    here, there = (cast(BC, on(device, "bc")) for device in ("cpu", "cuda"))
    for seed in range(5):
        here.learn(batch(here, seed))
        there.learn(batch(there, seed))
    mine, theirs = tensors(here.policy.state_dict()), tensors(there.policy.state_dict())
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name].cpu(), value, rtol=1e-4, atol=1e-5, msg=name)


def test_products_are_not_rounded() -> None:
    compute.configure(1, "cuda")
    a, b = torch.randn(2, 256, 256, device="cuda")
    error = (a @ b - (a.double() @ b.double())).norm() / (a.double() @ b.double()).norm()
    assert error < 1e-6


def compare(
    name: str, updates: int, backend: Backend, precision: str = "float32", **settings: Any
) -> None:
    agent, twin = (on("cuda", name, **settings) for _ in range(2))
    plain = agent.compiled(partial(with_products_in, precision))
    learn = compiled_learn(twin, backend, precision)
    for seed in range(updates):
        wanted, got = plain(batch(agent, seed)), learn(batch(twin, seed))
        for metric, value in wanted.items():
            torch.testing.assert_close(got[metric], value, rtol=1e-3, atol=1e-4, msg=metric)
    assert_close(agent, twin)


@pytest.mark.parametrize("name", COMPILED)
def test_captured_updates_equal_those_of_learn(name: str) -> None:
    compare(name, 4, interpreted)


@pytest.mark.parametrize("name", ["bear", "sac"])
def test_compiled_and_captured_updates_equal_those_of_learn(name: str) -> None:
    compare(name, 4, inductor)


def test_captured_updates_in_bfloat16_equal_those_of_learn() -> None:
    compare("td3-bc", 4, interpreted, "bfloat16", hidden=(64, 64))


@pytest.mark.parametrize("name", ["bear", "td3-bc"])
def test_seeds_that_learn_together_equal_those_that_learn_alone(name: str) -> None:
    alone, agents = ([on("cuda", name, seed=seed) for seed in range(3)] for _ in range(2))
    together = SeedBatch(agents, interpreted)
    for update in range(4):
        batches = [batch(agent, 10 * update + seed) for seed, agent in enumerate(agents)]
        for agent, own in zip(alone, batches, strict=True):
            agent.learn(own)
        together.learn(stacked(batches))
    together.write_back()
    for agent, twin in zip(alone, agents, strict=True):
        assert_close(agent, twin)


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_a_run_killed_once_ends_as_one_never_killed(compiled: str, tmp_path: Path) -> None:
    arguments = ["td3-bc", "--env", "halfcheetah-random", "--data-size", "2000"]
    arguments += ["--updates", "4000", "--eval-every", "2000", "--checkpoint-every", "200"]
    arguments += ["--hidden", "16", "--batch-size", "16", "--eval-episodes", "1"]
    arguments += ["--device", "cuda", "--compile", compiled]
    assert "killed 1 times" in killed_equals_unkilled(arguments, tmp_path, kills=1, seed=0)


def test_an_on_policy_run_killed_once_ends_as_one_never_killed(tmp_path: Path) -> None:
    arguments = ["ppo", "--env", "CartPole-v1", "--updates", "40", "--eval-every", "20"]
    arguments += ["--rollout-steps", "64", "--envs", "2", "--checkpoint-every", "2"]
    arguments += ["--device", "cuda", "--normalise-obs", "--normalise-reward"]
    assert "killed 1 times" in killed_equals_unkilled(arguments, tmp_path, kills=1, seed=0)


@pytest.mark.parametrize("task", ["grid-levels-small", "grid-rand-small"])
@pytest.mark.parametrize("settings", [{}, {"bandit": True}, {"method": "evolution"}])
def test_meta_training_learns_and_measures(task: str, settings: dict[str, Any]) -> None:
    config = LPGMetaConfig(lifetimes=4, workers=3, rollout_steps=5, hidden=6, **settings)
    lifetimes = make_lifetimes(task, 4, 3, seed=0, device="cuda")
    lifetimes.length = 60
    learner = LPGMeta(config, lifetimes.spec, device="cuda")
    for _ in range(3):
        lifetimes.renew()
        metrics = learner.learn(lifetimes)
        assert all(torch.isfinite(x) for x in metrics.values())
    columns = learner.measure(lifetimes)
    assert all(x.device.type == "cuda" and x.isfinite().all() for x in columns.values())


@pytest.mark.parametrize("task", ["grid-levels-small", "grid-rand-small", "chain-noisy"])
@pytest.mark.parametrize("bandit", [False, True])
def test_captured_meta_training_equals_that_of_learn(task: str, bandit: bool) -> None:
    """Small steps, because a difference in rounding must not change an action."""
    config = LPGMetaConfig(
        lifetimes=4, workers=3, rollout_steps=5, agent_updates=2, hidden=6, bandit=bandit,
        bandit_rates=(0.01, 0.1), policy_rate=0.1, prediction_rate=0.1, learning_rate=1e-4,
    )  # fmt: skip
    both = []
    for _ in range(2):
        lifetimes = make_lifetimes(task, 4, 3, seed=0, device="cuda", staggered=True)
        lifetimes.length = 40
        both.append((LPGMeta(config, lifetimes.spec, device="cuda"), lifetimes))
    (plain, first), (twin, second) = both
    learn = compiled_learn(twin)
    for _ in range(6):
        first.renew()
        second.renew()
        wanted, got = plain.learn(first), learn(second)
        assert list(got) == list(wanted)
        for metric, value in wanted.items():
            torch.testing.assert_close(got[metric], value, rtol=1e-3, atol=1e-4, msg=metric)
        assert torch.equal(plain.generator.get_state(), twin.generator.get_state())
        mine, theirs = tensors(first.state_dict()), tensors(second.state_dict())
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    mine, theirs = tensors(plain.state_dict()), tensors(twin.state_dict())
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-4, msg=name)
