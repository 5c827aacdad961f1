"""One subject of the speed benchmark of online learning, in its own process.

    python -m rlbench.benchmarks.speed.online_worker SUBJECT [CLEANRL]

Answers as `rlbench.benchmarks.speed.worker` does, with environment steps per second of the whole loop:
acting and learning, one thread.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from rlbench import compute
from rlbench.accelerate.compile import compiled_learn
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.sac import SAC, SACConfig
from rlbench.benchmarks.papers import policy_encoders
from rlbench.benchmarks.speed.worker import Step, serve
from rlbench.benchmarks.training.drivers import ReplayDriver
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.tasks import find_task
from rlbench.interface import Spec

MANY: dict[str, Any] = {"envs": 16, "rollout_steps": 128, "batch_size": 512, "epochs": 4}
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "cartpole": ("CartPole-v1", MANY),
    "halfcheetah": ("HalfCheetah-v5", {}),
    "multiroom": ("MiniGrid-MultiRoom-N2-S4-v0", MANY | {"encoder": "flatten"}),
    "multiroom-engine": ("multiroom-n2", MANY | {"encoder": "flatten"}),
}
"""Environment and settings of PPO by name; both libraries have two networks of 64-64 with tanh."""
ENCODERS = {
    f"coinrun-{name.lower()}": (policy_encoders.TASK, policy_encoders.ppo(encoder))
    for name, encoder in policy_encoders.ENCODERS.items()
}
"""The same for the encoders of `rlbench table policy-encoders`; only ours."""
SAC_ENV = "HalfCheetah-v5"
"""Both libraries' SAC has the same defaults: 256-256, batches of 256, one update for each step."""


def ours(name: str) -> tuple[Step, int]:
    """One rollout and its update, and the number of steps in it."""
    if name == "sac":
        return our_sac()
    env, settings = (LOOPS | ENCODERS)[name]
    task, config = find_task(env), PPOConfig(**settings)
    agent = PPO(config, Spec.of(task.make()))
    return RolloutDriver(agent, task, 0, compiled_learn(agent)).update, _steps(config)


def our_sac() -> tuple[Step, int]:
    """One step and one update of SAC, after its first 100 random steps."""
    task, folder = find_task(SAC_ENV), Path(tempfile.mkdtemp())
    agent = SAC(SACConfig(random_steps=100), Spec.of(task.make()))
    learn = compiled_learn(agent)
    driver = ReplayDriver(agent, task, 0, folder, updates=1_000_000, slack=1, learn=learn)
    shutil.rmtree(folder)  # The unlinked file exists as long as it is open.
    return driver.update, 1


def sb3(name: str) -> tuple[Step, int]:
    """The same for Stable-Baselines3, with environments from its own `make_vec_env`."""
    from stable_baselines3 import PPO as SB3PPO, SAC as SB3SAC
    from stable_baselines3.common.env_util import make_vec_env

    if name == "sac":
        sac = SB3SAC("MlpPolicy", make_vec_env(SAC_ENV), device="cpu")
        return lambda: sac.learn(100, reset_num_timesteps=False), 100
    env, settings = LOOPS[name]
    config = PPOConfig(**settings)
    steps = _steps(config)
    find_task(env)  # Registers the id.
    algorithm = SB3PPO(
        "MlpPolicy", make_vec_env(env, config.envs, wrapper_class=_flat),
        n_steps=config.rollout_steps, batch_size=config.batch_size or steps, n_epochs=config.epochs,
        policy_kwargs={"net_arch": [64, 64]},
    )  # fmt: skip
    return lambda: algorithm.learn(steps, reset_num_timesteps=False), steps


def cleanrl(name: str, folder: Path) -> None:
    """Answers each duration with the speed that CleanRL's own script prints for a run of that length."""
    env, settings = LOOPS[name]
    config, told = PPOConfig(**settings), 1000.0
    script = folder / "ppo.py"
    print("ready", flush=True)
    for line in map(str.strip, sys.stdin):
        steps = _steps(config)
        total = max(3, round(float(line) * told / steps)) * steps
        run = subprocess.run(
            [
                sys.executable, script.name, "--env-id", env, "--total-timesteps", str(total),
                "--num-envs", str(config.envs), "--num-steps", str(config.rollout_steps),
                "--num-minibatches", str(steps // (config.batch_size or steps)),
                "--update-epochs", str(config.epochs), "--no-cuda",
            ],
            cwd=script.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = float(run.stdout.rpartition("SPS:")[2].split()[0])
        print(told, flush=True)


def _steps(config: PPOConfig) -> int:
    return config.envs * config.rollout_steps


def _flat(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    if not isinstance(env.observation_space, gym.spaces.Dict):
        return env
    from minigrid.wrappers import ImgObsWrapper

    return gym.wrappers.FlattenObservation(ImgObsWrapper(env))


def main(subject: str, cleanrl_folder: str = "") -> None:
    """Serves one subject."""
    library, name = subject.split(" ")
    if library == "cleanrl":
        cleanrl(name, Path(cleanrl_folder))
        return
    if library == "rlbench":
        compute.configure(1)
    else:
        torch.set_num_threads(1)
    serve(*(ours if library == "rlbench" else sb3)(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
