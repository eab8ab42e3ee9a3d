"""HEIC and HEIF, what phones take their photographs in, by pillow-heif: an extra, imported when such a file is met."""

from collections.abc import Callable
from typing import IO, Any

from wordmask.pictures.lookalikes import HEIC_EXTRA

_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF = frozenset({b"avif", b"avis"})
_ANY = frozenset({b"mif1", b"msf1", b"mif2", b"miaf"})
"""Brands of ISO/IEC 23008-12 that say what the box is, not how its pictures are coded."""


class MissingHeicError(Exception):
    """pillow-heif is not there."""


def is_heic(start: bytes) -> bool:
    """Tell by a file's first bytes, which hold the brands. An AVIF may call itself mif1 too, and names avif."""
    if start[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    return not brands & _AVIF and bool(brands & _HEVC or start[8:12] in _ANY)


def heic_reader() -> Callable[[IO[bytes], str | bytes], Any]:
    """Return pillow-heif's class for Pillow. It is not registered, so nobody else's `Image.open` changes."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingHeicError(f"is a HEIC picture, which needs pillow-heif: {HEIC_EXTRA}") from error
    return HeifImageFile
