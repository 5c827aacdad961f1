"""The oldest versions that pyproject.toml allows work: a new environment with those of all dependencies and two extras, and runs."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from itertools import chain
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
EXTRAS = ("sb3", "minigrid")
SHORT = ["--updates", "1", "--envs", "2", "--rollout-steps", "4", "--eval-episodes", "1"]
COMMANDS = (
    ["run", "bear", "--env", "halfcheetah-medium", "--help"],
    [
        "run",
        "bear",
        "--env",
        "point-mixed",
        "--data-size",
        "1000",
        "--updates",
        "5",
        "--hidden",
        "8",
        "--eval-episodes",
        "2",
        "--out",
        "bear",
    ],
    ["run", "sb3-ppo", "--env", "CartPole-v1", "--batch-size", "4", *SHORT, "--out", "sb3"],
    ["run", "ppo", "--env", "MiniGrid-Empty-5x5-v0", "--encoder", "grid", *SHORT, "--out", "grid"],
    ["evaluate", "grid", "--episodes", "1"],
)


def oldest() -> dict[str, str]:
    """The lower bounds of the dependencies and of the extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS)
    lines = [line.partition(",")[0].split(">=") for line in chain(project["dependencies"], *extras)]
    return {name.partition("[")[0]: bound for name, bound in lines if name != "torch"}


def test_the_oldest_versions_are_installed_and_work(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which resolves to the oldest versions")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, "venv"], cwd=tmp_path, check=True)
    python = str(tmp_path / "venv/bin/python")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    # Everything else, such as PyTorch, whose old versions are very large, is that of this environment.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "without.txt").write_text("torch; python_version < '3'\n")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    install = [
        uv, "pip", "install", "-q", "--python", python, "--resolution", "lowest-direct", "--override", "without.txt",
        *extras, "--requirements", str(ROOT / "pyproject.toml"),
    ]  # fmt: skip
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr:
        pytest.skip("PyPI cannot be reached")
    assert done.returncode == 0, done.stderr
    installed = [x.name.lower().replace("_", "-") for x in packages.glob("*.dist-info")]
    for name, version in oldest().items():
        start = f"{name.lower()}-{version}"
        assert any(x.startswith(start) for x in installed), f"{name} {version} was not installed"
    for words in COMMANDS:
        done = subprocess.run(
            [python, "-m", "rlbench", *words], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
