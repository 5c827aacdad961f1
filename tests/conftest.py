"""Every test has folders of its own for caches and data, and one thread."""

import tempfile
from pathlib import Path

import pytest
import torch

from rlbench import compute


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RLBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    compute.configure(threads=1)
    assert torch.get_num_threads() == 1


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the architecture searches of the computer is another one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
