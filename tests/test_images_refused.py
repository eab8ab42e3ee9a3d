"""What is too large, damaged or no picture is refused, and named."""

import errno
import io
import os
import pickle
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from support.picture_files import (
    EXACT_FORMATS,
    HEIF,
    PICTURE,
    encoded,
    noise,
    png_of,
)
from wordmask.errors import WordmaskError
from wordmask.pictures import images
from wordmask.pictures.images import (
    ImageReadError,
    image_size,
    read_image,
)

# How large


def test_a_header_that_declares_a_giant_fails_at_once():
    giant = png_of(100_000, 90_000, 8, 2, b"\0" * 100)
    read_image(encoded(PICTURE, "PNG"))  # so that Pillow's plugins are there
    start = time.process_time()
    with pytest.raises(ImageReadError) as raised:
        read_image(giant)
    assert time.process_time() - start < 0.5
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
