"""Worker processes that end with their parent, however it ends."""

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

from rlbench.errors import UserError

Submit = Callable[..., Future[Any]]


@contextmanager
def workers(jobs: int) -> Iterator[Submit]:
    """A function that runs a call in one of `jobs` processes; one job runs in this process.

    Each runs PyTorch on one thread, so that results do not depend on the number of processes.

    Raises:
        UserError: A worker process died.
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
    try:
        yield pool.submit
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps for lack of memory; run the same command again with "
            "fewer jobs (a script of your own also needs `if __name__ == '__main__':`)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once(call: Callable[..., Any], *args: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(call(*args))
    return future


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback.
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
