"""What JPEG files cost, and directories of tags (EXIF, what TIFF is made of); and the error of what costs too much."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np


class CostlyPictureError(ValueError):
    """A picture that would cost far more than its pixels: the message says what there is too much of."""


def at_most(count: float, limit: int, what: str) -> None:
    if count > limit:
        raise CostlyPictureError(f"has more than {limit} {what}")


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


MAX_JPEG_SCANS = 100
"""As many as libjpeg's own tools take from a script of scans (its `rdswitch.c`). Its own script has 10."""
MAX_JPEG_SCAN_SAMPLES = 4_000_000_000
"""Samples gone through in all scans together; about two seconds for libjpeg where the scans are empty. Thirteen times
100 million pixels of three full channels; libjpeg's own script goes through them five times."""
MAX_JPEG_SEGMENTS = 4096
"""Before the first scan, and again between the others. Profiles and extended XMP come in segments of 64 kB; these are
256 MB of them."""
MAX_JPEG_EXIF_SEGMENTS = 16
"""EXIF has 64 kB and so one segment; Pillow joins them one by one, which takes the square of their number."""
MAX_JPEG_STRAY_BYTES = 2**18
"""Fill bytes, or none of a marker, before the first scan, where Pillow takes them one by one in Python; and fill bytes
in one run after that, which it feeds to libjpeg again from their first one with every 64 kB. Cameras that align their
headers need 64 kB at most."""

_BLOCK = 2**20  # bytes looked at together

