"""Large pictures of several clients at once: no more wait than can be answered soon, and those that cost most go."""

import threading

from wordmask.app.visits import Visit

MOST_LARGE = 3
"""Large pictures at work or waiting, where they are of several clients: each is a second or more for two processors."""


class Crowd:
    """Who is here with a large picture, from when its size is known until its answer has been taken."""

    def __init__(self, most: int = MOST_LARGE):
        self._most = most
        self._here: dict[Visit, tuple[int, Visit]] = {}  # in the order of their coming
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, visit: Visit, pixels: int) -> Visit | None:
        """Return who has to go, if anybody: of those with most pixels the last to come.

        One client alone waits for itself, however many its pictures are; and the one that came first is at work.
        """
        with self._lock:
            self._here.setdefault(visit, (pixels, visit))
            if len(self._here) <= self._most or len({own.client for _, own in self._here.values()}) == 1:
                return None
            _, *others = self._here.values()
            goes = max(reversed(others), key=lambda own: own[0])[1]
            del self._here[goes]
        return goes

    def leave(self, visit: Visit) -> None:
        with self._lock:
            self._here.pop(visit, None)
