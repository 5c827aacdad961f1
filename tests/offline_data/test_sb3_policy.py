"""Model files of Stable-Baselines3 as behaviour: equal actions, and nothing is ever unpickled."""

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import open_data
from rlbench.offline_data.recording import sb3_policy
from rlbench.offline_data.recording.sb3_policy import SB3Policy
from tests.data_files import columns_of
from tests.sb3_models import SMALL, changed, saved, trained


def read(file: Path, env: str = "Pendulum-v1") -> SB3Policy:
    world = gym.make(env)
    return SB3Policy(file, world.observation_space, world.action_space)


def observations(env: str, count: int = 50) -> Any:
    size = (gym.make(env).observation_space.shape or ())[0]
    return np.random.default_rng(0).standard_normal((count, size)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "env", "algorithm"),
    [
        (SAC, "Pendulum-v1", "SAC"),
        (TD3, "Pendulum-v1", "TD3"),
        (DDPG, "Pendulum-v1", "TD3"),
        (PPO, "Pendulum-v1", "PPO or A2C"),
        (A2C, "CartPole-v1", "PPO or A2C"),
        (PPO, "CartPole-v1", "PPO or A2C"),
        (DQN, "CartPole-v1", "DQN"),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else x,
)
def test_without_noise_it_acts_as_the_model_does(
    kind: type[Any], env: str, algorithm: str, tmp_path: Path
) -> None:
    model = trained(kind, env)
    policy = read(saved(model, tmp_path), env)
    assert policy.algorithm == algorithm
    obs = observations(env)
    noise = 0 * policy.draw(np.random.default_rng(0), len(obs))
    expected, _ = model.predict(obs, deterministic=True)
    got = policy.act(obs, noise)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [SAC, PPO])
def test_sampled_actions_have_the_distribution_of_the_model(
    kind: type[Any], tmp_path: Path
) -> None:
    model = trained(kind)
    policy = read(saved(model, tmp_path))
    obs = np.repeat(observations("Pendulum-v1", 1), 20_000, axis=0)
    got = policy.act(obs, policy.draw(np.random.default_rng(0), len(obs)))
    expected, _ = model.predict(obs, deterministic=False)
    np.testing.assert_allclose(got.mean(), expected.mean(), atol=0.05)
    np.testing.assert_allclose(got.std(), expected.std(), atol=0.05)


def test_gumbel_noise_draws_the_classes_as_often_as_the_model(tmp_path: Path) -> None:
    model = trained(PPO, "CartPole-v1")
    policy = read(saved(model, tmp_path), "CartPole-v1")
    obs = np.repeat(observations("CartPole-v1", 1), 20_000, axis=0)
    got = policy.act(obs, policy.draw(np.random.default_rng(0), len(obs)))
    expected, _ = model.predict(obs, deterministic=False)
    np.testing.assert_allclose(got.mean(), expected.mean(), atol=0.02)


def test_the_activation_is_read_from_plain_text(tmp_path: Path) -> None:
    model = trained(TD3, policy_kwargs={**SMALL, "activation_fn": torch.nn.ELU})
    policy = read(saved(model, tmp_path))
    obs = observations("Pendulum-v1")
    expected, _ = model.predict(obs, deterministic=True)
    got = policy.act(obs, policy.draw(np.random.default_rng(0), len(obs)))
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_pickles_in_a_model_file_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists(), "the bomb works"
    mark.unlink()

    def everywhere(data: bytes) -> bytes:
        values = json.loads(data)
        for value in values.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = base64.b64encode(bomb).decode()
        assert data != json.dumps(values).encode()
        return json.dumps(values).encode()

    file = saved(trained(SAC), tmp_path)
    obs, noise = observations("Pendulum-v1"), np.zeros((50, 1), np.float32)
    expected = read(file).act(obs, noise)
    assert np.array_equal(read(changed(file, "data", everywhere)).act(obs, noise), expected)
    assert not mark.exists()
    with pytest.raises(UserError, match="cannot be read as a model file"):
        read(changed(file, "policy.pth", lambda _: bomb))
    assert not mark.exists()


def model_with(**options: Any) -> Callable[[], BaseAlgorithm]:
    return lambda: trained(PPO, **options)


class MyPolicy(ActorCriticPolicy):
    """A policy class of somebody's own."""


