"""Directories of tags: EXIF, and what TIFF is made of."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from wordmask.pictures.costs.limits import CostlyPictureError, at_most

MAX_TAGS = 4096
"""Of a directory, which is libtiff's own limit. TIFF's tags and those that Adobe has registered are about 500."""
MAX_SHARED_BYTES = 2**16
"""That values take beyond the file they lie in: they do not overlap, but for a few that are written once and meant
twice, and Pillow copies all of them out."""
MAX_VALUES = 2**18
"""Of numbers in tags that are no list of pixels' places; Pillow makes an object of each. The colours of a palette of
16 bits are 196,608."""

PRIVATE_TAGS = 32768  # from here on (TIFF 6.0, p. 8); Pillow leaves their values alone
PIXEL_PLACES = (273, 279, 324, 325)  # offsets and sizes of strips and tiles

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # TIFF 6.0, p. 15
_BYTES, _SHORT, _LONG, _LONG8 = (1, 2, 7), 3, 4, 16  # of types: those read as they are, and whole numbers


@dataclass(frozen=True)
class Form:
    """How a file writes its directories."""

    order: str
    is_big: bool
    length: int  # of the file
    read: Callable[[int, int], bytes]


def check_exif(exif: bytes) -> None:
    """Check a block of EXIF, with its six bytes of name or without."""
    block = exif.removeprefix(b"Exif\0\0")
    if len(block) < 8:
        return
    order = ">" if block[:2] == b"MM" else "<"
    form = Form(order, False, len(block), lambda place, count: block[place : place + count])
    check_directory(form, struct.unpack_from(order + "L", block, 4)[0])


def check_directory(form: Form, start: int, *, is_read_whole: bool = False) -> dict[int, tuple[int, int]]:
    """Return the tags of a directory: (how many values, the first of them, or where they lie)."""
    counter, entry, room = ("Q", "HHQ8s", 8) if form.is_big else ("H", "HHL4s", 4)
    head = form.read(start, struct.calcsize(counter))
    if len(head) < struct.calcsize(counter):
        return {}
    entries = struct.unpack(form.order + counter, head)[0]
    one = struct.calcsize("=" + entry)
    if min(entries, form.length // one) > MAX_TAGS:
        at_most(entries, MAX_TAGS, "tags in one directory")
    table = form.read(start + len(head), one * min(entries, MAX_TAGS))
    tags: dict[int, tuple[int, int]] = {}
    copied = numbers = 0
    for tag, kind, count, own in struct.iter_unpack(form.order + entry, table[: len(table) // one * one]):
        size = count * _SIZES.get(kind, 0)
        place = int.from_bytes(own, "big" if form.order == ">" else "little")
        if size > room:
            if place + size > form.length:
                continue  # Pillow reads no such value
            copied += size
        if kind not in _BYTES and tag not in PIXEL_PLACES and (is_read_whole or tag < PRIVATE_TAGS):
            numbers += count
        whole = {_SHORT: "H", _LONG: "L", _LONG8: "Q"}.get(kind)
        inside = size <= room and whole is not None and count
        tags[tag] = count, struct.unpack_from(form.order + str(whole), own)[0] if inside else place
    at_most(numbers, MAX_VALUES, "numbers in its tags")
    if copied > form.length + MAX_SHARED_BYTES:
        raise CostlyPictureError(f"has tags of {copied} bytes in {form.length} bytes")
    return tags
