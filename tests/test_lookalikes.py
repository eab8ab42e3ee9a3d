"""Files that look like pictures or films and are not read: they are told, not passed over in silence."""

import subprocess
import sys
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from wordmask.pictures.image_files import ImageReadError, find_images
from wordmask.pictures.images import read_image
from wordmask.pictures.left_out import passed_over, why_not_read

LOOKALIKES = ["clip.MP4", "a/holiday.mov", "raw.CR2", "raw.dng", "art.psd", "logo.svg", "x.tga", "new.jxl", "y.eps"]


@pytest.fixture
def folder(tmp_path):
    for name in [*LOOKALIKES, "notes.txt", "data.yaml", "README", ".hidden.mp4"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"something")
    picture = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    picture.save(tmp_path / "photo.png")
    picture.save(tmp_path / "IMG_0001", "JPEG")
    return tmp_path


def test_each_is_handed_over_with_its_reason(folder, counted_notices):
    passed: list[ImageReadError] = []
    assert [path.name for path in find_images(folder, on_passed=passed.append)] == ["photo.png"]
    assert sorted(error.source for error in passed) == sorted(str(folder / name) for name in [*LOOKALIKES, "IMG_0001"])
    reasons = {error.source.rpartition("/")[2]: error.reason for error in passed}
    assert "is a film" in reasons["clip.MP4"]
    assert "raw file" in reasons["raw.dng"]
    assert "(.psd); save it as" in reasons["art.psd"]
    assert "without an ending" in reasons["IMG_0001"]


def test_how_many_there_were_is_said_when_the_walk_is_done(folder, first_notices):
    with pytest.warns(UserWarning, match=r"10 files that look like pictures or films were passed over: .*1 \.mp4"):
        list(find_images(folder))
    (folder / "plain").mkdir()
    (folder / "plain" / "notes.txt").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(find_images(folder / "plain"))


def test_a_command_counts_each_file_once_however_often_it_walks(folder, counted_notices):
    for _ in range(3):
        list(find_images(folder))
    told = passed_over(counted_notices.passed_over())
    assert told.startswith("10 files that look like pictures or films were passed over: ")
    assert "1 without an ending" in told


def test_the_most_frequent_ending_comes_first():
    assert passed_over({".mp4": 1, ".psd": 2, ".mov": 1}).endswith("passed over: 2 .psd, 1 .mov, 1 .mp4")
    assert passed_over({".mp4": 1}) == "1 file that looks like a picture or film was passed over: 1 .mp4"


@pytest.mark.parametrize("name", ["clip.mp4", "art.psd", "raw.nef"])
def test_one_that_is_asked_for_by_its_name_says_what_it_is(folder, name):
    (folder / name).write_bytes(b"something")
    with pytest.raises(ImageReadError) as raised:
        read_image(folder / name)
    assert raised.value.reason == why_not_read(folder / name)


def test_looking_into_files_without_an_ending_costs_little(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number:x}").write_bytes(b"no picture")
    start = time.perf_counter()
    assert list(find_images(tmp_path)) == []
    assert time.perf_counter() - start < 1  # some 10 microseconds each


def heic(path):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    pillow_heif.from_pillow(Image.fromarray(picture)).save(path, quality=95, chroma=444)
    return picture


def test_heic_pictures_are_found_and_read_by_the_extra(tmp_path, counted_notices):
    picture = heic(tmp_path / "phone.HEIC")
    (found,) = find_images(tmp_path)
    assert np.abs(read_image(found).astype(int) - picture).max() <= 3
    assert not list(counted_notices.lines())
    assert "HEIF" not in Image.OPEN  # nobody else's Image.open has changed


def test_without_the_extra_heic_pictures_are_counted_and_the_error_names_it(tmp_path):
    heic(tmp_path / "phone.heic")
    (tmp_path / "phone.jpg").write_bytes((tmp_path / "phone.heic").read_bytes())
    code = f"""
import importlib.util, sys, warnings
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pillow_heif" else find_spec(name, *rest)
sys.modules["pillow_heif"] = None  # so that importing it fails
from pathlib import Path
from wordmask.pictures.images import find_images, read_image
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as said:
    assert [path.name for path in find_images({str(tmp_path)!r})] == ["phone.jpg"]
assert str(said[0].message).endswith("1 .heic (pip install 'wordmask[heic]')"), said[0]
try:
    read_image(Path({str(tmp_path)!r}) / "phone.jpg")
except Exception as error:
    assert "pip install 'wordmask[heic]'" in str(error), error
else:
    raise AssertionError("it was read")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="no pillow-heif")
def test_pictures_without_heic_do_not_import_its_reader(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    code = f"""
import sys
from wordmask.pictures.images import find_images, read_image
read_image(next(find_images({str(tmp_path)!r})))
assert "pillow_heif" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
