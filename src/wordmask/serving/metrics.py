"""Counters in Prometheus' text format."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAGE_BYTES = 4096
"""The unit of /proc/self/statm on the platforms that have it."""


class Metrics:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[int] = Counter()
        self._totals: defaultdict[str, float] = defaultdict(float)
        self.gauges: dict[str, Callable[[], float]] = {"wordmask_resident_bytes": resident_bytes}
        self.counts: dict[str, Counter[str]] = {}
        """By why."""

    def answered(self, status: int, seconds: float) -> None:
        with self._lock:
            self._answers[status] += 1
            self._totals["wordmask_answer_seconds_sum"] += seconds
            self._totals["wordmask_answer_seconds_count"] += 1

    def batch(self, pictures: int, seconds: float) -> None:
        with self._lock:
            self._totals["wordmask_batches_total"] += 1
            self._totals["wordmask_pictures_total"] += pictures
            self._totals["wordmask_network_seconds_total"] += seconds

    def text(self) -> str:
        with self._lock:
            lines = [f'wordmask_answers_total{{status="{s}"}} {n}' for s, n in sorted(self._answers.items())]
            lines += [f"{name} {value:.12g}" for name, value in sorted(self._totals.items())]
        lines += [
            f'{name}{{why="{why}"}} {n}'
            for name, count in sorted(self.counts.items())
            for why, n in sorted(count.items())
        ]
        lines += [f"{name} {gauge():.12g}" for name, gauge in sorted(self.gauges.items())]
        return "\n".join(lines) + "\n"


def resident_bytes() -> float:
    """Return what this process has in memory; NaN where the system does not say."""
    status = Path("/proc/self/statm")
    return PAGE_BYTES * int(status.read_text().split()[1]) if status.exists() else float("nan")
