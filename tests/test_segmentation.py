"""The result: masks by name, files that come back the same, and everything refused that would not."""

import json
import os
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from wordmask.masks.palette import colours_of
from wordmask.masks.segmentation import Segmentation, SegmentationError

NAMES = ["background", "dog", "traffic light", "Été"]
both_kinds = pytest.mark.parametrize("suffix", [".png", ".json"])


@pytest.fixture
def result():
    labels = np.zeros((30, 40), dtype=np.uint8)
    labels[5:15, 5:25] = 1
    labels[20:, :10] = 2
    image = np.full((30, 40, 3), 128, dtype=np.uint8)
    return Segmentation(labels, NAMES, scores=np.ones((30, 40), np.float32), image=image, source="photo.jpg")


def test_a_mask_is_where_its_name_is(result):
    assert result.mask("dog").sum() == 200
    assert result.mask("dog")[5:15, 5:25].all()
    assert not result.mask("Été").any()
    assert result.pixels == {"background": 900, "dog": 200, "traffic light": 100, "Été": 0}
    assert np.array_equal(result.mask("  traffic   light"), result.mask("traffic light"))
    with pytest.raises(SegmentationError, match="'cat' was not asked for; the names are background, dog"):
        result.mask("cat")


@both_kinds
def test_what_is_saved_comes_back_the_same(result, tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    result.save(file)
    back = Segmentation.load(file)
    assert np.array_equal(back.labels, result.labels)
    assert back.names == NAMES
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.filterwarnings("error")
def test_a_png_carries_palette_colours_and_names(result, tmp_path, monkeypatch):
    result.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as file:
        assert file.mode == "P"
        assert np.array_equal(np.asarray(file.convert("RGB"))[10, 10], colours_of(NAMES)[1])
        assert "dog" in file.text["wordmask:names"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit keeps no file from being read
    assert np.array_equal(Segmentation.load(tmp_path / "out.png").labels, result.labels)


def test_more_than_256_names_are_saved_in_16_bits(tmp_path):
    names = [f"name {i}" for i in range(1000)]
    labels = np.arange(1000).reshape(20, 50)
    Segmentation(labels, names).save(tmp_path / "many.png")
    back = Segmentation.load(tmp_path / "many.png")
    assert np.array_equal(back.labels, labels)
    assert back.names == names


def test_json_holds_coco_run_lengths(result, tmp_path):
    from pycocotools import mask as coco_mask

    result.save(tmp_path / "out.json")
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    assert "Été" in text  # letters beyond ASCII stay readable
    data = json.loads(text)
    assert data["size"] == [30, 40]
    assert [m["name"] for m in data["masks"]] == ["background", "dog", "traffic light"]
    dog = data["masks"][1]
    assert np.array_equal(coco_mask.decode(dog["rle"]).astype(bool), result.mask("dog"))
    assert dog["area"] == 200


def test_other_files_are_refused_by_name(result, tmp_path):
    with pytest.raises(SegmentationError, match=r"out\.bmp: masks are saved as \.png or \.json"):
        result.save(tmp_path / "out.bmp")
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "plain.json").write_text('{"names": ["a"], "size": [2, 2], "masks": [{"name": "b"}]}')
    for kind in ("PNG", "JSON"):
        with pytest.raises(SegmentationError, match=f"not a {kind} written by Segmentation.save"):
            Segmentation.load(tmp_path / f"plain.{kind.lower()}")


def test_a_failed_save_leaves_the_old_file_whole(result, tmp_path, monkeypatch):
    file = tmp_path / "out.json"
    file.write_text("old")
    monkeypatch.setattr("wordmask.files.os.fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        result.save(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_arrays_that_do_not_fit_are_refused():
    labels = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match="labels must be integers"):
        Segmentation(np.zeros((2, 2)), ["a"])
    with pytest.raises(ValueError, match="do not fit"):
        Segmentation(labels, ["a"], scores=np.zeros((3, 2)))
    for image in (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match="image .* does not fit"):
            Segmentation(labels, ["a"], image=image)


@pytest.mark.parametrize(("wrong", "type"), [(5, np.uint8), (1, np.int64), (-1, np.int64), (-1, np.int8)])
def test_labels_without_a_name_are_refused(wrong, type):
    with pytest.raises(ValueError, match=f"label {wrong} found, but 1 name"):
        Segmentation(np.array([[wrong, 0]], type), ["a"])
    assert Segmentation(np.zeros((0, 4), type), []).pixels == {}


def test_a_name_is_found_however_its_accents_are_composed(result):
    labels = np.full_like(result.labels, NAMES.index("Été"))
    assert Segmentation(labels, NAMES).mask(" E\u0301te\u0301 ").all()
    assert Segmentation(labels[:1], ["a", "b", "c", "as  given "]).mask("as  given ").all()


def test_more_names_than_a_png_can_tell_apart_are_refused_with_the_way_out(tmp_path):
    names = [str(i) for i in range(70_000)]
    many = Segmentation(np.array([[0, 69_999]]), names)
    with pytest.raises(SegmentationError, match=r"70000 names, .* 65536 apart at most: save it as \.json"):
        many.save(tmp_path / "many.png")
    assert not list(tmp_path.iterdir())
    many.save(tmp_path / "many.json")
    assert Segmentation.load(tmp_path / "many.json").labels.tolist() == [[0, 69_999]]


@both_kinds
def test_files_above_the_limit_are_refused_before_they_are_decoded(result, tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    result.save(file)
    with pytest.raises(SegmentationError, match="has 40 x 30 pixels, above the limit of 1199; .* larger max_pixels"):
        Segmentation.load(file, max_pixels=1199)
    assert Segmentation.load(file, max_pixels=1200).size == (30, 40)


@both_kinds
def test_damaged_and_missing_files_are_told_by_name(result, tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    result.save(file)
    whole = file.read_bytes()
    file.unlink()
    for end in (None, *range(0, len(whole) - 20, 7)):  # a PNG's last 20 bytes are checksums, and say that it ends
        if end is not None:
            file.write_bytes(whole[:end])
        with pytest.raises(SegmentationError, match=f"out{suffix}: "):
            Segmentation.load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**6, 10**6]},
        {"size": [-30, -40]},
        {"size": "30x40"},
        {"image": ["photo.jpg"]},
        {"masks": [7]},
        {"masks": []},
        {"masks": [{"name": "dog", "area": 1200, "rle": {"size": [30, 40], "counts": "0"}}]},
        {"masks": [{"name": "dog", "area": 1200, "rle": {"size": [30, 40], "counts": "zzzz"}}]},
    ],
)
def test_a_json_that_contradicts_itself_is_refused(result, tmp_path, change):
    file = tmp_path / "out.json"
    result.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SegmentationError, match=r"out\.json: "):
        Segmentation.load(file)


@both_kinds
def test_names_and_paths_that_are_no_utf8_are_saved(result, tmp_path, suffix):
    odd = os.fsdecode(b"caf\xe9.jpg")
    file = tmp_path / f"out{suffix}"
    Segmentation(result.labels, [*NAMES[:3], odd], source=odd).save(file)
    back = Segmentation.load(file)
    assert back.names == [*NAMES[:3], odd]
    if suffix == ".json":
        assert back.source == odd
        assert json.loads(file.read_bytes().decode("utf-8"))["image"] == odd
