"""Linear probes: their optimum, their scores, and the analysis that trains them."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.analyses._base import Moments
from rlbench.backbones.analyses.probe import Probe, ProbeConfig
from rlbench.backbones.layers.probes import class_probe, decoded, number_probe, standardised
from rlbench.benchmarks.training.analysing import AnalysisJob, perform
from rlbench.benchmarks.training.playing import moments
from rlbench.cli import main
from rlbench.envs.facts import facts_of
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.agents.case import make


def test_standardised_activations_use_the_training_rows_alone() -> None:
    z = torch.tensor([[1.0, 5.0, 1e6], [3.0, 5.0, 1e6], [7.0, 6.0, 1e6]])
    assert standardised(z, 2).tolist() == [[-1, 0, 0], [1, 0, 0], [5, 0, 0]]


def test_the_probe_of_classes_equals_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = torch.Generator().manual_seed(0)
    z, label = torch.randn(90, 6, generator=rng), torch.randint(3, (90,), generator=rng)
    weight, bias = class_probe(z, label, 3, penalty=0.05)
    reference = LogisticRegression(C=1 / (0.05 * 90), tol=1e-8, max_iter=1_000).fit(
        z.numpy(), label.numpy()
    )
    assert (weight - weight.mean(0)).numpy() == pytest.approx(reference.coef_, abs=2e-3)
    mine = (z @ weight.T + bias).softmax(1).numpy()
    assert mine == pytest.approx(reference.predict_proba(z.numpy()), abs=2e-3)


@pytest.mark.parametrize("units", [4, 40])
def test_the_probe_of_numbers_solves_its_equation(units: int) -> None:
    rng = torch.Generator().manual_seed(0)
    z, value = (torch.randn(*shape, generator=rng).double() for shape in ((20, units), (20,)))
    z = z - z.mean(0)
    weight, bias = number_probe(z, value, 0.1)
    error = z @ weight + bias - value
    assert float(bias) == pytest.approx(float(value.mean()))
    torch.testing.assert_close(z.T @ error / 20 + 0.1 * weight, torch.zeros(units).double())


def test_scores_of_classes_and_of_numbers_by_hand() -> None:
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    z = torch.tensor([[-1.0], [1], [-1], [1], [1], [1]])
    assert decoded(z, label, 4, 1e-3).tolist() == [0, 1]
    value = torch.tensor([1.0, 3, 1, 3, 2, 6])
    # Without a penalty the probe is 2 + z; the variance of 2 and 6 is 4.
    assert decoded(z, value, 4, 0.0).tolist() == pytest.approx([1 - 1 / 4, 1 - 9 / 4], abs=1e-6)


def test_probes_do_not_learn_from_the_rows_of_the_tests() -> None:
    z = torch.tensor([[-1.0], [1.0]]).repeat(12, 1)
    label = torch.tensor([0, 1] * 2 + [1, 0] * 10)
    assert decoded(z, label, 4, 1e-3).sum() == 0


def test_a_penalty_shrinks_the_weights() -> None:
    z, label = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    small, large = (class_probe(z, label, 2, c)[0].abs().sum() for c in (1e-3, 1.0))
    assert large < small / 4


class Lamp(gym.Env[NDArray[np.float32], int]):
    """A lamp that the first number shows, and a clock that no number shows; action 1 toggles the lamp."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space: Any = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.on, self.time = int(self.np_random.integers(2)), 0
        return self._obs(), {}

    def step(self, action: int) -> Any:
        self.on ^= int(action)
        self.time += 1
        return self._obs(), 1.0, self.time == 8, False, {}

    def facts(self) -> dict[str, int | float]:
        return {"lamp": self.on, "clock": self.time, "brightness": 3.0 * self.on, "always": 1}

    def _obs(self) -> NDArray[np.float32]:
        return np.array([2 * self.on - 1, *self.np_random.uniform(-1, 1, 2)], np.float32)


@pytest.fixture(scope="module")
def lamp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lamp"
    words = "run ppo --env tests.backbones.test_probes:Lamp --envs 2 --rollout-steps 8 --batch-size 8 --hidden 8 --updates 2 --eval-every 0"
    assert main([*words.split(), "--snapshot-every", "1", "--out", str(out)]) == 0
    return out


def test_an_agent_knows_what_it_sees_and_not_what_it_cannot_see(lamp: Path) -> None:
    found = perform(AnalysisJob("probe", {"examples": 300}, (lamp,)), trust=True)
    numbers = found.numbers
    for network in ("trained", "untrained", "observations"):
        assert numbers[f"lamp, {network}"] == 1.0
        assert numbers[f"clock, {network}"] < 0.4
        assert numbers[f"brightness, {network}"] > 0.9
    assert numbers["lamp, shuffled"] < 0.65
    before, after = ([x for name, x in found.columns.items() if f" {network} " in name] for network in ("untrained", "trained"))  # fmt: skip
    assert len(before) == len(after) > 0
    assert any((x != y).any() for x, y in zip(before, after, strict=True))
    assert not any(name.startswith("always") for name in numbers)
    rows = [*csv.DictReader(io.StringIO(str(found.files["probes.csv"])))]
    assert {row["feature"] for row in rows} == {"lamp", "clock", "brightness"}
    assert all(float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in rows)
    assert 0.35 < float(rows[0]["chance"]) < 0.65
    titles = [panel.title for panel in found.panels]
    assert titles[:3] == ["lamp", "clock", "brightness"]
    assert titles[3:] == [f"{name}, during training" for name in titles[:3]]
    assert found.panels[3].lines[0].x == [1, 2]


