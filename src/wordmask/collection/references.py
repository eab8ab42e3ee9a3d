"""Where a picture of a collection is: a file, or a stretch of a tar."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wordmask.collection.stores import content_of, is_in_store, stretch_of
from wordmask.errors import WordmaskError
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import read_image

MOST_PICTURE_BYTES = 256 * 2**20
"""Of a picture in a tar or in a store, where it is read whole."""


class CollectionError(WordmaskError):
    """There are no pictures, or they cannot be told where they are."""


@dataclass(frozen=True)
class ImageRef:
    """Where a picture's bytes are: a file below the collection's root, or a stretch of a tar there."""

    path: str
    member: str | None = None
    offset: int = 0
    length: int = 0

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}::{self.member}"

    def bytes_of(self, root: Path) -> bytes | Path:
        """Return what `read_image` takes: the file's path, or the member's bytes."""
        if is_in_store(root):
            return self._fetched(root)
        if self.member is None:
            return root / self.path
        try:
            with (root / self.path).open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.length)
        except OSError as error:
            raise ImageReadError(str(self), f"cannot be read ({error.strerror or error})") from error
        if len(content) < self.length:
            raise ImageReadError(str(self), "is cut short: the tar ends before it does")
        return content

    def _fetched(self, root: Path) -> bytes:
        """Return the bytes of a picture in an object store. One that does not answer is a `StoreError`."""
        try:
            if self.member is not None:
                return stretch_of(root / self.path, self.offset, self.length)
            content = content_of(root / self.path, most_bytes=MOST_PICTURE_BYTES)
        except FileNotFoundError as error:
            raise ImageReadError(str(self), "there is no such file") from error
        if len(content) > MOST_PICTURE_BYTES:
            raise ImageReadError(str(self), f"has more bytes than the limit of {MOST_PICTURE_BYTES}")
        return content

    def open(self, root: Path, max_pixels: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8"""
        try:
            return read_image(self.bytes_of(root), max_pixels=max_pixels)
        except ImageReadError as error:
            raise ImageReadError(str(self), error.reason) from error
        except OSError as error:
            raise ImageReadError(str(self), f"cannot be read ({error.strerror or error})") from error
