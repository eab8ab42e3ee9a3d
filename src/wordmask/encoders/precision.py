"""Which precision a network computes fastest in on this machine: measured, not told by the instructions that it has.

A small part of the network is timed in each precision that the device offers, once for every processor, torch and
shape, and the times are kept below `cache_dir()`. fp32 gives the papers' figures, so it is left only for what is faster
by more than a tie; and for int8 only where the network's own weights say the same in it.
"""

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar, cast, get_args

import torch

from wordmask.compute import INT8_PACKAGES, Compute, Precision, has_bf16, has_int8, processor
from wordmask.encoders.int8_agreement import Rounded, compute_in_int8
from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.extras import is_installed
from wordmask.files import atomic_write, is_special
from wordmask.fingerprints import digest_of
from wordmask.weights.cache import cache_dir

MARGIN = 0.05
"""Another precision must be faster than fp32 by more than this share of its own time; a tie is fp32's."""
CLOSE = 0.05
"""Times so near to where the choice turns are measured again, if they spread."""
SPREAD = 1.1
"""The middle one of some times over the least of them, from which on something else is at work on the machine."""
BUDGET_SECONDS, MOST_SECONDS = 0.4, 2.0
"""For the rounds of one series, once each precision has had its least; and after which that is let go, too."""
LEAST_ROUNDS, MOST_ROUNDS = 3, 15
MOST_SERIES = 3
FOLDER = "precision"
FORMAT = 2
MOST_BYTES = 1 << 16
"""Of a file of times; one has some hundred."""
_log = logging.getLogger(__name__)

Calls = Mapping[Precision, Callable[[], object]]


@dataclass(frozen=True)
class Sample:
    """A part of a network whose times stand for those of the whole.

    what: the network, for people. shape: all that its times hang on beside the machine. call: from a precision to what
    computes the part once in it, or `NoInt8Error`. in_int8: how much of the whole that it stands for is in int8, where
    that is chosen; the rest takes what it takes in fp32.
    """

    what: str
    shape: str
    call: Callable[[Precision], Callable[[], object]]
    in_int8: float = 1.0


@dataclass(frozen=True)
class Measurement:
    """The least seconds that a part of a network took in each precision. shape: a hash of what its sample says. when:
    the day, in UTC.
    """

    what: str
    seconds: dict[Precision, float]
    machine: str
    shape: str
    when: str

    @property
    def chosen(self) -> Precision:
        return fastest(self.seconds)


def settled(compute: Compute, sample: Callable[[], Sample]) -> Compute:
    """Return what a network is to compute with: as it was said, or else in what the sample of it is fastest. If that is
    int8, its weights have still to be asked: see `confirmed`.
    """
    return replace(compute, precision=MEASURED.of(sample()).chosen, if_same=True) if compute.is_open else compute


Network = TypeVar("Network")


def confirmed(
    network: Network,
    host: Callable[[Network], Rounded],
    chosen: Compute,
    sample: Callable[[], Sample] | None,
    anew: Callable[[Compute], Network],
) -> Network:
    """Return a network that computes in what was chosen, or, if that is int8 and may be given up, in what its weights
    can be trusted in.

    network: with its weights, in single precision if int8 is chosen. sample: what chose it, or None where another
    network of the method did. anew: makes the network with something else.
    """
    if chosen.precision != "int8":
        return network
    try:
        own = host(network)
        agreement = compute_in_int8(own)
    except NoInt8Error as error:
        if not chosen.if_same:
            raise
        _log.debug("int8 is not taken: %s", error)
    else:
        if agreement.is_enough or not chosen.if_same:
            return network
        own.place(None)  # where the same network is used again
        _log.debug("%s: int8 is not taken: it says the same of %.2f%% of patches", agreement.what, 100 * agreement.same)
    others: dict[Precision, float] = {} if sample is None else dict(MEASURED.of(sample()).seconds)
    others.pop("int8", None)
    return anew(replace(chosen, precision=fastest(others) if others else "fp32"))


def fastest(seconds: Mapping[Precision, float]) -> Precision:
    """Return the precision with the least time, or fp32 where that is slower by no more than a tie."""
    best = min(seconds, key=seconds.__getitem__)
    return "fp32" if seconds["fp32"] <= (1 + MARGIN) * seconds[best] else best


def measure(calls: Calls, clock: Callable[[], float] = time.perf_counter) -> dict[Precision, float]:
    """Return the least seconds of each call, of several that take turns.

    Where the choice is a close one and the times of one call spread, as on a machine that has other work, the series
    is repeated: the least of more times comes nearer to what the machine can.
    """
    best, start = dict.fromkeys(calls, math.inf), clock()
    for _ in range(MOST_SERIES):
        taken = _series(calls, clock)
        best = {precision: min(best[precision], *times) for precision, times in taken.items()}
        spread = max(median(times) / max(min(times), 1e-9) for times in taken.values())
        if spread <= SPREAD or not _is_close(best) or clock() - start > MOST_SECONDS:
            break
    return best


def _series(calls: Calls, clock: Callable[[], float]) -> dict[Precision, list[float]]:
    taken: dict[Precision, list[float]] = {precision: [] for precision in calls}
    order, start = list(calls), clock()
    for turn in range(MOST_ROUNDS):
        spent = clock() - start
        if spent > (BUDGET_SECONDS if turn >= LEAST_ROUNDS else MOST_SECONDS):
            break
        for precision in order:
            begin = clock()
            calls[precision]()
            taken[precision].append(clock() - begin)
        order.reverse()  # whoever comes second finds the caches as the first has left them
    return taken


def _is_close(seconds: Mapping[Precision, float]) -> bool:
    others = [own for precision, own in seconds.items() if precision != "fp32"]
    turn = seconds["fp32"] / ((1 + MARGIN) * min(others)) if others else math.inf
    return 1 - CLOSE <= turn <= 1 + CLOSE


