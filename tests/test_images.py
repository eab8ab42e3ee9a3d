"""Reading pictures of every kind, and of no kind; sizes, resizing, padding."""

import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin
from torch.nn.functional import interpolate

from wordmask.console.notices import Notices
from wordmask.errors import WordmaskError
from wordmask.pictures.images import (
    DEFAULT_MAX_PIXELS,
    OTHER_PEAK_BYTES,
    PEAK_BYTES,
    ImageReadError,
    find_images,
    image_size,
    is_one_picture,
    pad_to_multiple,
    read_image,
    resize,
    size_with_longer_side,
    size_with_shorter_side,
    to_tensor,
)

UNHURRIED = settings(deadline=None)  # a first call may wait for libraries to warm up

MODES = ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
ORIENTATION = 0x0112
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
HEIF = pytest.param("HEIF", marks=pytest.mark.skipif(find_spec("pillow_heif") is None, reason="no pillow-heif"))
EXACT_FORMATS = ["PNG", "BMP", "TIFF", "PPM", "QOI", "WEBP", "JPEG2000"]
OPTIONS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, quality=95, chroma=444, **options)
        return buffer.getvalue()
    image.save(buffer, kind, **OPTIONS.get(kind, {}), **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_declared_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b"")


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def with_exif_after_the_pixels(png: bytes, orientation: int) -> bytes:
    end = png.index(b"IEND") - 4
    return png[:end] + png_chunk(b"eXIf", exif_of(orientation).removeprefix(b"Exif\0\0")) + png[end:]


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


# Pictures of every kind


@pytest.mark.parametrize("kind", EXACT_FORMATS)
def test_lossless_formats_keep_every_pixel(kind: str, tmp_path: Path) -> None:
    data = encoded(PICTURE, kind)
    file = tmp_path / "picture"  # the name says nothing of the format
    file.write_bytes(data)
    for source in (data, file, str(file)):
        image = read_image(source)
        assert np.array_equal(image, PICTURE)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert image_size(source) == (6, 10)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", HEIF])
def test_lossy_formats_keep_the_picture(kind: str) -> None:
    picture = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    assert np.abs(read_image(encoded(picture, kind)).astype(int) - picture).max() <= 3
    assert image_size(encoded(picture, kind)) == (16, 24)


def test_grey_and_one_bit_pictures_become_grey_rgb() -> None:
    grey = PICTURE[..., 0]
    assert np.array_equal(read_image(encoded(grey, "PNG")), np.stack([grey] * 3, -1))
    bits = grey > 127
    assert np.array_equal(read_image(encoded(Image.fromarray(bits), "PNG")), np.stack([bits * 255] * 3, -1))


