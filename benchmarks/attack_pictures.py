"""Files that say they are pictures and cost whoever believes them. They are small to send, and made once."""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
LARGE = (6000, 4000)
"""Width and height of 24 megapixels, the most that a service takes by default."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int) -> bytes:
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def saved(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def png_of_one_colour() -> bytes:
    """24 megapixels in some kilobytes."""
    width, height = LARGE
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()
    return header(width, height) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def png_that_claims_much() -> bytes:
    return header(60_000, 60_000) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


@cache
def png_that_unpacks_too_much() -> bytes:
    """A hundred pixels, and data for many more."""
    return header(10, 10) + chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9)) + chunk(b"IEND", b"")


@cache
def png_with_packed_text() -> bytes:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000), 9))
    return header(64, 64) + 20 * text + chunk(b"IDAT", zlib.compress(bytes(64 * 193))) + chunk(b"IEND", b"")


@cache
def png_with_packed_profile() -> bytes:
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(30_000_000), 9))
    return header(64, 64) + profile + chunk(b"IDAT", zlib.compress(bytes(64 * 193))) + chunk(b"IEND", b"")


@cache
def png_of_many_chunks() -> bytes:
    return header(64, 64) + 200_000 * chunk(b"abCd", b"") + chunk(b"IEND", b"")


@cache
def photograph(width: int = 320, height: int = 240, kind: str = "JPEG", **options: object) -> bytes:
    ramp = np.linspace(0, 255, width * height * 3, dtype=np.float32).astype(np.uint8)
    return saved(ramp.reshape(height, width, 3), kind, **options)


@cache
def jpeg_of_many_scans() -> bytes:
    """A progressive picture of 24 megapixels whose last scan comes some thousand times."""
    whole = photograph(*LARGE, "JPEG", progressive=True, quality=1)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + 3000 * whole[last : last + 30] + whole[last:]


@cache
def jpeg_of_many_markers() -> bytes:
    whole = photograph()
    return whole[:2] + 250_000 * b"\xff\xfe\x00\x02" + whole[2:]


@cache
def jpeg_of_fill_bytes() -> bytes:
    whole = photograph()
    return whole[:2] + 8_000_000 * b"\xff" + whole[2:]


@cache
def jpeg_that_claims_much() -> bytes:
    whole = photograph()
    frame = whole.index(b"\xff\xc0")
    return whole[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + whole[frame + 9 :]


@cache
def jpeg_with_circular_exif() -> bytes:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    whole = photograph()
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]


@cache
def tiff_in_a_circle() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8)


@cache
def gif_of_many_frames() -> bytes:
    frames = [Image.new("L", (64, 64), value) for value in range(200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@cache
def webp_cut_short() -> bytes:
    return photograph(640, 480, "WEBP")[:2000]


@cache
def webp_that_claims_much() -> bytes:
    size = struct.pack("<I", 16_382)[:3]
    return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size + size


@cache
def noise(side: int = 2200) -> bytes:
    """Some megabytes that nothing makes smaller."""
    return saved(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8), "PNG", compress_level=0)


BOMBS = (
    *(png_of_one_colour, png_that_claims_much, png_that_unpacks_too_much, png_with_packed_text),
    *(png_with_packed_profile, png_of_many_chunks, jpeg_of_many_scans, jpeg_of_many_markers, jpeg_of_fill_bytes),
    *(jpeg_that_claims_much, jpeg_with_circular_exif, tiff_in_a_circle, gif_of_many_frames, webp_cut_short),
    webp_that_claims_much,
)
