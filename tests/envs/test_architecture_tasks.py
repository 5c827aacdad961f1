"""Searches by name: what is searched, the target, and a whole search."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.cli import main
from rlbench.envs.architectures import make, names, store, targets, trained
from rlbench.envs.architectures.latency import Latency
from rlbench.envs.architectures.make import default_space, parts
from rlbench.envs.architectures.names import SearchName, parse
from rlbench.envs.architectures.space import find_space
from rlbench.envs.architectures.targets import AT_ONCE, nature_target, random_target, random_tokens
from rlbench.envs.architectures.trained import TrainedEvaluator, network_of
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from tests.images import TINY, evaluator, measure_quickly, source, write

pytestmark = pytest.mark.usefixtures("own_lock")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("archsearch-digits", SearchName("digits")),
        ("archsearch-digits-shift", SearchName("digits-shift")),
        ("archsearch-digits-shift-cell-hard", SearchName("digits-shift", "hard", True)),
        ("archsearch-frames-minigrid-s48-accuracy", SearchName("frames-minigrid-s48", "accuracy")),
        ("archsearch-frames-procgen:coinrun", SearchName("frames-procgen:coinrun")),
        ("archsearch-my/file-hard.npz-cell", SearchName("my/file-hard.npz", cell=True)),
        ("archsearch-tiny-absolute", SearchName("tiny", "absolute")),
        ("archsearch-tiny-tight-hard", SearchName("tiny", "hard", tight=True)),
        ("archsearch-digits-cell-tight", SearchName("digits", cell=True, tight=True)),
        ("archsearch-tiny-cell", None),
        ("archsearch-digits-hard-cell", None),
        ("archsearch-nothing", None),
        ("archsearch-", None),
        ("digits-hard", None),
    ],
)
def test_names(name: str, expected: SearchName | None) -> None:
    assert parse(name) == expected
    if expected:
        assert find_task(name).make_vector is not None


def test_the_list_has_tables_only_if_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, missing = tmp_path / "there.json", tmp_path / "missing.json"
    there.touch()
    table = {"tiny": names.Measured("a", there, "x"), "nano": names.Measured("b", missing, "y")}
    monkeypatch.setattr(names, "TABULATED", table)
    text = "\n".join(names.lines())
    assert "archsearch-tiny " in text
    assert "archsearch-nano" not in text


@pytest.mark.parametrize(
    ("name", "shape", "space"),
    [
        ("digits", (8, 8, 1), "mnas-mini"), ("digits-shift", (12, 12, 1), "mnas-nano"), ("x.npz", (7, 7, 3), "mnas-nano"),
        ("x.npz", (40, 40, 3), "rl-encoder"), ("x.npz", (3, 64, 64), "rl-encoder"), ("x.npz", (39, 60, 3), "mnas-nano"),
    ],
)  # fmt: skip
def test_spaces(name: str, shape: tuple[int, ...], space: str) -> None:
    assert default_space(name, shape).name == space


class Speed:
    """Every network is one tenth of a millisecond slower than the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: float = 1.0) -> None:
        self.next = first
        monkeypatch.setattr(trained, "latency_of", self.measure)
        monkeypatch.setattr(targets, "latency_of", self.nature)

    def measure(self, *_: Any) -> Latency:
        self.next += 0.1
        return Latency(self.next, 1.0, 1.0, 1.0, False)

    def nature(self, *_: Any) -> Latency:
        return Latency(1.25, 1.0, 1.0, 1.0, False)


def test_the_target_is_the_median_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Speed(monkeypatch)
    mine = evaluator(tmp_path)
    target, tight = random_target(mine, 0.5), random_target(mine, 0.1)
    networks = [network_of(TINY, TINY.canonical(x)) for x in random_tokens(TINY, 30)]
    found = mine.latencies(networks)
    latencies = sorted(found[x].latency_ms for x in networks)
    assert target == pytest.approx(np.median(latencies))
    assert latencies[2] <= tight <= latencies[3]
    for file in (tmp_path / "latency").glob("*.json"):
        file.unlink()
    assert random_target(evaluator(tmp_path), 0.5) == target, "it is stored apart"
    assert not list((tmp_path / "latency").glob("*.json"))


def test_equal_blocks_have_the_same_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Speed(monkeypatch)
    of = partial(TrainedEvaluator, source=source(), name="mine", folder=tmp_path)
    plain, tied = (of(find_space(x)) for x in ("mnas-nano", "mnas-nano-cell"))
    assert random_target(tied, 0.5) == random_target(plain, 0.5)


