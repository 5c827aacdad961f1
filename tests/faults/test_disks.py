"""An error of the disk at any file operation is one sentence; with the disk repaired, the run ends as an undisturbed one."""

import errno
import os
import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from rlbench.cli import main
from tests.faults.harness import RUNS, before_operation, differing, digest, forked, resumed

pytestmark = pytest.mark.slow
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EFBIG)


def failing(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("kind", RUNS)
def test_an_error_at_each_file_operation(
    kind: str, tmp_path: Path, count_faults: Callable[[int], None]
) -> None:
    words = RUNS[kind]
    assert main(["run", *words, "--out", str(tmp_path / "whole")]) == 0
    expected = digest(tmp_path / "whole")
    out, number = tmp_path / "cut", 1
    wrong: list[object] = []
    for error in cycle(ERRORS):
        shutil.rmtree(out, ignore_errors=True)
        happened = tmp_path / "happened"
        happened.unlink(missing_ok=True)

        def fault(error: int = error, happened: Path = happened) -> None:
            os.close(os.open(happened, os.O_CREAT))
            failing(error)()

        code, told = forked(
            ["run", *words, "--out", str(out)], before_operation(number, out, fault)
        )
        if not happened.exists():
            break
        # Some operations, such as removing a temporary file, may fail without harm.
        sentence = code == 2 and told.startswith("rlbench: ") and told.count("\n") == 1
        if not (sentence or (code == 0 and not told)):
            wrong.append((number, os.strerror(error), code, told, []))
        code, told = resumed(words, out)
        other = differing(expected, out)
        if code != 0 or other:
            wrong.append((number, os.strerror(error), code, told, other))
        number += 1
    count_faults(number - 1)
    assert number > 10, "too few operations were seen"
    assert not wrong
