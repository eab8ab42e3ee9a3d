"""How far a long command is: a bar with the time left where somebody watches, and elsewhere a line now and then.

`Progress` is what long work tells it to, wherever that is.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from wordmask.console import printable, say

BEGIN_SECONDS = 2.0
"""What is done, or has failed, so soon needs no word of how it goes."""
EVERY_SECONDS = 30.0
"""How often a log that nobody watches hears of progress."""
WINDOW_SECONDS = 20.0
"""The speed is that of the last so many seconds: what a resumed run finds done does not count."""
Progress = Callable[[int, int | None], None]
"""(done, total): how much of the work is done; a total of None is one that is not known yet."""


@contextmanager
def progress_bar(
    description: str, total: int | None, *, counts: bool = True, announce: bool = True
) -> Iterator[Progress]:
    """Yield `report(done, total)`. Silent where there is one thing to do.

    counts: whether the numbers mean something to people; else only their share is told. announce: whether to say what
    has begun, where nobody watches a bar and it takes more than a moment.
    """
    if total == 1:
        yield _unsaid
    elif sys.stderr.isatty():
        with _bar(printable(description), total) as report:
            yield report
    else:
        lines = Lines(description, total, counts=counts)
        beginning = threading.Timer(BEGIN_SECONDS, lines.begin)
        beginning.daemon = True
        if announce:
            beginning.start()
        try:
            yield lines.report
        finally:
            beginning.cancel()
        if lines.has_begun or not announce:
            lines.end()


class OnStderr:
    """Says sentences and progress on stderr: of a work that says itself what it begins."""

    def say(self, text: str) -> None:
        say(text)

    def progress(self, description: str) -> AbstractContextManager[Progress]:
        return progress_bar(description, None, counts=False, announce=False)


class Lines:
    """Progress as lines: when it has begun, at most every 30 seconds, and at the end."""

    has_begun = False

    def __init__(
        self,
        description: str,
        total: int | None = None,
        *,
        counts: bool = True,
        tell: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._description, self._total, self._counts = description, total, counts
        self._tell, self._clock = tell, clock
        self._start = self._told = clock()
        self._done: int | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self) -> None:
        self.has_begun = True
        known = self._total is not None and self._counts
        self._tell(f"{self._description}: {self._total} to do" if known else f"{self._description} ...")

    def report(self, done: int, total: int | None = None) -> None:
        now = self._clock()
        self._done, self._total = done, total if total is not None else self._total
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= 1:
            self._samples.append((now, done))
        if now - self._told >= EVERY_SECONDS and done != self._total:
            self._told = now
            self._tell(f"{self._description}: {', '.join(self._parts(now, done))}")

    def end(self) -> None:
        if self._done is not None:
            number = f"{self._done} " if self._counts else ""
            self._tell(f"{self._description}: {number}done in {duration(self._clock() - self._start)}")

    def _parts(self, now: float, done: int) -> Iterator[str]:
        if self._total:
            share = f"{100 * done // self._total}%"
            yield f"{done} of {self._total} ({share})" if self._counts else share
        else:
            yield f"{done} done"
        since, before = self._samples[0]
        speed = (done - before) / (now - since) if now > since else 0.0
        if speed > 0:
            if self._counts:
                yield rate(speed)
            if self._total:
                yield f"about {duration((self._total - done) / speed)} left"


class CountAhead:
    """Counts while the work goes on; `total` is None until all have been counted.

    What goes wrong in the walk is left to the work to meet and to tell: then the total stays unknown.
    """

    def __init__(self, things: Iterable[object]):
        self.total: int | None = None
        self._things = things
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._count, name="wordmask-count", daemon=True)

    def __enter__(self) -> "CountAhead":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _count(self) -> None:
        count = 0
        try:
            for _ in self._things:
                count += 1
                if self._stopped.is_set():
                    return
        except Exception:
            return
        self.total = count


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def rate(each_second: float) -> str:
    """Return a speed in the unit in which it is a number worth reading."""
    for per, seconds in (("second", 1), ("minute", 60)):
        if each_second * seconds >= 1:
            return f"{each_second * seconds:.1f} a {per}"
    return f"{each_second * 3600:.1f} an hour"


def _unsaid(done: int, total: int | None = None) -> None:
    """Say nothing of progress."""


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),  # results that go to a file or a pipe are none of the bar's
    )
    with bar:
        task = bar.add_task(description, total=total)

        def report(done: int, total: int | None = total) -> None:
            bar.update(task, completed=done, total=total)

        yield report
