"""`rlbench evaluate`: its progress, its threads, and the figure that it prints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlbench.benchmarks.commands import evaluate
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from tests.benchmarks.test_steps import PPO, QUIET


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    from rlbench.agents import load_agent

    out = tmp_path_factory.mktemp("evaluate") / "run"
    config = RunConfig(env="CartPole-v1", updates=1, eval_episodes=1, compile="off", out=out)
    Run("ppo", load_agent("ppo").Config(**PPO), config, QUIET).start()
    return out


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("words", "wanted"), [([], 1), (["--threads", "3"], 3)])
def test_it_keeps_to_one_thread_unless_told(run: Path, words: list[str], wanted: int) -> None:
    assert main(["evaluate", str(run), "--episodes", "1", *words]) == 0
    assert torch.get_num_threads() == wanted


def test_each_episode_is_progress(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    class Line(ProgressLine):
        def __init__(self, console: Any, title: str, total: int, unit: str) -> None:
            super().__init__(console, title, total, unit)
            seen.extend((console.stderr, title, total, unit))

        def advance(self, done: int) -> None:
            super().advance(done)
            seen.append(done)

    monkeypatch.setattr(evaluate, "ProgressLine", Line)
    assert main(["evaluate", str(run), "--episodes", "12"]) == 0
    assert seen[:4] == [True, "evaluating on CartPole-v1", 12, "episodes"]
    assert seen[4] == 0
    assert seen[5:] == sorted(set(seen[5:])), "only steps that end an episode are shown"
    assert seen[-1] == 12
    told = capsys.readouterr()
    assert "over 12 episodes" in told.out
    assert told.err == ""
