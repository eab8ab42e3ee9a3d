"""Labels made of labels: the files of a run from nothing with the same options, and no network runs."""

import json
import re
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from support.labelling_job import Stop, files_in, job, label
from support.painted import Painted, painted_folder
from support.small_archive import TINY
from support.small_clip import small_clip
from support.small_dino import small_dino
from support.small_segmenters import segmenter as small_segmenter
from support.small_segmenters import small_student
from wordmask import segmenters
from wordmask.cli import app
from wordmask.errors import WordmaskError
from wordmask.labelling import Job, LabelError, LabelSettings, label_folder
from wordmask.labelling.changes import Changes
from wordmask.labelling.convert import Converting, convert_labels
from wordmask.labelling.features import mark_of, path_of
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.refinement.lposs import Lposs, LpossParameters
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.corrclip import CorrClip, CorrClipSettings
from wordmask.segmenters.lposs import LpossSegmenter, LpossSettings
from wordmask.segmenters.open_deeplab import new_open_network
from wordmask.segmenters.open_student import OpenStudent, OpenStudentFile, TextTower
from wordmask.segmenters.saliency_clip import SaliencyClip, SaliencyClipSettings
from wordmask.segmenters.sclip import Sclip

SIZES = {"wide": (40, 64), "tall": (61, 37), "square": (48, 48), "below/small": (20, 24)}
ALL = "coco,yolo,voc,png,label-studio"
WORDS = ("cat", "window", "paper", "night", "stone", "train", "orange", "a wall of bricks")
CLASSES = ["background", "dog", "cat", "sofa"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Smooth noise, so that there are parts of many sizes."""
    folder, chance = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "below").mkdir()
    for name, (height, width) in SIZES.items():
        rough = Image.fromarray(chance.integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8))
        rough.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def blob(images):
    maps = [np.full(image.shape[:2], 0.2, np.float32) for image in images]
    for soft in maps:
        soft[soft.shape[0] // 4 : soft.shape[0] // 2, soft.shape[1] // 8 :] = 0.9
    return maps


def quarters(image):
    height, width = image.shape[:2]
    return (2 * (np.arange(height) // (height // 2 + 1))[:, None] + np.arange(width) // (width // 2 + 1)).astype(
        np.int32
    )


def lposs(refine="lposs"):
    settings = LpossSettings(templates="photo", shorter_side=32, window=32, stride=16, refine=refine)
    made = LpossSegmenter(small_clip(), settings)
    made.lposs = Lposs(small_dino(), pixels=refine == "lposs+", parameters=LpossParameters(neighbours=9, reach=2))
    return made


def sclip(**changes):
    return Sclip(small_clip(), Sclip.Settings(templates="photo", shorter_side=32, window=32, stride=16, **changes))


def corrected():
    made = sclip()
    made.correction = quarters
    return made


def corrclip():
    settings = CorrClipSettings(templates="photo", shorter_side=32, window=32, stride=16)
    return CorrClip(small_clip(), quarters, settings, dino=small_dino())


def saliency_clip():
    return SaliencyClip(small_clip(), blob, SaliencyClipSettings(templates="photo", refine="none"))


def open_student():
    torch.manual_seed(3)
    vectors = torch.nn.functional.normalize(torch.randn(3, 24), dim=1)
    tower = TextTower("none", None, "photo", "none")
    network = new_open_network(24, TINY).eval()
    file = OpenStudentFile(network, Vocabulary.of(CLASSES), vectors, tower, 0.1, {})
    return OpenStudent(file, device="cpu", precision="fp32")


FAMILIES = {
    "clip-dinoiser": lambda: small_segmenter("clip-dinoiser"),
    "clip-diy": lambda: small_segmenter("clip-diy"),
    "student": lambda: small_student(CLASSES),
    "open student": open_student,
    "saliency-clip": saliency_clip,
    "sclip": sclip,
    "sclip, pamr": lambda: sclip(pamr=True),
    "sclip, refined": lambda: sclip(refine="pamr"),
    "sclip, corrected": corrected,
    "corrclip": corrclip,
    "lposs": lposs,
    "lposs+": lambda: lposs("lposs+"),
}


def run(photos, out, segmenter, names, *, keep="nothing", contrast="auto", fill=False, **settings):
    settings = LabelSettings(**{"min_area": 40, **settings})
    own = Job(photos, out, Vocabulary.of(names), settings, {}, keep=keep, contrast=contrast, fill=fill)
    return label_folder(own, segmenter=segmenter, batch_size=2, on_note=lambda note: None)


def convert(*given, **options):
    return convert_labels(*given, **{"on_note": lambda note: None, **options})


def blind(segmenter):
    """The same, and it cannot look."""

    def look_many(images, sources):
        raise AssertionError("the network was run")

    segmenter.look_many = look_many
    return segmenter


@pytest.mark.parametrize("family", FAMILIES)
def test_other_questions_have_the_answers_of_a_run_from_nothing(family, photos, tmp_path):
    names = ["dog", "cat"] if family.endswith("student") else ["tree", "red car", "sky"]
    run(photos, tmp_path / "old", FAMILIES[family](), ["dog", "sofa"], keep="features")
    changes = Changes({"format": ALL, "min_score": 0.1, "min_area": 2}, names=Vocabulary.of(names), contrast="none")
    convert(tmp_path / "old", tmp_path / "new", changes, segmenter=blind(FAMILIES[family]()))
    run(photos, tmp_path / "fresh", FAMILIES[family](), names, format=ALL, min_score=0.1, min_area=2, contrast="none")
    assert files_in(tmp_path / "new") == files_in(tmp_path / "fresh")
    assert len((tmp_path / "new" / "masks.csv").read_text().splitlines()) > 1
    assert (tmp_path / "new" / ".wordmask" / "settings.json").read_bytes() == (
        tmp_path / "fresh" / ".wordmask" / "settings.json"
    ).read_bytes()  # so that `label` goes on with either


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"fill": True}, {"fill": True}),
        ({"contrast": WORDS}, {"contrast": WORDS}),
        ({"settings": {"drop_absent": 0.3}}, {"drop_absent": 0.3}),
        ({"settings": {"min_area": 2}}, {"min_area": 2}),
    ],
)
def test_each_option_that_asks_again(changes, asked, photos, tmp_path):
    names, usual = ["dog", "sofa", "tree", "red car", "cup", "bird"], {"contrast": "none", "min_area": 45}
    run(photos, tmp_path / "old", sclip(), names, keep="features", **usual)
    convert(tmp_path / "old", tmp_path / "new", Changes(**{"settings": {}, **changes}), segmenter=blind(sclip()))
    run(photos, tmp_path / "fresh", sclip(), names, **{**usual, **asked})
    found = files_in(tmp_path / "new")
    assert found == files_in(tmp_path / "fresh")
    assert found["masks.csv"] != (tmp_path / "old" / "masks.csv").read_bytes()


@pytest.fixture
def painted(tmp_path):
    return painted_folder(tmp_path / "painted")


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "png", "label-studio", ALL])
def test_other_formats_are_made_of_the_masks_alone(format, painted, tmp_path):
    label(painted, tmp_path / "old", "coco")
    convert(tmp_path / "old", tmp_path / "new", Changes({"format": format, "min_area": 20, "val": 0.4}))
    settings = LabelSettings(format=format, min_area=20, val=0.4)
    fresh = Job(painted, tmp_path / "fresh", Vocabulary.of(["red", "blue", "background"]), settings, {})
    label_folder(fresh, segmenter=Painted())
    assert files_in(tmp_path / "new") == files_in(tmp_path / "fresh")


def test_renamed_masks_are_those_of_the_name_that_is_read_likewise(photos, tmp_path):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"], contrast="none")
    convert(tmp_path / "old", tmp_path / "new", Changes({"format": ALL}, rename={"dog": "hound"}))
    names = {"hound": {"instead": ["dog"]}, "sofa": None}
    run(photos, tmp_path / "fresh", sclip(), names, format=ALL, contrast="none")
    assert files_in(tmp_path / "new") == files_in(tmp_path / "fresh")


def test_label_says_how_it_goes_on_with_other_names(folder, tmp_path, command, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    old, new = tmp_path / "old", tmp_path / "new"
    line = ("label", folder, "--method", "maskclip", "--precision", "fp32", "--names")
    assert command(*line, "red, blue", "-o", old)[0] == 0
    assert command("label", "convert", old, "--rename", "red=fire", "-o", new)[0] == 0
    before = files_in(new)
    status, _, err = command(*line, "fire, blue", "-o", new)
    said = re.search("read in other words: say --names '(.*)' to go on so", err)
    assert (status, said is not None and said[1]) == (1, "fire: {instead: [red]}, blue")
    assert command(*line, said[1], "-o", new)[0] == 0
    assert files_in(new) == before


def test_of_a_student_dropped_names_are_those_that_it_is_not_asked_for(photos, tmp_path):
    run(photos, tmp_path / "old", small_student(CLASSES), CLASSES)
    convert(tmp_path / "old", tmp_path / "new", Changes({"format": ALL}, drop=("cat",)))
    run(photos, tmp_path / "fresh", small_student(CLASSES), ["background", "dog", "sofa"], format=ALL)
    assert files_in(tmp_path / "new") == files_in(tmp_path / "fresh")


def test_dropped_masks_are_background_and_the_folder_is_not_gone_on_with_by_label(painted, tmp_path):
    label(painted, tmp_path / "old")
    convert(tmp_path / "old", tmp_path / "new", Changes({"format": "png"}, drop=("blue",)))
    before = Segmentation.load(tmp_path / "new" / "masks" / "ring.png")
    assert before.names == ["red", "background"]
    image = np.array(Image.open(painted / "ring.png"))
    assert np.array_equal(before.mask("red"), image[..., 0] > 0)
    with pytest.raises(LabelError, match="'blue'"):
        label(painted, tmp_path / "new", "png", names=["red", "background"])


@pytest.mark.parametrize("changes", [Changes({"format": "voc,coco"}), Changes({"min_score": 0.3})])
def test_a_conversion_that_was_stopped_goes_on(changes, photos, tmp_path, monkeypatch):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    convert(tmp_path / "old", tmp_path / "whole", changes, segmenter=sclip())
    answers = Converting.answers

    def stops(self, entries, on_bad):
        if any("wide" in entry.picture for entry in entries.values()):
            raise Stop
        return answers(self, entries, on_bad)

    with monkeypatch.context() as patched:
        patched.setattr(Converting, "answers", stops)
        with pytest.raises(Stop):
            convert(tmp_path / "old", tmp_path / "new", changes, segmenter=sclip())
    assert convert(tmp_path / "old", tmp_path / "new", changes, segmenter=sclip()).new == 2
    assert files_in(tmp_path / "new") == files_in(tmp_path / "whole")


@pytest.mark.parametrize("changes", [Changes({"format": "voc"}), Changes({"min_score": 0.3})])
def test_pictures_that_changed_came_or_went_are_told_and_left_out(changes, photos, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(photos, folder)
    run(folder, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(folder / "tall.png")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(folder / "new.png")
    (folder / "square.png").unlink()
    notes, bad = [], []
    labels = convert(
        tmp_path / "old", tmp_path / "new", changes, segmenter=sclip(), on_note=notes.append, on_bad=bad.append
    )
    assert (labels.pictures, labels.left_out) == (2, 2)
    assert sorted(error.source.rpartition("/")[2] for error in bad) == ["new.png", "tall.png"]
    assert any("1 labelled picture, no longer found in" in note for note in notes)
    assert any("1 new picture, and 1 changed since" in note for note in notes)
    run(folder, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    again = convert(tmp_path / "old", tmp_path / "new", changes, segmenter=sclip(), on_note=notes.append)
    assert (again.pictures, again.left_out) == (4, 0)


def test_pictures_that_have_moved_are_found_where_they_are_now(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "before")
    run(tmp_path / "before", tmp_path / "old", sclip(), ["dog", "sofa"])
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(WordmaskError, match="there is no such folder"):
        convert(tmp_path / "old", tmp_path / "new", Changes({"format": "yolo"}))
    changes = Changes({"format": "yolo"}, folder=tmp_path / "after")
    assert convert(tmp_path / "old", tmp_path / "new", changes).pictures == 4


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        (Changes({"min_score": 0.3}), "--min-score"),
        (Changes({"min_area": 1}), "--min-area below 40"),
        (Changes({}, contrast=("sky",)), "--contrast"),
        (Changes({}, fill=True), "--fill"),
        (Changes({}, names=Vocabulary.of(["tree"])), "--names"),
    ],
)
def test_what_needs_features_says_so_and_how_to_get_them(changes, option, photos, tmp_path):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"])
    with pytest.raises(LabelError, match=f"^{option} needs features, which .* --keep-features --out .*old$"):
        convert(tmp_path / "old", tmp_path / "new", changes)
    assert not (tmp_path / "new").exists()
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    convert(tmp_path / "old", tmp_path / "new", changes, segmenter=sclip())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rename": {"tree": "bush"}}, "no such name"),
        ({"rename": {"dog": "sofa"}}, "another has"),
        ({"rename": {"dog": "background"}}, "another has"),
        ({"drop": ("dog", "sofa")}, "leaves no name"),
        ({"drop": ("background",)}, "background stays"),
        ({"drop": ("dog",), "names": Vocabulary.of(["tree"])}, "give one"),
        ({"drop": ("dog",), "settings": {"min_score": 0.5}}, "--drop takes masks away"),
        ({"settings": {"format": "xml"}}, "'xml'"),
    ],
)
def test_what_cannot_be_is_refused(changes, told, photos, tmp_path):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"])
    with pytest.raises(LabelError, match=told):
        convert(tmp_path / "old", tmp_path / "new", Changes(**{"settings": {}, **changes}))


def test_features_of_other_networks_are_refused(photos, tmp_path):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    other = Sclip(small_clip(seed=1), sclip().settings)
    assert mark_of(other) != mark_of(sclip()) == mark_of(sclip())
    with pytest.raises(LabelError, match="other networks"):
        convert(tmp_path / "old", tmp_path / "new", Changes({"min_score": 0.3}), segmenter=other)
    path_of(tmp_path / "old", "wide").unlink()
    with pytest.raises(LabelError, match="other networks"):
        run(photos, tmp_path / "old", other, ["dog", "sofa"], keep="features")


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_damaged_features_leave_their_picture_out(harm, photos, tmp_path):
    run(photos, tmp_path / "old", sclip(), ["dog", "sofa"], keep="features")
    path = path_of(tmp_path / "old", "tall")
    content = bytearray(path.read_bytes())
    if harm == "cut":
        del content[-100:]
    else:
        content[-100] ^= 1
    path.write_bytes(content)
    bad = []
    labels = convert(
        tmp_path / "old", tmp_path / "new", Changes({"min_score": 0.3}), segmenter=sclip(), on_bad=bad.append
    )
    assert (labels.pictures, labels.left_out) == (3, 1)
    assert "damaged" in str(bad[0])
    assert "--keep-features" in str(bad[0])


def test_lost_features_are_made_anew_and_those_of_gone_pictures_go(photos, tmp_path):
    folder, out = tmp_path / "own", tmp_path / "old"
    shutil.copytree(photos, folder)
    run(folder, out, sclip(), ["dog", "sofa"], keep="features")
    there = files_in(out)
    assert sum(name.endswith(".safetensors") for name in there) == 4
    path_of(out, "below/small").unlink()
    run(folder, out, sclip(), ["dog", "sofa"], keep="features")
    assert files_in(out) == there
    (folder / "tall.png").unlink()
    settings = LabelSettings(min_area=40)
    label_folder(
        Job(folder, out, Vocabulary.of(["dog", "sofa"]), settings, {}),
        segmenter=sclip(),
        batch_size=2,
        prune=True,
        on_note=lambda note: None,
    )
    assert not path_of(out, "tall").exists()
    assert path_of(out, "wide").exists()


def test_halves_are_kept_where_labels_are_the_same_and_labels_are_those_of_no_keeping(photos, tmp_path):
    run(photos, tmp_path / "plain", sclip(), ["dog", "sofa"])
    run(photos, tmp_path / "whole", sclip(), ["dog", "sofa"], keep="features")
    run(photos, tmp_path / "half", sclip(), ["dog", "sofa"], keep="halves")
    for name in ("masks.csv", "annotations.json"):
        contents = {(tmp_path / out / name).read_bytes() for out in ("plain", "whole", "half")}
        assert len(contents) == 1
    for name in SIZES:
        whole, half = (load_file(path_of(tmp_path / out, name))["features.0"] for out in ("whole", "half"))
        if half.dtype == torch.float16:
            assert torch.equal(half, whole.half())
        else:
            assert torch.equal(half, whole)
    kinds = [load_file(path_of(tmp_path / "half", name))["features.0"].dtype for name in SIZES]
    assert torch.float16 in kinds


def test_a_segmenter_that_cannot_keep_says_so_before_anything_is_written(painted, tmp_path):
    made = replace(job(painted, tmp_path / "out"), keep="features")
    with pytest.raises(SegmenterError, match="cannot be kept"):
        label_folder(made, segmenter=Painted())
    assert not (tmp_path / "out").exists()


def test_labels_of_a_version_before_specks_convert_where_nothing_hangs_on_them(painted, tmp_path):
    label(painted, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / ".wordmask" / "ledger.sqlite") as ledger:
        for picture, row in ledger.execute("SELECT picture, row FROM rows").fetchall():
            told = json.loads(row)
            del told["specks"]
            ledger.execute("UPDATE rows SET row = ? WHERE picture = ?", (json.dumps(told), picture))
    convert(tmp_path / "old", tmp_path / "yolo", Changes({"format": "yolo"}))
    label(painted, tmp_path / "fresh", "yolo")
    assert files_in(tmp_path / "yolo") == files_in(tmp_path / "fresh")
    bad = []
    with pytest.raises(LabelError):
        convert(tmp_path / "old", tmp_path / "png", Changes({"format": "png"}), on_bad=bad.append)
    assert ["voc and png need" in str(error) for error in bad] == 4 * [True]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "holds no labels of `wordmask label`"),
        (["OLD", "--rename", "red"], "OLD=NEW"),
        (["OLD", "--pictures", "link"], "--format yolo and voc"),
        (["OLD", "--format", "xml"], "'xml'"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments, told, painted, tmp_path):
    label(painted, tmp_path / "old")
    arguments = [str(tmp_path / "old") if each == "OLD" else each for each in arguments]
    end = CliRunner().invoke(app, ["label", "convert", *arguments, "--out", str(tmp_path / "new")])
    assert end.exit_code != 0
    assert told in " ".join(f"{end.output} {end.exception}".split())


def test_the_command_line_converts(painted, tmp_path):
    label(painted, tmp_path / "old")
    out = str(tmp_path / "new")
    line = ["label", "convert", str(tmp_path / "old"), "--format", "yolo", "--rename", "red=crimson", "--val", "0"]
    end = CliRunner().invoke(app, [*line, "--drop", "blue", "--out", out, "--json"])
    assert end.exit_code == 0, end.output
    assert json.loads(end.stdout)["pictures"] == 4
    assert "0: crimson" in (tmp_path / "new" / "data.yaml").read_text()
    help_text = CliRunner().invoke(app, ["label", "convert", "--help"]).output
    assert "Example: wordmask label convert" in " ".join(help_text.split())
