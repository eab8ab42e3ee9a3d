"""The access log: a line of JSON for each answer, written by a thread of its own so that nobody waits for a disk."""

import json
import logging
import os
import re
import sys
import threading
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wordmask.files import is_special
from wordmask.serving.settings import ServeError

MOST_WAITING = 10_000
"""Lines; what comes while so many wait to be written is counted and left out."""
LONGEST_PATH = 200
"""Characters. Escaped they are six times as many at most, so a line has a few kilobytes."""
TOKENS = re.compile(r"[\w-]{20,}(?![\w.-])")
"""In a path: addresses that nobody can guess open what a visitor was shown."""
HIDDEN = "***"
STDOUT = "-"

_logger = logging.getLogger(__name__)


class AccessLog:
    """Appends to a file, or to standard output. A file that was moved or taken away, as logrotate does, is begun anew.

    `write` is for the event loop: it never waits.
    """

    def __init__(self, place: str):
        self.lost: Counter[str] = Counter()
        """Lines that were not written, by why."""
        self._path = None if place == STDOUT else Path(place)
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._closed = self._reopens = self._is_failing = False
        self._file = self._opened()
        self._thread = threading.Thread(target=self._work, name="wordmask-access-log", daemon=True)
        self._thread.start()

    def write(self, **fields: Any) -> None:
        """Add a line, which begins with the time."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now.replace("+00:00", "Z"), **fields})  # ASCII: control characters are escaped
        with self._changed:
            if len(self._lines) >= MOST_WAITING:
                self.lost["full"] += 1
                return
            self._lines.append(line)
            self._changed.notify()

    def reopen(self) -> None:
        """Begin the file anew with the next line: for SIGHUP."""
        self._reopens = True  # without the lock, which the interrupted thread may hold

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, within so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._lines))
                lines, self._lines = self._lines, deque()
                ends = self._closed
            if lines:
                self._append(lines)
            if ends:
                if self._path is not None:
                    os.close(self._file)
                return

    def _append(self, lines: deque[str]) -> None:
        try:
            if self._path is not None and (self._reopens or self._was_moved(self._path)):
                self._reopens = False
                opened = self._opened()
                os.close(self._file)
                self._file = opened
            data = memoryview("".join(f"{line}\n" for line in lines).encode())
            while data:
                data = data[os.write(self._file, data) :]
            self._is_failing = False
        except (OSError, ServeError) as error:
            self.lost["unwritable"] += len(lines)
            if not self._is_failing:  # said once, not for each line of a full disk
                _logger.error("the access log cannot be written: %s", error)
            self._is_failing = True

    def _was_moved(self, path: Path) -> bool:
        try:
            there = path.stat()
        except FileNotFoundError:
            return True
        own = os.fstat(self._file)
        return (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino)

    def _opened(self) -> int:
        if self._path is None:
            return sys.stdout.fileno()
        if is_special(self._path):
            raise ServeError(f"--access-log {self._path} is a pipe or a device; give a file, or - for standard output")
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o640)
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise ServeError(f"--access-log {self._path} cannot be written ({reason}); give another file") from error


def shown_path(path: str) -> str:
    """Return a request's path as the log shows it: without its query, without what only its visitor is to know."""
    return TOKENS.sub(HIDDEN, path[: LONGEST_PATH + 1])[:LONGEST_PATH]
