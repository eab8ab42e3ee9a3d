"""What a file will cost is counted from its structure, and no honest file is kept out."""

import io
import itertools
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageCms, PngImagePlugin

from support.costly_pictures import COSTLY, JPEG, PROGRESSIVE, chunk, encoded, exif, photo, png, scan, tiff, with_scans
from wordmask.pictures.costs import CostlyPictureError, check_costs
from wordmask.pictures.image_files import ImageReadError, format_by_magic, image_size, opened
from wordmask.pictures.images import read_image

SECONDS = 0.3
"""Of the processor, for 20 MB; a tenth of it where nothing else runs."""


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_more_than_its_pixels_is_refused_at_once(name: str, tmp_path) -> None:
    content, reason = COSTLY[name]()
    (tmp_path / "picture").write_bytes(content)
    read_image(JPEG)  # so that Pillow's plugins are there
    for source in (content, tmp_path / "picture"):
        for read in (read_image, image_size):
            start = time.process_time()
            with pytest.raises(ImageReadError, match=reason):
                read(source)
            assert time.process_time() - start < SECONDS


def test_exif_that_lies_on_itself_is_left_alone_where_the_picture_can_be_read_without_it(caplog) -> None:
    content = png(chunk(b"eXIf", exif(3000, 1_000_000)[6:]))
    assert read_image(content).shape == (8, 8, 3)
    assert "EXIF cannot be read (has tags of 3000000000 bytes" in caplog.text


def test_a_directory_of_tiff_that_leads_to_itself_is_read_once() -> None:
    whole = tiff({}, bytes(8192))
    entries = struct.unpack_from("<H", whole, 8)[0]
    content = bytearray(whole)
    struct.pack_into("<L", content, 10 + 12 * entries, 8)
    assert read_image(bytes(content)).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_of_a_format_that_is_refused_only_the_magic_number_is_read(kind: str, monkeypatch) -> None:
    content = encoded(photo(), kind)
    monkeypatch.setattr(GifImagePlugin, "GifImageFile", None)
    monkeypatch.setitem(Image.OPEN, kind, (pytest.fail, Image.OPEN[kind][1]))
    assert format_by_magic(content, "<bytes>") == kind


# Honest files


def test_a_hundred_scans_are_read_as_before() -> None:
    assert PROGRESSIVE.count(b"\xff\xda") == 10
    assert read_image(with_scans(90)).shape == read_image(PROGRESSIVE).shape
    with pytest.raises(ImageReadError, match="100 scans"):
        read_image(with_scans(91))


def test_what_follows_a_jpeg_or_lies_in_its_segments_is_not_counted() -> None:
    scans = scan([1], 1, 63, 0x10) * 500
    for content in (
        JPEG + scans,  # as cameras put films and second pictures there
        JPEG[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(scans)) + scans + JPEG[2:],
        JPEG[:-2] + b"\xff\xfe" + struct.pack(">H", 2 + len(scans)) + scans + JPEG[-2:],
    ):
        assert np.array_equal(read_image(content), read_image(JPEG))


@pytest.mark.parametrize("fill", [1, 7, 60_000])
def test_fill_bytes_between_segments_are_allowed(fill: int) -> None:
    content = JPEG[:2] + b"\xff" * fill + JPEG[2:-2] + b"\xff" * fill + JPEG[-2:]
    assert np.array_equal(read_image(content), read_image(JPEG))


@pytest.mark.parametrize("fill", [300_000, 3_000_000])
@pytest.mark.parametrize("content", [JPEG, PROGRESSIVE])
def test_fill_bytes_behind_the_end_are_allowed_and_those_before_are_not(content: bytes, fill: int) -> None:
    assert np.array_equal(read_image(content + b"\xff" * fill), read_image(content))  # as cards are padded
    for before in (content[:-2] + b"\xff" * fill + content[-2:], content[:-2] + b"\xff" * fill):
        with pytest.raises(ImageReadError, match="fill bytes"):
            read_image(before)


TIFF_MODES = {"jpeg": ("L", "RGB", "CMYK"), **dict.fromkeys(("group3", "group4", "tiff_ccitt"), "1")}
"""With other modes libtiff ends the process."""


