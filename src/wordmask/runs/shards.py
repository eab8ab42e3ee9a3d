"""Shards: the parts of a run that one worker makes alone, each whole on the disk or not there.

The run's settings say what is in a shard (`records.py`), and its checksum whether it is whole (`parts.py`): such a one
is not made again, so that a run that was killed goes on with those that are missing.
"""

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from wordmask.errors import WordmaskError
from wordmask.runs.processes import end_with_parent

Shard = TypeVar("Shard")
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is to do."""


def make_shards(
    shards: Iterable[Shard],
    make: Callable[[Shard], None],
    *,
    is_made: Callable[[Shard], bool],
    weight: Callable[[Shard], int],
    error: type[WordmaskError],
    workers: int = 1,
    prepare: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Make the shards that are missing, in this process or in several.

    weight: how much of the work a shard is. error: what the end of a process before its time is raised as. prepare:
    what each of several processes does before it takes `make`, which is sent to it once.
    """
    wanted = list(shards)
    missing = [shard for shard in wanted if not is_made(shard)]
    total = sum(map(weight, wanted))
    done = total - sum(map(weight, missing))
    if progress:
        progress(done, total)
    for shard in _made(missing, make, min(workers, len(missing)), prepare, error):
        done += weight(shard)
        if progress:
            progress(done, total)


def _made(
    shards: Sequence[Shard],
    make: Callable[[Shard], None],
    workers: int,
    prepare: Callable[[], None] | None,
    error: type[WordmaskError],
) -> Iterator[Shard]:
    """Each shard as soon as it is on the disk."""
    if workers <= 1:
        for shard in shards:
            make(shard)
            yield shard
        return
    context = multiprocessing.get_context("spawn")
    told = pickle.dumps(make)  # plainly: torch's own way would share its memory with this process
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(told, prepare)) as pool:
        waiting = {pool.submit(_make_here, shard): shard for shard in shards}
        try:
            for future in as_completed(waiting):
                future.result()
                yield waiting[future]
        except BrokenProcessPool as broken:
            raise error(
                "a process of this run died (was there memory enough?): start again, with fewer workers"
            ) from broken
        finally:
            for future in waiting:
                future.cancel()


_make: Callable[[Any], None] | None = None
"""In a process that makes shards: how it does."""


def _begin(told: bytes, prepare: Callable[[], None] | None) -> None:
    global _make
    end_with_parent()
    if prepare is not None:
        prepare()
    _make = pickle.loads(told)


def _make_here(shard: Any) -> None:
    assert _make is not None  # the pool's initializer has run
    _make(shard)
