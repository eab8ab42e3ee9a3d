"""What is said once of many pictures: in Python a warning at the first, in a command a line with a count at its end."""

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FRAMES, DEPTH = "frames", "depth"
_AT_THE_FIRST = {
    FRAMES: "has several frames or pages, and the first is taken",
    DEPTH: "its 16 bits a sample hold fewer, and white is the largest value of those",
}
_AT_THE_END = {
    FRAMES: ("has several frames or pages; the first was taken", "have several frames or pages; the first was taken"),
    DEPTH: (
        "holds 12 bits or so in a file of 16; white is the largest value of those",
        "hold 12 bits or so in files of 16; white is the largest value of those",
    ),
}
_PASSED_OVER = "passed over "
Taken = dict[str, set[bytes]]


class LeftOutWarning(UserWarning):
    """A picture was left out."""


class Notices:
    """Counts pictures of a kind, each once however often it is read; any thread may tell of one.

    While `counting`, nothing is said; else the first picture of each kind is a warning, and the others are not.
    """

    def __init__(self) -> None:
        self.counting = False
        self._seen: Taken = {}
        self._lock = threading.Lock()

    def note(self, kind: str, name: str) -> None:
        with self._lock:
            is_first = kind not in self._seen
            self._seen.setdefault(kind, set()).add(_mark(name))
        if is_first and not self.counting:
            warnings.warn(f"{name}: {_AT_THE_FIRST[kind]} (said of the first such picture only)", stacklevel=3)

    def pass_over(self, path: Path) -> None:
        with self._lock:
            self._seen.setdefault(_PASSED_OVER + path.suffix.lower(), set()).add(_mark(os.fspath(path)))

    def lines(self) -> Iterator[str]:
        """Return what is to be said at the end."""
        for kind, (one, many) in _AT_THE_END.items():
            if count := len(self._seen.get(kind, ())):
                yield f"1 picture {one}" if count == 1 else f"{count} pictures {many}"

    def passed_over(self) -> dict[str, int]:
        """Return how many files with each ending were passed over."""
        kinds = [kind for kind in self._seen if kind.startswith(_PASSED_OVER)]
        return {kind.removeprefix(_PASSED_OVER): len(self._seen[kind]) for kind in kinds}

    def taken(self) -> Taken:
        """Return what was counted in this process, for another to `merge`, and forget it."""
        with self._lock:
            taken, self._seen = self._seen, {}
        return taken

    def merge(self, taken: Taken) -> None:
        with self._lock:
            for kind, marks in taken.items():
                self._seen.setdefault(kind, set()).update(marks)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count instead of warning, from nothing; what was before comes back."""
        before = (self.counting, self._seen)
        self.counting, self._seen = True, {}
        try:
            yield
        finally:
            self.counting, self._seen = before


notices = Notices()
"""Of this process."""


def _mark(name: str) -> bytes:
    return hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
