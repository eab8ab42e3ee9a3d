"""How many things there are, found out by a thread that walks ahead of the work."""

import threading
from collections.abc import Iterable
from types import TracebackType


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
