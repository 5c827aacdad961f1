"""The speed benchmark runs; its figures are not judged here."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rlbench.benchmarks.speed import __main__ as speed, hashing, loading
from rlbench.benchmarks.speed.__main__ import running
from rlbench.benchmarks.speed.worker import Products, fastest, kernels, our_agent, our_table
from rlbench.experience import Transitions


@pytest.mark.slow
def test_a_quick_round_prints_a_table_and_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    speed.main(["--quick", "--agents", "bear", "--json", str(file)])
    assert "| uncompiled bear |" in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["updates_per_second"]["uncompiled bear"][0] > 0
    assert 100 < result["peak_memory_mib"]["uncompiled bear"] < 1024


@pytest.mark.slow
def test_loading_is_measured() -> None:
    # A process of its own, as processes begin with the peak memory of their parent.
    command = [sys.executable, "-m", loading.__name__, "--rows", "20000", "--rounds", "1"]
    lines = subprocess.check_output(command, text=True).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == [
        "plain HDF5, read first",
        "plain HDF5, read later",
        "gzip HDF5, read first",
        "gzip HDF5, read later",
    ]
    assert all(float(line.split("|")[3]) < 480 for line in lines[2:6])
    starts = [line.split("|") for line in lines[-3:]]
    assert [row[1].strip() for row in starts] == [
        "not compiled", "compiled", "compiled by an earlier run",
    ]  # fmt: skip
    plain, compiled, again = (float(row[2].split()[0]) for row in starts)
    assert 0.5 < plain < again < compiled


@pytest.mark.slow
def test_hashing_is_measured(tmp_path: Path) -> None:
    words = ["sac", "--env", "Pendulum-v1", "--updates", "4", "--random-steps", "4"]
    whole, part = hashing.measure([*words, "--out", str(tmp_path / "run")])
    assert 0 < part < whole


def test_a_call_inside_another_one_counts_once() -> None:
    clock = hashing.Clock()
    spend = clock.timed(lambda: sum(range(300_000)))
    start = time.process_time()
    assert clock.timed(lambda: spend() + spend())() == 2 * sum(range(300_000))
    assert 0 < clock.seconds <= time.process_time() - start


@pytest.fixture(scope="module")
def batch() -> Transitions:
    return our_table(300, "cpu").sample(256, torch.Generator())


def test_products_are_those_of_an_update(batch: Transitions) -> None:
    # Two hidden layers of 256: forward, gradients of weights, and of inputs but for the first layer.
    agent = our_agent("bc", "cpu")
    with Products() as seen:
        agent.learn(batch)
    sizes = [(a.shape[-2], a.shape[-1], b.shape[-1]) for _, a, b in seen.done]
    forward = [(256, 17, 256), (256, 256, 256), (256, 256, 6)]
    weights = [(6, 256, 256), (256, 256, 256), (256, 256, 17)]
    inputs = [(256, 6, 256), (256, 256, 256)]
    assert sorted(map(sorted, sizes)) == sorted(map(sorted, forward + weights + inputs))


@pytest.mark.parametrize(
    ("agent", "count"),
    [("bc", 3), ("td3-bc", 14), ("crr", 13), ("awac", 16), ("iql", 16), ("sac", 16), ("bear", 44), ("cql", 198)],
)  # fmt: skip
def test_an_update_computes_as_many_products_of_hidden_layers_as_the_docs_say(
    agent: str, count: int, batch: Transitions
) -> None:
    learner = our_agent(agent, "cpu")
    found = []
    for _ in range(2):  # TD3+BC updates its policy only in every second update.
        with Products() as seen:
            learner.learn(batch)
        sizes = [(a.shape[-2], a.shape[-1], b.shape[-1]) for _, a, b in seen.done]
        found.append(sum(math.prod(x) // 256**3 for x in sizes if min(x) >= 256))
    assert max(found) == count


@pytest.mark.parametrize(("rate", "met"), [(1.8, True), (1.7, False)])
def test_a_ratio_far_below_its_target_is_reported(
    rate: float, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"rlbench bear": [rate, 2 * rate, 9.0], "products bear": [3.0, 6.0, 9.0], "d3rlpy bear": [0.85, 1.7, 2.55]}  # fmt: skip
    faults = speed._judge(rates, 1, ["bear"])
    assert f"| bear | d3rlpy | {rate / 0.85:.2f} | 3.53 | 2.90 |" in capsys.readouterr().out
    below = (
        f"bear compared with d3rlpy: the ratio is {rate / 0.85:.2f}, far below its target of 2.90"
    )
    assert faults == ([] if met else [below])


def test_no_target_exceeds_what_the_products_allow(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"rlbench bear": [1.2], "products bear": [2.0], "d3rlpy bear": [1.0]}
    (fault,) = speed._judge(rates, 1, ["bear"])
    assert fault.endswith("is 1.20, far below its target of 1.90")
    assert not speed._judge(rates | {"rlbench bear": [1.4]}, 1, ["bear"])


def test_a_check_without_a_peer_fails_and_says_how_to_get_it() -> None:
    rates = {"rlbench iql": [1.0], "products iql": [1.0], "corl iql": [0.5]}
    (fault,) = speed._judge(rates, 1, ["iql"])
    assert fault.startswith(
        "iql was not compared with unifloral: give a checkout of it as --unifloral, or"
    )
    (fault,) = speed._judge({"products bcq": [1.0]}, 1, ["bcq"])
    assert fault.startswith("bcq was not compared with d3rlpy: install it, or")


@pytest.mark.slow
def test_a_peer_that_dies_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "algorithms" / "offline"
    folder.mkdir(parents=True)
    (folder / "any_percent_bc.py").write_text("raise SystemExit('no licence')")
    file = tmp_path / "speed.json"
    words = ["--quick", "--agents", "bc", "--corl", str(tmp_path), "--json", str(file), "--check"]
    with pytest.raises(SystemExit, match="bc was not compared with unifloral"):
        speed.main(words)
    shown = capfd.readouterr()
    assert "no licence" in shown.err
    assert "note: corl bc ended with the error above and is left out" in shown.err
    assert "| products bc |" in shown.out
    assert "corl bc" not in json.loads(file.read_text())["updates_per_second"]


def test_the_fastest_kernel_is_chosen_and_all_have_the_same_result() -> None:
    a, b = torch.randn(2, 64, 32), torch.randn(2, 32, 1)
    ways = kernels(torch.bmm, a, b)
    assert len(ways) >= 3
    for way in ways:
        found = way()
        found = torch.stack(found) if isinstance(found, list) else found
        torch.testing.assert_close(found, a @ b)
    assert len(kernels(torch.mm, a[0], torch.randn(32, 5))) < len(ways)
    slow, quick = (lambda: time.sleep(0.002)), (lambda: None)
    assert fastest([slow, quick, slow]) is quick


def test_the_peak_of_memory_is_not_that_of_who_started_the_process() -> None:
    ballast = np.ones(2**30, np.uint8)
    asked = "from rlbench.benchmarks.speed.worker import peak_memory; print(peak_memory())"
    peak = subprocess.check_output([sys.executable, "-c", asked], text=True)
    assert 50 < float(peak.splitlines()[-1]) < ballast.nbytes / 2**20


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
