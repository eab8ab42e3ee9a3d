"""Small files that would keep a decoder busy for long, or make it ask for much memory: each of them by its name."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int = 96, width: int = 128) -> Image.Image:
    """Not flat, not noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


JPEG = encoded(photo(), "JPEG")
PROGRESSIVE = encoded(photo(), "JPEG", progressive=True, subsampling=0)


def scan(components: list[int], start: int, end: int, bits: int) -> bytes:
    body = bytes([len(components), *(byte for number in components for byte in (number, 0)), start, end, bits])
    return b"\xff\xda" + struct.pack(">H", 2 + len(body)) + body


def with_scans(count: int, each: bytes | None = None) -> bytes:
    return PROGRESSIVE[:-2] + count * (each or scan([1], 1, 63, 0x10)) + PROGRESSIVE[-2:]


def _large(jpeg: bytes) -> bytes:
    """What it says of its size, and no more."""
    frame = jpeg.index(b"\xff\xc2")
    return jpeg[: frame + 5] + struct.pack(">HH", 4000, 6000) + jpeg[frame + 9 :]


def behind_the_first_marker(more: bytes) -> bytes:
    return JPEG[:2] + more + JPEG[2:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, size: tuple[int, int] = (8, 8), depth: int = 8, colour: int = 0) -> bytes:
    """Black, with these chunks before its pixels."""
    row = (size[0] * depth * {0: 1, 2: 3, 3: 1}[colour] + 7) // 8 + 1
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(row * size[1]), 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND")


def split_png(pieces: int) -> bytes:
    """Its pixels in so many chunks, most of them empty."""
    whole = png()
    return whole[:33] + chunk(b"IDAT") * pieces + whole[33:]


def exif(entries: int, bytes_each: int, kind: int = 7) -> bytes:
    """A directory whose values all lie on the same bytes."""
    table = b"".join(struct.pack("<HHLL", 40000 + i % 20000, kind, bytes_each, 8) for i in range(entries))
    body = b"II*\0" + struct.pack("<LH", 8, entries) + table + bytes(4)
    return b"Exif\0\0" + body + bytes(max(0, 8 + bytes_each - len(body)))


def app1(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def tiff(
    tags: dict[int, tuple[int, int, int | bytes]], rest: bytes = b"", *, width: int = 64, big: bool = False
) -> bytes:
    """tags: number -> (type, count, value or bytes that follow the directory)."""
    basis: dict[int, tuple[int, int, int | bytes]] = {
        256: (4, 1, width),
        257: (4, 1, 64),
        258: (3, 1, 8),
        259: (3, 1, 1),
    }
    basis |= {262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 64 * 64)} | tags
    entry, head = ("<HHQQ", b"II\x2b\0\x08\0\0\0" + struct.pack("<Q", 16)) if big else ("<HHLL", b"II*\0\x08\0\0\0")
    table, behind = b"", b""
    place = len(head) + (8 if big else 2) + struct.calcsize(entry) * len(basis) + (8 if big else 4)
    for tag, (kind, count, value) in sorted(basis.items()):
        if isinstance(value, bytes):
            table += struct.pack(entry, tag, kind, count, place + len(behind))
            behind += value
        else:
            table += struct.pack(entry, tag, kind, count, value)
    return head + struct.pack("<Q" if big else "<H", len(basis)) + table + bytes(8 if big else 4) + behind + rest


def big_tiff_of_tags(entries: int) -> bytes:
    return b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, entries) + struct.pack("<HHQQ", 50000, 4, 1, 7) * entries


def gif(before: bytes) -> bytes:
    whole = encoded(Image.new("L", (8, 8)), "GIF")
    head = 13 + (6 << (whole[10] & 7) if whole[10] & 0x80 else 0)
    return whole[:head] + before + whole[head:]


