"""What this package wrote says so: it is not taken for a photograph, and writes over nothing but its like."""

import json
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from support.painted import NAMES, Painted, painted_folder
from wordmask import segmenters
from wordmask.collection.piles import open_pile
from wordmask.html_page import Page
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import find_images, names_of_pictures
from wordmask.runs.claim import Marker, mark
from wordmask.runs.marks import MASKS, Made, OutputError, Source, check_output, is_same, made, source_of
from wordmask.saliency.base import SaliencyMap
from wordmask.training.pictures import Pictures
from wordmask_world import write_folder

NAMED = ("--names", ",".join(NAMES))
GREY = np.full((16, 16, 3), 100, np.uint8)
A, ODD = Source("a.jpg", 17), Source("é\udcff.jpg", -1)
RESULT = Segmentation(np.zeros((16, 16), np.uint8), ["dog", "sky"], image=GREY)


@pytest.fixture(autouse=True)
def _painted(monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())


@pytest.fixture
def photos(tmp_path):
    return painted_folder(tmp_path / "photos")


def found_in(folder):
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


def save_photo(path, colour="white", size=(16, 16), **options):
    Image.new("RGB", size, colour).save(path, **options)
    return path


def save_without_a_word(path):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)


def label(photos, out, format="coco"):
    return label_folder(Job(photos, out, Vocabulary.of(NAMES), LabelSettings(format=format), {}), segmenter=Painted())


@pytest.fixture
def refused(command):
    """What is said when a command fails, and leaves a file of somebody's as it was."""

    def run(file, *arguments):
        before = file.read_bytes()
        status, _, said = command(*arguments)
        assert (status, file.read_bytes()) == (1, before)
        return said

    return run


KINDS = {
    "masks.png": (lambda path: RESULT.save(path, of=A), Made("masks", A)),
    "masks.json": (lambda path: RESULT.save(path, of=A), Made("masks", A)),
    "wide.png": (lambda path: Segmentation(RESULT.labels, [f"name {i}" for i in range(400)]).save(path), Made("masks")),
    "a.overlay.jpg": (lambda path: RESULT.save_overlay(path, of=ODD), Made("overlay", ODD)),
    "overlay.png": (RESULT.save_overlay, Made("overlay")),
    "map.png": (lambda path: SaliencyMap(np.zeros((16, 16), np.float32), GREY, "x").save(path), Made("saliency")),
    "page.html": (lambda path: Page("A title", "search").save(path), Made("search")),
    "photo.png": (save_photo, None),
    "photo.jpg": (save_photo, None),
    "commented.jpg": (lambda path: save_photo(path, comment=b"wordmask is a fine word"), None),
    "grey.png": (save_without_a_word, None),
    "other.json": (lambda path: path.write_text('{"image": 3}'), None),
    "other.html": (lambda path: path.write_text("<!doctype html><title>wordmask</title>"), None),
    "cut.png": (lambda path: path.write_bytes(RESULT.to_png()[:30]), None),
    "pipe.png": (os.mkfifo, None),
}


@pytest.mark.parametrize(("name", "write", "says"), [(name, *kind) for name, kind in KINDS.items()], ids=KINDS)
def test_a_file_says_what_it_is_and_of_which_picture(tmp_path, name, write, says):
    write(tmp_path / name)
    assert made(tmp_path / name) == says


