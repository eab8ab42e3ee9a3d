"""Shards: the parts of a run that one worker makes alone, each whole on the disk or not there.

The run's settings say what is in a shard (`records.py`), and its checksum whether it is whole (`parts.py`): such a one
is not made again, so that a run that was killed goes on with those that are missing.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TypeVar

from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.runs.processes import shared_out

Shard = TypeVar("Shard")


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
    """Make the shards that are missing, in this process or in several, as `shared_out` has it.

    weight: how much of the work a shard is.
    """
    wanted = list(shards)
    missing = [shard for shard in wanted if not is_made(shard)]
    total = sum(map(weight, wanted))
    done = total - sum(map(weight, missing))
    if progress:
        progress(done, total)
    workers = min(workers, len(missing))
    with closing(shared_out(missing, make, workers=workers, error=error, prepare=prepare)) as made:
        for shard, _ in made:
            done += weight(shard)
            if progress:
                progress(done, total)
