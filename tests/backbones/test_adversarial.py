"""The analysis `adversarial`: accuracies and returns of learners with known boundaries, transfer, memories, pictures and errors."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from rlbench.backbones.analyses.adversarial import Adversarial, AdversarialConfig
from rlbench.backbones.models.classifier import Classifier, ClassifierConfig
from rlbench.benchmarks.training.analysing import read_analysis
from rlbench.benchmarks.training.playing import play
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Action, Agent, Spec, State
from tests.backbones.test_ways_of_training import SPEC, batch

OBS = Box(-1, 1, (2,), np.float32)


class Signs(gym.Env[Any, Any]):
    """Two numbers from -1 to 1 in each of 20 steps; the reward is 1 for an action with the sign of the first."""

    observation_space = OBS
    action_space: Any = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def _obs(self) -> Any:
        self.values = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.values

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = (float(np.ravel(action)[0]) > 0) == (self.values[0] > 0)
        self.steps += 1
        return self._obs(), float(right), self.steps == 20, False, {}


class ContinuousSigns(Signs):
    """The same with a continuous action."""

    action_space: Any = Box(-1, 1, (1,), np.float32)


class Reader(Agent):
    """Chooses by the sign of one of the numbers; with a memory, by whether it is far from a number that it has after its first step."""

    consumes = ()  # type: ignore[assignment]

    def __init__(self, which: int = 0, gain: float = 1.0, *, env: Any = Signs, remembered: float | None = None) -> None:  # fmt: skip
        super().__init__(None, Spec.of(env()))
        self.which, self.gain, self.remembered = which, nn.Parameter(torch.tensor(gain)), remembered

    def learn(self, experience: Any) -> Mapping[str, Tensor]:
        return {}

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        margin = self.gain * obs[:, self.which, None]
        if self.remembered is not None:
            before = 0.0 if state is None else state["remembered"]
            margin = (margin - before).square() - 0.04
        return torch.cat([-margin, margin], dim=1) if self.chooses else margin

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        return self._chosen(self.scores(obs))

    def _chosen(self, scores: Tensor) -> Tensor:
        return scores.argmax(dim=1) if self.chooses else scores.clamp(-1, 1)

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        after = None if self.remembered is None else {"remembered": torch.full((len(obs), 1), self.remembered)}  # fmt: skip
        scores = self.scores(obs, state)
        noise = torch.randn(scores.shape, generator=self.act_generator) if explore else 0.0
        return Action(self._chosen(scores + noise), state=after)


SEEN = torch.rand(1_000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
UNIT = 1 / 3**0.5
"""Standard deviation of the numbers."""


def of_agents(*agents: Any, env: str = "Signs", **settings: Any) -> Any:
    analysis = Adversarial(AdversarialConfig(**{"episodes": 10, "steps": 4} | settings))
    analysis.task = f"{__name__}:{env}"
    analysis.observations = lambda count: SEEN[:count]
    analysis.play = lambda name, *words, run=0, **more: play(
        agents[run], 0, find_task(name), *words, **more
    )
    with torch.no_grad():  # As in `rlbench analyse`.
        return analysis.analyse(agents, {})


@pytest.mark.parametrize("gain", [1.0, 1e4])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_turns_all_actions_near_the_boundary_and_noise_half_of_them(
    norm: Any, gain: float
) -> None:
    found = of_agents(Reader(gain=gain), budgets=(0.0, 0.5), norm=norm)
    numbers, near = found.numbers, 0.5 * UNIT
    assert numbers["return"] == 20
    for attack in ("pgd", "fgsm", "noise"):
        assert numbers[f"return under {attack} at 0"] == 20
        assert found.columns[attack].shape == (10, 3)
    assert numbers["return under fgsm at 0.5"] == pytest.approx(20 * (1 - near), abs=1.2)
    assert numbers["return under pgd at 0.5"] == pytest.approx(20 * (1 - near), abs=1.2)
    half = 20 * (1 - (near / 2 if norm == "linf" else near / np.pi))
    assert numbers["return under noise at 0.5"] == pytest.approx(half, abs=1.2)
    (panel,) = found.panels
    assert [line.name for line in panel.lines] == ["pgd", "fgsm", "noise"]
    line = panel.lines[0]
    assert line.x == (0.0, 0.0, 0.5)
    assert line.low[2] < line.value[2] < line.high[2]
    assert not found.files


def test_results_are_told_as_soon_as_they_are_known() -> None:
    said: list[str] = []

    class Telling(Adversarial):
        def __init__(self, config: AdversarialConfig) -> None:
            super().__init__(config)
            self.say = said.append

    model, given = images(30)
    with torch.no_grad():
        found = Telling(AdversarialConfig(budgets=(0.1, 0.2), steps=2)).analyse(
            [model, model], {"task": given}
        )
    assert len(said) == 6
    both = f"{found.numbers['accuracy under fgsm at 0.1']:.4g}"
    assert f"accuracy under fgsm at 0.1: {both}, {both}" in said


def test_continuous_actions_are_moved_too() -> None:
    numbers = of_agents(Reader(env=ContinuousSigns), env="ContinuousSigns", budgets=(0.5,)).numbers
    # Half of the attacks move the action outwards, where it stays right.
    assert numbers["return"] == 20
    for attack in ("pgd", "fgsm", "noise"):
        assert numbers[f"return under {attack} at 0.5"] == pytest.approx(20 - 5 * UNIT, abs=1.5)


def test_changes_are_found_with_the_first_run_and_applied_to_the_others() -> None:
    found = of_agents(Reader(), Reader(gain=0.1), Reader(which=1), budgets=(0.5,))
    numbers = found.numbers
    under = "return under fgsm at 0.5"
    assert numbers[f"run 2: {under}"] == numbers[under] < 15
    # The third agent reads the other number, which the first step of FGSM does not change.
    assert numbers[f"run 3: {under}"] == numbers["run 3: return"]
    assert numbers["run 3: return"] < 14
    assert [x.title for x in found.panels] == ["return", "run 2: return", "run 3: return"]
    assert "run 3: noise" in found.columns


def test_an_agent_with_a_memory_is_attacked_in_its_state() -> None:
    agent, seen = Reader(remembered=0.8), []
    analysis = Adversarial(AdversarialConfig(budgets=(0.1,)))
    analysis.task, analysis.observations = "any", lambda count: SEEN
    obs = torch.tensor([[0.7, 0.0], [0.9, 0.0]])

    def recorded(*words: Any, run: int, perturb: Any) -> Any:
        if perturb is not None:
            seen.append([perturb(obs, s)[:, 0] - obs[:, 0] for s in (None, {"remembered": torch.full((2, 1), 0.8)})])  # fmt: skip
        return {"return": np.zeros(3)}

    analysis.play = recorded
    with torch.no_grad():
        analysis.analyse([agent], {})
    for at_first, later in seen[:2]:  # PGD and FGSM.
        assert torch.allclose(at_first, torch.tensor([-0.1, -0.1]) * SEEN[:, 0].std(), atol=1e-4)
        assert torch.allclose(later, torch.tensor([-0.1, 0.1]) * SEEN[:, 0].std(), atol=1e-4)
    with pytest.raises(UserError, match="the first run has a memory"):
        of_agents(agent, Reader())
    assert "run 2: return" in of_agents(Reader(), agent, episodes=2, budgets=(0.1,)).numbers


class Brightness(Reader):
    """Chooses by whether an image is bright."""

    def __init__(self) -> None:
        Agent.__init__(self, None, Spec(Box(0, 255, (4, 4, 3), np.uint8), Discrete(2)))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        margin = obs.flatten(1).mean(dim=1, keepdim=True) - 127.5
        return torch.cat([-margin, margin], dim=1)

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return Action(self.decide(obs))


def test_an_agent_sees_attacked_images_in_the_unit_of_bytes() -> None:
    analysis = Adversarial(AdversarialConfig(budgets=(0.1,)))
    obs = torch.tensor([100, 250, 10], dtype=torch.uint8)[:, None, None, None].expand(3, 4, 4, 3)
    analysis.task, analysis.observations = "any", lambda count: obs
    seen = []

    def recorded(*words: Any, run: int, perturb: Any) -> Any:
        seen.append(obs if perturb is None else perturb(obs, None))
        return {"return": np.zeros(3)}

    analysis.play = recorded
    with torch.no_grad():
        files = analysis.analyse([Brightness()], {}).files
    assert "examples.png" in files
    for attacked in seen[1:3]:  # PGD and FGSM.
        wanted = torch.tensor([125.5, 224.5, 35.5])[:, None, None, None].expand(3, 4, 4, 3)
        torch.testing.assert_close(attacked, wanted)


def of_model(model: Any, given: Examples, *others: Any, **settings: Any) -> Any:
    with torch.no_grad():
        return Adversarial(AdversarialConfig(**settings)).analyse([model, *others], {"any": given})


def linear(spec: Any, **settings: Any) -> Classifier:
    return Classifier(ClassifierConfig(**{"encoder": "flatten", **settings}), spec, seed=0)


def test_accuracy_falls_by_the_share_of_examples_near_the_boundary() -> None:
    obs = torch.linspace(-1, 1, 401)[:, None]
    model = linear({"obs": Box(-1, 1, (1,), np.float32), "label": Discrete(2)})
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[-3.0], [3.0]]))
        model.head.bias.zero_()
    given = Examples({"obs": obs, "label": (obs[:, 0] > 0).long()})
    numbers = of_model(model, given, budgets=(0.5,), examples=500).numbers
    assert numbers["accuracy"] == pytest.approx(1, abs=0.003)
    near = 0.5 * float(obs.std())
    assert numbers["accuracy under pgd at 0.5"] == pytest.approx(1 - near, abs=0.01)
    assert numbers["accuracy under fgsm at 0.5"] == pytest.approx(1 - near, abs=0.01)
    assert numbers["accuracy under noise at 0.5"] == pytest.approx(1 - near / 2, abs=0.05)


def test_each_run_is_right_about_the_column_that_it_learned() -> None:
    fields = {"obs": Box(-1, 1, (1,), np.float32), "label": Discrete(2), "other": Discrete(2)}
    obs = torch.linspace(-1, 1, 40)[:, None]
    positive = (obs[:, 0] > 0).long()
    given = Examples({"obs": obs, "label": positive, "other": 1 - positive})
    models = [linear(fields), linear(fields, label="other")]
    with torch.no_grad():
        for model, slope in zip(models, (3.0, -3.0), strict=True):
            model.head.weight.copy_(torch.tensor([[-slope], [slope]]))
            model.head.bias.zero_()
        analysis = Adversarial(AdversarialConfig(steps=2, budgets=(0.1,)))
        numbers = analysis.analyse(models, {"task": given}).numbers
    assert numbers["accuracy"] == numbers["run 2: accuracy"] == 1


def images(rows: int = 40, units: int = 16) -> tuple[Classifier, Examples]:
    """A classifier of images that has learned them."""
    model, given = linear(SPEC, encoder=f"mlp:units={units}", learning_rate=0.1, weight_decay=0.0), batch("smooth-adversarial", rows=rows)  # fmt: skip
    for _ in range(80):
        model.learn(given)
    return model, given


def test_images_are_attacked_in_the_box_and_shown() -> None:
    from PIL import Image

    model, given = images()
    other, _ = images(units=8)
    found = of_model(model, given, other, budgets=(0.02, 0.1), lbfgs_examples=3, examples=30)
    numbers = found.numbers
    assert numbers["accuracy"] > 0.9
    assert numbers["accuracy under pgd at 0.1"] <= numbers["accuracy under fgsm at 0.1"] < numbers["accuracy under noise at 0.1"]  # fmt: skip
    assert numbers["accuracy under pgd at 0.1"] < numbers["accuracy under pgd at 0.02"]
    assert found.columns["run 2: pgd"].shape == (30, 3)
    assert numbers["L-BFGS: success"] == 1
    assert numbers["L-BFGS: error"] == 1
    assert 0 < numbers["L-BFGS: distortion"] < 0.1
    assert numbers["noise of its norm: error"] < 0.01
    assert 0 < numbers["run 2: L-BFGS: error"] < 1
    assert numbers["run 2: noise of its norm: error"] < 0.01
    picture = np.asarray(Image.open(io.BytesIO(found.files["examples.png"])))
    assert picture.shape == (3 * 72, 6 * 72, 3)
    cells = picture[::8, ::8].astype(float).reshape(3, 9, 6, 9, 3)
    assert (cells[:, 8] == 255).all()
    image, moved, change = cells[:, :8, :, :8]
    np.testing.assert_array_equal(image[:, 0, :, :1], given["obs"][0].numpy())
    away = moved - image
    assert np.abs(away).max() == pytest.approx(25.5, abs=1)
    assert np.corrcoef(away.ravel(), change.ravel())[0, 1] > 0.99
    assert {*change[np.abs(away) < 0.1].ravel()} <= {127.0, 128.0}


def test_every_setting_has_an_effect() -> None:
    model, given = images(20)
    usual: dict[str, Any] = {"budgets": (0.08,), "steps": 4, "examples": 20}
    before = of_model(model, given, **usual)
    for change in ({"norm": "l2"}, {"budgets": (0.2,)}, {"lbfgs_examples": 1}):
        assert of_model(model, given, **usual | change).numbers != before.numbers
    assert len(of_model(model, given, **usual | {"examples": 7}).columns["pgd"]) == 7
    pictures = [of_model(model, given, **usual | x).files["examples.png"] for x in ({}, {"steps": 9}, {"seed": 1}, {})]  # fmt: skip
    assert pictures[0] == pictures[3] == before.files["examples.png"]
    assert len({*pictures}) == 3
    agent: dict[str, Any] = {"budgets": (0.3,), "episodes": 3}
    calm = of_agents(Reader(), **agent).columns["fgsm"]
    assert of_agents(Reader(), **agent | {"episodes": 4}).columns["fgsm"].shape == (4, 2)
    assert (of_agents(Reader(), **agent, explore=True).columns["fgsm"] != calm).any()


def test_unsuitable_runs_and_settings_are_refused() -> None:
    for budgets in ((0.2, 0.1), (0.1, 0.1), ()):
        with pytest.raises(UserError, match="one or more numbers in increasing order"):
            AdversarialConfig(budgets=budgets)
    _, given = images(4)
    vectors = linear({"obs": Box(-1, 1, (3,), np.float32), "label": Discrete(2)})
    plain = Examples({"obs": torch.rand(5, 3), "label": torch.zeros(5, dtype=torch.int64)})
    with pytest.raises(
        UserError, match="L-BFGS needs images of bytes; leave --lbfgs-examples at 0"
    ):
        of_model(vectors, plain, lbfgs_examples=2)

    class Regression(Classifier):
        classifies = False

    with pytest.raises(UserError, match="Regression does not classify; give a run of a classifier"):
        of_model(Regression(ClassifierConfig(encoder="flatten"), SPEC, seed=0), given)
    for settings in ({"budgets": ()}, {"budgets": (-0.1,)}, {"steps": 0}, {"examples": 0}, {"episodes": 0}):  # fmt: skip
        with pytest.raises(UserError, match=next(iter(settings))):
            AdversarialConfig(**settings)

    class Whole(Reader):
        def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
            return super().scores(obs.round().detach()).detach()

    with pytest.raises(UserError, match="has no gradient with respect to its observations"):
        of_agents(Whole())


def test_it_runs_from_the_command_line_with_several_agents(tmp_path: Path) -> None:
    words = ["--env", f"{__name__}:Signs", "--updates", "1", "--eval-episodes", "2", "--eval-every", "0"]  # fmt: skip
    runs = [str(tmp_path / name) for name in ("ppo", "dqn")]
    ppo = [
        "run",
        "ppo",
        *words,
        "--rollout-steps",
        "256",
        "--learning-rate",
        "0.01",
        "--out",
        runs[0],
    ]
    assert main(ppo) == 0
    assert main(["run", "dqn", *words, "--random-steps", "64", "--hidden", "8", "--out", runs[1]]) == 0  # fmt: skip
    asked = ["--budgets", "0.2", "0.4", "--episodes", "2", "--steps", "2"]
    assert main(["analyse", "adversarial", *runs, *asked, "--trust"]) == 0
    found = read_analysis(tmp_path / "ppo" / "analyses" / "adversarial")
    assert found.columns["pgd"].shape == found.columns["run 2: noise"].shape == (2, 3)
    assert found.numbers["return"] != found.numbers["run 2: return"]
    assert found.numbers["return under pgd at 0.4"] < found.numbers["return"]


def test_a_team_is_attacked_in_its_own_view_of_the_game(tmp_path: Path) -> None:
    out = tmp_path / "team"
    words = "run rfm --env stag-hunt --updates 1 --eval-every 0 --eval-episodes 1 --envs 2"
    assert main([*words.split(), "--out", str(out)]) == 0
    asked = ["--budgets", "0.2", "--episodes", "1", "--steps", "1"]
    assert main(["analyse", "adversarial", str(out), *asked]) == 0
    assert main(["analyse", "other-tasks", str(out), "--tasks", "stag-hunt", "--episodes", "1"]) == 0  # fmt: skip
