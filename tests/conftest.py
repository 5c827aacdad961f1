"""Every test has folders of its own for caches and data, and one thread."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from rlbench import compute


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that do not exist yet; pytest would look through all existing ones for each new one."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_folders(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(_homes)
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
