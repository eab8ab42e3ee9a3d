"""What requests hold, bounded for all together and for each client.

Requests of the web page and of the REST interface share one budget. Who finds no room may wait for it, the clients by
turns and what costs little before what costs much, so that one who asks for much keeps the others waiting little.
"""

import threading
import time
from bisect import insort
from collections import Counter
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from wordmask.serving.settings import RequestError

SMALL = 16
"""Who needs less than this part of all does not wait behind one who needs much."""
PATIENCE = 2.0
"""Seconds after which others no longer overtake one who waits for much, but for those who need little."""
IS_SHORT = 1.0
"""Seconds that somebody must have waited for room, for those who need it less to give theirs."""


class Budget:
    """So many units (bytes, or places to work at) for all, and so many of them for one client at most.

    Who waits goes in the order of coming, but that a client's next one comes when its last one went at the earliest,
    and that what has a handicap comes so much later.
    """

    def __init__(self, total: int, most_of_one: int):
        self.total, self.most_of_one = total, most_of_one
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, list[_Wish]] = {}  # no line is empty
        self._went: dict[str, float] = {}  # when the last one of those who wait went
        self._lock = threading.Lock()
        self._closed: RequestError | None = None

    @property
    def held(self) -> int:
        with self._lock:
            return self._held.total()

    def held_by(self, client: str) -> int:
        with self._lock:
            return self._held[client]

    def waiting_of(self, client: str) -> int:
        with self._lock:
            return sum(not wish.granted.cancelled() for wish in self._waiting.get(client, ()))

    def who_is_in_the_way(self) -> str | None:
        """Return the client that holds most, where somebody has waited for room; None where nobody has."""
        with self._lock:
            waiting = any(line[0].has_waited > IS_SHORT for line in self._waiting.values())
            return self._held.most_common(1)[0][0] if waiting and self._held else None

    def claim(self, client: str) -> "Claim":
        return Claim(self, client)

    def close(self, reason: RequestError) -> None:
        """Nobody waits any longer, now or later."""
        with self._lock:
            self._closed = reason
            wishes = [wish for line in self._waiting.values() for wish in line]
            self._waiting.clear()
            self._went.clear()
        for wish in wishes:
            if wish.granted.set_running_or_notify_cancel():
                wish.granted.set_exception(reason)

    def _fits(self, client: str, more: int) -> bool:
        return self._held.total() + more <= self.total and self._held[client] + more <= self.most_of_one

    def _take(self, claim: "Claim", more: int) -> bool:
        with self._lock:
            if claim.is_closed or not self._fits(claim.client, more):
                return False
            self._hold(claim, more)
        return True

    def _keep(self, claim: "Claim", held: int, *, closes: bool = False) -> None:
        with self._lock:
            claim.is_closed |= closes
            self._hold(claim, (0 if claim.is_closed else held) - claim.held)
            granted = self._grant()
        _tell(granted)

    def _wish(self, claim: "Claim", more: int, handicap: float) -> "Future[None]":
        if more > min(self.total, self.most_of_one):
            raise ValueError(f"{more} of {self.total} are never free")
        with self._lock:
            if self._closed is not None:
                raise self._closed
            line = self._waiting.setdefault(claim.client, [])
            wish = _Wish(claim, more, handicap)
            insort(line, wish, key=lambda own: own.since + own.handicap)
            granted = self._grant()
        _tell(granted)
        return wish.granted

    def _hold(self, claim: "Claim", more: int) -> None:
        claim.held += more
        self._held[claim.client] += more
        if not self._held[claim.client]:
            del self._held[claim.client]

    def _grant(self) -> "list[_Wish]":
        """Those who may go on now: a client's first before another's second."""
        granted: list[_Wish] = []
        while wish := self._next():
            client = wish.claim.client
            self._waiting[client].pop(0)
            self._went[client] = time.monotonic()
            if not self._waiting[client]:
                del self._waiting[client], self._went[client]
            if wish.granted.set_running_or_notify_cancel():
                self._hold(wish.claim, wish.more)
                granted.append(wish)
        return granted

    def _next(self) -> "_Wish | None":
        most = self.total
        first = {client: line[0] for client, line in self._waiting.items()}
        came = {client: max(wish.since, self._went.get(client, 0.0)) for client, wish in first.items()}
        for client, wish in sorted(first.items(), key=lambda own: came[own[0]] + own[1].handicap):
            if wish.granted.cancelled() or (wish.more <= most and self._fits(client, wish.more)):
                return wish
            elif wish.has_waited > PATIENCE and self._held[client] + wish.more <= self.most_of_one:
                most = self.total // SMALL  # what goes is kept for this one
        return None


class Claim:
    """What one request holds of a budget; nothing when it is closed, be there threads that go on with its work."""

    def __init__(self, budget: Budget, client: str):
        self.budget, self.client, self.held = budget, client, 0
        self.is_closed = False

    def take(self, more: int) -> bool:
        """If there is room for it now."""
        return self.budget._take(self, more)

    def wait_for(self, more: int, *, handicap: float = 0.0) -> "Future[None]":
        """Done when there is room for so much more, and then it is held. Whoever gives up cancels it.

        handicap: seconds, for what costs much.
        """
        return self.budget._wish(self, more, handicap)

    def keep(self, held: int) -> None:
        """Hold so much, be there room or not: it is there already."""
        self.budget._keep(self, held)

    def close(self) -> None:
        self.budget._keep(self, 0, closes=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _tell(granted: "list[_Wish]") -> None:
    """Without the lock: what hangs on a future runs here."""
    for wish in granted:
        wish.granted.set_result(None)


class _Wish:
    def __init__(self, claim: Claim, more: int, handicap: float):
        self.claim, self.more, self.handicap = claim, more, handicap
        self.granted: Future[None] = Future()
        self.since = time.monotonic()

    @property
    def has_waited(self) -> float:
        return time.monotonic() - self.since
