"""Processes that work for another one, and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker


def end_with_parent() -> None:
    """For a pool's process as it begins: see that it does not outlive the one that started it.

    A pool's queues stay open when its owner is killed, so that waiting on them would last for ever. In a process that
    nobody started so, this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def holding_interrupts() -> Iterator[None]:
    """Ctrl-C waits meanwhile, and does not reach processes that are started meanwhile: they inherit what is held.

    Without it they would print a traceback each until they have begun and can say so themselves.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the first process starts it, which lets signals through again
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
