"""Batches for segmenters, out of archives and their masks.

What lies at a place of a run's order depends on the seed and the place alone: not on the batch's size, on how it is
shared among threads and processes, or on what came before.
"""

import logging
import multiprocessing
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wordmask.distillation.augmentations import Augmentation, coloured, draw_colours, draw_view, see
from wordmask.distillation.copy_paste import paste
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable
from wordmask.fingerprints import short_digest_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.runs.processes import end_with_parent
from wordmask.training.order import seen_at_one

logger = logging.getLogger(__name__)

AHEAD = 3
"""Batches that are made while one is learnt from."""
MOST_KEPT = 256 * 2**20
"""Bytes of pictures and masks that stay in memory once they were read: a small pile is decoded once."""


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (B, 3, S, S) float in [0, 1]
    labels: Tensor  # (B, S, S) int16
    beside: Tensor | None = None  # (B, D, h, w), what a teacher's own features are there
    maps: tuple[Tensor, ...] = field(default=(), kw_only=True)  # (B, C, h, w) each: what frozen towers say of them


class Kept:
    """What was read of examples, as long as there is room for it."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, ...]] = {}
        self._room = MOST_KEPT

    def get(self, index: int, read: Callable[[int], tuple[Any, ...]]) -> Any:
        if (kept := self._found.get(index)) is not None:
            return kept
        found = read(index)
        size = sum(array.nbytes for array in found if isinstance(array, np.ndarray))
        if index not in self._found and size <= self._room:
            self._room -= size
            self._found[index] = found
        return found


class Examples:
    """The usable masks of some names, each with its name's label."""

    def __init__(self, masks: MaskTable, label_of: Mapping[str, int]):
        self.masks = masks
        rows = {name: masks.rows(name) for name in label_of}
        for name, own in rows.items():
            if not len(own):
                logger.warning("%s has no usable mask for %r: it will not be learnt", masks.folder, name)
        self.rows = np.concatenate([*rows.values(), np.zeros(0, dtype=np.int64)])
        self.labels = np.repeat([label_of[name] for name in rows], [len(own) for own in rows.values()])
        if not len(self.rows):
            raise DistillationError(
                f"{masks.folder} has no usable mask for {', '.join(label_of)}: nothing to learn from; loosen the "
                "masks' filter, or take these names out"
            )
        told = repr((masks.fingerprint(self.rows), self.labels.tolist()))
        self.fingerprint = short_digest_of(told)
        self._kept = Kept()

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the picture (H, W, 3) uint8, its mask (H, W) bool and its label, which nobody may change; the next
        one, with a warning, where this one cannot be read any more.
        """
        return self._kept.get(index, self._read)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        for number in range(index, index + len(self)):
            record: MaskRecord = self.masks[int(self.rows[number % len(self)])]
            try:
                image = self.masks.open_image(record.image)
            except ImageReadError as error:
                logger.warning("left out: %s", error)
                continue
            mask = record.mask()
            if mask.shape != image.shape[:2]:
                logger.warning("left out: %s: it has another size than its mask", record.image)
                continue
            return image, mask, int(self.labels[number % len(self)])
        raise DistillationError(f"none of the pictures of {self.masks.folder} can be read any more")

    def thing(self, labels: Tensor, chance: np.random.Generator, *, ignore: int) -> Tensor | None:
        """Return what of a view (S, S) is pasted elsewhere; None for all that has a name."""
        return None


class Source(Protocol):
    """What batches are made of: `one` at each place of a run's order, and several `together`."""

    ignore: int

    def one(self, place: int) -> Any: ...

    def together(self, made: Sequence[Any]) -> Batch: ...

    def at(self, places: range) -> Batch: ...


