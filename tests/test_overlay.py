"""Colours that stay, and labels drawn over their picture: right, in little memory, and saved whole."""

import random
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from wordmask.masks import overlay as overlay_module
from wordmask.masks import palette
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import BACKGROUND_COLOUR, colours_of
from wordmask.masks.run_lengths import count_labels
from wordmask.masks.segmentation import Segmentation, SegmentationError

NAMES = ["background", "dog", "traffic light", "Été"]
THINGS = (
    "road grass sky tree dog cat car person building chair table boat horse cow bus train bicycle bird bottle sofa "
    "window door water sand wall fence flower cloud lamp book cup plate bed clock"
)
EVERYDAY = THINGS.split()


def some_names(dice, seed, count):
    """Of things of every day and invented ones by turns."""
    everyday = seed % 2 and count <= len(EVERYDAY)
    return dice.sample(EVERYDAY, count) if everyday else [f"name {seed} {i}" for i in range(count)]


@pytest.fixture
def result() -> Segmentation:
    labels = np.zeros((30, 40), dtype=np.uint8)
    labels[5:15, 5:25] = 1
    labels[20:, :10] = 2
    return Segmentation(labels, NAMES, image=np.full((30, 40, 3), 128, dtype=np.uint8))


def test_a_name_that_is_added_changes_no_colour_before_it():
    dice = random.Random(0)
    for _ in range(20):
        names = dice.sample(EVERYDAY, 21)
        assert colours_of(names)[:20] == colours_of(names[:20])
        assert colours_of([*names, "background"])[:21] == colours_of(names)


@pytest.mark.parametrize(("count", "apart"), [(3, 0.25), (4, 0.2), (8, 0.16), (20, 0.12), (30, 0.08)])
def test_the_fewer_names_the_further_apart_their_colours(count, apart):
    dice = random.Random(1)
    for seed in range(50):
        colours = colours_of(some_names(dice, seed, count))
        assert least_distance(oklab(colours)) > 0.98 * apart  # whole numbers of red, green and blue


def test_upper_case_and_background_change_no_colour_and_background_is_grey():
    assert colours_of([name.upper() for name in EVERYDAY]) == colours_of(EVERYDAY)
    [dog] = colours_of(["dog"])
    assert colours_of(["background", "dog"]) == colours_of(["dog", "Background"])[::-1] == [BACKGROUND_COLOUR, dog]


def test_the_colours_of_today_are_those_of_tomorrow():
    assert colours_of(["dog", "grass", "sky"]) == [(228, 99, 100), (121, 222, 225), (127, 40, 216)]


def test_twenty_names_and_background_have_colours_apart_to_the_eye_a_hundred_still_and_a_thousand_differ():
    dice = random.Random(2)
    for seed in range(20):
        colours = colours_of([*some_names(dice, seed, 20), "background"])
        assert least_distance(np.array(colours, dtype=float)) > 20
        assert least_distance(oklab(colours)) > 0.075
    assert least_distance(oklab(colours_of([str(i) for i in range(100)]))) > 0.035
    assert len(set(colours_of([str(i) for i in range(1000)]))) == 1000
    assert len(colours_of([str(i) for i in range(2000)])) == 2000


def least_distance(points: np.ndarray) -> float:
    return float((np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))).min())


def oklab(colours: list[palette.Colour]) -> np.ndarray:
    """sRGB to OKLab by Ottosson's forward matrices, so that the palette's inverse ones are checked."""
    srgb = np.array(colours) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(to_cones)) @ np.transpose(to_lab)


def plain_overlay(image, labels, colours, hidden, opacity):
    """Pixel by pixel, in floats."""
    height, width = labels.shape

    def around(y, x):
        places = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        return [(v, u) for v, u in places if 0 <= v < height and 0 <= u < width]

    def is_edge(y, x):
        return any(labels[place] != labels[y, x] for place in around(y, x))

    drawn = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            colour = np.array(colours[labels[y, x]], dtype=float)
            if labels[y, x] in hidden:
                drawn[y, x] = image[y, x]
            elif is_edge(y, x):
                drawn[y, x] = 0.35 * colour
            elif any(is_edge(*place) for place in around(y, x)):
                drawn[y, x] = 0.4 * colour + 0.6 * 255
            else:
                drawn[y, x] = (1 - opacity) * image[y, x] + opacity * colour
    return drawn


@pytest.mark.parametrize("strip", [1, 60, 130, 10**6])
@pytest.mark.parametrize(("hidden", "opacity"), [((0,), 0.55), ((), 1.0), ((1, 3), 0.0), ((0,), 0.3)])
def test_strips_of_any_height_give_the_pixels_of_the_plain_drawing(strip, hidden, opacity, monkeypatch):
    monkeypatch.setattr(overlay_module, "STRIP_PIXELS", strip)
    dice = np.random.default_rng(0)
    labels = np.kron(dice.integers(0, 4, (6, 5)), np.ones((7, 6), int))  # (42, 30)
    labels[20, 3:9] = 3
    image = dice.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    colours = colours_of(NAMES)
    drawn = np.asarray(draw_overlay(image, labels, NAMES, colours, hidden=hidden, opacity=opacity, legend=False))
    assert np.abs(drawn - plain_overlay(image, labels, colours, hidden, opacity)).max() <= 1
    clear = np.isin(labels, hidden)
    assert np.array_equal(drawn[clear], image[clear])


