"""The voted masks of all pictures that SelfMask learns from: made once, by as many processes as there are cores."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle
from pydantic import TypeAdapter

from wordmask.console.progress import Progress
from wordmask.files import atomic_write
from wordmask.runs.claim import claimed
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.records import check_settings
from wordmask.runs.shards import make_shards
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
IDENTITY = ("pictures", "networks", "settings")
"""What the list in a folder's settings.json says, in this order."""


class VoteStore:
    """The voted masks of a run's pictures, as COCO RLE in files of a few; what is there is not done again."""

    def __init__(self, folder: Path, pictures: Pictures, voters: VotedMasks):
        self.folder, self.pictures, self.voters = folder, pictures, voters
        told = TypeAdapter(VotingSettings).dump_python(voters.settings, mode="json")
        encoders = [(encoder.name, fingerprint(encoder.model)) for encoder in voters.encoders]
        self.identity = json.dumps([pictures.fingerprint, encoders, told], sort_keys=True)
        with self._claimed():
            self._keep_identity(folder / "settings.json")

    def _keep_identity(self, path: Path) -> None:
        if not path.exists():
            with atomic_write(path) as file:
                file.write(self.identity.encode())
            return
        found, asked = read_json(path, way_out=ANEW), json.loads(self.identity)
        if not isinstance(found, list) or len(found) != len(IDENTITY):
            raise SaliencyError(f"{path}: is damaged, it holds no settings of votes; {ANEW}")
        check_settings(
            dict(zip(IDENTITY, found, strict=True)),
            dict(zip(IDENTITY, asked, strict=True)),
            holds=f"{self.folder} holds masks",
            error=SaliencyError,
            way_out="or choose another folder",
        )

    def complete(self, *, workers: int = 1, progress: Progress | None = None, say: Say = warn) -> None:
        """Vote for every picture that has no mask yet, in this process or in several. say: is told of damaged files."""
        with self._claimed():
            parts = Parts(say)
            make_shards(
                range(-(-len(self.pictures) // BLOCK)),
                self.write,
                is_made=lambda number: parts.whole(self._path(number)),
                weight=self._size,
                workers=workers,
                prepare=_take_one_thread,
                progress=progress,
            )

    def _claimed(self) -> AbstractContextManager[None]:
        return claimed(self.folder, VOTES, was_ours=is_votes, error=SaliencyError)

    def mask(self, index: int, image: np.ndarray) -> np.ndarray:
        """Return the mask (H, W) bool of a picture."""
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
        """Write the masks of one block."""
        entries = []
        for index in range(number * BLOCK, number * BLOCK + self._size(number)):
            _, image = self.pictures.readable(index)
            [soft] = self.voters.maps([image])
            coded = rle.encode(np.asfortranarray(soft > 0.5, dtype=np.uint8))
            entries.append({"size": list(image.shape[:2]), "counts": coded["counts"].decode()})
        with write_part(self._path(number)) as file:
            file.write(json.dumps(entries).encode())

    def _size(self, number: int) -> int:
        return min(BLOCK, len(self.pictures) - number * BLOCK)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def _take_one_thread() -> None:
    """Of the processor: the processes are as many as its cores."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
