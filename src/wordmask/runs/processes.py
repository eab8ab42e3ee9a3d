"""Processes that work for another one, and end when it does."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from typing import Any, TypeVar

from wordmask.errors import WordmaskError

Piece = TypeVar("Piece")
Result = TypeVar("Result")
WAITING_PER_WORKER = 2


def shared_out(
    pieces: Iterable[Piece],
    do: Callable[[Piece], Result],
    *,
    workers: int,
    error: type[WordmaskError],
    prepare: Callable[[], None] | None = None,
) -> Generator[tuple[Piece, Result], None, None]:
    """Yield each piece of work, in their order, with what `do` made of it: here, or in several processes.

    Of many pieces only a few are taken before their turn. `do` is sent once to each process, which calls `prepare`
    first. error: what it is when a process ends of itself.
    """
    if workers <= 1:
        yield from ((piece, do(piece)) for piece in pieces)
        return
    context = multiprocessing.get_context("spawn")
    told = pickle.dumps(do)  # plainly: torch's own way would share its memory with this process
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(told, prepare)) as pool:
        waiting: deque[tuple[Piece, Future[Result]]] = deque()
        try:
            for piece in pieces:
                with holding_interrupts():  # the first starts the processes, which it is not for to end them
                    waiting.append((piece, pool.submit(_do_here, piece)))
                if len(waiting) > WAITING_PER_WORKER * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        except BrokenProcessPool as broken:
            raise error(
                "a worker process ended of itself, perhaps for want of memory: try fewer workers or smaller batches; "
                "what is done is kept, and the same command goes on"
            ) from broken
        finally:
            pool.shutdown(cancel_futures=True)


_do: Callable[[Any], Any] | None = None
"""In a process that works for another: what it does with a piece."""


def _begin(told: bytes, prepare: Callable[[], None] | None) -> None:
    global _do
    end_with_parent()
    if prepare is not None:
        prepare()
    _do = pickle.loads(told)


def _do_here(piece: Any) -> Any:
    assert _do is not None  # the pool's initializer has run
    return _do(piece)


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