def test_masks_of_a_version_that_said_only_names_are_known(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("wordmask:names", '["dog"]')
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png", pnginfo=text)
    assert made(tmp_path / "a.png") == Made(MASKS)
    save_photo(tmp_path / "a.overlay.jpg")  # which said nothing at all
    assert found_in(tmp_path) == []
    save_photo(tmp_path / "b.overlay.jpg")
    assert found_in(tmp_path) == ["b.overlay.jpg"]


def test_a_pages_own_kind_alone_is_written_over(tmp_path):
    page = Page("Table", "tables")
    page.check(tmp_path / "new.html")
    page.save(tmp_path / "own.html")
    page.check(tmp_path / "own.html")
    with pytest.raises(OutputError, match=r"own.html is there already, and is tables, not search: .*another --sheet"):
        Page("Found", "search").check(tmp_path / "own.html", option="--sheet")
    with pytest.raises(OutputError, match=r"photo.jpg: pages are written as .html"):
        page.check(save_photo(tmp_path / "photo.jpg"))
    (tmp_path / "notes.html").write_text("<html>precious</html>")
    with pytest.raises(OutputError, match="was not written by this command"):
        page.check(tmp_path / "notes.html")


def test_an_empty_file_holds_nothing_to_lose(tmp_path):
    (tmp_path / "new.png").touch()
    check_output(tmp_path / "new.png", MASKS)
    with pytest.raises(OutputError):
        check_output(tmp_path, MASKS)


def test_a_result_knows_its_picture_again_when_either_was_moved(tmp_path):
    for folder in ("photos", "others", "out"):
        (tmp_path / folder).mkdir()
    photo, result = save_photo(tmp_path / "photos" / "a.jpg"), tmp_path / "out" / "a.png"
    found = source_of(photo, result)
    assert found == Source("../photos/a.jpg", photo.stat().st_size)
    copy = save_photo(tmp_path / "others" / "a.jpg")
    assert not is_same(found, source_of(copy, result), result)  # which of two is meant, only its place can say
    photo.unlink()
    assert is_same(found, source_of(copy, result), result)
    assert not is_same(found, source_of(save_photo(copy, size=(9, 90)), result), result)


def test_results_beside_photographs_are_no_photographs(command, photos, monkeypatch):
    before = found_in(photos)
    monkeypatch.chdir(photos)
    for line in (
        "segment ring.png -o new.png",
        "segment ring.png --compare -o sheet.jpg",
        "segment parts.png --compare -o sheet.png",
        "world show --count 1 -o world.jpg",
        "world show --count 1 -o world.png",
        "segment .",
        "segment . -o below/again",
        "label . --method maskclip",
        "label . --method maskclip -o voc --format voc",
        "label . --method maskclip -o yolo --format yolo",
    ):
        assert command(*line.split(), *(() if line.startswith("world") else NAMED))[0] == 0, line
    assert found_in(photos) == before
    assert names_of_pictures(photos) == [name for name in before if "/" not in name]
    assert [part.load()[0] and part.weight for part in open_pile(photos).parts()] == [len(before)]
    assert len(Pictures(photos)) == len(before)


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "png", "label-studio"])
def test_labelling_twice_labels_the_same_pictures(photos, format):
    for out in ("labels", "more"):
        assert label(photos, photos / out, format).pictures == 4


def test_of_a_world_the_pictures_are_found_and_not_their_labels(tmp_path):
    write_folder(tmp_path / "data" / "world", 2, size=16)
    assert found_in(tmp_path / "data" / "world") == ["images/000000.jpg", "images/000001.jpg"]
    assert len(found_in(tmp_path / "data")) == 2
    (tmp_path / "data" / "world" / ".wordmask" / "run.json").unlink()  # as it was before there were markers
    assert len(found_in(tmp_path / "data")) == 2


def test_a_folder_of_ours_is_looked_into_when_it_is_asked_for(tmp_path):
    mark(tmp_path / "masks", Marker("segment"))
    save_photo(tmp_path / "masks" / "photo.png")
    RESULT.save(tmp_path / "masks" / "a.png")
    RESULT.save_overlay(tmp_path / "masks" / "b.jpg")
    assert found_in(tmp_path / "masks") == ["photo.png"]
    assert found_in(tmp_path) == []


def test_labels_of_a_version_without_markers_are_known(photos):
    (photos / "labels" / ".wordmask").mkdir(parents=True)
    (photos / "labels" / ".wordmask" / "settings.json").write_text("{}")
    save_without_a_word(photos / "labels" / "a.png")
    assert len(found_in(photos)) == 4


def test_a_new_folder_of_results_is_marked_and_a_persons_is_not(command, photos, tmp_path):
    command("segment", photos / "ring.png", "-o", tmp_path / "masks", *NAMED)
    assert json.loads((tmp_path / "masks" / ".wordmask" / "run.json").read_text())["verb"] == "segment"
    (tmp_path / "theirs").mkdir()
    save_photo(tmp_path / "theirs" / "a.jpg")
    command("segment", photos / "ring.png", "-o", tmp_path / "theirs", *NAMED)
    assert not (tmp_path / "theirs" / ".wordmask").exists()
    assert found_in(tmp_path / "theirs") == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        (["segment", "--names", "red,blue"], "png"),
        (["segment", "--names", "red,blue", "--compare"], "jpg"),
        (["segment", "--names", "red,blue", "--compare"], "png"),
        (["saliency", "--method", "seed", "--preset", "world"], "png"),
    ],
)
def test_no_file_of_a_persons_is_written_over(command, refused, photos, tmp_path, monkeypatch, arguments, suffix):
    monkeypatch.chdir(tmp_path)
    mine = save_photo(tmp_path / f"mine.{suffix}")
    verb, *options = arguments
    said = refused(mine, verb, photos / "ring.png", "-o", mine, *options)
    assert "was not written by this command: choose another --out" in said
    ours = tmp_path / f"ours.{suffix}"
    for picture in ("ring.png", "parts.png"):
        assert command(verb, photos / picture, "-o", ours, *options)[0] == 0


