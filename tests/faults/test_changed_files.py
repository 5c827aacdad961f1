"""One changed bit or digit in any file of a run folder: every command says so, or nothing depends on it."""

import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench import checkpoint
from rlbench.benchmarks.training import seed_batch
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.cli import main

pytestmark = pytest.mark.slow
DUE = ["--updates", "8", "--log-every", "2", "--checkpoint-every", "4"]
DUE += ["--eval-every", "4", "--eval-episodes", "2"]
DATA = ["--env", "point-mixed", "--data-size", "300", "--hidden", "8"]
RUNS = {
    "offline": ["bc", *DATA],
    "replay": ["sac", "--env", "Pendulum-v1", "--hidden", "8", "--random-steps", "20", "--batch-size", "32"],
    "on-policy": ["ppo", "--env", "CartPole-v1", "--hidden", "8", "--rollout-steps", "16"],
    "model": ["vib", "--env", "signals-2", "--hidden", "8", "--data-size", "64", "--batch-size", "32"],
    "seeds": ["bc", *DATA, "--seeds", "2"],
}  # fmt: skip
SKIPPED = {".lock", "tensorboard"}
"""What no command reads."""


class Killed(BaseException):
    """Stands for the end of the process."""


@cache
def _runs(kind: str, root: Path) -> tuple[Path, Path]:
    """A finished run, and the same run killed before its last checkpoint."""
    whole, cut = root / kind / "whole", root / kind / "cut"
    assert main(["run", *RUNS[kind], *DUE, "--out", str(whole)]) == 0

    def kill(folder: RunFolder, update: int, state: Any, keep: int) -> None:
        if update == 8:
            raise Killed
        save(folder, update, state, keep)

    save = RunFolder.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", kill)
        with pytest.raises(Killed):
            main(["run", *RUNS[kind], *DUE, "--out", str(cut)])
    return whole, cut


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def members(folder: Path) -> list[Path]:
    return seed_batch.members(folder) or [folder]


def read_files(folder: Path) -> list[Path]:
    """Everything that a command may read, relative to the folder."""
    found = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
    return [file for file in found if not SKIPPED & set(file.parts)]


def weights(folder: Path) -> list[bytes]:
    """The tensors of the last checkpoints."""
    last = [checkpoint.all_in(x / "checkpoint")[-1] for x in members(folder)]
    return [path.with_name(f"{path.name}.safetensors").read_bytes() for path in last]


def facts(folder: Path) -> list[Any]:
    """Everything that a run leaves, apart from times."""
    return [
        [(x / "metrics.jsonl").read_bytes(), {k: v.tolist() for k, v in RunFolder(x).evaluations().items()}]
        for x in members(folder)
    ]  # fmt: skip


def flipped(content: bytes, place: float) -> bytes:
    """One bit flipped, at a place from 0 to 1."""
    changed = bytearray(content)
    changed[int(place * (len(content) - 1))] ^= 1
    return bytes(changed)


def other_digit(content: bytes, place: float) -> bytes:
    """One digit increased, or 9 made 0."""
    digits = [found.start() for found in re.finditer(rb"\d", content)]
    changed = bytearray(content)
    at = digits[int(place * (len(digits) - 1))]
    changed[at] = ord("0") + (changed[at] - ord("0") + 1) % 10
    return bytes(changed)


def changes(file: Path, places: int) -> list[tuple[Callable[[bytes, float], bytes], float]]:
    ways = [flipped]
    if file.suffix in (".json", ".jsonl"):
        ways.append(other_digit)
    return [(way, float(place)) for way in ways for place in np.linspace(0, 1, places)]


def outcome(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a command."""
    capsys.readouterr()
    code = main(words)
    printed = capsys.readouterr()
    if code:
        assert printed.err.count("\n") == 1, printed.err
    return code, " ".join((printed.out + printed.err).split())


def says_so(text: str, file: Path) -> bool:
    """Whether an output tells the user about a changed file."""
    names = {"replay.bin": "replay buffer"}
    return (names.get(file.name) or file.stem) in text and bool(
        re.search("changed after|damaged|has format", text)
    )


@pytest.mark.parametrize("kind", RUNS)
def test_changed_bits_and_digits_at_many_places_are_noticed(
    kind: str,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    count_faults: Callable[[int], None],
) -> None:
    whole, cut = _runs(kind, root)
    trial, count = root / kind / "trial", 0
    code, before = outcome(["evaluate", str(members(cut)[0])], capsys)
    assert code == 0
    for file in read_files(cut):
        for way, place in changes(file, 5):
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(cut, trial)
            (trial / file).write_bytes(way((cut / file).read_bytes(), place))
            at = f"{way.__name__} {file} at {place}"
            code, text = outcome(["evaluate", str(members(trial)[0])], capsys)
            assert text == before if code == 0 else code == 2 and says_so(text, file), (at, text)
            code, text = outcome(["run", "--resume", str(trial)], capsys)
            if code == 0:
                assert weights(trial) == weights(whole), at
                assert says_so(text, file) or facts(trial) == facts(whole), (at, text)
            else:
                assert code == 2, at
                assert says_so(text, file), (at, text)
            count += 1
    count_faults(count)
    assert count >= 40