def test_drawing_takes_little_memory_beside_the_result():
    labels = np.zeros((1500, 2000), np.uint8)
    labels[:, 700:] = 1
    result = Segmentation(labels, NAMES, image=np.zeros((1500, 2000, 3), np.uint8))
    tracemalloc.start()
    result.overlay()
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20  # whole-picture floats would be 36 MB each
    tracemalloc.stop()


def test_counting_in_strips_misses_no_pixel(monkeypatch):
    monkeypatch.setattr(overlay_module, "STRIP_PIXELS", 70)
    labels = np.random.default_rng(0).integers(0, 5, (23, 31))
    assert np.array_equal(count_labels(labels, 7), np.bincount(labels.ravel(), minlength=7))


def test_what_cannot_be_drawn_or_saved_is_refused_with_the_value(result, tmp_path):
    with pytest.raises(ValueError, match="opacity must be from 0 to 1, not 55"):
        result.overlay(opacity=55)
    with pytest.raises(SegmentationError, match="the picture has 41 x 30 pixels, the segmentation 40 x 30"):
        result.overlay(Image.new("RGB", (41, 30)))
    with pytest.raises(SegmentationError, match="does not hold its picture"):
        Segmentation(result.labels, NAMES).overlay()
    with pytest.raises(SegmentationError, match=r"a\.gif: overlays are saved as \.jpg or \.png, not '\.gif'"):
        result.save_overlay(tmp_path / "a.gif")


@pytest.mark.parametrize("brightness", [0, 255])
def test_an_overlay_shows_on_black_and_on_white(result, brightness):
    drawn = np.asarray(result.overlay(np.full((30, 40, 3), brightness, np.uint8), legend=False)).astype(int)
    outside = drawn[2, 35]
    assert np.array_equal(outside, [brightness] * 3)  # background stays clear
    assert np.abs(drawn[10, 15] - outside).max() > 60
    # The dark line, or the light one beside it, stands out from what lies outside.
    assert np.abs(drawn[5:7, 10] - outside).max() > 90


def test_the_legend_stands_beneath_the_picture_of_one_pixel_or_a_thousand_names(result):
    assert (result.overlay().width, result.overlay().height > 30) == (40, True)
    Segmentation(np.zeros((1, 1), np.uint8), ["a"], image=np.zeros((1, 1, 3), np.uint8)).overlay()
    names = [f"a long name of a thing {i}" for i in range(1000)]
    image = np.zeros((20, 50, 3), np.uint8)
    assert Segmentation(np.arange(1000).reshape(20, 50), names, image=image).overlay().height > 1000


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_a_picture_of_any_mode_is_drawn_on(result, mode, tmp_path):
    picture = Image.new("RGB", (40, 30), "white").convert(mode)
    expected = np.asarray(result.overlay(np.full((30, 40, 3), 255, np.uint8)))
    assert np.array_equal(np.asarray(result.overlay(picture)), expected)
    picture.save(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(result.overlay(tmp_path / "photo.png")), expected)


@pytest.mark.parametrize(("name", "format"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.png", "PNG")])
def test_an_overlay_is_saved_by_its_suffix(result, name, format, tmp_path):
    result.save_overlay(tmp_path / name, opacity=0.8, legend=False)
    with Image.open(tmp_path / name) as file:
        assert (file.format, file.size) == (format, (40, 30))
        drawn = np.asarray(result.overlay(opacity=0.8, legend=False)).astype(int)
        assert np.abs(np.asarray(file) - drawn).mean() < (8 if format == "JPEG" else 1e-9)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_overlay_too_tall_for_jpeg_names_its_size_and_the_way_out(tmp_path):
    labels = np.zeros((65_501, 1), np.uint8)
    tall = Segmentation(labels, ["dog"], image=labels[..., None].repeat(3, -1))
    message = r"a\.jpg: the overlay has 1 x 65501 .* at most 65500: save it as \.png"
    with pytest.raises(SegmentationError, match=message):
        tall.save_overlay(tmp_path / "a.jpg", legend=False)
    assert not list(tmp_path.iterdir())
    tall.save_overlay(tmp_path / "a.png", legend=False)
    with Image.open(tmp_path / "a.png") as file:
        assert file.size == (1, 65_501)


def test_a_failed_save_of_an_overlay_leaves_nothing(result, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wordmask.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        result.save_overlay(tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())
