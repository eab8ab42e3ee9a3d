"""What each kind of hostile request costs the service, one kind after the other.

python benchmarks/attack_costs.py [--seconds 2] [--method maskclip] [--preset world] [--kind "many small chunks" ...]

Starts `wordmask serve`, page and all, as `attack_service.py` does, and sends each kind in turn, one request after the
other, for some seconds. Prints, of each, the milliseconds of a processor that one call of it takes from the thread of
the event loop, from the service's other threads and from its decoders, and how long `/healthz` had to wait at most
meanwhile: that is how long the event loop answered nobody. The most expensive kind comes first; the last line is their
mean, which is what a call of an attack costs that takes all kinds equally often. Kinds that hold connections stay for
seconds, and are left out but where they are named.

Processor times are told apart from waiting by the system, so other work on the machine blurs them little.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from attack_service import Service, ask, spent
from attacks import HOLDERS, KINDS, Target

from wordmask.html_page import text_table

LEAST, QUIET = 3, 0.1
"""Calls of a kind at least; seconds in which the service does next to nothing when it is done with one."""
LONGEST = 60.0
"""Seconds to wait for that."""
LOOK_EVERY = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="For each kind.")
    parser.add_argument("--method", default="maskclip")
    parser.add_argument("--preset", default="world")
    parser.add_argument("--kind", action="append", help="Only this kind; may be repeated.")
    arguments = parser.parse_args()
    kinds = {name: own for name, own in {**KINDS, **HOLDERS}.items() if name in (arguments.kind or KINDS)}
    with tempfile.TemporaryDirectory() as folder:
        service = Service(["--method", arguments.method, "--preset", arguments.preset], Path(folder) / "log")
        try:
            of_looking = looking(service, max(1.0, arguments.seconds))
            found = {name: cost(service, own, arguments.seconds, of_looking) for name, own in kinds.items()}
        finally:
            service.process.kill()
    rows = [[name, *own.told] for name, own in sorted(found.items(), key=lambda own: -own[1].whole)]
    mean = [sum(part) / len(found) for part in zip(*(own.parts for own in found.values()), strict=True)]
    rows.append(["mean of all", "", *(f"{own:.1f}" for own in mean), ""])
    print(text_table(["kind", "calls", "loop, ms", "other threads", "decoders", "healthz waited"], rows))


@dataclass
class Cost:
    """parts: milliseconds a call, of the event loop's thread, the service's others, and its decoders."""

    calls: int
    parts: tuple[float, float, float]
    waited: float

    @property
    def whole(self) -> float:
        return sum(self.parts)

    @property
    def told(self) -> list[str]:
        return [str(self.calls), *(f"{part:.1f}" for part in self.parts), f"{1000 * self.waited:.0f} ms"]


def cost(service: Service, own, seconds: float, of_looking: float) -> Cost:
    target = Target(service.port, "127.0.0.2", random.Random(0))
    process = psutil.Process(service.process.pid)
    with suppress(OSError):
        own(target)  # what it keeps is made once
    settled(process)
    before, waiting, calls = spent(process), Waiting(service), 0
    end = time.monotonic() + seconds
    while calls < LEAST or time.monotonic() < end:
        with suppress(OSError):
            own(target)
        calls += 1
    waited = waiting.end()
    after = settled(process)
    loop, other, decoders = (1000 * (now - then) / calls for now, then in zip(after, before, strict=True))
    return Cost(calls, (loop - 1000 * of_looking * waiting.count / calls, other, decoders), waited)


def looking(service: Service, seconds: float) -> float:
    """Return the seconds of the event loop that one look at /healthz takes."""
    process = psutil.Process(service.process.pid)
    before, waiting = settled(process), Waiting(service)
    time.sleep(seconds)
    waiting.end()
    return (settled(process)[0] - before[0]) / waiting.count


def settled(process: psutil.Process) -> tuple[float, float, float]:
    """Return `spent` when it grows no longer."""
    deadline = time.monotonic() + LONGEST
    now = spent(process)
    while time.monotonic() < deadline:
        time.sleep(QUIET)
        before, now = now, spent(process)
        if sum(now) - sum(before) < QUIET / 4:
            break
    return now


class Waiting:
    """Asks for /healthz again and again, and keeps the longest time that it took."""

    def __init__(self, service: Service):
        self._service, self._longest, self._is_over = service, 0.0, threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._is_over.wait(LOOK_EVERY):
            self.count += 1
            self._longest = max(self._longest, ask(self._service, "GET", "/healthz").seconds)

    def end(self) -> float:
        self._is_over.set()
        self._thread.join()
        return self._longest


if __name__ == "__main__":
    sys.exit(main())