def normalised() -> BaseAlgorithm:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    return PPO("MlpPolicy", env, n_steps=64, policy_kwargs=SMALL).learn(64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (model_with(use_sde=True), "other parts"),
        (model_with(policy_kwargs={**SMALL, "activation_fn": torch.nn.Hardtanh}), "activation"),
        (lambda: PPO(MyPolicy, "Pendulum-v1", n_steps=64), "its policy is a custom class"),
        (normalised, "VecNormalize"),
        (lambda: trained(PPO, "CartPole-v1"), "from 4 numbers to 2"),
    ],
    ids=["gsde", "activation", "class", "normalised", "task"],
)
def test_other_models_are_refused_in_one_sentence(
    make: Callable[[], BaseAlgorithm], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as error:
        read(saved(make(), tmp_path))
    assert "\n" not in str(error.value)


def test_images_are_refused_in_one_sentence(tmp_path: Path) -> None:
    class Image(gym.Env[Any, Any]):
        observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
        action_space = spaces.Discrete(2)

    with pytest.raises(UserError, match="other parts"):
        read(saved(PPO("CnnPolicy", Image(), n_steps=4, batch_size=4), tmp_path))


def test_files_of_another_kind_are_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    with pytest.raises(UserError, match="there is no file"):
        read(file)
    file.write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"give the \.zip that model.save wrote"):
        read(file)


FIRST = "mlp_extractor.policy_net.0.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda x: {**x, FIRST: x[FIRST][0]}, "shapes of its weights"),
        (lambda x: {**x, FIRST: torch.tensor(1.0)}, "shapes of its weights"),
        (lambda x: {**x, FIRST: x[FIRST][:-1]}, "shapes of its weights"),
        (lambda x: {**x, FIRST: x[FIRST] * float("nan")}, "nan or infinite"),
        (lambda x: {**x, FIRST: x[FIRST].to_sparse()}, "more than weights"),
        (lambda x: {**x, FIRST: x[FIRST].to("meta")}, "more than weights"),
        (lambda x: {**x, FIRST: x[FIRST].to(torch.complex64)}, "more than weights"),
        (lambda x: dict(enumerate(x.values())), "more than weights"),
    ],
)  # fmt: skip
def test_damaged_weights_are_refused_in_one_sentence(
    damage: Callable[[Any], Any], words: str, tmp_path: Path
) -> None:
    def damaged(blob: bytes) -> bytes:
        out = io.BytesIO()
        torch.save(damage(torch.load(io.BytesIO(blob), weights_only=True)), out)
        return out.getvalue()

    with pytest.raises(UserError, match=words):
        read(changed(saved(trained(PPO), tmp_path), "policy.pth", damaged))


def test_a_file_that_would_fill_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(trained(PPO), tmp_path)

    def bomb(blob: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(blob)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:  # fmt: skip
            for member in old.namelist():
                new.writestr(member, old.read(member) + bytes(10**7))
        return out.getvalue()

    monkeypatch.setattr(sb3_policy, "LARGEST", 10**6)
    read(file)
    for name, content in (("data", lambda data: data + b" " * 10**7), ("policy.pth", bomb)):
        with pytest.raises(UserError, match="LargeZipFile"):
            read(changed(file, name, content))


def test_a_model_records_a_data_set(tmp_path: Path) -> None:
    model = trained(TD3)
    file = saved(model, tmp_path)
    task = find_task("Pendulum-v1")
    data = open_data(task, str(file), size=500, jobs=1)
    got = columns_of(data)
    expected, _ = model.predict(got["obs"], deterministic=True)
    np.testing.assert_allclose(got["action"], expected, atol=1e-5)
    provenance = data.provenance
    assert (provenance.kind, provenance.source) == ("generated", "model.zip")
    policy = provenance.details["policies"]["model"]
    assert policy["file"] == "model.zip"
    assert len(policy["sha256"]) == 64
    model.learn(64)
    saved(model, tmp_path)
    assert open_data(task, str(file), size=500, jobs=1).provenance.sha256 != provenance.sha256


def test_the_command_makes_the_data_and_names_the_next(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(trained(SAC), in_folder)
    make = ["data", "make", "Pendulum-v1", "--policy", "model.zip", "--size", "500"]
    assert main([*make, "--out", "out.hdf5"]) == 0
    told = capsys.readouterr().out
    assert "next: rlbench run bear --env Pendulum-v1 --data model.zip --data-size 500" in told
    assert (in_folder / "out.hdf5").exists()
    run = ["run", "bc", "--env", "Pendulum-v1", "--data", "model.zip", "--data-size", "500"]
    assert main([*run, "--updates", "2", "--eval-episodes", "1", "--out", "run"]) == 0
    config = json.loads((in_folder / "run/config.json").read_text())
    assert config["data"]["source"] == "model.zip"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Pendulum-v1", "--policy", "model.pt"], "give the .zip that model.save wrote"),
        (["Pendulum-v1", "--policy", "no.zip"], "there is no file no.zip"),
        (["CartPole-v1", "--policy", "no.zip"], "data sets hold continuous actions"),
        (["Pendulum-v1", "--policy", "no.zip", "--size", "0"], "size is 0; give 1 or more"),
        (["tests.data_files:Toy", "--policy", "no.zip"], "has no time limit"),
    ],
)
def test_a_policy_that_cannot_be_recorded_is_reported_in_one_sentence(
    words: list[str], told: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "make", *words]) == 2
    assert told in capsys.readouterr().err
