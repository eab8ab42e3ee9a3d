"""The voted masks of all pictures that SelfMask learns from: made once, by as many processes as there are cores."""

import json
import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle
from pydantic import TypeAdapter

from wordmask.files import atomic_write
from wordmask.runs.claim import claimed
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.processes import end_with_parent
from wordmask.saliency.base import SaliencyError
from wordmask.saliency.spectral_voting import VotedMasks, VotingSettings
from wordmask.text_files import read_json
from wordmask.training.claim import VOTES, is_votes
from wordmask.training.pictures import Pictures
from wordmask.weights.loading import fingerprint

BLOCK = 32
"""Voted masks a file: all that a kill can cost each process."""
MOST_BYTES = 2**28
"""Of a file of voted masks: 32 of pictures of many megapixels."""
ANEW = "delete it and run again"

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is to do."""


class VoteStore:
    """The voted masks of a run's pictures, as COCO RLE in files of a few; what is there is not done again."""

    def __init__(self, folder: Path, pictures: Pictures, voters: VotedMasks):
        self.folder, self.pictures, self.voters = folder, pictures, voters
        told = TypeAdapter(VotingSettings).dump_python(voters.settings, mode="json")
        encoders = [(encoder.name, fingerprint(encoder.model)) for encoder in voters.encoders]
        self.identity = json.dumps([pictures.fingerprint, encoders, told], sort_keys=True)
        claim = folder / "settings.json"
        with self._claimed():
            if not claim.exists():
                with atomic_write(claim) as file:
                    file.write(self.identity.encode())
            elif read_json(claim, way_out=ANEW) != json.loads(self.identity):
                raise SaliencyError(
                    f"{folder} holds masks of other pictures, networks or settings: choose another folder"
                )

    def complete(self, *, workers: int = 1, progress: Progress | None = None, say: Say = warn) -> None:
        """Vote for every picture that has no mask yet, in this process or in several. say: is told of damaged files."""
        with self._claimed():
            self._complete(workers, progress, Parts(say))

    def _claimed(self) -> AbstractContextManager[None]:
        return claimed(self.folder, VOTES, was_ours=is_votes, error=SaliencyError)

    def _complete(self, workers: int, progress: Progress | None, parts: Parts) -> None:
        blocks = range(-(-len(self.pictures) // BLOCK))
        missing = [number for number in blocks if not parts.whole(self._path(number))]
        done = sum(self._size(number) for number in blocks) - sum(self._size(number) for number in missing)
        if progress:
            progress(done, len(self.pictures))
        for number in self._written(missing, min(workers, len(missing))):
            done += self._size(number)
            if progress:
                progress(done, len(self.pictures))

    def mask(self, index: int, image: np.ndarray) -> np.ndarray:
        """The mask (H, W) bool of a picture."""
        number, place = divmod(index, BLOCK)
        path = self._path(number)
        entries = read_json(path, most_bytes=MOST_BYTES, way_out=ANEW)
        try:
            size, counts = entries[place]["size"], entries[place]["counts"].encode()
        except (LookupError, TypeError, AttributeError) as error:
            raise SaliencyError(f"{path}: is damaged, it holds no mask {index}; {ANEW}") from error
        if size != list(image.shape[:2]):
            raise SaliencyError(f"{path}: mask {index} is not of its picture's size; {ANEW}")
        decoded: np.ndarray = rle.decode({"size": size, "counts": counts})
        return decoded.astype(bool)

    def write(self, number: int) -> None:
        """The masks of one block."""
        entries = []
        for index in range(number * BLOCK, number * BLOCK + self._size(number)):
            _, image = self.pictures.readable(index)
            [soft] = self.voters.maps([image])
            coded = rle.encode(np.asfortranarray(soft > 0.5, dtype=np.uint8))
            entries.append({"size": list(image.shape[:2]), "counts": coded["counts"].decode()})
        with write_part(self._path(number)) as file:
            file.write(json.dumps(entries).encode())

    def _written(self, numbers: Iterable[int], workers: int) -> Iterator[int]:
        """Each block's number as soon as it is on the disk."""
        if workers <= 1:
            for number in numbers:
                self.write(number)
                yield number
            return
        context = multiprocessing.get_context("spawn")
        told = pickle.dumps(self)  # plainly: torch's own way would share its memory with this process
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_work, initargs=(told,)) as pool:
            waiting = {pool.submit(_write_block, number): number for number in numbers}
            try:
                for future in as_completed(waiting):
                    future.result()
                    yield waiting[future]
            except BrokenProcessPool as error:
                raise SaliencyError(
                    "a process that votes died (was there memory enough?): start again, with fewer workers"
                ) from error
            finally:
                for future in waiting:
                    future.cancel()

    def _size(self, number: int) -> int:
        return min(BLOCK, len(self.pictures) - number * BLOCK)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


_store: VoteStore | None = None
"""In a process that votes: what it votes for."""


def _begin_work(told: bytes) -> None:
    from threadpoolctl import threadpool_limits

    global _store
    end_with_parent()
    torch.set_num_threads(1)  # the processes are as many as the cores
    threadpool_limits(1)
    _store = pickle.loads(told)


def _write_block(number: int) -> None:
    assert _store is not None
    _store.write(number)
