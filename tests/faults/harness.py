"""Runs the command line in a forked process with a fault before its n-th file operation, and compares run folders.

A fork of a process that has run the same command has everything imported, so a run takes a fraction of a second. A kill is a
real SIGKILL.
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlbench.cli import main

OFTEN = ["--eval-every", "4", "--eval-episodes", "2", "--log-every", "2", "--checkpoint-every", "4"]
OFFLINE = [
    "--env",
    "point-mixed",
    "--data-size",
    "2000",
    "--hidden",
    "8",
    "--batch-size",
    "4",
    *OFTEN,
]
RUNS = {
    "offline": ["bc", *OFFLINE, "--updates", "8"],
    "replay": ["sac", "--env", "Pendulum-v1", "--hidden", "8", "--batch-size", "4", "--random-steps", "6", *OFTEN, "--updates", "8"],
    "rollouts": [
        "ppo", "--env", "CartPole-v1", "--rollout-steps", "8", "--epochs", "1", "--batch-size", "8", "--hidden", "8", "--updates",
        "2", "--eval-every", "1", "--eval-episodes", "2", "--log-every", "1", "--checkpoint-every", "1",
    ],
    "examples": [
        "classifier", "--env", "digits", "--encoder", "sigmoid-mlp:units=8,layers=1", "--batch-size", "4", "--updates", "8", "--eval-every", "4",
        "--log-every", "2", "--checkpoint-every", "4",
    ],
    "seeds": ["bc", *OFFLINE, "--updates", "8", "--seeds", "2"],
    "snapshots": ["bc", *OFFLINE, "--updates", "8", "--snapshot-every", "4"],
}  # fmt: skip
"""A short run of each way of learning, with an evaluation and a checkpoint in the middle and at the end."""
TIMED = ("tensorboard", "timing.jsonl", "log.txt", ".lock")
"""Files that differ between equal runs."""
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "os.rmdir", "shutil.rmtree", "tempfile.mkstemp"}  # fmt: skip
LIMIT = 120.0
"""Seconds after which a run counts as hanging."""

Fault = Callable[[], None]


def forked(words: list[str], prepare: Fault | None = None) -> tuple[int, str]:
    """Runs a command in a forked process.

    Args:
        words: The command line.
        prepare: Called in the new process first.

    Returns:
        The exit code, negative for a signal, and what was written to standard error.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 97
        try:
            os.close(readable)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(writable, 2)
            sys.stdout = os.fdopen(1, "w")
            sys.stderr = os.fdopen(2, "w", buffering=1)
            if prepare is not None:
                prepare()
            code = main(words)
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(writable)
    told, end = b"", time.monotonic() + LIMIT
    with os.fdopen(readable, "rb") as pipe:
        os.set_blocking(pipe.fileno(), False)
        while True:
            told += pipe.read() or b""
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                told += pipe.read() or b""
                return os.waitstatus_to_exitcode(status), told.decode(errors="replace")
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TimeoutError(f"{' '.join(words)} did not end within {LIMIT:.0f} s")
            time.sleep(0.005)


def before_operation(number: int, folder: Path, fault: Fault) -> Fault:
    """Prepares a process so that `fault` happens before its n-th operation that changes a file in a folder, from 1 on."""

    def prepare() -> None:
        count, root, sync = 0, str(folder), os.fsync

        def counted() -> None:
            nonlocal count
            count += 1
            if count == number:
                fault()

        def hook(event: str, given: tuple[Any, ...]) -> None:
            writes = event in WRITES or (
                event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+")
            )
            if writes and root in " ".join(map(str, given[:2])):
                counted()

        def fsync(fd: Any) -> None:
            counted()
            sync(fd)

        os.fsync = fsync  # It has no audit event.
        sys.addaudithook(hook)

    return prepare


def kill() -> None:
    """Ends this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that is the same for equal runs, by its path in the folder."""
    files = (x for x in folder.rglob("*") if x.is_file())
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if not set(file.relative_to(folder).parts) & set(TIMED)
    }


def differing(expected: dict[str, str], out: Path) -> list[str]:
    """Paths of the files that differ from those of an undisturbed run, are missing or were left behind."""
    found = digest(out)
    return sorted(x for x in expected.keys() | found if expected.get(x) != found.get(x))


def resumed(words: list[str], out: Path) -> tuple[int, str]:
    """What a user does after a fault: resumes the run, or starts it again if it did not begin."""
    begun = any(out.glob("config.json")) or any(out.glob("s[0-9]*/config.json"))
    return forked(["run", "--resume", str(out)] if begun else ["run", *words, "--out", str(out)])
