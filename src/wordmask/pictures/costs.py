"""What a picture's file will cost its decoder, counted before it is decoded.

A file says how many pixels it has, and that is what `max_pixels` bounds. Other costs have nothing to do with pixels: a
JPEG of a kilobyte may ask for its picture to be gone through thousands of times, and a PNG may hold a million empty
chunks. Each is counted here from the file's structure alone, in time that grows no faster than the file, and has a
limit far above what cameras and encoders write.

Not looked into: BMP and QOI, which have no structure beside their pixels, and AVIF, whose library has such limits.
"""

import re
import struct
from collections.abc import Callable
from typing import IO

from wordmask.pictures.costs_of_jpeg import (
    MAX_JPEG_SCAN_SAMPLES,
    MAX_JPEG_SCANS,
    CostlyPictureError,
    Form,
    at_most,
    check_directory,
    check_exif,
    check_jpeg,
    count_scans,
)

__all__ = ["CostlyPictureError", "check_costs", "check_exif"]

MAX_PNG_CHUNKS = 100_000
"""A picture of 600 MB in pieces of 8 kB, which is what libpng writes, has 75,000."""
MAX_PNG_OTHER_CHUNKS = 4096
"""Beside those of pixels."""
MAX_PNG_COMPRESSED_CHUNKS = 64
"""Texts and profiles, each of which may grow to a megabyte, which is Pillow's own limit."""
MAX_GIF_BLOCKS = 2**16
"""Before the first picture, with up to 255 bytes each. XMP of a megabyte has 10,000."""
MAX_GIF_COMMENT_BLOCKS = 4096
"""A megabyte; Pillow joins them one by one, which takes the square of their number."""
MAX_GIF_STRAY_BYTES = 2**16
"""That belong to no block, which Pillow takes one by one."""
MAX_WEBP_CHUNKS = 2**16
"""Frames, mostly: at 30 a second 36 minutes of them."""
MAX_JPEG2000_TILES = 2**13
"""OpenJPEG makes 11 kB of room for each before it reads one; 8,192 of 128 x 128 pixels have 134 million."""
MAX_JPEG2000_COMPONENTS = 4
"""More are none of Pillow's modes, but OpenJPEG makes room for them in every tile."""
MAX_JPEG2000_CODE_BLOCKS = 2**20
"""100 million pixels in three components have 300,000 of 32 x 32; the smallest that the standard allows have 4 x 4.
OpenJPEG makes 400 bytes of room for each."""
MAX_PPM_HEADER_BYTES = 2**18
"""Comments and spaces, which Pillow takes one by one."""
MAX_PPM_COMMENTS = 4096
"""Between pixels that are written as digits: each is cut out of a megabyte of them."""

_BLOCK = 2**20  # bytes looked at together
_PNG_PIXELS = (b"IDAT", b"fdAT", b"fcTL")
_PNG_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_PPM_PLAIN = (b"P1", b"P2", b"P3")
_PPM_TOKEN = re.compile(rb"(?:[ \t\n\x0b\x0c\r]|#[^\r\n]*[\r\n])*[^ \t\n\x0b\x0c\r#]+[ \t\n\x0b\x0c\r]")


def check_png(file: IO[bytes]) -> None:
    chunks = others = compressed = 0
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        chunks += 1
        at_most(chunks, MAX_PNG_CHUNKS, "chunks")
        if kind not in _PNG_PIXELS:
            others += 1
            at_most(others, MAX_PNG_OTHER_CHUNKS, "chunks beside its pixels")
            compressed += kind in _PNG_COMPRESSED
            at_most(compressed, MAX_PNG_COMPRESSED_CHUNKS, "compressed texts and profiles")
        if kind == b"IEND":
            return
        place += 12 + length


def check_gif(file: IO[bytes]) -> None:
    """Up to the first picture, which is the only one that is read."""
    head = file.read(13)
    if len(head) < 13:
        return
    file.seek(13 + (6 << (head[10] & 7) if head[10] & 0x80 else 0))
    blocks = comments = stray = 0
    while (sign := file.read(1)) not in (b"", b";", b","):
        if sign != b"!":
            stray += 1
            at_most(stray, MAX_GIF_STRAY_BYTES, "bytes that belong to no block")
            continue
        is_comment = file.read(1) == b"\xfe"
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], 1)
            blocks += 1
            at_most(blocks, MAX_GIF_BLOCKS, "blocks before its first picture")
            comments += is_comment
            at_most(comments, MAX_GIF_COMMENT_BLOCKS, "blocks of comments")


def check_webp(file: IO[bytes]) -> None:
    place, chunks = 12, 0
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        chunks += 1
        at_most(chunks, MAX_WEBP_CHUNKS, "chunks")
        length = struct.unpack("<I", head[4:])[0]
        place += 8 + length + length % 2


