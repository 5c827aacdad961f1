"""One signal stops every loop that plays, soon and at a safe point; a resume changes nothing."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlbench import stopping
from rlbench.agents import BCConfig, PPOConfig, SACConfig
from rlbench.benchmarks.training import evaluation, interrupt
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.interrupt import Interrupt, Unfinished, look
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.training.seed_batch import SeedBatchRun
from rlbench.errors import Interrupted, UserError
from tests.kill_and_resume import assert_equal
from tests.odd import Line, limited

QUIET = Console(quiet=True)
signal_at: int | None = None
steps = 0


def signalling() -> Any:
    """An environment that sends a signal at its step number `signal_at`, counted over all instances."""

    def count(env: Any, action: Any) -> None:
        global steps
        steps += 1
        if steps == signal_at:
            os.kill(os.getpid(), signal.SIGTERM)

    return limited(Line(step=count), 9)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE", -1.0)


def sac(out: Path) -> Run:
    settings = SACConfig(hidden=(8,), random_steps=20, batch_size=4)
    return Run("sac", settings, config(out), QUIET)


def ppo(out: Path) -> Run:
    settings = PPOConfig(hidden=(8,), rollout_steps=16, batch_size=8)
    return Run("ppo", settings, config(out), QUIET)


def config(out: Path) -> RunConfig:
    return RunConfig(
        env="tests.benchmarks.test_interrupt:signalling", updates=6, eval_every=2, eval_episodes=3, log_every=1,
        checkpoint_every=2, out=out,
    )  # fmt: skip


CHECK = 3
"""Steps that are played before a run begins."""


@pytest.mark.parametrize(
    ("begin", "at", "words"),
    [
        (sac, CHECK + 10, "before the first checkpoint; start again"),
        (sac, CHECK + 22 + 5, "before the first checkpoint; start again"),
        (sac, CHECK + 24 + 27 + 5, "and saved at update 2; resume"),
        (ppo, CHECK + 10, "before the first checkpoint; start again"),
        (ppo, CHECK + 32 + 5, "before the first checkpoint; start again"),
        (ppo, CHECK + 32 + 27 + 10, "and saved at update 2; resume"),
    ],
    ids=[
        "random steps",
        "evaluation",
        "later evaluation",
        "rollout",
        "evaluation",
        "later rollout",
    ],
)
def test_one_signal_stops_a_run_and_resuming_gives_the_same_result(
    begin: Callable[[Path], Run], at: int, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    begin(tmp_path / "whole").start()
    monkeypatch.setattr("tests.benchmarks.test_interrupt.steps", 0)
    monkeypatch.setattr("tests.benchmarks.test_interrupt.signal_at", at)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Interrupted, match=rf"^stopped {words} .* --resume {tmp_path}/cut --trust`$"
    ):
        begin(tmp_path / "cut").start()
    assert steps - at < 3, "the other two environments at most"
    assert signal.getsignal(signal.SIGTERM) == before
    Run.resume(tmp_path / "cut", QUIET, trust=True).finish()
    assert_equal(tmp_path / "whole", tmp_path / "cut")


def signalled(then: Callable[[], object]) -> None:
    """Calls `then` after a first signal."""
    with Interrupt() as wish:
        look()
        os.kill(os.getpid(), signal.SIGINT)
        assert wish.requested
        then()


def test_a_loop_has_a_short_time_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        look()
        monkeypatch.setattr(interrupt, "GRACE", -1.0)
        look()

    monkeypatch.setattr(interrupt, "GRACE", 3600.0)
    with pytest.raises(Unfinished):
        signalled(leave)
    look()


def test_a_second_signal_stops_at_once_unless_it_echoes_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def again() -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # `timeout` sends two.
        monkeypatch.setattr(stopping, "ECHO", -1.0)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="rlbench run --resume"):
        signalled(again)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_what_takes_too_long_after_a_signal_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_for_long() -> None:
        with contextlib.suppress(Exception):  # Compilers call every error their own.
            time.sleep(60)

    monkeypatch.setattr(interrupt, "LIMIT", 0.05)
    before, start = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(Unfinished):
        signalled(compile_for_long)
    assert time.monotonic() - start < 30
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(
    ("error", "seen"),
    [(UserError("cannot be compiled"), Unfinished), (Interrupted("saved"), Interrupted)],
)
def test_an_error_after_a_signal_is_taken_for_its_consequence(
    error: Exception, seen: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(seen):
        signalled(fail)


def test_a_run_that_is_completed_after_a_signal_stops_what_would_follow() -> None:
    with pytest.raises(KeyboardInterrupt, match="the run is complete"):
        signalled(lambda: None)


@pytest.mark.slow
def test_seeds_that_learn_together_resume_from_the_last_common_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(out: Path) -> SeedBatchRun:
        chosen = RunConfig(
            env="point-random", data_size=500, updates=12, eval_every=6, log_every=3, seeds=2,
            eval_episodes=2, checkpoint_every=4, compile="off", out=out,
        )  # fmt: skip
        return SeedBatchRun.begin("bc", BCConfig(hidden=(8,), batch_size=16), chosen, QUIET)

    begun(tmp_path / "whole").start()
    calls = 0

    def stop_in_the_second_seed() -> None:
        nonlocal calls
        calls += 1
        if calls == 45:  # An episode takes 30 steps.
            raise Unfinished

    monkeypatch.setattr(evaluation, "look", stop_in_the_second_seed)
    with pytest.raises(Interrupted, match=r"stopped and saved at update 4; resume with .*cut`"):
        begun(tmp_path / "cut").start()
    assert calls == 45
    assert SeedBatchRun.resume(tmp_path / "cut", QUIET).finish() == 8
    for seed in (0, 1):
        assert_equal(tmp_path / f"whole/s{seed}", tmp_path / f"cut/s{seed}")
