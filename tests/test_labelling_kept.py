"""What was labelled stays: when pictures are away, when label files are gone, when a ledger is damaged."""

import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
from PIL import Image

from support import labelling_job
from support.labelling_job import files_in, job
from support.painted import NAMES, Painted
from wordmask import segmenters
from wordmask.errors import WordmaskError
from wordmask.labelling import LabelError, label_folder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures import image_files
from wordmask.pictures.image_files import ImageReadError
from wordmask.runs.claim import read_marker

FORMATS = ["coco", "yolo", "voc", "png", "label-studio"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def label(folder, out, format="coco", **options):
    """(what came of it, what was said)"""
    told = []
    return labelling_job.label(folder, out, format, on_note=told.append, **options), told


def contents(out, *but):
    return {name: content for name, content in files_in(out).items() if name not in but}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("away", ["empty", "gone"])
def test_labels_stay_when_the_source_is_away(folder, out, tmp_path, format, away):
    label(folder, out, format)
    before = files_in(out)
    folder.rename(tmp_path / "elsewhere")
    if away == "empty":
        folder.mkdir()
        with pytest.raises(LabelError, match=r"the labels of 4 pictures are kept; --prune drops them"):
            label(folder, out, format)
        folder.rmdir()
    else:
        with pytest.raises(ImageReadError, match="there is no such folder"):
            label(folder, out, format)
    assert all((out / name).is_symlink() or (out / name).read_bytes() == before[name] for name in before)
    (tmp_path / "elsewhere").rename(folder)
    assert label(folder, out, format)[0].new == 0
    assert files_in(out) == before


@pytest.mark.parametrize("format", FORMATS)
def test_a_source_that_shrinks_says_so_first_and_costs_no_label(folder, out, format, monkeypatch):
    label(folder, out, format)
    before = files_in(out)
    listing = image_files._listing

    def unreadable(path, *arguments, **options):
        if path.name == "below":
            raise PermissionError(13, "Permission denied")
        return listing(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_listing", unreadable)
        bad = []
        done, told = label(folder, out, format, on_bad=bad.append)
        assert (done.pictures, done.vanished, done.new) == (4, 1, 0)
        assert f"no longer found in {folder}: 1 labelled picture;" in told[0]
        assert len(bad) == 1
        changed = {name for name, content in files_in(out).items() if content != before[name]}
        assert changed <= {"review.html"}  # which cannot show the picture
        with pytest.raises(LabelError, match=r"--prune drops nothing while .*below: cannot be looked into"):
            label(folder, out, format, prune=True)
    assert label(folder, out, format)[0].vanished == 0
    assert files_in(out) == before


def test_what_is_pruned_is_gone_from_everywhere(folder, out, tmp_path):
    label(folder, out, "voc")
    (folder / "parts.png").unlink()
    done, told = label(folder, out, "voc", prune=True)
    assert (done.pictures, done.vanished) == (3, 0)
    assert told == [f"no longer found in {folder}: 1 labelled picture; the labels are dropped"]
    label(folder, tmp_path / "whole", "voc")
    assert files_in(out) == files_in(tmp_path / "whole")


@pytest.mark.parametrize(
    ("away", "new", "theirs"),
    [("ring.png", ["ring.bmp"], "ring.png"), ("ring.png.bmp", ["ring.png", "ring.bmp"], "ring.png.png")],
)
def test_labels_that_are_kept_lose_their_name_to_no_new_picture(folder, out, away, new, theirs):
    """A whole name may be another's stem: "ring.png" is what the labels of "ring.png.bmp" are called."""
    (folder / "ring.png").rename(folder / away)
    label(folder, out, "png")
    kept = (out / "masks" / theirs).read_bytes()
    (folder / away).unlink()
    for name in new:
        shutil.copy(folder / "parts.png", folder / name)
    done, _ = label(folder, out, "png")
    assert (done.pictures, done.vanished) == (4 + len(new), 1)
    assert (out / "masks" / theirs).read_bytes() == kept
    assert len(list((out / "masks").rglob("*.png"))) == done.pictures
    assert label(folder, out, "png")[0].new == 0


FOLDERS = {"yolo": "labels/train", "voc": "SegmentationClass", "png": "masks"}


@pytest.mark.parametrize("format", FOLDERS)
def test_label_files_that_are_gone_are_made_anew(folder, out, format):
    label(folder, out, format, batch_size=1)
    before = files_in(out)
    for name in ("ring", "below/noise"):
        next((out / FOLDERS[format]).glob(f"{name}.*")).unlink()
    done, told = label(folder, out, format, batch_size=1)
    assert done.new == 2
    assert told == ["the label files of 2 pictures were gone, and have been made anew"]
    assert files_in(out) == before
    assert label(folder, out, format, batch_size=1)[1] == []


def test_a_picture_that_cannot_be_read_for_once_keeps_its_labels(folder, out):
    class Blind(Painted):
        def view_many(self, images, *, on_bad, **options):
            for image in images:
                on_bad(ImageReadError(image, "Input/output error"))
            return iter(())

    label(folder, out, "png")
    before = contents(out, "left-out.txt")
    Image.open(folder / "parts.png").save(folder / "zebra.png")  # in a batch with all others
    bad = []
    done, _ = label(folder, out, "png", segmenter=Blind(), on_bad=bad.append)
    assert (done.pictures, done.left_out, len(bad)) == (4, 1, 5)
    assert contents(out, "left-out.txt") == before


def test_nothing_is_loaded_for_a_folder_that_is_refused(folder, out, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda **options: pytest.fail("loaded"))
    monkeypatch.setattr("wordmask.labelling.run._check_method", lambda load: None)
    out.mkdir()
    (out / "data.yaml").write_text("precious")
    with pytest.raises(LabelError, match=r"data.yaml is there already"):
        label_folder(job(folder, out))


def test_folders_of_labels_are_looked_into_once_and_not_for_every_file(folder, out, monkeypatch):
    from wordmask.labelling import walk

    label(folder, out, "yolo")
    looked = []
    listing = walk._listing
    monkeypatch.setattr(walk, "_listing", lambda path: looked.append(path) or listing(path))
    label(folder, out, "yolo")
    assert len(looked) == len(set(looked))
    assert {path.relative_to(out).as_posix() for path in looked} >= {"images/train", "labels/train"}


def test_labels_of_a_version_without_markers_are_gone_on_with(folder, out):
    label(folder, out)
    (out / ".wordmask" / "run.json").unlink()
    assert label(folder, out)[0].new == 0
    assert read_marker(out).verb == "label"


@pytest.mark.parametrize("there", ["labels/000001.txt", "data.yaml", "annotations.json"])
def test_files_of_a_persons_are_not_labelled_over(folder, out, tmp_path, there):
    (out / there).parent.mkdir(parents=True)
    (out / there).write_text("precious")
    with pytest.raises(LabelError, match=f"{there} is there already, and not by `wordmask label`"):
        label(folder, out, "yolo")
    assert list(files_in(out)) == [there]


def spoil(path, start):
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(len(content) - start))


def spoil_rows(ledger):
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE rows SET row = '{'")


DAMAGE = {
    "no ledger at all": ("ledger.sqlite", lambda path: path.write_bytes(b"not a ledger" * 99)),
    "a ledger with zeros": ("ledger.sqlite", lambda path: spoil(path, 4096)),
    "rows cut short": ("ledger.sqlite", spoil_rows),
    "settings cut short": ("settings.json", lambda path: path.write_text('{"folder": ')),
    "settings of another shape": ("settings.json", lambda path: path.write_text("[]")),
}


@pytest.mark.parametrize(("name", "harm"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_with_the_files_name_and_a_way_out(folder, out, name, harm):
    state = out / ".wordmask"
    label(folder, out)
    harm(state / name)
    with pytest.raises(WordmaskError, match=rf"\.wordmask/{name}:? is damaged.*(delete|choose another)"):
        label(folder, out)
    if name == "ledger.sqlite":
        (state / name).unlink()
        assert label(folder, out)[0].new == 4


def test_the_verb_prunes_when_it_is_told_to(folder, out, monkeypatch, command):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    arguments = ("label", folder, "--method", "maskclip", "--names", ",".join(NAMES), "-o", out, "--json")
    command(*arguments)
    (folder / "ring.png").unlink()
    status, out, err = command(*arguments)
    assert (status, json.loads(out)["vanished"]) == (0, 1)
    assert f"note: no longer found in {folder}: 1 labelled picture;" in err
    assert json.loads(command(*arguments, "--prune")[1])["pictures"] == 3


def test_doubtful_pixels_without_a_background_are_refused_before_anything_is_made(folder, out):
    asked = replace(job(folder, out, min_score=0.5), vocabulary=Vocabulary.of(["red"]), fill=True)
    with pytest.raises(WordmaskError, match="min_score needs a background"):
        label_folder(asked, segmenter=Painted())
    assert not (out).exists()


def test_another_method_is_refused_by_its_name_alone(folder, out):
    """Labels of a version whose default was another are gone on with once that one is named."""
    first = replace(job(folder, out), load={"method": "maskclip", "preset": "world"})
    label_folder(first, segmenter=Painted())
    other = replace(first, load={"method": "clip-dinoiser", "preset": "world"})
    with pytest.raises(LabelError, match=r"made with segmenter.method 'maskclip', not 'clip-dinoiser'"):
        label_folder(other, segmenter=Painted())
