"""Model files of Stable-Baselines3 as finished runs: the agent takes the same actions as the model."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

import rlbench
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.zoo.sb3 import convert
from rlbench.cli import main
from tests.sb3_models import SMALL, changed, saved, trained

KINDS = [
    (PPO, "CartPole-v1", "sb3-ppo"), (PPO, "Pendulum-v1", "sb3-ppo"), (A2C, "CartPole-v1", "sb3-a2c"), (DQN, "CartPole-v1", "sb3-dqn"),
    (SAC, "Pendulum-v1", "sb3-sac"), (TD3, "Pendulum-v1", "sb3-td3"), (DDPG, "Pendulum-v1", "sb3-td3"),
]  # fmt: skip


def observations(env: str) -> Any:
    size = (gym.make(env).observation_space.shape or ())[0]
    return np.random.default_rng(0).standard_normal((50, size)).astype(np.float32)


def imported(file: Path, out: Path) -> int:
    """Imports a model of Pendulum; returns the exit code of the command."""
    return main(
        ["zoo", "import", str(file), "--env", "Pendulum-v1", "--episodes", "1", "--out", str(out)]
    )


@pytest.mark.parametrize(("kind", "env", "agent"), KINDS)
def test_the_agent_takes_the_same_actions_as_the_model(
    kind: type[Any], env: str, agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained(kind, env)
    file, out = saved(model, tmp_path), tmp_path / "run"
    assert (
        main(["zoo", "import", str(file), "--env", env, "--episodes", "2", "--out", str(out)]) == 0
    )
    assert f"{agent} on {env}: return " in capsys.readouterr().out
    obs = observations(env)
    expected, _ = model.predict(obs, deterministic=True)
    assert np.abs(rlbench.load(out)(obs) - expected).max() < 1e-5
    folder = RunFolder(out)
    assert folder.complete()
    assert folder.config()["learner"]["name"] == agent
    assert folder.config()["imported"]["env_steps"] == model.num_timesteps
    assert len(folder.last_evaluation()["return"]) == 2


def test_the_agent_has_the_layers_and_activations_of_the_model(tmp_path: Path) -> None:
    from torch import nn

    model = trained(SAC, policy_kwargs={"net_arch": [12, 7, 5], "activation_fn": nn.ELU})
    file, out = saved(model, tmp_path), tmp_path / "run"
    assert imported(file, out) == 0
    settings = RunFolder(out).config()["learner"]["settings"]
    assert settings["hidden"] == [12, 7, 5]
    assert settings["activation"] == "ELU"


def test_a_run_can_begin_with_the_weights_of_a_model(tmp_path: Path) -> None:
    file, source, out = saved(trained(SAC), tmp_path), tmp_path / "source", tmp_path / "run"
    imported(file, source)
    words = ["run", "sb3-sac", "--env", "Pendulum-v1", "--hidden", "16", "8", "--updates", "1", "--random-steps", "1", "--batch-size", "1", "--eval-episodes", "1"]  # fmt: skip
    assert (
        main([*words, "--learning-rate", "1e-30", "--pretrained", str(source), "--out", str(out)])
        == 0
    )
    obs = observations("Pendulum-v1")
    assert np.array_equal(rlbench.load(out)(obs), rlbench.load(source)(obs))


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ("CartPole-v1", {}, "give the task that it was trained on"),
        ("Pendulum-v1", {"policy_kwargs": {"net_arch": {"pi": [16, 8], "qf": [8, 8]}}}, "have other layers than its policy"),
        ("Pendulum-v1", {"policy_kwargs": {**SMALL, "n_critics": 3}}, "a number of critics other than two"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_refused_and_nothing_is_written(
    env: str,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = saved(trained(SAC, **options), tmp_path), tmp_path / "run"
    assert main(["zoo", "import", str(file), "--env", env, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_model_of_another_on_policy_algorithm_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(
        saved(trained(A2C), tmp_path), "data",
        lambda data: json.dumps(json.loads(data) | {"cg_max_steps": 15}).encode(),
    )  # fmt: skip
    assert imported(file, tmp_path / "run") == 2
    assert "it is a TRPO model; give an MlpPolicy" in capsys.readouterr().err


def test_an_import_that_is_stopped_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = saved(trained(PPO), tmp_path), tmp_path / "runs" / "run"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", stopped)
    words = ["zoo", "import", str(file), "--env", "Pendulum-v1", "--episodes", "1"]
    assert main([*words, "--out", str(out)]) == 130
    assert list(out.parent.iterdir()) == []


def test_the_next_command_trusts_a_custom_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    world = "import gymnasium\ndef make():\n    return gymnasium.make('Pendulum-v1')\n"
    (tmp_path / "imported_world.py").write_text(world)
    words = ["zoo", "import", str(saved(trained(PPO), tmp_path)), "--env", "imported_world:make"]
    assert main([*words, "--episodes", "1", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.endswith(f"rlbench watch {tmp_path / 'run'} --trust\n")


@pytest.mark.parametrize("updates", ["many", {}, float("inf"), -1])
def test_a_malformed_number_of_updates_does_not_matter(updates: object, tmp_path: Path) -> None:
    file = changed(
        saved(trained(PPO), tmp_path), "data",
        lambda data: json.dumps(json.loads(data) | {"_n_updates": updates}).encode(),
    )  # fmt: skip
    assert convert(file, "Pendulum-v1", 1, tmp_path / "run").config.updates == 1


def test_a_folder_with_a_run_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = saved(trained(PPO), tmp_path), tmp_path / "run"
    words = [
        "zoo",
        "import",
        str(file),
        "--env",
        "Pendulum-v1",
        "--episodes",
        "1",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["run", "--resume", str(out)]) == 0
    assert "already complete" in capsys.readouterr().out
