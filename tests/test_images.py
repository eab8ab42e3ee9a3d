"""Reading pictures of every kind, as they are meant to look."""

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.picture_files import (
    EXACT_FORMATS,
    FRAMES,
    GREY,
    HEIF,
    MODES,
    ORIENTATION,
    PICTURE,
    assert_a_picture_of_its_own,
    distance,
    encoded,
    exif_of,
    film,
    noise,
    over_white,
    png_of_sixteen_bits,
    rgb,
    with_exif_after_the_pixels,
)
from wordmask.pictures import images
from wordmask.pictures.images import (
    ImageReadError,
    image_size,
    read_image,
)

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