def honest() -> Iterator[tuple[str, bytes]]:
    """Files of every encoder that Pillow has, in its modes and settings."""
    rgb = photo(72, 104)
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    modes = {mode: rgb.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "F", "I")}
    modes |= {"RGBA": alpha, "LA": alpha.convert("LA"), "PA": alpha.convert("PA"), "I;16": deep}
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() * 200  # in several segments
    camera = Image.Exif()
    camera[0x0112], camera[0x010F] = 6, "camera" * 1000
    camera.get_ifd(0x8769)[0x9286] = b"comment" * 3000
    told = {"exif": camera.tobytes(), "icc_profile": profile, "xmp": b"<x/>" * 9000}
    settings: dict[str, list[dict]] = {
        "JPEG": [
            *({"quality": q, "progressive": p, "optimize": o} for q in (1, 75, 100) for p in (0, 1) for o in (0, 1)),
            *({"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (0, 1)),
            *({"restart_marker_blocks": n, "progressive": p} for n in (1, 5) for p in (0, 1)),
            *({"restart_marker_rows": 1, "smooth": 50}, {"keep_rgb": True}, {"dpi": (300, 300)}),
            *({"comment": b"c" * 60_000}, told | {"comment": b"c"}, {"qtables": "web_high"}),
        ],
        "MPO": [frames],
        "PNG": [
            *({"compress_level": level} for level in (0, 1, 9)),
            *({"optimize": True}, {"bits": 4}, {"transparency": 0}, frames, told, {"dpi": (72, 72)}),
            {"pnginfo": _texts()},
        ],
        "GIF": [{}, {"interlace": 0}, frames, {"comment": b"c" * 9000}, {"transparency": 3}, {"optimize": True}],
        "WEBP": [{}, {"lossless": True}, {"quality": 1, "method": 0}, {"quality": 100, "method": 6}, frames, told],
        "TIFF": [
            *({"compression": name} for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate")),
            *({"compression": name} for name in ("jpeg", "lzma", "zstd", "group3", "group4", "tiff_ccitt")),
            *({"compression": name, "strip_size": 64} for name in (None, "tiff_lzw")),
            *({"big_tiff": True}, frames, told, {"tiffinfo": {270: "told" * 9000, 37000: "private" * 9000}}),
        ],
        "BMP": [{}],
        "AVIF": [{"speed": 10}, {"speed": 10, "subsampling": "4:4:4"}, {"speed": 10} | told, {"speed": 10} | frames],
        "JPEG2000": [
            *({"tile_size": (64, 64)}, {"tile_size": (16, 16), "num_resolutions": 2}, {"no_jp2": True}, {}),
            *({"codeblock_size": size} for size in ((4, 4), (64, 64), (32, 8))),
            *({"progression": order} for order in ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")),
            *({"quality_layers": [40, 20, 10], "quality_mode": "rates"}, {"irreversible": True}, {"mct": 1}),
            *({"precinct_size": (64, 64), "plt": True}, {"comment": "c" * 9000}, {"offset": (0, 0), "signed": False}),
        ],
        "PPM": [{}],
        "QOI": [{}],
    }
    for kind, options in settings.items():
        for (mode, image), chosen in itertools.product(modes.items(), options):
            if mode not in TIFF_MODES.get(chosen.get("compression"), mode):
                continue
            try:
                yield f"{kind} {mode} {chosen}"[:100], encoded(image, kind, **chosen)
            except Exception:  # not for this mode, which each encoder says in its own way
                continue


def _texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for number in range(20):
        texts.add_text(f"key {number}", "value" * 2000, zip=number % 2 == 0)
        texts.add_itxt(f"ключ {number}".encode(), "значение" * 2000, zip=number % 2 == 0)
    return texts


@pytest.fixture(scope="module")
def honest_files() -> list[tuple[str, bytes]]:
    return list(honest())


@pytest.mark.filterwarnings("ignore")
def test_no_honest_file_is_refused(honest_files) -> None:
    assert len(honest_files) > 600
    for name, content in honest_files:
        with opened(content, name) as image, Image.open(io.BytesIO(content)) as own:
            assert (image.size, image.mode) == (own.size, own.mode), name


def test_a_tiled_tiff_is_read() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (4, 4, 16, 16), dtype=np.uint8)  # (down, across, 16, 16)
    places = b"".join(struct.pack("<L", 8 + 256 * n) for n in range(16))
    whole = tiff({322: (4, 1, 16), 323: (4, 1, 16), 324: (4, 16, places), 325: (4, 16, bytes(64)), 278: (4, 1, 16)})
    # The pixels go between the header and the directory, where the tiles are said to be.
    content = _without_strips(whole, tiles.tobytes())
    assert np.array_equal(read_image(content)[..., 0], tiles.transpose(0, 2, 1, 3).reshape(64, 64))


def _without_strips(whole: bytes, pixels: bytes) -> bytes:
    """A TIFF without the tags of strips, whose pixels lie before its directory."""
    entries = struct.unpack_from("<H", whole, 8)[0]
    kept = []
    for tag, kind, count, value in struct.iter_unpack("<HHLL", whole[10 : 10 + 12 * entries]):
        if tag not in (273, 278, 279):
            is_behind = count * {1: 1, 3: 2, 4: 4}[kind] > 4
            kept.append(struct.pack("<HHLL", tag, kind, count, value + len(pixels) * is_behind))
    directory = struct.pack("<H", len(kept)) + b"".join(kept) + bytes(4)
    behind = 10 + 12 * entries + 4
    return b"II*\0" + struct.pack("<L", 8 + len(pixels)) + pixels + directory.ljust(behind - 8, b"\0") + whole[behind:]


@pytest.mark.filterwarnings("ignore")
def test_damage_is_left_to_the_decoder(honest_files) -> None:
    """Whatever is cut or overwritten, counting ends, and with no error but its own."""
    rng = np.random.default_rng(5)
    for name, content in honest_files[::5]:
        kind = name.split()[0].replace("MPO", "JPEG")
        for _ in range(25):
            damaged = bytearray(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)
            for place in rng.integers(0, min(len(damaged), 600), rng.integers(1, 6)):
                damaged[place] = rng.choice([0, 1, 127, 255, rng.integers(256)])
            try:
                check_costs(io.BytesIO(bytes(damaged)), kind)
            except CostlyPictureError:
                continue
