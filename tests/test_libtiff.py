"""A damaged TIFF is an error in Python, and not a line that a C library prints to stderr."""

import ctypes
import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from wordmask.pictures.beyond_pillow import _setters, silent_libtiff
from wordmask.pictures.images import ImageReadError, read_image

pytestmark = pytest.mark.skipif(not _setters(), reason="this Pillow hides its libtiff")


def damaged(compression):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression=compression)
    content = bytearray(buffer.getvalue())
    content[len(content) // 4 : len(content) // 2] = b"\xff" * (len(content) // 2 - len(content) // 4)
    return bytes(content)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_libtiff_prints_nothing(compression, capfd):
    with pytest.raises(Exception, match="decoder error"):
        Image.open(io.BytesIO(damaged(compression))).load()
    assert capfd.readouterr().err  # as Pillow alone has it
    with pytest.raises(ImageReadError, match="corrupt"):
        read_image(damaged(compression))
    assert capfd.readouterr().err == ""


def test_a_command_does_not_hear_pillows_log_either(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"  # SamplesPerPixel, a SHORT, one of them
    (tmp_path / "bad.tif").write_bytes(buffer.getvalue().replace(samples + b"\x03\x00", samples + b"\x00\x08"))
    code = f"""
from wordmask.console import quiet_log
from wordmask.pictures.images import ImageReadError, read_image
{{}}
try:
    read_image({str(tmp_path / "bad.tif")!r})
except ImageReadError:
    print("an error")
"""
    heard = {}
    for call in ("", "quiet_log()"):
        command = [sys.executable, "-c", code.format(call)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "an error\n"
        heard[call] = done.stderr
    assert heard == {"": "More samples per pixel than can be decoded: 2048\n", "quiet_log()": ""}


def test_handlers_of_others_are_theirs_again(capfd):
    said = []
    handler_type = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    mine = handler_type(lambda module, message, rest: said.append(message))
    before = _setters()[0](ctypes.cast(mine, ctypes.c_void_p))
    try:
        with pytest.raises(ImageReadError):
            read_image(damaged("tiff_lzw"))
        assert not said
        with pytest.raises(OSError, match="decoder error"):
            Image.open(io.BytesIO(damaged("tiff_lzw"))).load()
        assert said
    finally:
        _setters()[0](before)


def test_it_is_silent_until_the_last_thread_is_done(capfd):
    content, inside, out = damaged("tiff_lzw"), threading.Event(), threading.Event()

    def long():
        with silent_libtiff():
            inside.set()
            out.wait(10)
            with pytest.raises(OSError, match="decoder error"):
                Image.open(io.BytesIO(content)).load()

    thread = threading.Thread(target=long)
    thread.start()
    inside.wait(10)
    with silent_libtiff():
        pass
    out.set()
    thread.join()
    assert capfd.readouterr().err == ""