def check_jpeg2000(file: IO[bytes]) -> None:
    start = _codestream(file)
    if start is None:
        return
    file.seek(start + 2)  # behind the marker that begins it
    head = file.read(42)
    if len(head) < 42 or head[:2] != b"\xff\x51":
        return
    right, bottom, left, top, wide, high, tiles_left, tiles_top, components = struct.unpack_from(">8IH", head, 6)
    at_most(components, MAX_JPEG2000_COMPONENTS, "components")
    if wide and high:
        tiles = -(-max(0, right - tiles_left) // wide) * -(-max(0, bottom - tiles_top) // high)
        at_most(tiles, MAX_JPEG2000_TILES, "tiles")
    samples = components * max(0, right - left) * max(0, bottom - top)
    place = start + 4 + int.from_bytes(head[2:4], "big")
    while True:
        file.seek(place)
        head = file.read(14)
        if len(head) < 14 or head[0] != 0xFF or head[1] in (0x90, 0xD9):  # a tile begins, or the end
            return
        if head[1] in (0x52, 0x53):  # COD, COC: code-blocks of 2 to the (4 + this) samples
            at = 10 if head[1] == 0x52 else 7
            at_most(samples >> (4 + head[at] + head[at + 1]), MAX_JPEG2000_CODE_BLOCKS, "code-blocks")
        place += 2 + max(2, int.from_bytes(head[2:4], "big"))


def _codestream(file: IO[bytes]) -> int | None:
    """Return where it begins, in a box or bare."""
    if file.read(4) == b"\xff\x4f\xff\x51":
        return 0
    place, boxes = 0, 0
    while True:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return None
        length, kind = struct.unpack_from(">I4s", head)
        at = 8
        if length == 1 and len(head) == 16:
            length, at = struct.unpack_from(">Q", head, 8)[0], 16
        if kind == b"jp2c":
            return place + at
        boxes += 1
        at_most(boxes, MAX_PNG_OTHER_CHUNKS, "boxes")
        if length < at:
            return None
        place += length


def check_ppm(file: IO[bytes]) -> None:
    head = file.read(MAX_PPM_HEADER_BYTES)
    kind = head[:2]
    place = 0
    for _ in range(3 if kind in (b"P1", b"P4") else 4):  # its kind, width, height, and the value of white
        token = _PPM_TOKEN.match(head, place)
        if token is None:
            if len(head) == MAX_PPM_HEADER_BYTES:
                raise CostlyPictureError(f"has a header of more than {MAX_PPM_HEADER_BYTES} bytes")
            return
        place = token.end()
    if kind in _PPM_PLAIN:
        file.seek(place)
        comments = 0
        while block := file.read(_BLOCK):
            comments += block.count(b"#")
            at_most(comments, MAX_PPM_COMMENTS, "comments")


MAX_STRIPS = 2**18
"""Strips or tiles. 100 million pixels in tiles of 32 x 32 are 100,000; programs write 128 x 128 and more."""
MAX_TILE_PIXELS = 2**24
"""Of one tile, where that is more than the picture has: libtiff makes room for whole tiles. Programs write 1024 x 1024
at most for pictures of any size."""

_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_WIDTH, _HEIGHT, _COMPRESSION, _STRIPS, _SAMPLES, _ROWS, _PLANES = 256, 257, 259, 273, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES = 322, 323, 324
_JPEG = (6, 7)  # of compressions, the old way and the new
_MOST_SAMPLES = 6  # of a pixel, for Pillow


def check_tiff(file: IO[bytes]) -> None:
    """Check the first picture, which is the only one that is read."""

    def read(place: int, count: int) -> bytes:
        file.seek(min(place, length))
        return file.read(count)

    length = file.seek(0, 2)
    head = read(0, 16)
    if len(head) < 8:
        return
    order, is_big = ">" if head[:2] == b"MM" else "<", head[2] == 43
    form = Form(order, is_big, length, read)
    if is_big and len(head) < 16:
        return
    tags = check_directory(form, struct.unpack_from(order + ("Q" if is_big else "L"), head, 8 if is_big else 4)[0])
    for tag in (_EXIF, _GPS, _INTEROPERABILITY):
        if tag in tags:
            below = check_directory(form, tags[tag][1], is_read_whole=True)
            if tag == _EXIF and _INTEROPERABILITY in below:
                check_directory(form, below[_INTEROPERABILITY][1], is_read_whole=True)
    _check_strips(file, {tag: value for tag, (_, value) in tags.items()}, {tag: n for tag, (n, _) in tags.items()})


def _check_strips(file: IO[bytes], values: dict[int, int], counts: dict[int, int]) -> None:
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if not width or not height:
        return
    samples = max(1, min(values.get(_SAMPLES, 1), _MOST_SAMPLES))
    across, down = values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)
    if across * down > max(width * height, MAX_TILE_PIXELS):
        raise CostlyPictureError(f"has tiles of {across} x {down} pixels and {width} x {height} itself")
    count = counts.get(_STRIPS, 0)
    if count:
        across, down = width, min(values.get(_ROWS, height), height)
    else:
        count = counts.get(_TILES, 0)
    at_most(count, MAX_STRIPS, "strips or tiles")
    across, down = max(1, across), max(1, down)
    needed = -(-width // across) * -(-height // down) * (samples if values.get(_PLANES) == 2 else 1)
    if count > 2 * needed + 1:
        raise CostlyPictureError(f"has {count} strips or tiles where {needed} hold all its pixels")
    if values.get(_COMPRESSION) in _JPEG:
        scans = count_scans(file, 0)
        at_most(scans, MAX_JPEG_SCANS * max(1, count), "scans")
        at_most(scans * samples * across * down, MAX_JPEG_SCAN_SAMPLES, "samples in all scans")


_CHECKS: dict[str, Callable[[IO[bytes]], None]] = {
    "JPEG": check_jpeg,
    "PNG": check_png,
    "GIF": check_gif,
    "WEBP": check_webp,
    "TIFF": check_tiff,
    "JPEG2000": check_jpeg2000,
    "PPM": check_ppm,
}


def check_costs(file: IO[bytes], kind: str) -> None:
    """Raise `CostlyPictureError` where a file of Pillow's format `kind` is one; leave the file at its beginning.

    What is damaged is left to the decoder, which has its own words for it.
    """
    file.seek(0)
    check = _CHECKS.get(kind)
    if check is not None:
        check(file)
    file.seek(0)
