"""Shards: the parts of a run that one worker makes alone, each whole on the disk or not there.

The run's settings say what is in a shard (`records.py`), and its checksum whether it is whole (`parts.py`): such a one
is not made again, so that a run that was killed goes on with those that are missing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.runs.crew import Crew, Processes, made_by_crew
from wordmask.runs.parts import Say, warn
from wordmask.text_files import counted

Shard = TypeVar("Shard")
MOST_FAILED = 100
"""Shards, after which no more are tried: it is not the shards that are at fault."""
NAMED = 3
"""Of the shards that could not be made, how many the error names; each is told of when it fails."""


class ShardError(WordmaskError):
    """There are shards that could not be made: names them."""


class ShardTask(Protocol):
    """One shard to be made: the same files, whoever makes it, where, and how often; it can be sent to a process.

    name: what it is called where it fails. weight: how much of the work it is.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> int: ...

    def make(self, tools: Any, progress: Progress) -> Any:
        """Write the part, its last file last. tools: what was loaded for all shards. Returns what the run is told."""


Task = TypeVar("Task", bound=ShardTask)


@dataclass(frozen=True)
class Share:
    """Every `of`-th shard, from the `which`-th on: what one process of an array makes."""

    which: int
    of: int

    @classmethod
    def read(cls, text: str) -> "Share":
        """Return the share that "3/16" means."""
        which, _, of = text.partition("/")
        if not (which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of)):
            raise ShardError(f"{text!r} is no share of the shards: 3/16 is the third of sixteen")
        return cls(int(which), int(of))

    def pick(self, tasks: Iterable[Task]) -> Iterator[Task]:
        return islice(tasks, self.which - 1, None, self.of)

    def __str__(self) -> str:
        return f"{self.which}/{self.of}"


def run_shards(
    tasks: Iterable[Task],
    load: Callable[[], Any],
    *,
    is_made: Callable[[Task], bool],
    crew: Crew | None = None,
    share: Share | None = None,
    total: int | None = None,
    progress: Progress | None = None,
    on_made: Callable[[Task, Any], None] = lambda task, told: None,
    say: Say = warn,
) -> None:
    """Make the shards that are missing, here or by a crew; they are taken from `tasks` as their turn comes.

    load: what makes the tools of all shards, once in each process. share: make no more than these. total: of the
    weights of all shards. on_made: is told what a shard's making returned. Here, what goes wrong is raised at once.
    With a crew a shard that fails is told of by its name, the others are made, and a `ShardError` comes at the end.
    """
    if share is not None:
        tasks, total = share.pick(tasks), None if total is None else total // share.of
    done = made = 0
    failed: list[str] = []

    def missing() -> Iterator[Task]:
        nonlocal done
        for task in tasks:
            if not is_made(task):
                yield task
                continue
            done += task.weight
            if progress:
                progress(done, total)

    if crew is None:
        tools = None
        for task in missing():
            tools = load() if tools is None else tools
            on_made(task, task.make(tools, _within(progress, done, task, total)))
            done += task.weight
            if progress:
                progress(done, total)
        return
    with closing(made_by_crew(missing(), load, crew, say=say)) as results:
        for task, told, trouble in results:
            if trouble is not None:
                failed.append(f"{task.name} ({trouble})")
                say(f"{task.name} could not be made: {trouble}")
                if len(failed) >= MOST_FAILED and not made:
                    break
                continue
            on_made(task, told)
            done, made = done + task.weight, made + 1
            if progress:
                progress(done, total)
    if failed:
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise ShardError(
            f"{counted(len(failed), 'shard')} could not be made: {', '.join(failed[:NAMED])}{more}; "
            "what is done is kept, and the same command tries them again"
        )


def _within(progress: Progress | None, done: int, task: ShardTask, total: int | None) -> Progress:
    """Return the progress within a shard, as a part of that of them all."""

    def report(part: int, of: int | None) -> None:
        if progress:
            progress(done + task.weight * part // (of or 1), total)

    return report


def make_shards(
    shards: Iterable[Shard],
    make: Callable[[Shard], None],
    *,
    is_made: Callable[[Shard], bool],
    weight: Callable[[Shard], int],
    workers: int = 1,
    prepare: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Make the shards that are missing, in this process or in several, where a shard is what `make` is called with.

    weight: how much of the work a shard is. prepare: what each of several processes does first.
    """
    tasks = [Piece(shard, weight(shard)) for shard in shards]
    run_shards(
        tasks,
        PiecesMaker(make, prepare if workers > 1 else None),
        is_made=lambda task: is_made(task.shard),
        crew=Processes(workers) if workers > 1 else None,
        total=sum(task.weight for task in tasks),
        progress=progress,
    )


@dataclass(frozen=True)
class Piece:
    """A shard that a function makes."""

    shard: Any
    weight: int

    @property
    def name(self) -> str:
        return f"shard {self.shard}"

    def make(self, make: Callable[[Any], None], progress: Progress) -> None:
        make(self.shard)


@dataclass(frozen=True)
class PiecesMaker:
    """Loads that function: it is sent once to each process."""

    make: Callable[[Any], None]
    prepare: Callable[[], None] | None

    def __call__(self) -> Callable[[Any], None]:
        if self.prepare is not None:
            self.prepare()
        return self.make