def test_palette_colours_are_looked_up() -> None:
    palette = Image.fromarray(PICTURE).quantize(16)
    assert np.array_equal(read_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparent_palette_entries_are_white() -> None:
    indices = np.array([[0, 1, 2]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for transparency in (1, bytes([255, 0, 255])):
        seen = read_image(encoded(image, "PNG", transparency=transparency))
        assert seen.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_a_transparent_colour_key_is_white() -> None:
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert read_image(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_composited_over_white(kind: str) -> None:
    alpha = np.tile(np.array([0, 64, 128, 200, 255], np.uint8), (6, 2))
    seen = read_image(encoded(np.dstack([PICTURE, alpha]), kind, **({"exact": True} if kind == "WEBP" else {})))
    assert np.abs(seen - over_white(PICTURE, alpha)).max() <= 1
    assert np.array_equal(seen[alpha == 255], PICTURE[alpha == 255])
    assert (seen[alpha == 0] == 255).all()


def test_grey_with_alpha_is_composited_over_white() -> None:
    image = Image.fromarray(np.array([[[100, 0], [100, 255], [0, 128]]], np.uint8), "LA")
    assert read_image(encoded(image, "PNG")).tolist() == [[[255] * 3, [100] * 3, [127] * 3]]


def test_cmyk_jpeg_comes_out_in_its_colours() -> None:
    for ink, colour in (((255, 0, 0, 0), (0, 255, 255)), ((0, 255, 0, 0), (255, 0, 255)), ((0, 0, 0, 0), (255,) * 3)):
        data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG")
        assert b"Adobe" in data  # which means: stored inverted
        assert np.abs(read_image(data).astype(int) - colour).max() <= 2


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257, 300, 32768, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 1, 128, 255]
    for kind in ("PNG", "TIFF"):
        assert read_image(encoded(values, kind))[0, :, 0].tolist() == expected
    for mode in (values.astype(np.int32), values.astype(np.float32)):
        assert read_image(Image.fromarray(mode))[0, :, 0].tolist() == expected
    assert read_image(values)[0, :, 0].tolist() == expected


def png_of_sixteen_bits(values: np.ndarray, *, sbit: int | None = None) -> bytes:
    height, width, channels = values.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    stated = b"" if sbit is None else png_chunk(b"sBIT", bytes([sbit] * channels))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + header + stated + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def levels_of(values: np.ndarray, white: int) -> np.ndarray:
    return np.broadcast_to(np.rint(values * (255 / white)), (*values.shape[:2], 3)).astype(np.uint8)


def ramp(most: int, channels: int) -> np.ndarray:
    values = np.linspace(0, most, 60 * channels).round().astype(np.uint16)
    return values.reshape(channels, 6, 10).transpose(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_a_file_of_sixteen_are_as_bright_as_they_are(channels: int, counted_notices: Notices) -> None:
    for most, white in ((4095, 4095), (4000, 4095), (300, 4095), (4096, 65535), (65535, 65535), (255, 65535)):
        values = ramp(most, channels)
        png, tiff = png_of_sixteen_bits(values), encoded(values[..., 0], "TIFF")
        expected = levels_of(values, white) if channels == 1 or white < 65535 else (values >> 8).astype(np.uint8)
        assert np.array_equal(read_image(png), expected)
        assert np.array_equal(read_image(png), read_image(png))
        if channels == 1:
            assert np.array_equal(read_image(tiff), expected)
    (told,) = counted_notices.lines()
    assert "holds 12 bits or so in a file of 16" in told


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_png_says_of_its_bits_counts(bits: int, channels: int, counted_notices: Notices) -> None:
    for most in (2**bits - 1, 700, 200):
        values = ramp(most, channels)
        white = 2**bits - 1
        expected = levels_of(values, white) if channels == 1 or bits < 16 else (values >> 8).astype(np.uint8)
        assert np.array_equal(read_image(png_of_sixteen_bits(values, sbit=bits)), expected)
    wrong = ramp(60_000, 1)  # says 12 bits and has more
    assert np.array_equal(read_image(png_of_sixteen_bits(wrong, sbit=12)), levels_of(wrong, 65535))


def test_twelve_bits_with_alpha_are_composited_over_white(counted_notices: Notices) -> None:
    values = np.zeros((1, 3, 4), np.uint16)
    values[0, :, 0], values[0, :, 3] = 4095, (0, 4095, 4095)
    assert read_image(png_of_sixteen_bits(values))[0].tolist() == [[255, 255, 255], [255, 0, 0], [255, 0, 0]]


@pytest.mark.parametrize(("tag", "white"), [((281, 1023), 1023), ((281, 16383), 16383), ((281, 65535), 65535)])
def test_what_a_tiff_says_of_its_largest_value_counts(
    tag: tuple[int, int], white: int, counted_notices: Notices
) -> None:
    values = ramp(1000, 1)
    assert np.array_equal(read_image(encoded(values[..., 0], "TIFF", tiffinfo=dict([tag]))), levels_of(values, white))


def test_packed_twelve_bits_of_a_tiff_are_as_bright_as_they_are(counted_notices: Notices) -> None:
    samples = "".join(f"{value:012b}" for value in (0, 1024, 2048, 4095))
    data = int(samples, 2).to_bytes(6, "big")
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 1), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (256, 257, 273, 278, 279) else 3, 1, v) for tag, v in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert read_image(head.ljust(200, b"\0") + data)[0, :, 0].tolist() == [0, 64, 128, 255]


def test_twelve_bit_pictures_are_told_once_in_python(first_notices: Notices) -> None:
    png = png_of_sixteen_bits(ramp(4095, 1))
    with pytest.warns(UserWarning, match="its 16 bits a sample hold fewer"):
        read_image(png)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(png)


def test_a_float_picture_below_one_is_scaled_to_one() -> None:
    values = np.array([[0, 0.5, 1]], np.float32)
    assert read_image(encoded(values, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("wrong", [-300.0, 70000.0, np.nan, np.inf])
def test_values_beyond_their_range_are_not_guessed_at(wrong: float) -> None:
    with pytest.raises(ImageReadError, match=r"<bytes>: its values run from .* outside 0 to 65535"):
        read_image(encoded(np.array([[0, 300, wrong]], np.float32), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame_and_is_counted(kind: str, counted_notices: Notices) -> None:
    frames = [Image.new("RGB", (8, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(read_image(data).astype(int) - (250, 0, 0)).max() <= (3 if kind == "AVIF" else 0)
    assert image_size(data) == (4, 8)
    assert list(counted_notices.lines()) == ["1 picture has several frames or pages; the first was taken"]


def test_pictures_of_several_frames_are_told_once_in_python(tmp_path: Path, first_notices: Notices) -> None:
    frames = [Image.new("RGB", (8, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for name in ("a.gif", "b.gif"):
        (tmp_path / name).write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    (tmp_path / "one.gif").write_bytes(encoded(frames[0], "GIF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "one.gif")
    with pytest.warns(UserWarning, match=r"a\.gif: has several frames or pages, and the first is taken"):
        read_image(tmp_path / "a.gif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "b.gif")
        read_image(tmp_path / "b.gif")
    assert list(first_notices.lines()) == ["2 pictures have several frames or pages; the first was taken"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_read(mode: str) -> None:
    assert read_image(Image.new(mode, (3, 2))).shape == (2, 3, 3)


def test_a_mode_that_pillow_cannot_turn_into_rgb_is_named() -> None:
    with pytest.raises(ImageReadError, match="<PIL image>: .*La"):
        read_image(Image.new("La", (3, 2)))


def in_mode(mode: str, height: int, width: int) -> Image.Image:
    rgb = Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))
    rgb.putalpha(rgb.convert("L"))
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    return rgb.convert("RGB" if mode in ("LAB", "YCbCr", "HSV", "CMYK", "1") else "RGBA").convert(mode)


def whole(image: Image.Image) -> np.ndarray:
    """An upright picture, converted as a whole."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        white = 1 if image.mode == "F" and values.max() <= 1 else 65535
        image = Image.fromarray(np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


@pytest.mark.parametrize("transparency", [None, 7, bytes(range(256)), (1, 2, 3)], ids=["", "one", "all", "key"])
@pytest.mark.parametrize("mode", MODES)
def test_a_picture_in_strips_is_the_picture_as_a_whole(
    mode: str, transparency: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = in_mode(mode, 23, 31)
    fits = {"P": (int, bytes), "L": (int,), "1": (int,), "RGB": (tuple,)}
    if transparency is not None:
        if not isinstance(transparency, fits.get(mode, ())):
            return
        image.info["transparency"] = transparency
    expected = whole(image)
    for pixels in (1, 31 * 5, 31 * 23):  # a row at a time, strips of which the last is shorter, and one
        monkeypatch.setattr("wordmask.pictures.images.STRIP_PIXELS", pixels)
        assert np.array_equal(read_image(image), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_are_turned_as_the_picture_is(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wordmask.pictures.images.STRIP_PIXELS", 25)
    seen = read_image(encoded(stored(PICTURE, orientation), "PNG", exif=exif_of(orientation)))
    assert np.array_equal(seen, PICTURE)
    assert seen.flags.c_contiguous


def test_what_is_white_is_asked_of_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wordmask.pictures.images.STRIP_PIXELS", 1)
    assert read_image(Image.fromarray(np.array([[0.5], [65535.0]], np.float32)))[:, 0, 0].tolist() == [0, 255]
    for source in (np.array([[0.5], [-3.0]]), Image.fromarray(np.array([[0.5], [-3.0]], np.float32))):
        with pytest.raises(ImageReadError, match=r"values run from -3 to 0\.5, outside"):
            read_image(source)


PEAKS = {
    "rgb.png": ("RGB", {}),
    "rgba.png": ("RGBA", {}),
    "turned.png": ("RGBA", {"exif": 6}),
    "grey16.png": ("I;16", {}),
    "palette.png": ("P", {"transparency": bytes(range(256))}),
    "rgb.jpg": ("RGB", {}),
    "cmyk.jpg": ("CMYK", {"progressive": True, "subsampling": 0}),
    "cmyk.tif": ("CMYK", {"compression": "tiff_lzw"}),
    "floats.tif": ("F", {}),
    "rgba.webp": ("RGBA", {"method": 0}),
    "rgb.jp2": ("RGB", {}),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is told on Linux")
@pytest.mark.parametrize("name", PEAKS)
def test_a_pixel_takes_as_many_bytes_as_the_limit_counts_on(name: str, tmp_path: Path) -> None:
    mode, options = PEAKS[name]
    if "exif" in options:
        options = {"exif": exif_of(6)}
    side = 1600
    smooth = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    smooth.putalpha(smooth.convert("L"))
    image = smooth.convert("RGB").convert(mode) if mode in ("CMYK", "P", "F", "RGB") else smooth.convert("RGBA")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image.save(tmp_path / name, **options)
    code = (
        "import sys; from wordmask.pictures.images import *\n"
        "def told(key): return int(open('/proc/self/status').read().split(key)[1].split()[0]) * 1024\n"
        "image_size(sys.argv[1]); before = told('VmRSS:'); read_image(sys.argv[1]); print(told('VmHWM:') - before)"
    )
    took = int(subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, check=True).stdout)
    with Image.open(tmp_path / name) as file:
        most = PEAK_BYTES.get(file.format, OTHER_PEAK_BYTES)
    assert took / side**2 <= most


# EXIF


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels as a camera held this way stores them: by the standard, where the first row and column belong."""
    height, width = upright.shape[:2]
    first_row_and_column = {
        1: lambda r, c: (r, c),  # top, left
        2: lambda r, c: (r, width - 1 - c),  # top, right
        3: lambda r, c: (height - 1 - r, width - 1 - c),  # bottom, right
        4: lambda r, c: (height - 1 - r, c),  # bottom, left
        5: lambda r, c: (c, r),  # left, top
        6: lambda r, c: (c, width - 1 - r),  # right, top
        7: lambda r, c: (height - 1 - c, width - 1 - r),  # right, bottom
        8: lambda r, c: (height - 1 - c, r),  # left, bottom
    }[orientation]
    shape = (width, height) if orientation >= 5 else (height, width)
    return np.array([[upright[first_row_and_column(r, c)] for c in range(shape[1])] for r in range(shape[0])])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "late PNG", "late APNG"])
def test_exif_rotation_is_applied(kind: str, orientation: int, counted_notices: Notices) -> None:
    pixels = stored(PICTURE, orientation)
    if kind == "TIFF":
        data = encoded(pixels, kind, tiffinfo={ORIENTATION: orientation})
    elif kind == "late PNG":
        data = with_exif_after_the_pixels(encoded(pixels, "PNG"), orientation)
    elif kind == "late APNG":
        frames = encoded(pixels, "PNG", save_all=True, append_images=[Image.fromarray(255 - pixels)])
        data = with_exif_after_the_pixels(frames, orientation)
    else:
        data = encoded(pixels, kind, exif=exif_of(orientation))
    assert np.array_equal(read_image(data), PICTURE)
    assert image_size(data) == (6, 10)
    if kind != "late APNG":  # of which Pillow itself reads the EXIF only with the last frame
        assert np.array_equal(read_image(Image.open(io.BytesIO(data))), PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", HEIF])
def test_exif_rotation_of_a_photograph(kind: str, orientation: int) -> None:
    upright = np.kron(np.array([[0, 80, 160], [250, 120, 40]], np.uint8), np.ones((16, 16), np.uint8))
    upright = np.stack([upright] * 3, -1)
    data = encoded(stored(upright, orientation), kind, exif=exif_of(orientation))
    assert np.abs(read_image(data).astype(int) - upright).max() <= 4
    assert image_size(data) == (32, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_fail_a_picture(kind: str, exif: bytes) -> None:
    data = encoded(PICTURE, kind, exif=exif)
    assert read_image(data).shape == PICTURE.shape
    assert image_size(data) == (6, 10)


def test_broken_exif_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    read_image(encoded(PICTURE, "PNG", exif=b"Exif\0\0garbage"))
    assert "<bytes>: its EXIF cannot be read" in caplog.text


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_mean_upright(orientation: int) -> None:
    assert np.array_equal(read_image(encoded(PICTURE, "PNG", exif=exif_of(orientation))), PICTURE)


# How large


def test_a_header_that_declares_a_giant_fails_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(ImageReadError) as raised:
        read_image(png_of_declared_size(100_000, 100_000))
    assert time.perf_counter() - start < 0.5
    assert "100000 x 100000 pixels" in raised.value.reason
    assert str(DEFAULT_MAX_PIXELS) in raised.value.reason
    assert "max_pixels" in raised.value.reason
    assert "WORDMASK_MAX_PIXELS" in raised.value.reason
    assert image_size(png_of_declared_size(100_000, 90_000)) == (90_000, 100_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", HEIF, "pil"])
def test_the_limit_counts_the_pixels_of_files_and_of_pil_images(kind: str) -> None:
    for source in (Image.fromarray(PICTURE) if kind == "pil" else encoded(PICTURE, kind),):
        assert read_image(source, max_pixels=60).shape == (6, 10, 3)
        with pytest.raises(ImageReadError, match="10 x 6 pixels, above the limit of 59"):
            read_image(source, max_pixels=59)


def test_the_limit_can_be_set_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMASK_MAX_PIXELS", "59")
    with pytest.raises(ImageReadError, match="above the limit of 59"):
        read_image(encoded(PICTURE, "PNG"))
    assert read_image(encoded(PICTURE, "PNG"), max_pixels=60).shape == (6, 10, 3)


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e8"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORDMASK_MAX_PIXELS", value)
    with pytest.raises(WordmaskError, match=f"WORDMASK_MAX_PIXELS='{value}' is not a number of pixels"):
        read_image(encoded(PICTURE, "PNG"))


@pytest.mark.parametrize("kind", [*(kind for kind in EXACT_FORMATS if kind != "WEBP"), "JPEG", "GIF"])
def test_pillows_own_limit_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = encoded(PICTURE, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 35)  # warns above 35, refuses above 70
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if kind != "TIFF":
            assert read_image(data).shape == (6, 10, 3)
        assert image_size(data) == (6, 10)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
        assert image_size(data) == (6, 10)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_where_a_plugin_itself_keeps_pillows_limit_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = encoded(PICTURE, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    if kind == "WEBP" and int(PIL.__version__.split(".")[0]) < 13:  # the first whose WebP keeps the limit
        assert read_image(data).shape == (6, 10, 3)
        return
    with pytest.raises(ImageReadError, match=r"<bytes>: .*60 pixels\) exceeds limit of 10 pixels"):
        read_image(data)


def test_pillows_switches_stay_as_they_are() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    read_image(encoded(PICTURE, "PNG"))
    with pytest.raises(ImageReadError):
        read_image(encoded(PICTURE, "PNG")[:-40])
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert after == before


# What is no picture


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello", "not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture of a known format"),
        (b"%PDF-1.7\n", "not a picture of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture of a known format"),
        (b"\x89PNG\r\n\x1a\n", "has a header that is corrupt or cut short"),
        (b"\xff\xd8\xff\xe0", "has a header that is corrupt or cut short"),
        (b"GIF89a", "has a header that is corrupt or cut short"),
    ],
)
def test_what_is_no_picture_is_named_with_its_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    for source, name in ((file, str(file)), (content, "<bytes>")):
        for read in (read_image, image_size):
            with pytest.raises(ImageReadError) as raised:
                read(source)
            assert raised.value.source == name
            assert reason in raised.value.reason
            assert str(raised.value) == f"{name}: {raised.value.reason}"
            assert "\n" not in str(raised.value)


def test_a_file_that_is_missing_or_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"nothing\.jpg: there is no such file"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(ImageReadError, match="is a folder, not a file"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match=r"cannot be opened .*null"):
        read_image("photo\0.jpg")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image(tmp_path / ("long" * 100))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this file system")
def test_a_pipe_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(encoded(PICTURE, "PNG"))

    def refuse(*_: object) -> None:  # chmod does not stop an administrator
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageReadError, match=r"secret\.png: cannot be opened \(Permission denied\)"):
        read_image(file)


class FailingDisk(io.BytesIO):
    """A file of which only the first so many reads succeed."""

    def __init__(self, content: bytes, good_reads: int) -> None:
        super().__init__(content)
        self.good_reads = good_reads

    def read(self, size: int | None = -1) -> bytes:
        if not self.good_reads:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.good_reads -= 1
        return super().read(size)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_disk_that_fails_at_any_read_is_an_error_with_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    file = tmp_path / "photo.png"
    content = encoded(PICTURE, "PNG")
    file.write_bytes(content)
    enough = 1000
    disk = FailingDisk(content, enough)
    monkeypatch.setattr(Path, "open", lambda _, mode: disk)
    read(file)
    needed = enough - disk.good_reads
    assert needed > 5
    for good_reads in range(needed):
        disk = FailingDisk(content, good_reads)
        with pytest.raises(ImageReadError, match="Input/output error|truncated") as raised:
            read(file)
        assert raised.value.source == str(file)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no such file system")
def test_a_file_that_opens_and_cannot_be_read_is_named() -> None:
    with pytest.raises(ImageReadError, match=r"^/proc/self/mem: cannot be read \(Input/output error\)$"):
        read_image("/proc/self/mem")


@pytest.mark.parametrize("source", [None, 7, ["a.jpg"], torch.zeros(3, 4, 4), io.BytesIO()])
def test_other_objects_are_refused_by_their_kind(source: object) -> None:
    with pytest.raises(ImageReadError, match=f"<{type(source).__name__}>: is not a picture; give a path"):
        read_image(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "QOI", "AVIF", "JPEG2000", "PPM", HEIF])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_cut_short_anywhere_is_an_error_and_nothing_else(kind: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    data = encoded(picture, kind)
    for length in {*range(0, len(data) // 2, max(len(data) // 60, 1)), len(data) // 2}:
        with pytest.raises(ImageReadError):
            read_image(data[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "QOI", "PPM", HEIF])
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_picture_or_an_error_and_nothing_else(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(PICTURE, kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(content), max_pixels=10**6)
    except ImageReadError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


@pytest.mark.parametrize(
    "thrown",
    [SyntaxError, struct.error, OSError, ValueError, KeyError, zlib.error, MemoryError, AssertionError, EOFError],
)
def test_whatever_a_decoder_throws_is_one_error(thrown: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise thrown("first line\nsecond line")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageReadError, match=r"<bytes>: is corrupt or cut short \(.*first line") as raised:
        read_image(encoded(PICTURE, "PNG"))
    assert isinstance(raised.value.__cause__, thrown)


def test_the_error_crosses_process_borders() -> None:
    error = pickle.loads(pickle.dumps(ImageReadError("photo.jpg", "is empty")))
    assert (error.source, error.reason, str(error)) == ("photo.jpg", "is empty", "photo.jpg: is empty")


# PIL images and arrays


def test_a_pil_image_is_neither_changed_nor_closed(tmp_path: Path, counted_notices: Notices) -> None:
    file = tmp_path / "photo.gif"
    frames = [Image.new("RGB", (8, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(file, save_all=True, append_images=frames[1:])
    with Image.open(file) as image:
        image.seek(1)
        assert (read_image(image) == (0, 250, 0)).all()
        assert image.tell() == 1
        image.seek(0)
        assert (read_image(image) == (250, 0, 0)).all()
    for image in (Image.new("P", (3, 2)), Image.new("RGBA", (3, 2), (1, 2, 3, 4)), Image.new("I", (3, 2), 500)):
        mode, info, content = image.mode, dict(image.info), image.tobytes()
        read_image(image)[:] = 9
        assert (image.mode, image.info, image.tobytes()) == (mode, info, content)


def test_a_pil_image_that_is_closed_or_empty_is_an_error() -> None:
    image = Image.open(io.BytesIO(encoded(PICTURE, "PNG")))
    image.close()
    with pytest.raises(ImageReadError, match="<PIL image>: is corrupt or cut short"):
        read_image(image)
    with pytest.raises(ImageReadError, match="<PIL image>: has no pixels"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    "array",
    [
        PICTURE,
        PICTURE[:, ::-1][:, ::-1],
        np.asfortranarray(PICTURE),
        PICTURE / np.float32(255),
        PICTURE / 255,
        PICTURE.astype(np.uint16) * 257,
        (PICTURE.astype(np.uint16) * 257).astype(">u2"),
        np.dstack([PICTURE, np.full((6, 10), 255, np.uint8)]),
    ],
    ids=["uint8", "strided", "fortran", "float32", "float64", "uint16", "big endian", "rgba"],
)
def test_arrays_of_one_picture_are_the_same_picture(array: np.ndarray) -> None:
    image = read_image(array)
    assert np.array_equal(image, PICTURE)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert not np.shares_memory(image, array)


def test_grey_and_boolean_arrays_become_grey_rgb() -> None:
    grey = PICTURE[..., 0]
    expected = np.stack([grey] * 3, -1)
    assert np.array_equal(read_image(grey), expected)
    assert np.array_equal(read_image(grey[..., None]), expected)
    assert np.array_equal(read_image(grey > 99), np.where(expected > 99, 255, 0))
    assert np.array_equal(read_image((grey / 255).astype(np.float16)), expected)


def test_the_alpha_of_an_array_is_composited_over_white() -> None:
    alpha = np.linspace(0, 1, 60).reshape(6, 10)
    seen = read_image(np.dstack([PICTURE / 255, alpha]))
    assert np.abs(seen - over_white(PICTURE, alpha * 255)).max() <= 1.5


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 448, 448), np.uint8), r"shape is \(3, 448, 448\), not .* channels last"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 3), np.int64), "type is int64, .* convert it to uint8"),
        (np.zeros((4, 4, 3), complex), "type is complex128"),
        (np.full((2, 2), None), "type is object"),
        (np.full((4, 4, 3), 255.0), "values run from 255 to 255, outside 0 to 1"),
        (np.full((4, 4), -0.1), "outside 0 to 1"),
        (np.full((4, 4), np.nan), "outside 0 to 1"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageReadError, match=f"<array>: .*{reason}"):
        read_image(array)


def test_floats_that_overshoot_by_rounding_are_white_and_black() -> None:
    assert read_image(np.array([[-1e-6, 1 + 1e-6]]))[0, :, 0].tolist() == [0, 255]


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    good.write_bytes(encoded(PICTURE, "PNG"))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(encoded(PICTURE, "JPEG")[:200])
    barrier = threading.Barrier(8)

    def read(_: int) -> int:
        barrier.wait()
        for _ in range(20):
            assert np.array_equal(read_image(good), PICTURE)
            with pytest.raises(ImageReadError):
                read_image(bad)
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(read, range(8))) == 8


def test_many_threads_read_one_pil_image_at_once() -> None:
    content = encoded(np.random.default_rng(4).integers(0, 256, (700, 700, 3), dtype=np.uint8), "JPEG")
    expected = read_image(content)
    for _ in range(5):
        image = Image.open(io.BytesIO(content))
        barrier = threading.Barrier(6)

        def read(_: int, image: Image.Image = image, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return np.array_equal(read_image(image), expected)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(6)))


def test_what_a_picture_will_take_is_told_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    for source in (encoded(PICTURE[..., 0], "PNG"), Image.fromarray(PICTURE), PICTURE[..., 0]):
        assert read_image(source, reserve=told.append).nbytes == told[-1] == 6 * 10 * 3
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: told.clear())
    told.append(0)

    def refuse(_: int) -> None:
        raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        read_image(encoded(PICTURE, "PNG"), reserve=refuse)
    assert told  # nothing was decoded


def test_a_stack_of_pictures_is_many_and_a_picture_is_one() -> None:
    for one in ("a.png", Path("a.png"), b"", Image.new("L", (1, 1)), PICTURE, PICTURE[..., 0], PICTURE[..., :1]):
        assert is_one_picture(one)
    for many in (["a.png"], iter(()), PICTURE[None], np.zeros((2, 5, 7), np.uint8)):
        assert not is_one_picture(many)


def test_reading_does_not_wait_for_torch() -> None:
    code = (
        "import sys, wordmask.pictures.images; assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Folders


def test_pictures_are_found_in_the_order_of_sorted_paths(tmp_path: Path, counted_notices: Notices) -> None:
    names = ["b.PNG", "a.jpg", "a/z.JPeG", "a/b/c.webp", "c d/ü.tiff", "z.gif", "a.b/x.bmp"]
    others = ["notes.txt", ".hidden.jpg", ".git/x.jpg", "a/.cache/y.png", "jpg", "movie.mp4"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert list(find_images(tmp_path)) == sorted(tmp_path / name for name in names)
    assert list(find_images(str(tmp_path))) == list(find_images(tmp_path))


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far.png").touch()
    (tmp_path / "pictures/near.png").touch()
    (tmp_path / "pictures/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures/up").symlink_to(tmp_path)
    (tmp_path / "pictures/here").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures/circle.png").symlink_to(tmp_path / "pictures/circle.png")
    (tmp_path / "pictures/dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "pictures/picture.png").symlink_to(tmp_path / "elsewhere/far.png")
    found = [path.relative_to(tmp_path / "pictures").as_posix() for path in find_images(tmp_path / "pictures")]
    assert found == ["again/far.png", "near.png", "picture.png"]


def test_a_folder_is_listed_only_when_it_is_reached(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert next(found).name == "1.png"
    (tmp_path / "b/3.png").touch()
    assert [path.name for path in found] == ["2.png", "3.png"]


def test_a_folder_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageReadError, match="is not a folder"):
        find_images(tmp_path / "file")
    with pytest.raises(ImageReadError, match="there is no such folder"):
        find_images(tmp_path / "nothing")


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scandir = os.scandir

    def refuse(folder: Path) -> object:  # chmod does not stop an administrator
        if Path(folder).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_listed_is_reported_and_its_neighbours_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "secret/2.png", "z/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    refuse_to_list(monkeypatch, "secret")
    bad: list[ImageReadError] = []
    assert [path.name for path in find_images(tmp_path, bad.append)] == ["1.png", "3.png"]
    assert [str(error) for error in bad] == [f"{tmp_path / 'secret'}: cannot be looked into (Permission denied)"]
    with pytest.warns(UserWarning, match=r"left out: .*secret: cannot be looked into"):
        assert len(list(find_images(tmp_path))) == 2


def test_a_folder_asked_for_that_may_not_be_listed_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").mkdir()
    refuse_to_list(monkeypatch, "secret")
    with pytest.raises(ImageReadError, match=r"secret: cannot be looked into \(Permission denied\)"):
        find_images(tmp_path / "secret")


# Sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (448, 597)),
        ((500, 375), (597, 448)),
        ((448, 448), (448, 448)),
        ((100, 1000), (205, 2048)),
        ((1, 100_000), (1, 2048)),
        ((1024, 2048), (448, 896)),
    ],
)
def test_the_papers_size_of_shorter_side_448_and_longer_at_most_2048(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert size_with_shorter_side(*size, 448, 2048) == expected


sides = st.integers(1, 20_000)


@UNHURRIED
@given(sides, sides, st.integers(1, 2000))
def test_the_named_side_gets_its_length(height: int, width: int, length: int) -> None:
    assert min(size_with_shorter_side(height, width, length)) == length
    assert max(size_with_longer_side(height, width, length)) == length


@UNHURRIED
@given(sides, sides, st.integers(1, 2000), st.integers(1, 2000))
def test_sizes_keep_the_shape_fit_and_are_never_nothing(height: int, width: int, rows: int, columns: int) -> None:
    new = size_with_shorter_side(height, width, rows, columns)
    assert 1 <= min(new) <= rows
    assert 1 <= max(new) <= columns
    assert min(new) == rows or max(new) == columns
    scale = min(rows / min(height, width), columns / max(height, width))
    assert abs(new[0] - max(height * scale, 1)) <= 0.5 + 1e-9
    assert abs(new[1] - max(width * scale, 1)) <= 0.5 + 1e-9


@UNHURRIED
@given(sides, sides, sides)
def test_only_shrink_never_enlarges(height: int, width: int, longer: int) -> None:
    small = size_with_longer_side(height, width, longer, only_shrink=True)
    assert small[0] <= height
    assert small[1] <= width
    assert small in (size_with_longer_side(height, width, longer), (height, width))


# Tensors


def test_to_tensor_is_channels_first_from_zero_to_one() -> None:
    tensor = to_tensor(PICTURE)
    assert tensor.shape == (3, 6, 10)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert torch.equal(tensor, torch.from_numpy(PICTURE.copy()).permute(2, 0, 1) / 255)


def test_to_tensor_takes_arrays_that_are_read_only_or_reversed() -> None:
    frozen = PICTURE.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(to_tensor(frozen), to_tensor(PICTURE))
        assert torch.equal(to_tensor(PICTURE[::-1]), to_tensor(PICTURE).flip(1))


@pytest.mark.parametrize("size", [(448, 597), (100, 133), (60, 500), (375, 500)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_bytes_is_resizing_numbers_to_within_a_grey_level(size: tuple[int, int], antialias: bool) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    exact = interpolate(to_tensor(picture)[None], size, mode="bilinear", antialias=antialias)[0]
    assert (to_tensor(picture, size, antialias=antialias) - exact).abs().max() * 255 <= 1.01
    floats = resize(to_tensor(picture), size, antialias=antialias)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resizing_bytes_is_what_pillow_does(mode: str) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (97, 120, 3), dtype=np.uint8)
    pillow = Image.fromarray(picture).resize((64, 50), Image.Resampling[mode.upper()])
    assert (
        np.abs((to_tensor(picture, (50, 64), mode=mode) * 255).permute(1, 2, 0).numpy() - np.asarray(pillow)).max()
        < 1.5
    )


def test_resizing_to_its_own_size_is_the_very_same_tensor() -> None:
    image = to_tensor(PICTURE)
    assert resize(image, (6, 10)) is image


def test_resizing_keeps_leading_dimensions_and_type() -> None:
    assert resize(torch.zeros(2, 5, 3, 8, 8), (4, 6)).shape == (2, 5, 3, 4, 6)
    assert resize(torch.full((3, 8, 8), 255, dtype=torch.uint8), (20, 3), mode="bicubic").unique().tolist() == [255]


@UNHURRIED
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_padding_reaches_the_next_multiple_and_keeps_the_picture(height: int, width: int, multiple: int) -> None:
    batch = torch.ones(2, 1, height, width)
    padded = pad_to_multiple(batch, multiple)
    assert padded.shape[2:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    assert (padded[:, :, :height, :width] == 1).all()
    assert padded.sum() == batch.numel()
    if padded.shape == batch.shape:
        assert padded is batch
