"""A kill before any file operation loses nothing: the resumed run is the same, byte for byte, and leaves nothing behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlbench.cli import main
from tests.faults.harness import RUNS, before_operation, differing, digest, forked, kill, resumed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", RUNS)
def test_a_kill_before_each_file_operation(
    kind: str, tmp_path: Path, count_faults: Callable[[int], None]
) -> None:
    words = RUNS[kind]
    assert main(["run", *words, "--out", str(tmp_path / "whole")]) == 0
    expected = digest(tmp_path / "whole")
    out, number = tmp_path / "cut", 1
    wrong: list[object] = []
    while True:
        shutil.rmtree(out, ignore_errors=True)
        code, told = forked(["run", *words, "--out", str(out)], before_operation(number, out, kill))
        if code == 0:
            break
        assert code == -9, told
        code, told = resumed(words, out)
        other = differing(expected, out)
        if code != 0 or other:
            wrong.append((number, code, told, other))
        number += 1
    count_faults(number - 1)
    assert number > 10, "too few operations were seen"
    assert not wrong