def test_nor_is_one_where_the_overlay_goes(refused, photos, tmp_path):
    mine = save_photo(tmp_path / "new.overlay.jpg")
    said = refused(mine, "segment", photos / "ring.png", "-o", tmp_path / "new.png", *NAMED)
    assert "new.overlay.jpg is there already" in said
    assert not (tmp_path / "new.png").exists()


@pytest.mark.parametrize("arguments", [["world", "show", "--count", "1"], ["search", "dog", "--collection", "."]])
def test_nor_is_one_by_a_sheet(refused, tmp_path, arguments):
    photo = save_photo(tmp_path / "photo.jpg")
    option = "--sheet" if arguments[0] == "search" else "--out"
    said = refused(photo, *arguments, option, photo)
    assert f"another {option}" in said or "pages are written as .html" in said


@pytest.mark.parametrize("suffix", ["png", "json"])
@pytest.mark.parametrize("skip_done", [[], ["--skip-done"]])
def test_results_of_two_pictures_of_one_stem_keep_apart_in_runs_of_their_own(
    command, tmp_path, monkeypatch, suffix, skip_done
):
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "grey.png", "red")
    save_photo(tmp_path / "grey.tif", "blue")
    options = ["-o", "m", "--names", "red,blue", "--format", suffix, *skip_done]
    assert command("segment", "grey.png", *options)[1] == f"m/grey.{suffix}\n"
    for again in range(2):
        status, out, err = command("segment", "grey.tif", *options)
        assert status == 0
        assert out == ("" if skip_done and again else f"m/grey.tif.{suffix}\n")
        assert f"note: m/grey.{suffix} is there already, and is no result of grey.tif" in err
    assert command("segment", "grey.png", *options)[1] == ("" if skip_done else f"m/grey.{suffix}\n")
    assert Segmentation.load(tmp_path / "m" / f"grey.{suffix}").mask("red").all()
    assert Segmentation.load(tmp_path / "m" / f"grey.tif.{suffix}").mask("blue").all()


def test_results_are_not_put_into_the_folder_of_a_run(command, refused, photos, tmp_path):
    label(photos, tmp_path / "out", "png")
    asked, masks = ("segment", photos / "ring.png", *NAMED, "-o"), tmp_path / "out" / "masks"
    assert "is in a folder of `wordmask label`" in refused(masks / "ring.png", *asked, masks)
    assert command(*asked, tmp_path / "out" / "new")[0] == 0


def test_a_picture_whose_every_name_is_taken_is_left_out_and_the_others_done(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "m"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "b.jpg"):
        save_photo(tmp_path / "in" / name)
    taken = [save_photo(tmp_path / "m" / name) for name in ("a.png", "a.jpg.png")]
    before = [path.read_bytes() for path in taken]
    status, out, err = command("segment", "in", "-o", "m", "--names", "red,blue", "--no-overlay")
    assert (status, out) == (1, "m/b.png\n")
    assert "left out: in/a.jpg: m/a.jpg.png is there already" in err
    assert [path.read_bytes() for path in taken] == before


def test_masks_that_said_of_no_picture_are_their_pictures_own(command, tmp_path, monkeypatch):
    """As a version before wrote them, overlays beside them."""
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "a.jpg", "red")
    (tmp_path / "m").mkdir()
    RESULT.save(tmp_path / "m" / "a.png")
    save_photo(tmp_path / "m" / "a.overlay.jpg")
    assert command("segment", "a.jpg", "-o", "m", "--names", "red,blue")[1] == "m/a.png\n"


def test_network_files_of_others_are_not_written_over(refused, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"precious")
    said = refused(tmp_path / "net.onnx", "export", "--preset", "world", "-o", tmp_path / "net.onnx")
    assert "choose another --out" in said


def test_an_exported_network_is_known(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [])
    model = onnx.helper.make_model(graph, producer_name="onnx.quantize", producer_version="1")
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    entry = model.metadata_props.add()
    entry.key, entry.value = "wordmask", "{}"
    (tmp_path / "ours.onnx").write_bytes(model.SerializeToString())
    assert made(tmp_path / "other.onnx") is None
    check_output(tmp_path / "ours.onnx", "network")
