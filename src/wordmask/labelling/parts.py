"""Labels by shards: pictures that one worker labels alone, and what it says of them in one file.

A shard is some batches of the walk, so the network sees the same pictures together whoever labels them. Its label files
are written where they belong; its rows come in a part, which is taken into the ledger at the end, or when it is
there.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wordmask.console.notices import Taken, notices
from wordmask.console.progress import Progress
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of_lines
from wordmask.labelling.ledger import Entry, Ledger, Row
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Job, Worker
from wordmask.runs.claim import STATE
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say
from wordmask.runs.shards import run_shards
from wordmask.text_files import counted

PARTS = "parts"
"""The folder of parts that no ledger has taken."""
PER_SHARD = 1_000
"""Pictures, which take a processor from minutes to an hour; what a kill can lose."""

Batch = tuple[int, Sequence[Entry]]
"""The place of its first picture in the walk, and its pictures."""


@dataclass(frozen=True)
class LabelTask:
    out: Path
    number: int
    weight: int  # all of its pictures
    batches: tuple[Batch, ...]  # those that are not done

    @property
    def name(self) -> str:
        return f"shard {self.number}, from {self.batches[0][1][0].picture}" if self.batches else f"shard {self.number}"

    @property
    def path(self) -> Path:
        return self.out / STATE / PARTS / f"{self.number:06d}.jsonl"

    @property
    def fingerprint(self) -> str:
        entries = (entry for _, batch in self.batches for entry in batch)
        return digest_of_lines(f"{each.picture}\0{each.name}\0{each.stamp}" for each in entries)

    def is_made(self) -> bool:
        """Return whether there is nothing to label, or a part of these very pictures."""
        if not self.batches:
            return True
        try:
            with self.path.open("rb") as lines:
                return bool(json.loads(lines.readline())["fingerprint"] == self.fingerprint)
        except FileNotFoundError:
            return False
        except (ValueError, LookupError, TypeError):
            return False  # it is made anew

    def make(self, worker: Worker, progress: Progress) -> Taken:
        """Write the label files, and then the part. Returns what is to be said once of such pictures."""
        done, to_do = 0, sum(len(batch) for _, batch in self.batches)
        with atomic_write(self.path) as file:
            file.write(_line({"fingerprint": self.fingerprint}))
            for place, batch in self.batches:
                rows = worker.label(batch)
                told = [[asdict(entry), row.to_json()] for entry, row in zip(batch, rows, strict=True)]
                file.write(_line({"place": place, "rows": told}))
                done += len(batch)
                progress(done, to_do)
        return notices.taken()


@dataclass(frozen=True)
class BatchTask:
    """A batch to be labelled by another process, whose rows come back."""

    place: int
    batch: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return f"the pictures from {self.batch[0].picture}"

    def make(self, worker: Worker, progress: Progress) -> tuple[list[Row], Taken]:
        """Write the label files. Returns the rows, and what is to be said once of such pictures."""
        return worker.label(self.batch), notices.taken()


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


@dataclass(frozen=True)
class LoadWorker:
    """Loads the segmenter of a worker, also in a process of its own."""

    job: Job

    def __call__(self) -> Worker:
        return Worker(self.job)


def tasks_of(
    out: Path, entries: Iterator[Entry], is_done: Callable[[Sequence[Entry]], bool], batch_size: int, per_shard: int
) -> Iterator[LabelTask]:
    """Yield the shards of a walk, each of whole batches without those that are done."""
    batches: list[Batch] = []
    number = place = 0
    each = max(1, per_shard // batch_size)
    while True:
        batch = list(islice(entries, batch_size))
        if batch:
            batches.append((place, tuple(batch)))
            place += len(batch)
        if batches and (len(batches) == each or not batch):
            missing = tuple(own for own in batches if not is_done(own[1]))
            yield LabelTask(out, number, sum(len(own) for _, own in batches), missing)
            number, batches = number + 1, []
        if not batch:
            return


def take_parts(ledger: Ledger, out: Path, on_row: Callable[[Row], None] = lambda row: None) -> int:
    """Bring what workers have labelled into the ledger; how many pictures that were. A part is gone then."""
    return sum(take_part(ledger, path, on_row) for path in sorted((out / STATE / PARTS).glob("*.jsonl")))


def take_part(ledger: Ledger, path: Path, on_row: Callable[[Row], None]) -> int:
    count = 0
    try:
        with path.open("rb") as lines:
            next(lines)
            for line in lines:
                told = json.loads(line)
                entries = [Entry(**entry) for entry, _ in told["rows"]]
                rows = [Row.from_json(row) for _, row in told["rows"]]
                ledger.add(entries, rows, told["place"])
                count += len(rows)
                for row in rows:
                    on_row(row)
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        raise LabelError(f"{path} is damaged: delete it and run again, and its pictures are labelled anew") from error
    path.unlink()
    return count


def spread(
    tasks: Iterator[LabelTask],
    load: LoadWorker,
    ledger: Ledger,
    crew: Crew,
    on_row: Callable[[Row], None],
    on_progress: Progress,
    say: Say,
) -> int:
    """Have a crew label what is missing, and take each part when it is there; how many pictures that were."""
    new = 0

    def take(task: LabelTask, told: Taken) -> None:
        nonlocal new
        notices.merge(told)
        new += take_part(ledger, task.path, on_row)

    run_shards(
        tasks,
        load,
        is_made=lambda task: not task.batches,
        crew=crew,
        progress=on_progress,
        on_made=take,
        say=say,
    )
    return new


def check_labelled(entries: Iterator[Entry], ledger: Ledger, out: Path, batch_size: int) -> None:
    """Give the pictures of a walk their places, and raise if some are not labelled."""
    place = missing = 0
    first = ""
    while batch := list(islice(entries, batch_size)):
        if not ledger.reach(batch, place, also_errors=True):
            missing, first = missing + 1, first or batch[0].picture
        place += len(batch)
    if missing:
        raise LabelError(
            f"{out}: {counted(missing, 'batch', 'batches')} of pictures not labelled yet, the first with {first}: "
            "label what is missing, without --merge"
        )