def test_the_target_of_encoders_is_nature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = source(4, (40, 40, 3))
    encoders = TrainedEvaluator(find_space("rl-encoder"), big, "mine", batch=32, folder=tmp_path)
    Speed(monkeypatch, 0.9)  # 1.0, 1.1 and 1.2 ms are fast enough.
    assert nature_target(encoders) == 1.25
    assert len(list((tmp_path / "latency").glob("*.json"))) == AT_ONCE, "no more are measured"
    slow = TrainedEvaluator(
        find_space("rl-encoder"), big, "mine", batch=16, folder=tmp_path / "slow"
    )
    Speed(monkeypatch, 1.0)
    with pytest.raises(UserError, match="2 of 50 random architectures of rl-encoder are as fast"):
        nature_target(slow)


def test_nature_is_measured_with_its_linear_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    Speed(monkeypatch, 0.0)

    def look(*given: Any) -> Latency:
        seen.append(given)
        return Latency(9.0, 1, 1, 1, False)

    monkeypatch.setattr(targets, "latency_of", look)
    big = source(4, (40, 40, 3))
    nature_target(
        TrainedEvaluator(find_space("rl-encoder"), big, "mine", batch=32, folder=tmp_path)
    )
    ((network, device),) = seen
    assert (device.batch, device.shape) == (32, (3, 40, 40))
    assert network[1].out_features == 512
    # Convolutions of the deep Q-network: 64 maps of 1x1 pixels from 40x40.
    assert network[1].in_features == 64


@pytest.mark.parametrize(
    ("ending", "kind", "weight"),
    [("", "soft", None), ("-hard", "hard", None), ("-absolute", "absolute", None), ("-accuracy", "soft", 0.0)],
)  # fmt: skip
def test_rewards(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str, kind: str, weight: float | None
) -> None:
    Speed(monkeypatch)
    write(in_folder / "mine.npz")
    found = parse(f"archsearch-mine.npz{ending}")
    assert found is not None
    space, _, objective = parts(found)
    assert (space.name, objective.kind, objective.weight) == ("mnas-nano", kind, weight)


def test_a_source_without_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"signals-2 has the columns .* give a source such as"):
        find_task("archsearch-signals-2").make()


def test_tables_need_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.json"
    rows = [TINY.canonical(x) for x in ((0, 0, 2, 0, 0, 2), (1, 0, 2, 0, 0, 2))]
    numbers = {x: [1, 2] for x in ("accuracy", "latency_ms", "parameters", "multiply_adds", "seconds")}  # fmt: skip
    file.write_text(json.dumps({"space": "nas-tiny", "tokens": rows, **numbers}))
    monkeypatch.setattr(make, "TABULATED", {"tiny": names.Measured("nas-tiny", file, "x")})
    _, evaluator, objective = parts(SearchName("tiny"))
    assert objective.target_ms == 1.5
    assert [x.accuracy for x in evaluator.evaluate(rows)] == [1.0, 2.0]


def test_a_search_from_the_command_line(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_quickly(monkeypatch)
    monkeypatch.setattr(targets, "SAMPLES", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    write(in_folder / "mine.npz")
    words = "run nas-random --env archsearch-mine.npz --updates 1 --envs 2 --out run"
    assert main(words.split()) == 0
    folder = store.default_folder()
    # The final evaluation plays the best architecture, which is stored.
    assert len(list((folder / "accuracy").glob("*.json"))) == 2
    assert len(list((folder / "target").glob("*.json"))) == 1
    assert main(["analyse", "front", "run", "--best", "2"]) == 0
    shown = capsys.readouterr().out
    assert "different architectures" in shown
    best = in_folder / "run/analyses/front/best-1.json"
    assert best.with_name("best-2.json").exists()
    out = ["--out", str(best.parent)]
    assert main(["analyse", "front", "run", "--best", "1", *out]) == 0
    assert not best.with_name("best-2.json").exists()
    words = f"run classifier --env mine.npz --encoder mnas:{best} --updates 1 --out small"
    assert main(words.split()) == 0


def test_closing_a_vector_ends_the_processes(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Speed(monkeypatch)
    write(in_folder / "mine.npz")
    make_vector = find_task("archsearch-mine.npz").make_vector
    assert make_vector is not None
    closed = []
    monkeypatch.setattr(TrainedEvaluator, "close", lambda self: closed.append(self))
    make_vector(2).close()
    assert len(closed) == 1


def test_too_few_images_are_refused_before_a_run_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write(tmp_path / "few.npz", 40)
    out = tmp_path / "run"
    assert main(["run", "nas", "--env", f"archsearch-{few}", "--out", str(out)]) == 2
    assert "has 40 training images" in capsys.readouterr().err
    assert not (out / "config.json").exists()
