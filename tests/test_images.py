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

from wordmask.errors import WordmaskError
from wordmask.pictures import images
from wordmask.pictures.images import (
    ImageReadError,
    find_images,
    image_size,
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


# Pictures of every kind


@pytest.mark.parametrize("kind", EXACT_FORMATS)
def test_lossless_formats_keep_every_pixel(kind, tmp_path):
    data = encoded(PICTURE, kind)
    file = tmp_path / "picture"  # the name says nothing of the format
    file.write_bytes(data)
    for source in (data, file, str(file)):
        image = read_image(source)
        assert np.array_equal(image, PICTURE)
        assert_a_picture_of_its_own(image)
        assert image_size(source) == (6, 10)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", HEIF])
def test_lossy_formats_keep_the_picture(kind):
    picture = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    assert distance(read_image(encoded(picture, kind)), picture) <= 3
    assert image_size(encoded(picture, kind)) == (16, 24)


def test_few_colours_become_rgb():
    assert np.array_equal(read_image(encoded(GREY, "PNG")), rgb(GREY))
    assert np.array_equal(read_image(encoded(GREY > 127, "PNG")), rgb((GREY > 127) * 255))
    palette = Image.fromarray(PICTURE).quantize(16)
    assert np.array_equal(read_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparent_colours_are_white():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for transparency in (1, bytes([255, 0, 255])):  # entries of a palette
        seen = read_image(encoded(image, "PNG", transparency=transparency))
        assert seen.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)  # a colour that is the key
    assert read_image(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_composited_over_white(kind):
    alpha = np.tile(np.array([0, 64, 128, 200, 255], np.uint8), (6, 2))
    seen = read_image(encoded(np.dstack([PICTURE, alpha]), kind, **({"exact": True} if kind == "WEBP" else {})))
    assert distance(seen, over_white(PICTURE, alpha)) <= 1
    assert np.array_equal(seen[alpha == 255], PICTURE[alpha == 255])
    assert (seen[alpha == 0] == 255).all()
    grey = Image.fromarray(np.array([[[100, 0], [100, 255], [0, 128]]], np.uint8), "LA")
    assert read_image(encoded(grey, "PNG")).tolist() == [[[255] * 3, [100] * 3, [127] * 3]]


def test_cmyk_jpeg_comes_out_in_its_colours():
    for ink, colour in (((255, 0, 0, 0), (0, 255, 255)), ((0, 255, 0, 0), (255, 0, 255)), ((0, 0, 0, 0), (255,) * 3)):
        data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG")
        assert b"Adobe" in data  # which means: stored inverted
        assert distance(read_image(data), colour) <= 2


def test_sixteen_bits_and_floats_are_scaled_and_not_clipped():
    values = np.array([[0, 128, 129, 257, 300, 32768, 65535]], np.uint16)
    pillow = [Image.fromarray(values.astype(kind)) for kind in (np.int32, np.float32)]
    for source in (encoded(values, "PNG"), encoded(values, "TIFF"), *pillow, values):
        assert read_image(source)[0, :, 0].tolist() == [0, 0, 1, 1, 1, 128, 255]
    below_one = np.array([[0, 0.5, 1]], np.float32)
    assert read_image(encoded(below_one, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def levels_of(values, white):
    """As bright as `values` are where `white` is the most; colours of all 16 bits are cut to their upper 8."""
    if values.shape[2] == 3 and white == 65535:
        return (values >> 8).astype(np.uint8)
    return np.broadcast_to(np.rint(values * (255 / white)), (*values.shape[:2], 3)).astype(np.uint8)


def ramp(most, channels=1):
    values = np.linspace(0, most, 60 * channels).round().astype(np.uint16)
    return values.reshape(channels, 6, 10).transpose(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_a_file_of_sixteen_are_as_bright_as_they_are(channels, counted_notices):
    for most, white in ((4095, 4095), (4000, 4095), (300, 4095), (4096, 65535), (65535, 65535), (255, 65535)):
        values = ramp(most, channels)
        png, tiff = png_of_sixteen_bits(values), encoded(values[..., 0], "TIFF")
        for source in (png, png, tiff) if channels == 1 else (png, png):
            assert np.array_equal(read_image(source), levels_of(values, white))
    (told,) = counted_notices.lines()
    assert "holds 12 bits or so in a file of 16" in told


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_png_says_of_its_bits_counts(bits, channels, counted_notices):
    for most in (2**bits - 1, 700, 200):
        values = ramp(most, channels)
        assert np.array_equal(read_image(png_of_sixteen_bits(values, sbit=bits)), levels_of(values, 2**bits - 1))
    wrong = ramp(60_000)  # says 12 bits and has more
    assert np.array_equal(read_image(png_of_sixteen_bits(wrong, sbit=12)), levels_of(wrong, 65535))


def test_twelve_bits_with_alpha_are_composited_over_white(counted_notices):
    values = np.zeros((1, 3, 4), np.uint16)
    values[0, :, 0], values[0, :, 3] = 4095, (0, 4095, 4095)
    assert read_image(png_of_sixteen_bits(values))[0].tolist() == [[255, 255, 255], [255, 0, 0], [255, 0, 0]]


@pytest.mark.parametrize("most", [1023, 16383, 65535])
def test_what_a_tiff_says_of_its_largest_value_counts(most, counted_notices):
    values = ramp(1000)
    assert np.array_equal(read_image(encoded(values[..., 0], "TIFF", tiffinfo={281: most})), levels_of(values, most))


def test_packed_twelve_bits_of_a_tiff_are_as_bright_as_they_are(counted_notices):
    samples = "".join(f"{value:012b}" for value in (0, 1024, 2048, 4095))
    data = int(samples, 2).to_bytes(6, "big")
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 1), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (256, 257, 273, 278, 279) else 3, 1, v) for tag, v in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert read_image(head.ljust(200, b"\0") + data)[0, :, 0].tolist() == [0, 64, 128, 255]


def test_twelve_bit_pictures_are_told_once_in_python(first_notices):
    png = png_of_sixteen_bits(ramp(4095))
    with pytest.warns(UserWarning, match="its 16 bits a sample hold fewer"):
        read_image(png)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(png)


@pytest.mark.parametrize("wrong", [-300.0, 70000.0, np.nan, np.inf])
def test_values_beyond_their_range_are_not_guessed_at(wrong):
    with pytest.raises(ImageReadError, match=r"<bytes>: its values run from .* outside 0 to 65535"):
        read_image(encoded(np.array([[0, 300, wrong]], np.float32), "TIFF"))


FRAMES = [Image.new("RGB", (8, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]


def film(kind):
    return encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame_and_is_counted(kind, counted_notices):
    assert distance(read_image(film(kind)), (250, 0, 0)) <= (3 if kind == "AVIF" else 0)
    assert image_size(film(kind)) == (4, 8)
    assert list(counted_notices.lines()) == ["1 picture has several frames or pages; the first was taken"]


def test_pictures_of_several_frames_are_told_once_in_python(tmp_path, first_notices):
    for name in ("a.gif", "b.gif"):
        (tmp_path / name).write_bytes(film("GIF"))
    (tmp_path / "one.gif").write_bytes(encoded(FRAMES[0], "GIF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "one.gif")
        with pytest.warns(UserWarning, match=r"a\.gif: has several frames or pages, and the first is taken"):
            read_image(tmp_path / "a.gif")
        read_image(tmp_path / "b.gif")
        read_image(tmp_path / "b.gif")
    assert list(first_notices.lines()) == ["2 pictures have several frames or pages; the first was taken"]


def in_mode(mode, height, width):
    picture = Image.fromarray(noise(height, width, 3))
    picture.putalpha(picture.convert("L"))
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert("RGB" if mode in ("LAB", "YCbCr", "HSV", "CMYK", "1") else "RGBA").convert(mode)


def whole(image):
    """An upright picture, converted as a whole."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        white = 1 if image.mode == "F" and values.max() <= 1 else 65535
        image = Image.fromarray(np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


TRANSPARENT = [("P", 7), ("L", 7), ("1", 7), ("P", bytes(range(256))), ("RGB", (1, 2, 3))]


@pytest.mark.parametrize(("mode", "transparency"), [*((mode, None) for mode in MODES), *TRANSPARENT])
def test_a_picture_in_strips_is_the_picture_as_a_whole(mode, transparency, monkeypatch):
    image = in_mode(mode, 23, 31)
    if transparency is not None:
        image.info["transparency"] = transparency
    expected = whole(image)
    for pixels in (1, 31 * 5, 31 * 23):  # a row at a time, strips of which the last is shorter, and one
        monkeypatch.setattr(images, "STRIP_PIXELS", pixels)
        assert np.array_equal(read_image(image), expected)
    assert read_image(Image.new(mode, (3, 2))).shape == (2, 3, 3)


def test_a_mode_that_pillow_cannot_turn_into_rgb_is_named():
    with pytest.raises(ImageReadError, match="<PIL image>: .*La"):
        read_image(Image.new("La", (3, 2)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_are_turned_as_the_picture_is(orientation, monkeypatch):
    monkeypatch.setattr(images, "STRIP_PIXELS", 25)
    seen = read_image(encoded(stored(PICTURE, orientation), "PNG", exif=exif_of(orientation)))
    assert np.array_equal(seen, PICTURE)
    assert seen.flags.c_contiguous


def test_what_is_white_is_asked_of_the_whole_picture(monkeypatch):
    monkeypatch.setattr(images, "STRIP_PIXELS", 1)
    assert read_image(Image.fromarray(np.array([[0.5], [65535.0]], np.float32)))[:, 0, 0].tolist() == [0, 255]
    for source in (np.array([[0.5], [-3.0]]), Image.fromarray(np.array([[0.5], [-3.0]], np.float32))):
        with pytest.raises(ImageReadError, match=r"values run from -3 to 0\.5, outside"):
            read_image(source)


PEAKS = {
    "rgb.png": ("RGB", {}),
    "rgba.png": ("RGBA", {}),
    "turned.png": ("RGBA", {"exif": exif_of(6)}),
    "grey16.png": ("I;16", {}),
    "palette.png": ("P", {"transparency": bytes(range(256))}),
    "rgb.jpg": ("RGB", {}),
    "cmyk.jpg": ("CMYK", {"progressive": True, "subsampling": 0}),
    "cmyk.tif": ("CMYK", {"compression": "tiff_lzw"}),
    "floats.tif": ("F", {}),
    "rgba.webp": ("RGBA", {"method": 0}),
    "rgb.jp2": ("RGB", {}),
}
TAKEN = """
import sys; from wordmask.pictures.images import *
def told(key): return int(open('/proc/self/status').read().split(key)[1].split()[0]) * 1024
image_size(sys.argv[1]); before = told('VmRSS:'); read_image(sys.argv[1]); print(told('VmHWM:') - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is told on Linux")
@pytest.mark.parametrize(("name", "mode", "options"), [(name, *kind) for name, kind in PEAKS.items()], ids=PEAKS)
def test_a_pixel_takes_as_many_bytes_as_the_limit_counts_on(name, mode, options, tmp_path):
    side = 1600
    smooth = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        image = smooth.copy()
        image.putalpha(smooth.convert("L"))
    else:
        image = smooth.convert(mode)
    image.save(tmp_path / name, **options)
    took = int(subprocess.run([sys.executable, "-c", TAKEN, tmp_path / name], capture_output=True, check=True).stdout)
    with Image.open(tmp_path / name) as file:
        most = images.PEAK_BYTES.get(file.format, images.OTHER_PEAK_BYTES)
    assert took / side**2 <= most


# EXIF


def stored(upright, orientation):
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
def test_exif_rotation_is_applied(kind, orientation, counted_notices):
    pixels = stored(PICTURE, orientation)
    if kind == "TIFF":
        data = encoded(pixels, kind, tiffinfo={ORIENTATION: orientation})
    elif kind.startswith("late"):
        frames = {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]} if kind == "late APNG" else {}
        data = with_exif_after_the_pixels(encoded(pixels, "PNG", **frames), orientation)
    else:
        data = encoded(pixels, kind, exif=exif_of(orientation))
    assert np.array_equal(read_image(data), PICTURE)
    assert image_size(data) == (6, 10)
    if kind != "late APNG":  # of which Pillow itself reads the EXIF only with the last frame
        assert np.array_equal(read_image(Image.open(io.BytesIO(data))), PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", HEIF])
def test_exif_rotation_of_a_photograph(kind, orientation):
    upright = rgb(np.kron(np.array([[0, 80, 160], [250, 120, 40]], np.uint8), np.ones((16, 16), np.uint8)))
    data = encoded(stored(upright, orientation), kind, exif=exif_of(orientation))
    assert distance(read_image(data), upright) <= 4
    assert image_size(data) == (32, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_fail_a_picture(kind, exif):
    data = encoded(PICTURE, kind, exif=exif)
    assert read_image(data).shape == PICTURE.shape
    assert image_size(data) == (6, 10)


def test_broken_exif_is_logged(caplog):
    read_image(encoded(PICTURE, "PNG", exif=b"Exif\0\0garbage"))
    assert "<bytes>: its EXIF cannot be read" in caplog.text


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_mean_upright(orientation):
    assert np.array_equal(read_image(encoded(PICTURE, "PNG", exif=exif_of(orientation))), PICTURE)


# How large


def test_a_header_that_declares_a_giant_fails_at_once():
    giant = png_of(100_000, 90_000, 8, 2, b"\0" * 100)
    start = time.perf_counter()
    with pytest.raises(ImageReadError) as raised:
        read_image(giant)
    assert time.perf_counter() - start < 0.5
    for said in ("100000 x 90000 pixels", str(images.DEFAULT_MAX_PIXELS), "max_pixels", "WORDMASK_MAX_PIXELS"):
        assert said in raised.value.reason
    assert image_size(giant) == (90_000, 100_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", HEIF, "pil"])
def test_the_limit_counts_the_pixels_of_files_and_of_pil_images(kind):
    source = Image.fromarray(PICTURE) if kind == "pil" else encoded(PICTURE, kind)
    assert read_image(source, max_pixels=60).shape == (6, 10, 3)
    with pytest.raises(ImageReadError, match="10 x 6 pixels, above the limit of 59"):
        read_image(source, max_pixels=59)


def test_the_limit_can_be_set_from_outside(monkeypatch):
    monkeypatch.setenv("WORDMASK_MAX_PIXELS", "59")
    with pytest.raises(ImageReadError, match="above the limit of 59"):
        read_image(encoded(PICTURE, "PNG"))
    assert read_image(encoded(PICTURE, "PNG"), max_pixels=60).shape == (6, 10, 3)
    for value in ("many", "-1", "0", "1e8"):
        monkeypatch.setenv("WORDMASK_MAX_PIXELS", value)
        with pytest.raises(WordmaskError, match=f"WORDMASK_MAX_PIXELS='{value}' is not a number of pixels"):
            read_image(encoded(PICTURE, "PNG"))


@pytest.mark.parametrize("kind", [*(kind for kind in EXACT_FORMATS if kind != "WEBP"), "JPEG", "GIF"])
def test_pillows_own_limit_neither_warns_nor_refuses(monkeypatch, kind):
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
def test_where_a_plugin_itself_keeps_pillows_limit_the_error_says_so(monkeypatch, kind):
    data = encoded(PICTURE, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    if kind == "WEBP" and int(PIL.__version__.split(".")[0]) < 13:  # the first whose WebP keeps the limit
        assert read_image(data).shape == (6, 10, 3)
        return
    with pytest.raises(ImageReadError, match=r"<bytes>: .*60 pixels\) exceeds limit of 10 pixels"):
        read_image(data)


def test_pillows_switches_stay_as_they_are():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    read_image(encoded(PICTURE, "PNG"))
    with pytest.raises(ImageReadError):
        read_image(encoded(PICTURE, "PNG")[:-40])
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


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
def test_what_is_no_picture_is_named_with_its_reason(content, reason, tmp_path):
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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing.jpg", r"nothing\.jpg: there is no such file"),
        (".", "is a folder, not a file"),
        ("photo\0.jpg", r"cannot be opened .*null"),
        ("long" * 100, "cannot be opened"),
        ("pipe.jpg", "not a regular file"),  # and does not hang the reader
        pytest.param("/proc/self/mem", r"^/proc/self/mem: cannot be read \(Input/output error\)$",
                     marks=pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no such file system")),
    ],
)  # fmt: skip
def test_a_file_that_is_missing_or_cannot_be_read_is_named(name, says, tmp_path):
    if name == "pipe.jpg":
        os.mkfifo(tmp_path / name)
    with pytest.raises(ImageReadError, match=says):
        read_image(f"{tmp_path}/{name}" if not name.startswith("/") else name)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    file = tmp_path / "secret.png"
    file.write_bytes(encoded(PICTURE, "PNG"))

    def refuse(*_):  # chmod does not stop an administrator
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageReadError, match=r"secret\.png: cannot be opened \(Permission denied\)"):
        read_image(file)


class FailingDisk(io.BytesIO):
    """A file of which only the first so many reads succeed."""

    def __init__(self, content, good_reads):
        super().__init__(content)
        self.good_reads = good_reads

    def read(self, size=-1):
        if not self.good_reads:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.good_reads -= 1
        return super().read(size)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_disk_that_fails_at_any_read_is_an_error_with_the_files_name(tmp_path, monkeypatch, read):
    file, content, enough = tmp_path / "photo.png", encoded(PICTURE, "PNG"), 1000
    file.write_bytes(content)
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


@pytest.mark.parametrize("source", [None, 7, ["a.jpg"], torch.zeros(3, 4, 4), io.BytesIO()])
def test_other_objects_are_refused_by_their_kind(source):
    with pytest.raises(ImageReadError, match=f"<{type(source).__name__}>: is not a picture; give a path"):
        read_image(source)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "QOI", "AVIF", "JPEG2000", "PPM", HEIF])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_cut_short_anywhere_is_an_error_and_nothing_else(kind):
    data = encoded(noise(20, 20, 1), kind)
    for length in {*range(0, len(data) // 2, max(len(data) // 60, 1)), len(data) // 2}:
        with pytest.raises(ImageReadError):
            read_image(data[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "QOI", "PPM", HEIF])
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_picture_or_an_error_and_nothing_else(kind, data):
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
def test_whatever_a_decoder_throws_is_one_error(thrown, monkeypatch):
    def fail(*_):
        raise thrown("first line\nsecond line")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageReadError, match=r"<bytes>: is corrupt or cut short \(.*first line") as raised:
        read_image(encoded(PICTURE, "PNG"))
    assert isinstance(raised.value.__cause__, thrown)


def test_the_error_crosses_process_borders():
    error = pickle.loads(pickle.dumps(ImageReadError("photo.jpg", "is empty")))
    assert (error.source, error.reason, str(error)) == ("photo.jpg", "is empty", "photo.jpg: is empty")


# PIL images and arrays


def test_a_pil_image_is_neither_changed_nor_closed(counted_notices):
    with Image.open(io.BytesIO(film("GIF"))) as image:
        image.seek(1)
        assert (read_image(image) == (0, 250, 0)).all()
        assert image.tell() == 1
        image.seek(0)
        assert (read_image(image) == (250, 0, 0)).all()
    for image in (Image.new("P", (3, 2)), Image.new("RGBA", (3, 2), (1, 2, 3, 4)), Image.new("I", (3, 2), 500)):
        mode, info, content = image.mode, dict(image.info), image.tobytes()
        read_image(image)[:] = 9
        assert (image.mode, image.info, image.tobytes()) == (mode, info, content)


def test_a_pil_image_that_is_closed_or_empty_is_an_error():
    image = Image.open(io.BytesIO(encoded(PICTURE, "PNG")))
    image.close()
    with pytest.raises(ImageReadError, match="<PIL image>: is corrupt or cut short"):
        read_image(image)
    with pytest.raises(ImageReadError, match="<PIL image>: has no pixels"):
        read_image(Image.new("RGB", (0, 5)))


ARRAYS = {
    "uint8": PICTURE,
    "strided": PICTURE[:, ::-1][:, ::-1],
    "fortran": np.asfortranarray(PICTURE),
    "float32": PICTURE / np.float32(255),
    "float64": PICTURE / 255,
    "uint16": PICTURE.astype(np.uint16) * 257,
    "big endian": (PICTURE.astype(np.uint16) * 257).astype(">u2"),
    "rgba": np.dstack([PICTURE, np.full((6, 10), 255, np.uint8)]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_one_picture_are_the_same_picture(array):
    image = read_image(array)
    assert np.array_equal(image, PICTURE)
    assert_a_picture_of_its_own(image)
    assert not np.shares_memory(image, array)


def test_grey_and_boolean_arrays_become_grey_rgb():
    for array in (GREY, GREY[..., None], (GREY / 255).astype(np.float16)):
        assert np.array_equal(read_image(array), rgb(GREY))
    assert np.array_equal(read_image(GREY > 99), rgb(np.where(GREY > 99, 255, 0)))


def test_the_alpha_of_an_array_is_composited_over_white():
    alpha = np.linspace(0, 1, 60).reshape(6, 10)
    assert distance(read_image(np.dstack([PICTURE / 255, alpha])), over_white(PICTURE, alpha * 255)) <= 1.5


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
def test_arrays_that_are_no_picture_are_refused(array, reason):
    with pytest.raises(ImageReadError, match=f"<array>: .*{reason}"):
        read_image(array)


def test_floats_that_overshoot_by_rounding_are_white_and_black():
    assert read_image(np.array([[-1e-6, 1 + 1e-6]]))[0, :, 0].tolist() == [0, 255]


def in_threads(count, read):
    """Read at once in so many threads."""
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: (barrier.wait(), read())[1], range(count)))


def test_many_threads_read_at_once(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    good.write_bytes(encoded(PICTURE, "PNG"))
    bad.write_bytes(encoded(PICTURE, "JPEG")[:200])

    def read():
        for _ in range(20):
            assert np.array_equal(read_image(good), PICTURE)
            with pytest.raises(ImageReadError):
                read_image(bad)

    in_threads(8, read)


def test_many_threads_read_one_pil_image_at_once():
    content = encoded(noise(700, 700, 4), "JPEG")
    expected = read_image(content)
    for _ in range(5):
        image = Image.open(io.BytesIO(content))
        assert all(np.array_equal(seen, expected) for seen in in_threads(6, lambda image=image: read_image(image)))


def test_what_a_picture_will_take_is_told_before_it_is_decoded(monkeypatch):
    told = []
    for source in (encoded(GREY, "PNG"), Image.fromarray(PICTURE), GREY):
        assert read_image(source, reserve=told.append).nbytes == told[-1] == 6 * 10 * 3
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was decoded"))

    def refuse(_):
        raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        read_image(encoded(PICTURE, "PNG"), reserve=refuse)


def test_a_stack_of_pictures_is_many_and_a_picture_is_one():
    for one in ("a.png", Path("a.png"), b"", Image.new("L", (1, 1)), PICTURE, GREY, GREY[..., None]):
        assert images.is_one_picture(one)
    for many in (["a.png"], iter(()), PICTURE[None], np.zeros((2, 5, 7), np.uint8)):
        assert not images.is_one_picture(many)


def test_reading_does_not_wait_for_torch():
    code = "import sys, wordmask.pictures.images; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Folders


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_found_in_the_order_of_sorted_paths(tmp_path, counted_notices):
    names = ["b.PNG", "a.jpg", "a/z.JPeG", "a/b/c.webp", "c d/ü.tiff", "z.gif", "a.b/x.bmp"]
    touch(tmp_path, *names, "notes.txt", ".hidden.jpg", ".git/x.jpg", "a/.cache/y.png", "jpg", "movie.mp4")
    (tmp_path / "folder.jpg").mkdir()
    assert list(find_images(tmp_path)) == sorted(tmp_path / name for name in names)
    assert list(find_images(str(tmp_path))) == list(find_images(tmp_path))


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path):
    touch(tmp_path, "pictures/near.png", "elsewhere/far.png")
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    links = {"link": elsewhere, "again": elsewhere, "up": tmp_path, "here": pictures}
    links |= {"circle.png": pictures / "circle.png", "dangling.png": tmp_path / "nowhere.png"}
    for name, target in {**links, "picture.png": elsewhere / "far.png"}.items():
        (pictures / name).symlink_to(target)
    (pictures / "dangling.txt").symlink_to(tmp_path / "nowhere.txt")
    passed = []
    found = [path.relative_to(pictures).as_posix() for path in find_images(pictures, on_passed=passed.append)]
    assert found == ["again/far.png", "near.png", "picture.png"]
    nowhere = "is a link that leads nowhere"
    assert [(Path(each.source).name, each.reason) for each in passed] == [
        ("circle.png", nowhere),
        ("dangling.png", nowhere),
    ]


def test_a_folder_is_listed_only_when_it_is_reached(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    found = find_images(tmp_path)
    assert next(found).name == "1.png"
    (tmp_path / "b/3.png").touch()
    assert [path.name for path in found] == ["2.png", "3.png"]


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """A folder that may not be listed, and pictures beside it."""
    touch(tmp_path, "a/1.png", "secret/2.png", "z/3.png")
    scandir = os.scandir

    def refuse(folder):  # chmod does not stop an administrator
        if Path(folder).name == "secret":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    return tmp_path / "secret"


def test_a_folder_that_may_not_be_listed_is_reported_and_its_neighbours_are_searched(secret):
    bad = []
    assert [path.name for path in find_images(secret.parent, bad.append)] == ["1.png", "3.png"]
    assert [str(error) for error in bad] == [f"{secret}: cannot be looked into (Permission denied)"]
    with pytest.warns(UserWarning, match=r"left out: .*secret: cannot be looked into"):
        assert len(list(find_images(secret.parent))) == 2


def test_a_folder_asked_for_that_is_none_or_may_not_be_listed_is_refused_at_once(secret):
    for name, says in (
        ("secret", r"secret: cannot be looked into \(Permission denied\)"),
        ("a/1.png", "is not a folder"),
        ("nothing", "there is no such folder"),
    ):
        with pytest.raises(ImageReadError, match=says):
            find_images(secret.parent / name)


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
def test_the_papers_size_of_shorter_side_448_and_longer_at_most_2048(size, expected):
    assert size_with_shorter_side(*size, 448, 2048) == expected


sides = st.integers(1, 20_000)


@UNHURRIED
@given(sides, sides, st.integers(1, 2000))
def test_the_named_side_gets_its_length(height, width, length):
    assert min(size_with_shorter_side(height, width, length)) == length
    assert max(size_with_longer_side(height, width, length)) == length


@UNHURRIED
@given(sides, sides, st.integers(1, 2000), st.integers(1, 2000))
def test_sizes_keep_the_shape_fit_and_are_never_nothing(height, width, rows, columns):
    new = size_with_shorter_side(height, width, rows, columns)
    assert 1 <= min(new) <= rows
    assert 1 <= max(new) <= columns
    assert min(new) == rows or max(new) == columns
    scale = min(rows / min(height, width), columns / max(height, width))
    assert abs(new[0] - max(height * scale, 1)) <= 0.5 + 1e-9
    assert abs(new[1] - max(width * scale, 1)) <= 0.5 + 1e-9


@UNHURRIED
@given(sides, sides, sides)
def test_only_shrink_never_enlarges(height, width, longer):
    small = size_with_longer_side(height, width, longer, only_shrink=True)
    assert small[0] <= height
    assert small[1] <= width
    assert small in (size_with_longer_side(height, width, longer), (height, width))


# Tensors


def test_to_tensor_is_channels_first_from_zero_to_one_of_any_array():
    tensor = to_tensor(PICTURE)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, 6, 10), torch.float32, True)
    assert torch.equal(tensor, torch.from_numpy(PICTURE.copy()).permute(2, 0, 1) / 255)
    frozen = PICTURE.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(to_tensor(frozen), tensor)
        assert torch.equal(to_tensor(PICTURE[::-1]), tensor.flip(1))


@pytest.mark.parametrize("size", [(448, 597), (100, 133), (60, 500), (375, 500)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_bytes_is_resizing_numbers_to_within_a_grey_level(size, antialias):
    picture = noise(375, 500, 2)
    exact = interpolate(to_tensor(picture)[None], size, mode="bilinear", antialias=antialias)[0]
    assert (to_tensor(picture, size, antialias=antialias) - exact).abs().max() * 255 <= 1.01
    floats = resize(to_tensor(picture), size, antialias=antialias)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resizing_bytes_is_what_pillow_does(mode):
    picture = noise(97, 120, 3)
    pillow = Image.fromarray(picture).resize((64, 50), Image.Resampling[mode.upper()])
    ours = (to_tensor(picture, (50, 64), mode=mode) * 255).permute(1, 2, 0).numpy()
    assert distance(ours, np.asarray(pillow)) < 1.5


def test_resizing_keeps_leading_dimensions_and_type_and_what_has_the_size_already():
    assert resize(torch.zeros(2, 5, 3, 8, 8), (4, 6)).shape == (2, 5, 3, 4, 6)
    assert resize(torch.full((3, 8, 8), 255, dtype=torch.uint8), (20, 3), mode="bicubic").unique().tolist() == [255]
    image = to_tensor(PICTURE)
    assert resize(image, (6, 10)) is image


@UNHURRIED
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_padding_reaches_the_next_multiple_and_keeps_the_picture(height, width, multiple):
    batch = torch.ones(2, 1, height, width)
    padded = pad_to_multiple(batch, multiple)
    assert padded.shape[2:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    assert (padded[:, :, :height, :width] == 1).all()
    assert padded.sum() == batch.numel()
    if padded.shape == batch.shape:
        assert padded is batch
