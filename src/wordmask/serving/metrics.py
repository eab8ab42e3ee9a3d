"""Counters, gauges and histograms in Prometheus' text format.

Labels are of our own making only (statuses, methods of this service, reasons), so that no client can make more series.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAGE_BYTES = 4096
"""The unit of /proc/self/statm on the platforms that have it."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of histograms of seconds: Prometheus' usual ones, up to what an answer may take."""
PICTURES = (1, 2, 4, 8, 16, 32, 64)
"""Bounds of the histogram of batches."""
NO_METHOD = "none"
"""The label of answers for which no method was asked: the page, /docs, refusals."""
HELP = {
    "wordmask_answers_total": "Answers by HTTP status, the page's too.",
    "wordmask_answer_seconds": "Seconds from a request's head to the beginning of its answer.",
    "wordmask_network_seconds": "Seconds that the network took for a batch.",
    "wordmask_batch_pictures": "Pictures that the network looked at together.",
    "wordmask_batches_total": "Batches that the network has looked at.",
    "wordmask_pictures_total": "Pictures that the network has looked at.",
    "wordmask_network_seconds_total": "Seconds that the network has worked.",
    "wordmask_connections_ended_total": "Connections that the service ended, by why.",
    "wordmask_access_log_lost_total": "Lines of the access log that were not written, by why.",
    "wordmask_ready": "1 where /readyz says that the service is ready, else 0.",
    "wordmask_waiting": "Pictures that wait for the network.",
    "wordmask_in_flight": "Requests that are whole and being answered.",
    "wordmask_arriving": "Bodies of requests that are on their way.",
    "wordmask_body_bytes": "Bytes of bodies that arrive or wait to be read.",
    "wordmask_picture_bytes": "Bytes of decoded pictures, and of answers until they are taken.",
    "wordmask_connections": "Open connections.",
    "wordmask_resident_bytes": "Memory of this process, in bytes.",
    "wordmask_page_cache_bytes": "Bytes that the page keeps of pictures it has seen.",
    "wordmask_page_upload_bytes": "Bytes of uploads of the page that wait to be looked at.",
}


class Histogram:
    """Observations counted below each of some bounds, for each method apart."""

    def __init__(self, bounds: Sequence[float], methods: Sequence[str]):
        self.bounds = bounds
        self._counts = {method: [0] * (len(bounds) + 1) for method in methods}
        self._sums = dict.fromkeys(methods, 0.0)

    def observe(self, method: str, value: float) -> None:
        """Count a value of a method, one of those that the histogram was made with."""
        self._counts[method][bisect_left(self.bounds, value)] += 1
        self._sums[method] += value

    @property
    def count(self) -> int:
        return sum(map(sum, self._counts.values()))

    @property
    def sum(self) -> float:
        return sum(self._sums.values())

    def lines(self, name: str) -> list[str]:
        lines = []
        for method, counts in self._counts.items():
            label, below = f'method="{escaped(method)}"', 0
            for bound, count in zip((*map(_number, self.bounds), "+Inf"), counts, strict=True):
                below += count
                lines.append(f'{name}_bucket{{{label},le="{bound}"}} {below}')
            lines += [f"{name}_sum{{{label}}} {_number(self._sums[method])}", f"{name}_count{{{label}}} {below}"]
        return lines


class Metrics:
    def __init__(self, methods: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._histograms = {
            "wordmask_answer_seconds": Histogram(SECONDS, [*methods, NO_METHOD]),
            "wordmask_network_seconds": Histogram(SECONDS, methods),
            "wordmask_batch_pictures": Histogram(PICTURES, methods),
        }
        self.gauges: dict[str, Callable[[], float]] = {"wordmask_resident_bytes": resident_bytes}
        self.counts: dict[str, Counter[str]] = {}
        """By why."""

    def answered(self, status: int, seconds: float, method: str | None = None) -> None:
        """Count an answer. method: one of the service's, or None where none was asked."""
        with self._lock:
            self._answers[str(status)] += 1
            self._histograms["wordmask_answer_seconds"].observe(method or NO_METHOD, seconds)

    def batch(self, method: str, pictures: int, seconds: float) -> None:
        with self._lock:
            self._histograms["wordmask_batch_pictures"].observe(method, pictures)
            self._histograms["wordmask_network_seconds"].observe(method, seconds)

    def text(self) -> str:
        with self._lock:
            batches, seconds = (self._histograms[f"wordmask_{own}"] for own in ("batch_pictures", "network_seconds"))
            totals = {
                "wordmask_batches_total": batches.count,
                "wordmask_pictures_total": batches.sum,
                "wordmask_network_seconds_total": seconds.sum,
            }
            lines = _counted("wordmask_answers_total", "status", self._answers)
            for name, total in totals.items():
                lines += [*_head(name, "counter"), f"{name} {_number(total)}"]
            for name, histogram in self._histograms.items():
                lines += [*_head(name, "histogram"), *histogram.lines(name)]
        for name, count in sorted(self.counts.items()):
            lines += _counted(name, "why", count)
        for name, gauge in sorted(self.gauges.items()):
            lines += [*_head(name, "gauge"), f"{name} {_number(gauge())}"]
        return "\n".join(lines) + "\n"


def escaped(label: str) -> str:
    """Return a label's value as the format wants it: a student is called as its file, which may be called anything."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}"]


def _counted(name: str, label: str, counts: Counter[str]) -> list[str]:
    lines = [f'{name}{{{label}="{escaped(value)}"}} {count}' for value, count in sorted(counts.copy().items())]
    return [*_head(name, "counter"), *lines]


def _number(value: float) -> str:
    return f"{value:.12g}"


def resident_bytes() -> float:
    """Return what this process has in memory; NaN where the system does not say."""
    status = Path("/proc/self/statm")
    return PAGE_BYTES * int(status.read_text().split()[1]) if status.exists() else float("nan")
