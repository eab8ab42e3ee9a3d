"""A crew: workers that make shards for a run, each with tools that it loads once.

The workers are processes of this machine, or actors of a cluster; who they are, a `Crew` says. What they are given here
is one shard at a time, when they have finished the one before, so that nothing piles up.

A worker that is lost is replaced, and its shard is given to another. One whose shard takes longer than the crew's time
limit is ended. One that cannot begin, or whose disk is full, is given no more.
"""

import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from wordmask.console import quiet_log
from wordmask.console.notices import notices
from wordmask.errors import WordmaskError
from wordmask.files import NO_ROOM
from wordmask.runs.parts import Say
from wordmask.runs.processes import end_with_parent, holding_interrupts

Task = TypeVar("Task")
TRIES = 3
"""Of a shard whose workers are lost."""
LOOKS_EVERY = 1.0
"""Seconds between two looks at the clock while shards are made."""
PATIENCE = 60.0
"""Seconds without any worker, after which that is said."""


class CrewError(WordmaskError):
    """The workers cannot begin, or there are none left."""


class CrewMember(Protocol):
    """A worker, which does one thing after another."""

    @property
    def name(self) -> str: ...

    def submit(self, do: Callable[..., Any], *arguments: Any) -> "Future[Any]": ...

    def end(self) -> None:
        """End it now, whatever it does."""


class Crew(Protocol):
    """workers: how many there are. time_limit: seconds that a shard may take. lost: what a worker's result is when it
    is no more.
    """

    workers: int
    time_limit: float | None
    lost: tuple[type[Exception], ...]

    def begin(self) -> CrewMember: ...


@runtime_checkable
class TrainingCrew(Crew, Protocol):
    """Whose workers train in the place of the process that has them."""

    def train(self, learn: Callable[[], Any], out: Path) -> None:
        """Have one worker call this, or several together, that find their places in a team as `torchrun` tells them.
        out: the folder that it writes.
        """


@dataclass
class Processes:
    """Processes of this machine. threads: of PyTorch in each; None leaves that to it. devices: of each its own, which
    is told by `own_device`; none for whatever the work says.
    """

    workers: int
    time_limit: float | None = None
    threads: int | None = None
    devices: tuple[str, ...] = ()
    lost: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __post_init__(self) -> None:
        self._free = list(self.devices)

    def begin(self) -> "Process":
        device = self._free.pop(0) if self.devices else None
        return Process(self.threads, device, self._free.append)


class Process:
    def __init__(self, threads: int | None, device: str | None, give_back: Callable[[str], None]):
        # A pool each: when a process of a larger one is lost, so are the shards of the others.
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin_process, initargs=(threads, device)
        )
        self._device, self._give_back, self._has_ended = device, give_back, False
        with holding_interrupts():
            self._number = self._pool.submit(os.getpid)

    @property
    def name(self) -> str:
        is_known = self._number.done() and self._number.exception() is None
        name = f"process {self._number.result()}" if is_known else "a process"
        return name if self._device is None else f"{name} on {self._device}"

    def submit(self, do: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        return self._pool.submit(do, *arguments)

    def end(self) -> None:
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._number.result(), getattr(signal, "SIGKILL", signal.SIGTERM))
        self._pool.shutdown(cancel_futures=True)
        if self._device is not None and not self._has_ended:
            self._give_back(self._device)
        self._has_ended = True


_device: str | None = None
"""In a worker: what it computes on, where the crew says so."""


def own_device() -> str | None:
    return _device


def _begin_process(threads: int | None, device: str | None) -> None:
    global _device
    end_with_parent()
    _device = device
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to all, and only the first is to act on it
    notices.counting = True
    quiet_log()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@dataclass
class _Doing:
    member: CrewMember
    task: Any = None  # None while it loads
    tries: int = 0
    since: float = 0.0
    overran: bool = False


def made_by_crew(
    tasks: Iterable[Task], load: Callable[[], Any], crew: Crew, *, say: Say
) -> Generator[tuple[Task, Any, str | None], None, None]:
    """Yield each task when it is done: with what its making returned, or the reason why it could not be made."""
    yield from _Watch(tasks, load, crew, say).run()