def webp_of_chunks(count: int) -> bytes:
    whole = encoded(photo(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    body = whole[8:] + (b"JUNK" + bytes(4)) * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg2000(change: Callable[[bytearray], None]) -> bytes:
    whole = bytearray(encoded(photo(), "JPEG2000", no_jp2=True))
    change(whole)
    return bytes(whole)


def _tiny_tiles(stream: bytearray) -> None:
    struct.pack_into(">IIIIIIII", stream, 8, 250, 250, 0, 0, 1, 1, 0, 0)


def _many_components(stream: bytearray) -> None:
    struct.pack_into(">H", stream, 40, 16384)


def _tiny_code_blocks(stream: bytearray) -> None:
    struct.pack_into(">II", stream, 8, 4800, 4800)
    struct.pack_into(">II", stream, 24, 4800, 4800)
    stream[stream.index(b"\xff\x52") + 10 : stream.index(b"\xff\x52") + 12] = bytes([0, 0])


BOMB = zlib.compress(bytes(1_000_000), 9)

COSTLY: dict[str, Callable[[], tuple[bytes, str]]] = {
    "JPEG of 20,000 scans": lambda: (with_scans(20_000), "100 scans"),
    "JPEG of scans of many pixels": lambda: (
        _large(with_scans(80, scan([1, 2, 3], 0, 0, 0x10))),
        "samples in all scans",
    ),
    "JPEG of fill bytes": lambda: (behind_the_first_marker(b"\xff" * 20_000_000), "stray bytes"),
    "JPEG of zeros": lambda: (behind_the_first_marker(b"\xff\xd0" + bytes(20_000_000)), "stray bytes"),
    "JPEG of fill bytes between its scans": lambda: (JPEG[:-2] + b"\xff" * 20_000_000 + JPEG[-2:], "fill bytes"),
    "JPEG of comments": lambda: (behind_the_first_marker(b"\xff\xfe\0\2" * 5_000_000), "4096 segments"),
    "JPEG of bare markers": lambda: (behind_the_first_marker(b"\xff\xd1" * 5_000_000), "4096 segments"),
    "JPEG of comments that hold scans": lambda: (
        JPEG[:-2] + b"\xff\xfe\0\4\xff\xda" * 3_000_000 + JPEG[-2:],
        "segments between its scans",
    ),
    "JPEG of much EXIF": lambda: (behind_the_first_marker(app1(b"Exif\0\0" + bytes(60_000)) * 300), "16 segments"),
    "JPEG of EXIF that lies on itself": lambda: (
        behind_the_first_marker(app1(exif(3000, 60_000))),
        r"tags of \d+ bytes",
    ),
    "PNG of empty chunks": lambda: (png(chunk(b"prIv") * 1_600_000), "4096 chunks beside"),
    "PNG of empty pixels": lambda: (split_png(1_600_000), "100000 chunks"),
    "PNG of texts that grow": lambda: (png(chunk(b"zTXt", b"k\0\0" + BOMB) * 2000), "64 compressed"),
    "PNG of profiles that grow": lambda: (png(chunk(b"iCCP", b"k\0\0" + BOMB) * 2000), "64 compressed"),
    "TIFF of a million tags": lambda: (big_tiff_of_tags(1_000_000), "4096 tags"),
    "TIFF of values that lie on themselves": lambda: (
        tiff({40000 + i: (7, 4_000_000, 8) for i in range(2000)}, bytes(4_000_000)),
        r"tags of \d+ bytes",
    ),
    "TIFF of a million numbers": lambda: (
        tiff({282: (5, 1_000_000, b"\1\0\0\0" * 2_000_000)}, bytes(4096)),
        "numbers in its tags",
    ),
    "TIFF of giant tiles": lambda: (
        tiff({322: (4, 1, 65520), 323: (4, 1, 65520), 324: (4, 1, 8), 325: (4, 1, 100), 259: (3, 1, 8)}, bytes(4096)),
        "tiles of 65520 x 65520",
    ),
    "TIFF of too many strips": lambda: (
        tiff({273: (4, 200_000, bytes(800_000)), 278: (4, 1, 32)}, bytes(4096)),
        "200000 strips",
    ),
    "TIFF of a million strips": lambda: (tiff({273: (4, 1_000_000, bytes(4_000_000))}, bytes(4096)), "strips or tiles"),
    "GIF of comments": lambda: (gif(b"!\xfe" + (b"\xff" + bytes(255)) * 70_000 + b"\0"), "blocks of comments"),
    "GIF of blocks": lambda: (gif(b"!\x01" + b"\1\0" * 5_000_000 + b"\0"), "65536 blocks"),
    "GIF of stray bytes": lambda: (gif(bytes(20_000_000)), "belong to no block"),
    "WebP of chunks": lambda: (webp_of_chunks(1_000_000), "65536 chunks"),
    "JPEG 2000 of tiny tiles": lambda: (jpeg2000(_tiny_tiles), "8192 tiles"),
    "JPEG 2000 of components": lambda: (jpeg2000(_many_components), "4 components"),
    "JPEG 2000 of tiny code-blocks": lambda: (jpeg2000(_tiny_code_blocks), "code-blocks"),
    "PPM of a comment": lambda: (b"P6\n#" + b" " * 20_000_000 + b"\n2 2\n255\n" + bytes(12), "header of more"),
    "PPM of comments": lambda: (b"P2\n800 800\n255\n" + b"#\n" * 500_000 + b"1 " * 640_000, "4096 comments"),
}
"""What each is called -> its bytes, and a part of the reason for which it is refused."""
