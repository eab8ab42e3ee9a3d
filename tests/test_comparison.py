"""Several methods on one sheet: what is drawn where, and the command that draws it."""

import json

import numpy as np
import pytest
from PIL import Image

from support.small_clip import small_clip
from wordmask import segmenters
from wordmask.masks.comparison import CELL_SIDES, cell_size, draw_cell, draw_sheet, shrunk
from wordmask.masks.palette import colours_of
from wordmask.masks.segmentation import Segmentation
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

NAMES = ["dog", "grass", "background"]


def halves(height=120, width=160, left=0, right=1, grain=0):
    labels = np.full((height, width), left, np.uint8)
    labels[:, width // 2 :] = right
    image = 128 + np.random.default_rng(0).integers(-grain, grain + 1, (height, width, 3))
    return Segmentation(labels, list(NAMES), image=image.astype(np.uint8))


def test_cells_are_neither_tiny_nor_huge():
    sizes = {(400, 500): (400, 500), (32, 64): (160, CELL_SIDES[0]), (4000, 6000): (427, CELL_SIDES[1])}
    sizes[1, 8000] = (1, CELL_SIDES[1])
    assert {size: cell_size(*size) for size in sizes} == sizes


def test_a_cell_is_the_overlay_of_its_method():
    drawn = draw_cell("maskclip", halves(400, 600))
    assert np.array_equal(drawn.picture, halves(400, 600).overlay(legend=False))
    assert drawn.shares == {"dog": 0.5, "grass": 0.5}


def test_background_stays_clear_in_a_large_picture_drawn_small():
    drawn = np.asarray(draw_cell("maskclip", halves(2000, 3000, left=0, right=2)).picture)
    assert drawn.shape == (427, 640, 3)
    assert (drawn[:, 330:] == 128).all()
    assert not (drawn[:, :310] == 128).all(axis=-1).any()


def find(sheet, cell):
    """Where a cell, whose pixels hardly repeat, lies on the sheet: (top, left) of every place."""
    height, width = cell.shape[:2]
    corner = (sheet[: sheet.shape[0] - height + 1, : sheet.shape[1] - width + 1] == cell[0, 0]).all(axis=-1)
    places = np.argwhere(corner).tolist()
    return [(y, x) for y, x in places if np.array_equal(sheet[y : y + height, x : x + width], cell)]


def sheet_of(*drawings, image=None):
    return draw_sheet(shrunk(halves().image if image is None else image), drawings, NAMES, colours_of(NAMES))


@pytest.mark.parametrize(("count", "size"), [(1, (120, 160)), (3, (160, 90)), (5, (20, 320)), (8, (120, 160))])
def test_every_method_is_on_the_sheet_in_its_colours(count, size):
    results = [halves(*size, left=i % 2, right=1 - i % 2, grain=100) for i in range(count)]
    drawings = [draw_cell(f"method {i}", result) for i, result in enumerate(results)]
    sheet = np.asarray(sheet_of(*drawings, image=results[0].image))
    places = [find(sheet, np.asarray(drawn.picture)) for drawn in drawings]
    assert all(places)
    assert len({place for found in places for place in found}) == count  # each once, none over another
    swatches = [(sheet == colour).all(axis=-1).sum() > 100 for colour in colours_of(NAMES)]
    assert swatches == [True, True, False]  # the legend's; no method found background


def test_a_sheet_is_about_as_wide_as_a_screen():
    for count in (1, 2, 5, 8):
        sheet = sheet_of(*[draw_cell("a", halves())] * count)
        assert 0.4 < sheet.width / sheet.height < 4


def test_a_title_too_long_for_its_cell_is_cut():
    drawn, other = (draw_cell(title, halves(grain=100)) for title in ("maskclip, " * 50, "clip-diy"))
    assert len(find(np.asarray(sheet_of(drawn, other)), np.asarray(other.picture))) == 2


@pytest.fixture
def wordmask(monkeypatch, command):
    """Segments for two names with a small CLIP: (exit status, stdout, stderr). `asked`: for which segmenters."""
    clip, asked = small_clip(), []

    def load(**options):
        asked.append(options)
        small = {"templates": "photo", "shorter_side": 32, "window": 32, "stride": 16}
        return MaskClip(clip, MaskClipSettings(**small, key_smoothing=options.get("key_smoothing", False)))

    def run(*arguments):
        return command("segment", *arguments, "--names", "dog,grass", "--fill")

    monkeypatch.setattr(segmenters, "load", load)
    run.asked = asked
    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for height, name in ((40, "a.jpg"), (48, "b.png"), (56, "deeper/c.jpg")):
        Image.fromarray(generator.integers(0, 256, (height, 60, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_a_folder_becomes_a_folder_of_sheets(wordmask, folder, tmp_path):
    methods = ("--compare", "--method", "maskclip, maskclip:key_smoothing=true")
    status, out, err = wordmask(folder, *methods, "-o", tmp_path / "out", "--set", "window=32", "--json")
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["out"] for row in rows] == [str(tmp_path / "out" / name) for name in ("a.jpg", "b.jpg", "deeper/c.jpg")]
    assert rows[0]["names"] == ["dog", "grass"]
    titles = ["maskclip", "maskclip, key_smoothing=true"]
    for row, height in zip(rows, (40, 48, 56), strict=True):
        assert list(row["methods"]) == titles
        assert all(sum(pixels.values()) == height * 60 for pixels in row["methods"].values())
        assert Image.open(row["out"]).width > 320
    asked = [(options["method"], options["window"], options.get("key_smoothing")) for options in wordmask.asked]
    assert asked == [("maskclip", 32, None), ("maskclip", 32, True)]
    one, other = (rows[0]["methods"][title] for title in titles)
    assert one != other


def test_pixels_are_those_of_the_method_alone(wordmask, folder, tmp_path):
    alone = json.loads(wordmask(folder / "a.jpg", "--json", "-o", tmp_path / "alone")[1])["pixels"]
    out = wordmask(folder, "--json", "--compare", "--method", "maskclip", "-o", tmp_path / "out")[1]
    assert json.loads(out.splitlines()[0])["methods"]["maskclip"] == alone


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("png", "PNG")])
def test_one_picture_may_go_to_one_file(wordmask, folder, tmp_path, suffix, kind):
    out = tmp_path / f"sheet.{suffix}"
    assert wordmask(folder / "a.jpg", "--compare", "-o", out)[:2] == (0, f"{out}\n")
    assert Image.open(out).format == kind


def test_a_stopped_comparison_goes_on_and_a_bad_picture_is_named(wordmask, folder, tmp_path):
    arguments = (folder, "--compare", "-o", tmp_path / "out", "--skip-done")
    (folder / "bad.jpg").write_bytes((folder / "a.jpg").read_bytes()[:100])
    status, out, err = wordmask(*arguments)
    assert (status, len(out.splitlines())) == (1, 3)
    assert "bad.jpg" in err
    assert "1 of 4 could not be segmented" in err
    (folder / "bad.jpg").unlink()
    (tmp_path / "out" / "b.jpg").unlink()
    for made in (f"{tmp_path / 'out' / 'b.jpg'}\n", ""):
        assert wordmask(*arguments)[:2] == (0, made)


def test_settings_of_one_method_may_hold_commas_and_colons(wordmask, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    methods = "clip-diy:windows=[32, 16]:overlap=0, maskclip:heads=https://example.org/heads.pt:window=32"
    wordmask(folder / "a.jpg", "--compare", "--method", methods)
    diy, mask = wordmask.asked
    assert (diy["method"], diy["windows"], diy["overlap"]) == ("clip-diy", [32, 16], 0)
    assert (mask["method"], mask["heads"], mask["window"]) == ("maskclip", "https://example.org/heads.pt", 32)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--method", "maskclip,clip-diy"], 2, "add --compare"),
        (["--method", "maskclip,,clip-diy", "--compare"], 2, "an empty name"),
        (["--method", "maskclip, maskclip", "--compare"], 2, "'maskclip' twice"),
        (["--method", "maskclip:smooth", "--compare"], 2, "KEY=VALUE, not 'smooth'"),
        (["--method", "maskclip:device=cpu", "--compare"], 2, "an option of its own"),
        (["--method", "maskclip,clip-diy", "--compare", "--weights", "x"], 2, "each bring their own"),
        (["--compare", "--runtime", "onnx"], 2, "METHOD:onnx=FILE"),
        (["--compare", "--format", "json"], 2, "--format is jpg or png"),
        (["--compare", "-o", "sheet.json"], 0, ""),
    ],
)
def test_mistakes_are_explained_in_a_line(wordmask, folder, tmp_path, monkeypatch, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    got, _, err = wordmask(folder / "a.jpg", *arguments)
    assert got == status
    assert message in err
    assert "Traceback" not in err
