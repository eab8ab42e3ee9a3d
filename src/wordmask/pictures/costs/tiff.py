"""TIFF: strips and tiles, and the directory that tells of them."""

import struct
from typing import IO

from wordmask.pictures.costs.directories import Form, check_directory
from wordmask.pictures.costs.jpeg import MAX_JPEG_SCAN_SAMPLES, MAX_JPEG_SCANS, count_scans
from wordmask.pictures.costs.limits import CostlyPictureError, at_most

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
