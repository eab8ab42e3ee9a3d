"""Pictures that the web page has seen, kept so that other names need no network; the oldest go when memory is short."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wordmask.masks.segmentation import Segmentation
from wordmask.segmenters.base import Seen


@dataclass
class Looked:
    """A picture of one visitor: what each method saw of it, and the answers that are on the screen."""

    image: np.ndarray  # (H, W, 3) uint8
    name: str = "picture"
    seen: dict[str, Seen] = field(default_factory=dict)
    shown: list[Segmentation] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def nbytes(self) -> int:
        return sum({id(array): nbytes for array, nbytes in _arrays((self.image, self.seen, self.shown))}.values())


class Sessions:
    """By the tokens of their uploads, each as good as a key: nobody can guess it."""

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, tuple[Looked, int]] = OrderedDict()
        self._lock = threading.RLock()

    def add(self, token: str, looked: Looked) -> None:
        with self._lock:
            self._kept[token] = (looked, 0)
        self.update(token)

    def get(self, token: str) -> Looked | None:
        with self._lock:
            if token not in self._kept:
                return None
            self._kept.move_to_end(token)
            return self._kept[token][0]

    def update(self, token: str) -> None:
        """Count a picture anew; let the oldest go, but never the newest."""
        with self._lock:
            if token in self._kept:
                looked = self._kept[token][0]
                self._kept[token] = (looked, looked.nbytes)
            while len(self._kept) > 1 and self.nbytes > self._most_bytes:
                self._kept.popitem(last=False)

    def drop(self, token: str) -> None:
        with self._lock:
            self._kept.pop(token, None)

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(nbytes for _, nbytes in self._kept.values())


def _arrays(thing: Any, depth: int = 6) -> Iterator[tuple[int, int]]:
    """Every array and tensor that hangs on a thing, but for those of the segmenter that it came from."""
    if isinstance(thing, np.ndarray):
        yield id(thing), thing.nbytes
    elif isinstance(thing, torch.Tensor):
        yield id(thing), thing.untyped_storage().nbytes()
    elif depth and isinstance(thing, dict):
        for value in thing.values():
            yield from _arrays(value, depth - 1)
    elif depth and isinstance(thing, list | tuple):
        for value in thing:
            yield from _arrays(value, depth - 1)
    elif depth and isinstance(thing, Seen | Segmentation):
        yield from _arrays(vars(thing), depth - 1)
