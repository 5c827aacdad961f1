"""The speed benchmark runs; its figures are not judged here."""

import json
from pathlib import Path

import pytest

from rlbench.benchmarks.speed import __main__ as speed
from rlbench.benchmarks.speed.__main__ import running


@pytest.mark.slow
def test_a_quick_round_prints_a_table_and_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    speed.main(["--quick", "--agents", "bear", "--markdown", "--json", str(file)])
    assert "| uncompiled bear |" in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["updates_per_second"]["uncompiled bear"][0] > 0
    assert 100 < result["peak_memory_mib"]["uncompiled bear"] < 1024


SCRIPT = """
import d4rl, gym, pyrallis, wandb
from dataclasses import dataclass
from tqdm import trange

@dataclass
class TrainConfig:
    batch_size: int = 7
    max_timesteps: int = 1
    unknown: int = 3

@pyrallis.wrap()
def train(config: TrainConfig):
    env = gym.make("any")
    data = d4rl.qlearning_dataset(env)
    assert data["observations"].shape == (100, *env.observation_space.shape)
    assert config.batch_size == 256
    print("a line of its own")
    for step in trange(config.max_timesteps):
        wandb.log({"loss": 1.0}, step=step)

if __name__ == "__main__":
    train()
"""


def test_a_script_of_another_library_is_counted_by_its_own_log(tmp_path: Path) -> None:
    folder = tmp_path / "algorithms" / "offline"
    folder.mkdir(parents=True)
    (folder / "any_percent_bc.py").write_text(SCRIPT)
    with running("corl", "bc", tmp_path, 1, 100, worker="peers") as subject:
        assert subject.ask(0.05) > 1000
        assert 100 < subject.ask("memory") < 1024
        assert subject.ask(0.05) > 1000
