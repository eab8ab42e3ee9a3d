"""Pictures in files of every kind, and what is wrong with some."""

import io
import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

UNHURRIED = settings(deadline=None)  # a first call may wait for libraries to warm up

MODES = ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
ORIENTATION = 0x0112
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
GREY = PICTURE[..., 0]
HEIF = pytest.param("HEIF", marks=pytest.mark.skipif(find_spec("pillow_heif") is None, reason="no pillow-heif"))
EXACT_FORMATS = ["PNG", "BMP", "TIFF", "PPM", "QOI", "WEBP", "JPEG2000"]
OPTIONS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


def encoded(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, quality=95, chroma=444, **options)
        return buffer.getvalue()
    image.save(buffer, kind, **OPTIONS.get(kind, {}), **options)
    return buffer.getvalue()


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rgb(grey):
    return np.stack([grey] * 3, -1)


def distance(seen, expected):
    return np.abs(seen.astype(float) - expected).max()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, bits, kind, rows, *more):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + png_chunk(b"IEND", b"")


def png_of_sixteen_bits(values, *, sbit=None):
    height, width, channels = values.shape
    stated = b"" if sbit is None else png_chunk(b"sBIT", bytes([sbit] * channels))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of(width, height, 16, {1: 0, 3: 2, 4: 6}[channels], rows, stated)


def exif_of(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def with_exif_after_the_pixels(png, orientation):
    end = png.index(b"IEND") - 4
    return png[:end] + png_chunk(b"eXIf", exif_of(orientation).removeprefix(b"Exif\0\0")) + png[end:]


def over_white(colours, alpha):
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def assert_a_picture_of_its_own(image):
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


FRAMES = [Image.new("RGB", (8, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]


def film(kind):
    return encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])
