"""Worker processes that stop and end with their parent, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from rlbench.errors import Interrupted, UserError
from rlbench.stopping import handling

Submit = Callable[..., Future[Any]]


class WorkerDied(UserError):
    """A worker process died, and it is not known during which call."""


@contextmanager
def workers(jobs: int) -> Iterator[Submit]:
    """A function that runs a call in one of `jobs` processes; one job runs in this process.

    Each runs PyTorch on one thread, so that results do not depend on the number of processes. An
    interrupt is passed on to the processes, which save their work; a second one kills them.

    Raises:
        WorkerDied: A worker process died.
    """
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield _at_once
        finally:
            torch.set_num_threads(threads)
        return
    # Spawned: a fork of a process that has used PyTorch's threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker)
    processes = pool._processes  # Only Python 3.14 has a public way to stop them.

    def submit(call: Callable[..., Any], *args: Any) -> Future[Any]:
        with _ctrl_c_blocked():  # This call may start a process.
            return pool.submit(_in_worker, call, *args)

    try:
        yield submit
    except KeyboardInterrupt:
        if (
            os.name != "nt"
        ):  # On Windows Ctrl-C reaches the workers, and a terminated worker saves nothing.
            for process in list(processes.values()):
                process.terminate()
        raise
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process died, perhaps because of too little memory; run the same command again with "
            "fewer jobs (a custom script also needs `if __name__ == '__main__':`)"
        ) from None
    finally:
        try:
            pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            for process in list(processes.values()):
                process.kill()
            raise


def _at_once(call: Callable[..., Any], *args: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(call(*args))
    return future


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """A process started meanwhile does not receive Ctrl-C, only the SIGTERM that its parent sends."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_worker(call: Callable[..., Any], *args: Any) -> Any:
    """A call in a worker; a signal lets the call save its work, then ends the process.

    The worker then starts no further calls, and its parent, which is also stopping, need not wait.
    """
    try:
        with handling(signal.default_int_handler):
            return call(*args)
    except (Interrupted, KeyboardInterrupt):
        os._exit(1)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # On Windows it silently ends an idle process.
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