class Samples:
    """`samples.at(places)`: what lies at these places of the run's order.

    most_pasted: a picture is made of 1 to so many (the paper's n_max; 1 is without copy-paste).
    """

    def __init__(self, examples: Examples, augmentation: Augmentation, *, most_pasted: int, seed: int, ignore: int):
        self.examples = examples
        self.augmentation = augmentation
        self.most_pasted = most_pasted
        self.seed = seed
        self.ignore = ignore

    def index(self, place: int) -> int:
        """Every example comes once an epoch."""
        return seen_at_one(place, len(self.examples), self.seed)

    def one(self, place: int) -> tuple[Tensor, ...]:
        """(3, S, S) in [0, 1] and its labels (S, S). All choices of the pasted come after those of the picture itself,
        which therefore is the same with copy-paste and without.
        """
        chance = np.random.default_rng((self.seed, place))
        image, labels = self._ground(place, chance)
        for _ in range(int(chance.integers(1, self.most_pasted + 1)) - 1):
            other, other_labels = self._pasted(chance)
            thing = self.examples.thing(other_labels, chance, ignore=self.ignore)
            paste(image, labels, other, other_labels, chance, ignore=self.ignore, thing=thing)
        return image, labels

    def _ground(self, place: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        return self._view(self.index(place), chance)

    def _pasted(self, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        return self._view(int(chance.integers(len(self.examples))), chance)

    def _view(
        self, index: int, chance: np.random.Generator, augmentation: Augmentation | None = None
    ) -> tuple[Tensor, Tensor]:
        image, mask, label = self.examples.read(index)
        chosen = augmentation or self.augmentation
        view = draw_view(chance, mask.shape, chosen)
        pixels, labels = see(image, mask, view, chosen.crop, label=label, ignore=self.ignore)
        return coloured(pixels, draw_colours(chance, chosen)), labels

    def together(self, made: Sequence[tuple[Tensor, ...]]) -> Batch:
        return Batch(*(torch.stack(parts) for parts in zip(*made, strict=True)))

    def at(self, places: range) -> Batch:
        return self.together([self.one(place) for place in places])


def stream(
    samples: Source, batches: Iterable[range], workers: int, *, processes: bool = False
) -> Generator[Batch, None, None]:
    """One batch after the other; with `workers`, so many threads, or processes, make the next ones in the meantime."""
    if workers == 0:
        for places in batches:
            yield samples.at(places)
        return
    with closing(_InProcesses(samples, workers) if processes else _InThreads(samples, workers)) as ahead:
        waiting: deque[Any] = deque()
        for places in batches:
            waiting.append(ahead.start(places))
            if len(waiting) > ahead.most:
                yield ahead.take(waiting.popleft())
        while waiting:
            yield ahead.take(waiting.popleft())


class _InThreads:
    """Which share a batch's pictures. Python lets one of them work at a time, but for what torch and Pillow do."""

    most = AHEAD

    def __init__(self, samples: Source, workers: int):
        self._samples = samples
        # Pictures are shared among threads; that torch shares the work on one among more would only get in the way.
        own = torch.get_num_threads()
        ready = threading.Barrier(workers + 1)
        self._pool = ThreadPoolExecutor(workers, "wordmask-samples", initializer=_alone, initargs=(ready,))
        for _ in range(workers):
            self._pool.submit(int)
        ready.wait()
        torch.set_num_threads(own)

    def start(self, places: range) -> list[Future[Any]]:
        return [self._pool.submit(self._samples.one, place) for place in places]

    def take(self, started: list[Future[Any]]) -> Batch:
        return self._samples.together([future.result() for future in started])

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _alone(ready: threading.Barrier) -> None:
    torch.set_num_threads(1)
    ready.wait()


class _InProcesses:
    """Each of which makes whole batches. They are forked, as those of PyTorch's own loaders: a script needs no guard
    around what it does, and nothing of theirs is on an accelerator.
    """

    def __init__(self, samples: Source, workers: int):
        self.most = workers + AHEAD
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), initializer=_begin_process, initargs=(samples,)
        )

    def start(self, places: range) -> Future[bytes]:
        return self._pool.submit(_made, places)

    def take(self, started: Future[bytes]) -> Batch:
        try:
            made: Batch = pickle.loads(started.result())
        except BrokenProcessPool as error:
            raise DistillationError(
                "a process that prepares pictures was ended, perhaps for want of memory: take fewer of them (workers=4)"
            ) from error
        return made

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


_samples: Source
"""Of a process that makes batches."""


def _begin_process(samples: Source) -> None:
    global _samples
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to all, and only the first is to act on it
    torch.set_num_threads(1)
    _samples = samples


def _made(places: range) -> bytes:
    """Pickled plainly: torch's own way goes through shared memory, of which a container has little."""
    return pickle.dumps(_samples.at(places))