_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_SIZED_BEFORE_SCANS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE}) - {0xC8}
_BARE_BEFORE_SCANS = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
"""Markers with and without a length, as Pillow reads them. It refuses all others."""
_SIZED_BETWEEN_SCANS = frozenset({0xC4, 0xCC, *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE})
"""Markers with a length, as libjpeg reads them after the first scan. It refuses others that are not bare."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_OF_NOTE = np.ones(256, bool)
_OF_NOTE[[0x00, 0xFF, *range(0xD0, 0xD8)]] = False  # what may follow 0xFF between the bits of a scan


def check_jpeg(file: IO[bytes]) -> None:
    header = _read_jpeg_header(file)
    if header is None:
        return  # Pillow will say what is wrong
    first_scan, shares, samples = header
    # Most files need no more than this. Between the bits of a scan the two bytes are a marker and nothing else.
    most, filled = _survey(file, first_scan)
    if filled is None and most <= MAX_JPEG_SCANS and most * samples <= MAX_JPEG_SCAN_SAMPLES:
        return
    scans, gone_through, segments = 0, 0.0, 0
    find = _jpeg_markers(file)
    place = first_scan
    while (marker := find(place)) is not None:
        place, code = marker
        if filled is not None and place > filled:
            break
        if code == 0x01:
            place += 2
            continue
        if code not in _SIZED_BETWEEN_SCANS:
            return  # the end, or what no decoder takes
        file.seek(place + 2)
        segment = file.read(3 if code != _SOS else 11)
        if len(segment) < 3:
            return
        segments += 1
        at_most(segments, MAX_JPEG_SEGMENTS, "segments between its scans")
        if code == _SOS:
            scans += 1
            gone_through += sum(shares.get(component, 0.0) for component in segment[3 : 3 + 2 * segment[2] : 2])
            at_most(scans, MAX_JPEG_SCANS, "scans")
            at_most(gone_through, MAX_JPEG_SCAN_SAMPLES, "samples in all scans")
        place += 2 + max(2, int.from_bytes(segment[:2], "big"))
    if filled is not None:  # behind the picture's end nobody reads them: cards are padded so
        raise _filled()


def _read_jpeg_header(file: IO[bytes]) -> tuple[int, dict[int, float], float] | None:
    """(where the first scan begins, samples of each component, samples of all); None of what cannot be read."""
    place, stray, segments, exif_segments = 2, 0, 0, 0
    shares: dict[int, float] = {}
    exif = b""
    while True:
        file.seek(place)
        head = file.read(4)
        if len(head) < 4:
            return None
        code = head[1]
        if head[0] != 0xFF or code in (0x00, 0xFF):
            skipped = _stray_bytes(file, place)
            stray += skipped
            place += skipped
            at_most(stray, MAX_JPEG_STRAY_BYTES, "stray bytes in its header")
            if not skipped:
                return None
            continue
        segments += 1
        at_most(segments, MAX_JPEG_SEGMENTS, "segments in its header")
        if code == _SOS:
            break
        if code in _BARE_BEFORE_SCANS:
            place += 2
            continue
        if code not in _SIZED_BEFORE_SCANS:
            return None
        length = max(2, int.from_bytes(head[2:4], "big"))
        if code in _FRAMES:
            shares = _jpeg_samples(file.read(length - 2))
        elif code == _APP1 and (segment := file.read(length - 2)).startswith(b"Exif\0\0"):
            exif_segments += 1
            at_most(exif_segments, MAX_JPEG_EXIF_SEGMENTS, "segments of EXIF")
            exif += segment[6:]
        place += 2 + length
    check_exif(exif)
    return place, shares, sum(shares.values())


def _jpeg_samples(frame: bytes) -> dict[int, float]:
    """Return samples of each component, by its number, from the frame's header."""
    if len(frame) < 6:
        return {}
    height, width = struct.unpack_from(">HH", frame, 1)
    parts = [(frame[at], frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(6, len(frame) - 2, 3)][: frame[5]]
    widest = max((across for _, across, _ in parts), default=0)
    highest = max((down for _, _, down in parts), default=0)
    whole = max(1, widest * highest)
    return {number: height * width * across * down / whole for number, across, down in parts}


def _stray_bytes(file: IO[bytes], place: int) -> int:
    """Return how many bytes there are before the next marker, or as many as were looked at."""
    file.seek(place)
    block = np.frombuffer(file.read(MAX_JPEG_STRAY_BYTES + 2), np.uint8)
    found = (block[:-1] == 0xFF) & (block[1:] != 0x00) & (block[1:] != 0xFF)
    return int(found.argmax()) if found.any() else max(0, len(block) - 1)


def _jpeg_markers(file: IO[bytes]) -> Callable[[int], tuple[int, int] | None]:
    """Return a function from a place to the first marker of note from there on: (its place, its code)."""
    start, block, places = 0, np.zeros(0, np.uint8), np.zeros(0, np.int64)

    def find(place: int) -> tuple[int, int] | None:
        nonlocal start, block, places
        while True:
            if start <= place < start + len(block) - 1:
                index = int(np.searchsorted(places, place - start))
                if index < len(places):
                    at = int(places[index])
                    return start + at, int(block[at + 1])
                place = start + len(block) - 1  # its last byte may begin a marker
            file.seek(place)
            start, block = place, np.frombuffer(file.read(_BLOCK), np.uint8)
            if len(block) < 2:
                return None
            places = np.flatnonzero((block[:-1] == 0xFF) & _OF_NOTE[block[1:]])

    return find


def count_scans(file: IO[bytes], place: int) -> int:
    """Return how many scans there may be at most from a place on, and no long run of fill bytes."""
    total, filled = _survey(file, place)
    if filled is not None:
        raise _filled()
    return total


def _survey(file: IO[bytes], place: int) -> tuple[int, int | None]:
    """(how many scans there may be at most from a place on, where the first long run of fill bytes begins)."""
    file.seek(place)
    total, rest = 0, b""
    filling, filled = b"\xff" * MAX_JPEG_STRAY_BYTES, None
    while block := file.read(_BLOCK):
        total += block.count(b"\xff\xda") + (rest[-1:] == b"\xff" and block[:1] == b"\xda")
        if filled is None and (found := (rest + block).find(filling)) >= 0:
            filled = place - len(rest) + found
        rest = block[len(block.rstrip(b"\xff")) :][-MAX_JPEG_STRAY_BYTES:] or block[-1:]
        place += len(block)
    return total, filled


def _filled() -> CostlyPictureError:
    return CostlyPictureError(f"has {MAX_JPEG_STRAY_BYTES} fill bytes or more in one place")