def test_features_can_be_chosen(lamp: Path) -> None:
    found = perform(
        AnalysisJob("probe", {"examples": 60, "features": ("clock",)}, (lamp,)), trust=True
    )
    assert {name.partition(",")[0] for name in found.numbers} == {"clock"}
    same = "has the same value in all examples for learning, or in all for tests"
    for wrong, reason in (
        ("always", f"{same}; give more --examples, or one of these: lamp, clock"),
        ("wind", "is not known; give one of these: lamp, clock"),
    ):
        with pytest.raises(UserError, match=f"'{wrong}' {reason}"):
            perform(
                AnalysisJob("probe", {"examples": 60, "features": (wrong,)}, (lamp,)), trust=True
            )
    with pytest.raises(UserError, match=r"7 steps of .* are too few .* give --examples 28 or more"):
        perform(AnalysisJob("probe", {"examples": 7}, (lamp,)), trust=True)
    with pytest.raises(UserError, match="no layer before its answer with at most 3 units"):
        perform(AnalysisJob("probe", {"examples": 60, "largest": 3}, (lamp,)), trust=True)


def test_training_and_test_rows_are_of_different_episodes() -> None:
    task = find_task("tests.backbones.test_probes:Lamp")
    agent = make("recurrent-ppo", Spec(Lamp.observation_space, Lamp.action_space))
    found = moments(agent, task, 0, 50)
    assert len(found.obs) == 50
    # A memory has no state before the first step, so each of the 8 steps but the first is a row.
    assert found.train == 35
    assert found.facts["clock"][found.train] == 1
    assert found.facts["clock"].dtype == torch.int64
    assert found.facts["brightness"].is_floating_point()
    assert found.state is not None
    assert all(len(x) == 50 for x in found.state.values())
    again = moments(agent, task, 0, 50)
    assert torch.equal(found.obs, again.obs)
    assert not torch.equal(found.obs, moments(agent, task, 1, 50).obs)


def test_half_of_the_actions_are_random() -> None:
    task = find_task("tests.backbones.test_probes:Lamp")
    agent = make("ppo", Spec(Lamp.observation_space, Lamp.action_space))
    agent.explore = _never_toggles  # type: ignore[method-assign]
    lamp = moments(agent, task, 0, 800).facts["lamp"]
    changes = (lamp[1:] != lamp[:-1]).float().mean()
    # The agent never toggles; a random action does so with a probability of one half, and so does a new episode.
    assert 0.2 < float(changes) < 0.34


def _never_toggles(obs: Tensor) -> Any:
    from rlbench.interface import Action

    return Action(torch.zeros(len(obs), dtype=torch.int64))


def test_facts_of_minigrid() -> None:
    pytest.importorskip("minigrid")
    env = find_task("MiniGrid-Unlock-v0").make()
    env.reset(seed=0)
    world: Any = env.unwrapped
    facts = facts_of(env)
    assert (facts["column"], facts["row"]) == tuple(world.agent_pos)
    assert facts["direction"] == world.agent_dir
    assert (facts["carrying"], facts["door"]) == (0, 2)
    assert facts["door colour"] == facts["key colour"]
    door = next(x for x in world.grid.grid if x is not None and x.type == "door")
    key = next(x for x in world.grid.grid if x is not None and x.type == "key")
    world.grid.set(*key.cur_pos, None)
    world.carrying, door.is_locked = key, False
    assert facts_of(env)["carrying"] == 1
    assert facts_of(env)["door"] == 1
    assert facts_of(env)["key colour"] == facts["key colour"]
    door.is_open = True
    assert facts_of(env)["door"] == 0


def test_facts_of_mujoco_are_velocities() -> None:
    env = find_task("Hopper-v5").make()
    env.reset(seed=0)
    facts = facts_of(env)
    assert [*facts] == [f"velocity {i}" for i in range(6)]
    assert facts["velocity 2"] == env.unwrapped.data.qvel[2]  # type: ignore[attr-defined]


def test_an_environment_without_facts_is_refused() -> None:
    with pytest.raises(
        UserError, match="no facts are known about CartPoleEnv; give its class a method `facts`"
    ):
        facts_of(gym.make("CartPole-v1"))


class Known(Probe):
    """Probes of made-up moments."""

    def _known(self, learner: Any, examples: Mapping[str, Any]) -> Moments:
        return self.given

    given: Moments


def test_a_memory_is_read_with_its_state() -> None:
    agent = make("recurrent-ppo", Spec(Lamp.observation_space, Lamp.action_space))
    obs = torch.zeros(60, 3)
    # All observations are alike, so that only the state shows the label.
    label = torch.arange(60) % 2
    state = agent.act(obs).state
    assert state is not None
    state = {name: x + label.view(-1, *[1] * (x.dim() - 1)) for name, x in state.items()}
    analysis = Known(ProbeConfig())
    analysis.given = Moments(obs, state, {"label": label}, 40)
    analysis.history = lambda: iter(())
    analysis.untrained = lambda: make(
        "recurrent-ppo", Spec(Lamp.observation_space, Lamp.action_space), seed=1
    )
    found = analysis.analyse([agent], {})
    assert found.numbers["label, trained"] == 1.0
    assert found.numbers["label, observations"] <= 0.5
