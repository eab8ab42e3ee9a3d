"""YOLO's data set: pictures held out by their content, and nothing in it that breaks when it is moved."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from support.labelling_job import Stop, StopsAfter, files_in, label
from support.painted import painted_folder
from wordmask.labelling import LabelError
from wordmask.pictures.image_files import find_images
from wordmask.pictures.images import read_image
from wordmask.pictures.left_out import read_left_out, write_left_out


@pytest.fixture
def folder(tmp_path):
    return many(tmp_path / "pictures", range(60))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def many(folder, numbers):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        image = np.zeros((12, 12, 3), np.uint8)
        image[2:8, 2:8, 0] = 255
        image[..., 1] = number
        Image.fromarray(image).save(folder / f"p{number:03d}.png")
    return folder


def yolo(folder, out, val=0.3, **options):
    return label(folder, out, "yolo", val=val, **{"on_note": lambda _: None, **options})


def sides(out):
    """Names of pictures -> train or val, by the folder that holds them."""
    data = yaml.safe_load((out / "data.yaml").read_text())
    found = {}
    for side in ("train", "val"):
        if data[side]:
            pictures = {path.stem for path in find_images(out / data[side])}
            assert {path.stem for path in (out / "labels" / side).rglob("*.txt")} == pictures
            found |= dict.fromkeys(pictures, side)
    return found


def test_no_picture_is_in_both_sides_and_all_are_in_one(folder, out):
    yolo(folder, out)
    found = sides(out)
    assert len(found) == 60
    assert 8 <= sum(side == "val" for side in found.values()) <= 28
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] == "images/val"


def test_a_pictures_side_hangs_on_its_content_alone(folder, out, tmp_path):
    yolo(folder, out)
    before = sides(out)
    many(folder, range(60, 90))
    yolo(folder, out)
    after = sides(out)
    assert len(after) == 90
    assert {name: after[name] for name in before} == before
    (tmp_path / "other" / "below").mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, tmp_path / "other" / "below" / f"x{path.name}")
    yolo(tmp_path / "other", tmp_path / "out2")
    assert {name.removeprefix("x"): side for name, side in sides(tmp_path / "out2").items()} == after


def test_more_for_validation_keeps_what_was_there(folder, tmp_path):
    shares = {}
    for share in (0.2, 0.4):
        yolo(folder, tmp_path / str(share), share)
        shares[share] = {name for name, side in sides(tmp_path / str(share)).items() if side == "val"}
    assert shares[0.2] < shares[0.4]


def test_a_changed_picture_is_in_one_side_alone(folder, out):
    yolo(folder, out, 0.5)
    before = sides(out)
    for number in range(20):
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(folder / f"p{number:03d}.png")
    yolo(folder, out, 0.5)
    places = [path.stem for side in ("train", "val") for path in (out / "images" / side).iterdir()]
    assert sorted(places) == sorted(before)
    assert sides(out) != before


@pytest.mark.parametrize("share", [0.0, 1e-9])
def test_without_validation_pictures_nothing_pretends_to_be_them(share, out, folder):
    notes = []
    yolo(folder, out, share, on_note=notes.append)
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data["val"] is None  # and the key is there: Ultralytics refuses a file without it
    assert len(list(find_images(out / data["train"]))) == 60
    assert "names no pictures for validation" in notes[0]


def test_another_share_is_refused_and_the_same_goes_on(folder, out, tmp_path):
    with pytest.raises(Stop):
        yolo(folder, out, segmenter=StopsAfter(6), batch_size=2)
    with pytest.raises(LabelError, match=r"val 0\.3, not 0\.2"):
        yolo(folder, out, 0.2, batch_size=2)
    for place in (out, tmp_path / "whole"):
        yolo(folder, place, batch_size=2)
    assert files_in(out) == files_in(tmp_path / "whole")


@pytest.mark.parametrize("format", ["yolo", "coco"])
def test_labels_of_before_there_was_a_share_go_on_where_they_can(folder, out, format):
    settings = {"val": 0.0, "pictures": "link"} if format == "yolo" else {}
    settings["on_note"] = lambda _: None
    label(folder, out, format, **settings)
    file = out / ".wordmask" / "settings.json"
    told = json.loads(file.read_text())
    del told["val"], told["pictures"]
    file.write_text(json.dumps(told))
    if format == "yolo":
        with pytest.raises(LabelError, match=r"val 0\.0, not 0\.1"):
            label(folder, out, format)
    assert label(folder, out, format, **settings).new == 0


@pytest.mark.parametrize("format", ["yolo", "voc"])
@pytest.mark.parametrize("how", ["copy", "link", "hardlink"])
def test_pictures_lie_beside_their_labels_as_asked_for(folder, out, format, how):
    for _ in range(2):
        label(folder, out, format, pictures=how)
    places = sorted(path for path in (out / ("images" if format == "yolo" else "JPEGImages")).rglob("*.*g"))
    assert len(places) == 60
    for place in places:
        source = folder / f"{place.stem}.png"
        assert place.is_symlink() == (how == "link")
        assert place.samefile(source) == (how != "copy")
        assert place.read_bytes() == source.read_bytes()
        assert how != "link" or not place.readlink().is_absolute()
    assert not [path for path in out.rglob(".*") if path.name != ".wordmask"]


@pytest.mark.parametrize("how", ["copy", "hardlink"])
def test_a_data_set_that_is_moved_alone_holds_its_pictures(folder, out, tmp_path, how):
    yolo(folder, out, pictures=how)
    shutil.move(out, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    for path in (tmp_path / "elsewhere" / "images").rglob("*.png"):
        assert read_image(path).shape == (12, 12, 3)


def test_linked_pictures_are_there_when_both_folders_are_moved_together(folder, out, tmp_path):
    yolo(folder, out, pictures="link")
    (tmp_path / "moved").mkdir()
    for place in (folder, out):
        shutil.move(place, tmp_path / "moved" / place.name)
    links = list((tmp_path / "moved" / "out" / "images").rglob("*.png"))
    assert len(links) == 60
    assert all(path.exists() for path in links)


def test_a_disk_that_holds_no_such_links_is_an_error_with_the_way_out(folder, out, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(OSError, match=r"hard-linked there \(Invalid cross-device link\); choose --pictures copy"):
        yolo(folder, out, pictures="hardlink")


def test_kinds_that_few_tools_open_are_written_anew(tmp_path, out):
    folder, images = tmp_path / "pictures", out / "images"
    folder.mkdir()
    painted = np.zeros((16, 16, 3), np.uint8)
    painted[4:12, 4:12] = (255, 0, 0)
    for name in ("drawing.gif", "scan.qoi"):
        Image.fromarray(painted).save(folder / name)
    Image.fromarray(painted[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(painted)).save(folder / "phone.heic", quality=95, chroma=444)
    yolo(folder, out, 0.0)
    assert sorted(path.name for path in images.iterdir()) == ["deep.png", "drawing.png", "phone.jpg", "scan.png"]
    for path in images.iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG" if path.suffix == ".jpg" else "PNG", "RGB")
    for name in ("phone.heic", "scan.qoi"):
        (folder / name).unlink()
    yolo(folder, out, 0.0)
    assert len(list(images.iterdir())) == 4  # what is made is kept until it is to be dropped
    yolo(folder, out, 0.0, prune=True)
    assert sorted(path.name for path in images.iterdir()) == ["deep.png", "drawing.png"]


@pytest.mark.filterwarnings("ignore:.*several frames or pages")
def test_what_readers_would_see_through_or_as_several_is_written_anew(tmp_path, out):
    """OpenCV drops alpha, and Ultralytics takes the pages of a TIFF for further channels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    painted = np.zeros((16, 16, 4), np.uint8)
    painted[4:12, 4:12] = (255, 0, 0, 255)
    Image.fromarray(painted).save(folder / "clear.png")
    page = Image.fromarray(painted[..., :3])
    page.save(folder / "scan.tif", save_all=True, append_images=[page.rotate(90)])
    page.save(folder / "plain.tif")
    yolo(folder, out, 0.0)
    for name in ("clear.png", "scan.tif"):
        with Image.open(out / "images" / name) as image:
            assert (image.mode, getattr(image, "n_frames", 1)) == ("RGB", 1)
            np.testing.assert_array_equal(np.asarray(image), read_image(folder / name))
    assert (out / "images" / "plain.tif").read_bytes() == (folder / "plain.tif").read_bytes()


