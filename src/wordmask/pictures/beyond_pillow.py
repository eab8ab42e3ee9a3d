"""What Pillow leaves undone: the lower bytes of colours of 16 bits, how many of these bits are used, libtiff's silence.

Cameras, microscopes and scanners put 10, 12 or 14 bits into files of 16. And libtiff prints what it finds damaged
straight to stderr, past Python and Pillow.
"""

import ctypes
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, Any

import numpy as np
from PIL import Image

_PNG_SIGNATURE_BYTES = 8
_MOST_CHUNKS = 64
"""Before the pixels of a PNG; sBIT is among the first."""
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # TIFF 6.0, section 8
_FEWEST, _MOST = 9, 16
_USUAL = 12
"""Bits of most such cameras and of DICOM."""
_LOWER_BYTES = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Of Pillow's raw modes RGB;16B and the like: the order of bytes with which the lower byte is taken for the upper."""
_SETTERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")
_lock = threading.Lock()
_inside = 0
_before: list[tuple[Any, int | None]] = []


def stated_depth(image: Image.Image) -> int | None:
    """Return the bits of a sample that the file says are used; None where it says nothing (16 alone is the file's own).

    A PNG says so in sBIT, a TIFF in BitsPerSample, where its samples are packed, or in MaxSampleValue.
    """
    depth = None
    if image.format == "PNG":
        file = getattr(image, "fp", None)
        depth = _sbit(file) if file is not None else None
    elif image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        packed, most = _first(tags.get(_BITS_PER_SAMPLE)), _first(tags.get(_MAX_SAMPLE_VALUE))
        depth = packed if packed is not None and packed < _MOST else most.bit_length() if most else None
    elif image.format == "HEIF":
        depth = _MOST  # its reader spreads 10 and 12 bits over 16
    return depth if depth is not None and _FEWEST <= depth <= _MOST else None


def white_of(most: int, stated: int | None) -> int:
    """Return the value that is white, for whole numbers that a 16-bit file holds, the largest of which is `most`.

    What the file states counts, unless its values are larger. Where it states nothing, the picture's largest value
    decides: below 4096, and above 255, it is taken for a picture of 12 bits, and every other for one of 16.
    """
    if stated is not None:
        return 2**stated - 1 if most < 2**stated else 2**_MOST - 1
    return 2**_USUAL - 1 if 255 < most < 2**_USUAL else 2**_MOST - 1


class SixteenBitColours:
    """Colours of 16 bits, of which Pillow keeps the upper byte alone: of 12 bits that leaves 4.

    Made of an image before it is loaded. Where fewer bits are used, the file is decoded again for the lower bytes.
    """

    def __init__(self, image: Image.Image):
        self._reader: Any = type(image)
        self._file: Any = getattr(image, "fp", None)
        self._stated = stated_depth(image)

    def white(self, most: int) -> int:
        """Return the value that is white, where `most` is the largest of the upper bytes."""
        if self._stated is None and not most:
            return 2**_MOST - 1  # nothing but black, or 8 bits in 16, which cannot be told from it
        return white_of(256 * most + 255, self._stated)

    def lower_bytes(self) -> np.ndarray:
        """(H, W, C) uint8"""
        self._file.seek(0)
        again = self._reader(self._file, "")
        again.tile = [tile._replace(args=_with_lower_bytes(tile.args)) for tile in again.tile]
        return np.asarray(again)


def has_sixteen_bit_colours(image: Image.Image) -> bool:
    """Tell before it is loaded, and of images from files alone."""
    tiles = getattr(image, "tile", ()) if getattr(image, "fp", None) is not None else ()
    return image.mode in ("RGB", "RGBA") and bool(tiles) and all(_raw_mode(t.args)[:-1] in _RAW_MODES for t in tiles)


_RAW_MODES = ("RGB;16", "RGBA;16")


def _raw_mode(args: Any) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with_lower_bytes(args: Any) -> Any:
    mode = _raw_mode(args)
    lower = mode[:-1] + _LOWER_BYTES[mode[-1]]
    return (lower, *args[1:]) if isinstance(args, tuple) else lower


def _sbit(file: IO[bytes]) -> int | None:
    place = file.tell()
    try:
        file.seek(_PNG_SIGNATURE_BYTES)
        for _ in range(_MOST_CHUNKS):
            header = file.read(8)
            if len(header) < 8:
                return None
            length, kind = struct.unpack(">I4s", header)
            if kind == b"sBIT":
                return max(file.read(min(length, 4)), default=None)
            if kind == b"IDAT":
                return None
            file.seek(length + 4, 1)  # the chunk and its checksum
        return None
    finally:
        file.seek(place)


def _first(value: object) -> int | None:
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else None


@contextmanager
def silent_libtiff() -> Iterator[None]:
    """Take libtiff's handlers away for as long as any thread is inside; then they are as before.

    Where the symbols cannot be found (a Pillow that holds libtiff hidden inside itself, as on Windows), nothing is
    done, and libtiff still prints.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _before[:] = [(setter, setter(None)) for setter in _setters()]
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for setter, handler in _before:
                    setter(handler)


@cache
def _setters() -> tuple[Any, ...]:
    """Found through Pillow's own extension: whichever libtiff that is linked to, its wheel's or the system's."""
    try:
        from PIL import _imaging

        library = ctypes.CDLL(_imaging.__file__)
        setters = [getattr(library, name) for name in _SETTERS]
    except (ImportError, OSError, AttributeError):
        return ()
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return tuple(setters)
