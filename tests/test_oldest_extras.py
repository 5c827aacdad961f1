"""The oldest versions that pyproject.toml allows work: a new environment with them, and a run of each extra."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from itertools import chain
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
OLDEST = ("gymnasium", "tyro", "stable-baselines3", "minigrid")
SHORT = ["--updates", "1", "--envs", "2", "--rollout-steps", "4", "--eval-episodes", "1"]
COMMANDS = (
    ["run", "bear", "--env", "halfcheetah-medium", "--help"],
    ["run", "sb3-ppo", "--env", "CartPole-v1", "--batch-size", "4", *SHORT, "--out", "sb3"],
    ["run", "ppo", "--env", "MiniGrid-Empty-5x5-v0", "--encoder", "grid", *SHORT, "--out", "grid"],
    ["evaluate", "grid", "--episodes", "1"],
)


def oldest() -> list[str]:
    """The lower bounds, as requirements of exactly these versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    bounds = dict(line.partition(",")[0].split(">=") for line in asked if ">=" in line)
    return [f"{name}=={bounds.get(name) or bounds[f'{name}[mujoco]']}" for name in OLDEST]


def test_the_oldest_versions_are_installed_and_work(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv/bin/python")
    packages = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")})
    # Everything else, such as PyTorch, is that of this environment.
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib"))
    torch = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__version__.partition('+')[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    install = [python, "-m", "pip", "install", "-q", *oldest(), f"torch=={torch.stdout.strip()}"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "NewConnectionError" in done.stderr:
        pytest.skip("PyPI cannot be reached")
    assert done.returncode == 0, done.stderr
    for words in COMMANDS:
        done = subprocess.run(
            [python, "-m", "rlbench", *words], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
