"""Puts faults into copies of the tree, one at a time, and runs the tests that must notice them.

Each runs in a process of its own, forked from one that has loaded the large packages already: loading
them takes longer than most of the tests.
"""

import io
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.mutations.mutation import ROOT, Mutation

PARTS = (
    "agents", "backbones", "benchmarks", "docs", "envs", "offline_data", "rlbench", "tests",
    "pyproject.toml",
)  # fmt: skip
"""What the tests need of the tree."""
LOADED_BEFORE = [
    "gymnasium",
    "h5py",
    "mujoco",
    "pytest",
    "rich",
    "stable_baselines3",
    "torch",
    "tyro",
]
PROCESSES = 2
TOO_LONG = 300.0
"""Seconds after which a fault counts as noticed; without one the tests take seconds."""


class Outcome(NamedTuple):
    """What the tests made of a mutation."""

    mutation: Mutation
    noticed: str
    """The test that failed; empty if none did."""
    seconds: float


def outcomes(mutations: Sequence[Mutation]) -> Iterator[Outcome]:
    """What the tests make of mutations, in their order.

    Raises:
        RuntimeError: The tests fail without any mutation, cannot be run, or do not test the copy.
    """
    if str(ROOT) not in sys.path:  # Where the processes find this module.
        sys.path.append(str(ROOT))
    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(_check, dict.fromkeys(mutation.tests for mutation in mutations)))
        yield from pool.map(_outcome, mutations)


def _check(tests: Sequence[str]) -> None:
    code, output = _run(tests, None)
    if code != 0:
        raise RuntimeError(f"without a mutation {' '.join(tests)} gives {code}:\n{output}")


def _outcome(mutation: Mutation) -> Outcome:
    start = time.monotonic()
    code, output = _run(mutation.tests, mutation)
    # A file of tests that cannot be imported is an ERROR without the name of a test.
    found = [line for line in output.splitlines() if re.match(r"(FAILED|ERROR) \S+::", line)]
    if code != 0 and not found:
        raise RuntimeError(f"with {mutation.name} the tests give {code}:\n{output}")
    return Outcome(mutation, "".join(found[:1]), time.monotonic() - start)


def _run(tests: Sequence[str], mutation: Mutation | None) -> tuple[int, str]:
    """Exit code and output of pytest on a copy of the tree."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_BEFORE)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        for part in PARTS:
            _copy(ROOT / part, copy / part)
        if mutation is not None:
            (copy / mutation.file).write_text(mutation.applied(copy), encoding="utf-8")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_pytest, args=(copy, tests, theirs))
        process.start()
        theirs.close()
        result = 1, f"FAILED {tests[0]}::took more than {TOO_LONG} s"
        try:
            if ours.poll(TOO_LONG):
                result = ours.recv()
        except EOFError:
            result = -1, "the process died"
        process.kill()
        process.join()
    return result


def _copy(source: Path, target: Path) -> None:
    """A copy of a file or folder; the links in `rlbench/` stay links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _pytest(copy: Path, tests: Sequence[str], result: Connection) -> None:
    """Sends exit code and output; what is in this process before is none of the suite's own."""
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.split(".")[0] in ("rlbench", "tests")]:
        del sys.modules[name]
    import pytest

    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    files = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "rlbench"]
    if not files or not all(file and Path(file).is_relative_to(copy) for file in files):
        code, output = -1, io.StringIO(f"{files} were tested and not the copy in {copy}")
    result.send((code, output.getvalue()))