class _Watch:
    def __init__(self, tasks: Iterable[Any], load: Callable[[], Any], crew: Crew, say: Say):
        self.crew, self.say = crew, say
        self._load = pickle.dumps(load)  # plainly: torch's own way would share its memory with this process
        self._tasks = iter(tasks)
        self._again: deque[tuple[Any, int]] = deque()
        self._idle: list[CrewMember] = []
        self._busy: dict[Future[Any], _Doing] = {}
        self._lost_at_once = 0

    def run(self) -> Generator[tuple[Any, Any, str | None], None, None]:
        first = list(islice(self._tasks, self.crew.workers))
        self._tasks = chain(first, self._tasks)
        alone_since = time.monotonic()
        try:
            for _ in first:
                self._begin()
            task = self._next()
            while True:
                while task is not None and self._idle:
                    self._give(self._idle.pop(), *task)
                    task = self._next()
                if task is None and not any(doing.task is not None for doing in self._busy.values()):
                    return
                finished, _ = wait(self._busy, timeout=LOOKS_EVERY, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from self._finish(future, self._busy.pop(future))
                task = task or self._next()
                self._look_at_the_clock()
                if any(doing.task is not None for doing in self._busy.values()) or self._idle:
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > PATIENCE:
                    self.say("no worker is ready yet: still waiting for one")
                    alone_since = time.monotonic()
        finally:
            for member in [*self._idle, *(doing.member for doing in self._busy.values())]:
                member.end()

    def _next(self) -> tuple[Any, int] | None:
        if self._again:
            return self._again.popleft()
        task = next(self._tasks, None)
        return None if task is None else (task, 0)

    def _begin(self) -> None:
        member = self.crew.begin()
        self._busy[member.submit(_loaded, self._load)] = _Doing(member)

    def _give(self, member: CrewMember, task: Any, tries: int) -> None:
        self._busy[member.submit(_made, pickle.dumps(task))] = _Doing(member, task, tries + 1, time.monotonic())

    def _finish(self, future: "Future[Any]", doing: _Doing) -> Generator[tuple[Any, Any, str | None], None, None]:
        try:
            told, trouble, is_full = future.result()
        except self.crew.lost as lost:
            yield from self._lose(doing, lost)
            return
        self._lost_at_once = 0
        if is_full or (doing.task is None and trouble is not None):
            self._dismiss(doing, f"{'cannot begin' if doing.task is None else 'is given no more'}: {trouble}")
        else:
            self._idle.append(doing.member)
        if doing.task is None:
            return
        if is_full and doing.tries < TRIES:
            self._again.append((doing.task, doing.tries))
        else:
            yield doing.task, told, trouble

    def _dismiss(self, doing: _Doing, why: str) -> None:
        """Go on without a worker whose machine is not well, as long as there are others."""
        doing.member.end()
        if not self._idle and not self._busy:
            raise CrewError(f"no worker is left: {doing.member.name} {why}")
        self.say(f"{doing.member.name} {why}")

    def _lose(self, doing: _Doing, lost: Exception) -> Generator[tuple[Any, Any, str | None], None, None]:
        doing.member.end()
        if doing.task is None:
            self._lost_at_once += 1
            if self._lost_at_once > TRIES * self.crew.workers:
                raise CrewError(
                    f"workers end of themselves as they begin, perhaps for want of memory ({_line(lost)}): try fewer"
                )
        self._begin()
        if doing.task is None:
            return
        if doing.overran:
            yield doing.task, None, f"it took longer than {self.crew.time_limit:g} s"
        elif doing.tries < TRIES:
            self.say(f"{doing.member.name} is lost, and what it did is given to another")
            self._again.append((doing.task, doing.tries))
        else:
            yield doing.task, None, f"its worker was lost {TRIES} times, perhaps for want of memory"

    def _look_at_the_clock(self) -> None:
        if self.crew.time_limit is None:
            return
        for doing in self._busy.values():
            if doing.task is not None and not doing.overran:
                doing.overran = time.monotonic() - doing.since > self.crew.time_limit
                if doing.overran:
                    doing.member.end()


_tools: Any = None
"""In a worker: what it has loaded."""
Outcome = tuple[Any, str | None, bool]
"""What was returned; else why there is nothing; and whether that is a full disk. No exception has to travel."""


def _loaded(load: bytes) -> Outcome:
    global _tools
    return _outcome(lambda: _keep(pickle.loads(load)()), returns=False)


def _keep(tools: Any) -> None:
    global _tools
    _tools = tools


def _made(task: bytes) -> Outcome:
    return _outcome(lambda: pickle.loads(task).make(_tools, lambda done, total: None), returns=True)


def _outcome(do: Callable[[], Any], *, returns: bool) -> Outcome:
    try:
        told = do()
    except (WordmaskError, OSError) as error:
        return None, _line(error), isinstance(error, OSError) and error.errno in NO_ROOM
    except Exception as error:
        return None, f"{type(error).__name__}: {_line(error)}", False
    return (told if returns else None), None, False


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
