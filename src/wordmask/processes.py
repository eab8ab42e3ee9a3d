"""Processes that work for another one, and end when it does."""

import multiprocessing
import os
import threading
from multiprocessing import connection


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