AWKWARD = ["two\nlines.png", "tab\there.png", " first.png", "back\\slash.png", "next\x85line.png", "ring\x1b[31m.png"]


@pytest.mark.parametrize("format", ["yolo", "voc", "coco", "png"])
def test_awkward_names_break_no_list(tmp_path, out, format):
    folder = painted_folder(tmp_path / "pictures")
    for name in AWKWARD:
        shutil.copy(folder / "parts.png", folder / name)
    done = label(folder, out, format, on_bad=lambda _: None)
    refused = [" first.png", "next\x85line.png", "two\nlines.png"] if format == "voc" else []
    assert sorted(name for name, _ in read_left_out(out / "left-out.txt")) == refused
    assert (out / "left-out.txt").read_bytes().count(b"\n") == len(refused)
    assert done.pictures + done.left_out == 4 + len(AWKWARD)
    if format == "voc":
        listed = (out / "ImageSets" / "Segmentation" / "train.txt").read_text().splitlines()
        assert len(listed) == done.pictures
        assert all((out / "JPEGImages" / f"{name.strip()}.jpg").exists() for name in listed)


def test_names_go_through_the_list_and_back_to_the_last_byte(tmp_path):
    names = [*AWKWARD, os.fsdecode(b"caf\xe9.png"), "日本.png", "\\x0a.png", "a\u2028b", "tab\there", "plain.png"]
    rows = [(name, f"why\n{number}") for number, name in enumerate(names)]
    write_left_out(tmp_path / "left-out.txt", rows)
    content = (tmp_path / "left-out.txt").read_bytes()
    assert content.count(b"\n") == len(names)
    assert b"caf\xe9.png\t" in content
    assert list(read_left_out(tmp_path / "left-out.txt")) == rows
