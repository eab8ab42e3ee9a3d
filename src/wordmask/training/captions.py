"""Pictures with captions to learn from, of webdataset tars: no labels, no masks."""

import logging
from pathlib import Path

import numpy as np

from wordmask.collection.piles import TarPile, open_pile
from wordmask.collection.references import ImageRef
from wordmask.fingerprints import digest_of_lines, short_digest_of
from wordmask.text_files import counted
from wordmask.training.errors import TrainingError
from wordmask.training.order import shuffled
from wordmask.training.pictures import Pictures

logger = logging.getLogger(__name__)


class CaptionedPictures(Pictures):
    """The pictures of tars that have a caption, by number; a picture with several captions lies there once for each.

    most: if there are more, so many of them, chosen at random by the seed.
    """

    def __init__(self, path: Path, most: int | None = None, seed: int = 0):
        self._made_of = (path, most, seed)
        pile = open_pile(path)
        if not isinstance(pile, TarPile):
            raise TrainingError(f"{path} holds no webdataset tars: captions are read from 000000.jpg, .txt and .json")
        self._root = pile.root
        self._refs: list[ImageRef] = []
        self.captions: list[str] = []
        without, bad = 0, 0
        for part in pile.parts():
            pictures, left_out = part.load()
            bad += len(left_out)
            for picture in pictures:
                caption = " ".join(str(picture.told.get("caption", "")).split())
                if caption:
                    self._refs.append(picture.ref)
                    self.captions.append(caption)
                else:
                    without += 1
        if without or bad:
            lacking, unread = counted(without, "picture"), counted(bad, "unreadable member")
            logger.warning("left out of %s: %s without a caption, %s", path, lacking, unread)
        if not self._refs:
            raise TrainingError(f"{path} has no captions to learn from: samples are 000000.jpg beside .txt or .json")
        told = digest_of_lines(
            f"{ref} {ref.length} {text}" for ref, text in zip(self._refs, self.captions, strict=True)
        )
        if most is not None and most < len(self._refs):
            chosen = np.sort(shuffled(np.arange(len(self._refs)), seed, 0)[:most])
            self._refs = [self._refs[i] for i in chosen]
            self.captions = [self.captions[i] for i in chosen]
            told += f" {most} of them by seed {seed}"
        self.fingerprint = short_digest_of(told)

    def __reduce__(self) -> tuple[type["CaptionedPictures"], tuple[Path, int | None, int]]:
        return CaptionedPictures, self._made_of

    def __len__(self) -> int:
        return len(self._refs)

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8"""
        return self._refs[index].open(self._root)