class Measured:
    """What is known of this machine, in this process and in a folder that processes share.

    A file holds one measurement and is written whole, so that processes that measure at once do no harm: the last one
    stays. What cannot be read, or is another's, is measured anew. clock: seconds. folder: where the files lie. machine:
    what the times hold for. offered: the precisions that are compared.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        folder: Callable[[], Path] = lambda: cache_dir() / FOLDER,
        machine: Callable[[], str] = lambda: this_machine(),
        offered: Callable[[], Sequence[Precision]] = lambda: offered_here(),
    ):
        self._clock, self._folder, self._machine, self._offered = clock, folder, machine, offered
        self._known: dict[str, Measurement] = {}
        self._anew: ContextVar[list[Measurement] | None] = ContextVar("anew", default=None)
        self._alone = threading.Lock()

    def of(self, sample: Sample) -> Measurement:
        """Return a sample's measurement: one that is known, or a new one."""
        machine, shape = self._machine(), digest_of(sample.shape)
        key = digest_of(json.dumps([FORMAT, machine, shape]))
        anew = self._anew.get()
        with self._alone:  # two at a time would slow each other
            found = self._known.get(key)
            if anew is not None:
                found = next((own for own in anew if (own.machine, own.shape) == (machine, shape)), None)
            elif found is None:
                found = self._read(key, machine, shape)
            if found is None:
                found = self._new(sample, machine)
                self._write(key, found)
            self._known[key] = found
        if anew is not None and found not in anew:
            anew.append(found)
        return found

    @contextmanager
    def anew(self) -> Iterator[list[Measurement]]:
        """Measure whatever is asked for in this block, known or not; yields the list that they are added to."""
        token = self._anew.set([])
        try:
            yield cast(list[Measurement], self._anew.get())
        finally:
            self._anew.reset(token)

    def kept(self) -> list[Measurement]:
        """Return what the folder holds of this machine, as it is now."""
        machine = self._machine()
        try:
            paths = sorted(self._folder().glob("*.json"))
        except (OSError, RuntimeError):
            return []
        found = (self._read(path.stem, machine, None) for path in paths)
        return sorted((own for own in found if own is not None), key=lambda own: (own.what, own.shape))

    def _new(self, sample: Sample, machine: str) -> Measurement:
        begin = time.perf_counter()
        calls: dict[Precision, Callable[[], object]] = {}
        with torch.inference_mode():
            for precision in self._offered():
                try:
                    call = sample.call(precision)
                    call()  # kernels are chosen, and weights laid out for them
                except (RuntimeError, NoInt8Error) as error:
                    if precision == "fp32":
                        raise
                    _log.debug("%s cannot be computed in %s: %s", sample.what, precision, error)
                    continue
                calls[precision] = call
            seconds = measure(calls, self._clock)
        if "int8" in seconds:
            seconds["int8"] = sample.in_int8 * seconds["int8"] + (1 - sample.in_int8) * seconds["fp32"]
        found = Measurement(
            sample.what, seconds, machine, digest_of(sample.shape), datetime.now(UTC).date().isoformat()
        )
        _log.debug(
            "%s: %s chosen of %s, in %.2f s", found.what, found.chosen, found.seconds, time.perf_counter() - begin
        )
        return found

    def _read(self, key: str, machine: str, shape: str | None) -> Measurement | None:
        try:
            path = self._folder() / f"{key}.json"
            if is_special(path) or path.stat().st_size > MOST_BYTES:
                raise ValueError("no file of times")
            found = _measurement(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            # RuntimeError: no home folder, or JSON that is nested without end
            _log.debug("times of %s cannot be read, so they are measured anew: %s", key, error)
            return None
        return found if found.machine == machine and shape in (None, found.shape) else None

    def _write(self, key: str, found: Measurement) -> None:
        try:
            with atomic_write(self._folder() / f"{key}.json") as file:
                file.write(json.dumps({"format": FORMAT, **asdict(found), "chosen": found.chosen}, indent=1).encode())
        except (OSError, RuntimeError) as error:
            _log.debug("times are not kept, so every process measures them: %s", error)


def _measurement(told: Any) -> Measurement:
    """Return what a file says, or raise where that is no measurement."""
    seconds = {precision: float(told["seconds"][precision]) for precision in told["seconds"]}
    usable = all(0 < own < math.inf for own in seconds.values()) and "fp32" in seconds
    if told["format"] != FORMAT or not usable or not set(seconds) <= set(get_args(Precision)):
        raise ValueError("no times of ours")
    words = [str(told[key]) for key in ("what", "machine", "shape", "when")]
    return Measurement(words[0], seconds, *words[1:])


def this_machine() -> str:
    """Return what times hang on beside the network: the processor, its threads, torch."""
    own = processor()
    flags = "unknown" if own.flags is None else " ".join(own.flags)
    capped = {name: value for name in CAPS if (value := os.environ.get(name))}
    told = f"{own.name} ({own.model}); {flags}; {torch.get_num_threads()} threads; torch {torch.__version__}; cpu"
    if all(map(is_installed, INT8_PACKAGES)):
        told += f"; onnxruntime {version('onnxruntime')}"
    return f"{told}; {capped}" if capped else told


def offered_here() -> tuple[Precision, ...]:
    """Return what this machine's processor can compute in; what it would have to emulate is always slower."""
    half: tuple[Precision, ...] = ("bf16",) if has_bf16("cpu") else ()
    return ("fp32", *half, *(("int8",) if has_int8() else ()))


CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_DEFAULT_FPMATH_MODE")
"""Variables that keep torch from instructions of the processor."""
MEASURED = Measured()
"""Whatever this process measures."""
