"""What a picture's file will cost its decoder, counted before it is decoded.

A file says how many pixels it has, and that is what `max_pixels` bounds. Other costs have nothing to do with pixels: a
JPEG of a kilobyte may ask for its picture to be gone through thousands of times, and a PNG may hold a million empty
chunks. Each is counted here from the file's structure alone, in time that grows no faster than the file, and has a
limit far above what cameras and encoders write.

Not looked into: BMP and QOI, which have no structure beside their pixels, and AVIF, whose library has such limits.
"""

from collections.abc import Callable
from typing import IO

from wordmask.pictures.costs.blocks import check_gif, check_jpeg2000, check_png, check_ppm, check_webp
from wordmask.pictures.costs.directories import check_exif
from wordmask.pictures.costs.jpeg import check_jpeg
from wordmask.pictures.costs.limits import CostlyPictureError
from wordmask.pictures.costs.tiff import check_tiff

__all__ = ["CostlyPictureError", "check_costs", "check_exif"]

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
