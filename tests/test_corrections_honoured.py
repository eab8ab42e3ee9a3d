"""Labels that honour what a person said of them, now and in later runs."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from support.corrected_masks import MENDED, SIZE, box, coco_file
from support.labelling_job import files_in, label
from support.painted import NAMES, Painted
from wordmask import segmenters
from wordmask.corrections import (
    ACCEPTED,
    FILE_NAME,
    REJECTED,
    Correction,
    CorrectionsError,
    MaskVerdict,
    read_corrections,
    write_corrections,
)
from wordmask.corrections.reading import corrections_from
from wordmask.fingerprints import file_digest
from wordmask.labelling import LabelError
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.ledger import Ledger
from wordmask.masks.run_lengths import encoded_mask
from wordmask.masks.segmentation import Segmentation

# Labels that honour them.


def parts_of(out, picture):
    ledger = Ledger(out / ".wordmask" / "ledger.sqlite")
    row = ledger.find(picture)
    ledger.close()
    return row.parts


def corrected(folder, out, *corrections, **more):
    told = []
    write_corrections(out / FILE_NAME, corrections)
    done = label(folder, out, on_note=told.append, **more)
    return done, told


def judged(folder, out, picture, *verdicts, verdict=None, more=()):
    """verdicts: (verdict, new name) of each part of the labels."""
    size = Image.open(folder / picture).size[::-1]
    masks = [
        MaskVerdict(new or part.name, part.rle, own, part.name if new else None)
        for part, (own, new) in zip(parts_of(out, picture), verdicts, strict=False)
    ]
    masks += [MaskVerdict(name, encoded_mask(mask)["counts"], ACCEPTED) for name, mask in more]
    return Correction(picture, file_digest(folder / picture), size, verdict, tuple(masks))


def test_coco_leaves_out_what_was_rejected_and_renames(folder, tmp_path):
    out = tmp_path / "out"
    label(folder, out)
    before = json.loads((out / "annotations.json").read_text())
    done, told = corrected(
        folder,
        out,
        judged(folder, out, "below/noise.png", verdict=REJECTED),
        judged(folder, out, "parts.png", (REJECTED, None), (ACCEPTED, "lynx")),
        judged(folder, out, "ring.png", (ACCEPTED, None), verdict=ACCEPTED, more=[("lynx", MENDED["lynx"])]),
        Correction("away.png", "0" * 64, SIZE, REJECTED),
    )
    assert f"{out / FILE_NAME}: 2 pictures corrected, 2 rejected" in told
    assert any("no use for 1 correction: not in" in note for note in told)
    assert (done.pictures, done.corrected, done.rejected, done.new) == (3, 2, 1, 0)
    after = json.loads((out / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in after["categories"]}
    assert list(names.values()) == ["red", "blue", "lynx"]
    assert [image["file_name"] for image in after["images"]] == ["nothing.png", "parts.png", "ring.png"]
    image = {each["file_name"]: each["id"] for each in after["images"]}
    own = [each for each in after["annotations"] if each["image_id"] == image["parts.png"]]
    assert [(names[each["category_id"]], each["area"]) for each in own] == [("lynx", 100)]
    ring = [each for each in after["annotations"] if each["image_id"] == image["ring.png"]]
    assert [names[each["category_id"]] for each in ring] == ["red", "lynx"]
    np.testing.assert_array_equal(coco_mask.decode(ring[1]["segmentation"]), MENDED["lynx"])
    assert "noise" not in (out / "masks.csv").read_text()

    (out / FILE_NAME).unlink()  # all is taken back
    label(folder, out, on_note=lambda note: None)
    assert json.loads((out / "annotations.json").read_text()) == before


@pytest.mark.parametrize("format", ["yolo", "voc", "png", "label-studio", "coco,png"])
def test_every_format_honours_them_and_is_as_before_when_they_are_taken_back(folder, tmp_path, format):
    out = tmp_path / "out"
    label(folder, out, format, val=0)
    before = files_in(out)
    said = [
        judged(folder, out, "below/noise.png", verdict=REJECTED),
        judged(folder, out, "parts.png", (REJECTED, None), (ACCEPTED, "lynx")),
    ]
    corrected(folder, out, *said, format=format, val=0)
    first = files_in(out)
    assert first != before
    assert not [name for name in first if "noise" in name and not name.startswith("review")]
    again = Painted()
    corrected(folder, out, *said, format=format, val=0, segmenter=again)
    assert again.looked == []
    assert files_in(out) == first  # nothing to do
    (out / FILE_NAME).unlink()
    label(folder, out, format, val=0, on_note=lambda note: None)
    assert files_in(out) == before


def test_yolo_and_voc_and_png_say_the_new_name(folder, tmp_path):
    out = tmp_path / "out"
    told = {"format": "yolo,voc,png", "val": 0}
    label(folder, out, **told)
    corrected(folder, out, judged(folder, out, "parts.png", (REJECTED, None), (ACCEPTED, "lynx")), **told)
    assert yaml.safe_load((out / "yolo" / "data.yaml").read_text())["names"] == {0: "red", 1: "blue", 2: "lynx"}
    assert (out / "yolo" / "labels" / "parts.txt").read_text().startswith("2 ")
    lynx = box(10, 10, 10, 10, (24, 24))
    classes = np.array(Image.open(out / "voc" / "SegmentationClass" / "parts.png"))
    np.testing.assert_array_equal(classes, np.where(lynx, 3, 0))
    segmentation = Segmentation.load(out / "png" / "masks" / "parts.png")
    np.testing.assert_array_equal(segmentation.mask("lynx"), lynx)
    assert not segmentation.mask("blue").any()


def test_a_picture_that_is_labelled_anew_is_corrected_again(folder, tmp_path):
    """Its batch is, as another picture of it has changed."""
    out = tmp_path / "out"
    label(folder, out, "png")
    said = judged(folder, out, "parts.png", (REJECTED, None), (ACCEPTED, "lynx"))
    corrected(folder, out, said, format="png")
    before = (out / "masks" / "parts.png").read_bytes()
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "nothing.png")
    again = Painted()
    label(folder, out, "png", segmenter=again, on_note=lambda note: None)
    assert any(path.endswith("parts.png") for path in again.looked)
    assert (out / "masks" / "parts.png").read_bytes() == before


def test_a_picture_that_has_changed_since_is_not_corrected(folder, tmp_path):
    out = tmp_path / "out"
    label(folder, out)
    said = judged(folder, out, "nothing.png", verdict=REJECTED)
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "nothing.png")
    done, told = corrected(folder, out, said)
    assert (done.rejected, done.pictures) == (0, 4)
    assert any("or changed since" in note for note in told)


def test_another_tools_file_is_taken_as_it_is(folder, tmp_path, command):
    out = tmp_path / "out"
    told = []
    label(folder, out)
    done = label(folder, out, corrections=coco_file(tmp_path, encoded_mask), on_note=told.append)
    assert done.corrected == 1
    assert any("coco.json: 1 picture corrected" in note for note in told)


def test_a_damaged_file_beside_the_labels_stops_them(folder, tmp_path):
    label(folder, tmp_path / "out")
    before = files_in(tmp_path / "out")
    (tmp_path / "out" / FILE_NAME).write_text("{")
    with pytest.raises(CorrectionsError, match="save it from the review again|no valid JSON"):
        label(folder, tmp_path / "out")
    (tmp_path / "out" / FILE_NAME).unlink()
    assert files_in(tmp_path / "out") == before


def test_conversions_honour_the_corrections_of_the_labels_that_they_are_made_of(folder, tmp_path, command):
    out = tmp_path / "out"
    label(folder, out)
    said = [
        judged(folder, out, "below/noise.png", verdict=REJECTED),
        judged(folder, out, "parts.png", (REJECTED, None), (ACCEPTED, "lynx")),
    ]
    write_corrections(out / FILE_NAME, said)
    status, _, error = command("label", "convert", out, "--format", "yolo", "--val", 0, "-o", tmp_path / "yolo")
    assert status == 0, error
    assert "1 picture corrected, 1 rejected" in error
    labels = tmp_path / "yolo" / "labels"
    assert {path.stem for path in labels.rglob("*.txt")} == {"nothing", "parts", "ring"}
    assert (labels / "parts.txt").read_text().startswith("2 ")


@pytest.mark.parametrize("content", ['{"a.jpg": 3}', "[]", '{"a.jpg": ["1 2"]}'])
def test_damaged_fingerprints_are_named(tmp_path, content):
    (tmp_path / "fingerprints.json").write_text(content)
    with pytest.raises(LabelError, match=r"fingerprints\.json"):
        KeptFingerprints(tmp_path / "fingerprints.json", tmp_path)


def test_names_that_a_conversion_changes_are_changed_in_corrections_too(folder, tmp_path, command):
    """Of parts.png one blue mask is right and the other was found to be red; in ring.png somebody drew more blue."""
    old, names = tmp_path / "old", {}
    label(folder, old)
    corrected(
        folder,
        old,
        judged(folder, old, "parts.png", (ACCEPTED, None), (ACCEPTED, "red")),
        judged(folder, old, "ring.png", (ACCEPTED, None), verdict=ACCEPTED, more=[("blue", MENDED["lynx"])]),
    )
    for change in ("--rename blue=sea", "--rename red=fire", "--drop blue", "--drop red"):
        out = tmp_path / change.replace(" ", "")
        assert command("label", "convert", str(old), *change.split(), "--out", str(out))[0] == 0
        rows = csv.DictReader((out / "masks.csv").open())
        names[change] = sorted((row["image"], row["name"]) for row in rows if not row["image"].startswith("below"))
    assert names["--rename blue=sea"] == [
        ("parts.png", "red"), ("parts.png", "sea"), ("ring.png", "red"), ("ring.png", "sea")
    ]  # fmt: skip
    assert names["--rename red=fire"] == [
        ("parts.png", "blue"), ("parts.png", "fire"), ("ring.png", "blue"), ("ring.png", "fire")
    ]  # fmt: skip
    assert names["--drop blue"] == [("parts.png", "red"), ("ring.png", "red")]
    assert names["--drop red"] == [("parts.png", "blue"), ("ring.png", "blue")]


def rows_of(out):
    return sorted((row["image"], row["name"], row["area"]) for row in csv.DictReader((out / "masks.csv").open()))


def test_what_was_brought_from_elsewhere_holds_in_later_runs(folder, tmp_path):
    out, given = tmp_path / "out", coco_file(tmp_path, encoded_mask)
    label(folder, out)
    uncorrected = rows_of(out)
    label(folder, out, corrections=given, on_note=lambda note: None)
    corrected_rows, kept = rows_of(out), (out / FILE_NAME).read_bytes()
    assert corrected_rows != uncorrected
    assert read_corrections(out / FILE_NAME) == corrections_from(given, folder)
    told = []
    assert label(folder, out, on_note=told.append).corrected == 1
    assert any(f"{out / FILE_NAME}: 1 picture corrected" in note for note in told)
    assert (rows_of(out), (out / FILE_NAME).read_bytes()) == (corrected_rows, kept)
    (out / FILE_NAME).unlink()
    label(folder, out, on_note=told.append)
    assert rows_of(out) == uncorrected
    label(folder, out, corrections=given, on_note=told.append)
    assert rows_of(out) == corrected_rows


def test_what_was_brought_gives_way_to_newer_and_to_what_was_said_beside_the_labels_since(folder, tmp_path):
    out, given = tmp_path / "out", tmp_path / "given.json"
    label(folder, out)
    ring, parts, noise = (
        judged(folder, out, name, verdict=REJECTED) for name in ("ring.png", "parts.png", "below/noise.png")
    )
    dropped = judged(folder, out, "parts.png", (REJECTED, None))

    def bring(*corrections):
        told = []
        write_corrections(given, corrections)
        label(folder, out, corrections=given, on_note=told.append)
        return set(read_corrections(out / FILE_NAME)), told

    assert bring(ring, parts)[0] == {ring, parts}
    write_corrections(out / FILE_NAME, [ring, dropped])  # as the review does
    said, told = bring(ring, parts)
    assert said == {ring, dropped}
    assert any("says otherwise of 1 picture, and holds" in note for note in told)
    assert bring(noise, parts)[0] == {noise, dropped}


def test_label_goes_on_with_the_corrections_of_a_conversion(folder, tmp_path, command, monkeypatch):
    """The folder that a conversion makes holds them itself, under the names of now."""
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    old, new = tmp_path / "old", tmp_path / "new"
    arguments = ("label", folder, "--method", "maskclip", "--precision", "fp32", "--min-area", 4)
    assert command(*arguments, "--names", ",".join(NAMES), "-o", old)[0] == 0
    write_corrections(
        old / FILE_NAME,
        [
            judged(folder, old, "below/noise.png", verdict=REJECTED),
            judged(folder, old, "parts.png", (REJECTED, None), (ACCEPTED, "lynx")),
        ],
    )
    convert = ("label", "convert", old, "--format", "yolo", "--val", 0, "-o", new)
    assert command(*convert)[0] == 0
    before = files_in(new)
    assert [row for row in rows_of(new) if row[0] == "parts.png"] == [("parts.png", "lynx", "100")]
    status, out, err = command(*arguments, "--names", ",".join(NAMES), "--format", "yolo", "--val", 0, "-o", new)
    assert (status, "1 picture corrected, 1 rejected" in out) == (0, True), err
    assert files_in(new) == before
    write_corrections(old / FILE_NAME, [judged(folder, old, "parts.png", (REJECTED, None), (ACCEPTED, "wolf"))])
    assert command(*convert)[0] == 0
    assert {row[:2] for row in rows_of(new) if row[0] != "ring.png"} >= {
        ("parts.png", "wolf"),
        ("below/noise.png", "red"),
    }
