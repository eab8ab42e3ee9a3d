"""Corrections: the file, masks that were mended in other tools, and labels that honour both."""

import csv
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from support.labelling_job import files_in, label
from support.painted import NAMES, Painted
from wordmask import segmenters
from wordmask.corrections import (
    ACCEPTED,
    FILE_NAME,
    REJECTED,
    Correction,
    Corrections,
    CorrectionsError,
    MaskVerdict,
    read_corrections,
    write_corrections,
)
from wordmask.corrections.label_studio import decode_brush
from wordmask.corrections.reading import corrections_from
from wordmask.corrections.run_lengths import lengths_of, mask_of
from wordmask.fingerprints import file_digest
from wordmask.labelling import LabelError
from wordmask.labelling.brush_rle import encode_brush
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.ledger import Ledger
from wordmask.masks.run_lengths import encoded_mask
from wordmask.masks.segmentation import Segmentation

SIZE = (30, 40)  # of ring.png


def box(top, left, height, width, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def masks_by_name(correction):
    found = {}
    for mask in correction.masks:
        own = mask_of(lengths_of(mask.counts, correction.size), correction.size)
        found[mask.name] = found.get(mask.name, False) | own
    return found


# Run lengths of strangers.


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_run_lengths_are_read_as_coco_reads_them(height, width, chance):
    mask = np.array([[chance.random() < 0.5 for _ in range(width)] for _ in range(height)])
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(mask_of(lengths_of(code, (height, width)), (height, width)), mask)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), (height, width)), mask)


@pytest.mark.parametrize(
    "counts", ["", "ü", "0o", "1", "Q", "oooooooooooo0", encoded_mask(box(0, 0, 3, 3, (9, 9)))["counts"], "0" * 5000]
)
def test_run_lengths_that_do_not_fill_the_picture_are_refused(counts):
    with pytest.raises(ValueError, match="run lengths"):
        lengths_of(counts, SIZE)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=12))
def test_no_letters_make_other_than_a_whole_mask(counts):
    try:
        lengths = lengths_of(counts, (5, 7))
    except ValueError:
        return
    assert mask_of(lengths, (5, 7)).shape == (5, 7)


@pytest.mark.parametrize("change", [lambda code: code[:-3], lambda code: [*code[:20], 999], lambda code: [0] * 40])
def test_brushes_that_are_cut_short_or_of_another_size_are_refused(change):
    with pytest.raises(ValueError, match="brush"):
        decode_brush(change(encode_brush(box(1, 1, 5, 5))), SIZE)
    with pytest.raises(ValueError, match="not of 40 x 30"):
        decode_brush(encode_brush(box(0, 0, 2, 2, (9, 9))), SIZE)


# The file.


def test_the_file_holds_what_was_said(tmp_path):
    code = encoded_mask(box(1, 2, 3, 4))["counts"]
    said = [
        Correction("b.png", "b" * 64, SIZE, REJECTED),
        Correction("a.png", "a" * 64, SIZE, None, (MaskVerdict("cat", code, ACCEPTED, "dog"),)),
        Correction("nothing.png", "c" * 64, SIZE, None, (MaskVerdict("cat", code),)),
    ]
    write_corrections(tmp_path / FILE_NAME, said)
    read = read_corrections(tmp_path / FILE_NAME)
    assert list(read) == [said[1], said[0]]
    assert read.summary == "1 picture corrected, 1 rejected"
    assert read.digest == Corrections(tuple(said[:2])).digest != Corrections(tuple(said[:1])).digest
    moved = Correction("elsewhere/a.png", "a" * 64, SIZE, None, said[1].masks)
    assert Corrections((said[0], moved)).digest == read.digest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, "no file of corrections"),
        ({"version": 2}, "version 2"),
        ({"pictures": {}}, "no list"),
        ({"pictures": ["x"]}, r"pictures\[0\]"),
        ({"picture": ""}, "no path"),
        ({"fingerprint": "../x"}, "no SHA-256"),
        ({"size": [30]}, "a.png"),
        ({"size": [10**9, 10**9]}, "not that of a picture"),
        ({"verdict": "yes"}, "neither accepted"),
        ({"masks": [{"name": "background", "counts": "x"}]}, "reject it instead"),
        ({"masks": [{"name": "a\0b", "counts": "x"}]}, "control character"),
        ({"masks": [{"name": "dog", "counts": "x"}]}, "run lengths"),
        ({"masks": [{"name": "dog"}]}, "counts"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(tmp_path, change, told):
    entry = {"picture": "a.png", "fingerprint": "a" * 64, "size": list(SIZE), "verdict": None, "masks": []}
    whole = {"format": "wordmask corrections", "version": 1, "pictures": [entry]}
    for key, value in change.items():
        (whole if key in whole else entry)[key] = value
    (tmp_path / FILE_NAME).write_text(json.dumps(whole))
    with pytest.raises(CorrectionsError, match=told) as error:
        read_corrections(tmp_path / FILE_NAME)
    assert str(tmp_path / FILE_NAME) in str(error.value)
    assert "\n" not in str(error.value)


# Masks that were mended in other tools.

MENDED = {"red": box(2, 3, 8, 9), "lynx": box(20, 10, 5, 20)}


def coco_file(folder, segmentation, **changes):
    image = {"id": 7, "file_name": "ring.png", "height": SIZE[0], "width": SIZE[1]}
    told = {
        "images": [image | changes, {"id": 8, "file_name": "nothing.png", "height": 24, "width": 24}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "lynx"}],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": number, "segmentation": segmentation(mask)}
            for number, mask in enumerate(MENDED.values(), start=1)
        ],
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(told))
    return path


def corners(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right, top, bottom = *columns[[0, -1]].tolist(), *rows[[0, -1]].tolist()
    return [left, top, right + 1, top, right + 1, bottom + 1, left, bottom + 1]


def plain_lengths(mask):
    flat, lengths, value = mask.T.ravel().tolist(), [0], False
    for pixel in flat:
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return {"size": list(SIZE), "counts": lengths}


@pytest.mark.parametrize("segmentation", [encoded_mask, plain_lengths, lambda mask: [corners(mask)]])
def test_coco_comes_back(folder, tmp_path, segmentation):
    found = corrections_from(coco_file(tmp_path, segmentation), folder)
    (correction,) = found
    assert (correction.picture, correction.verdict) == ("ring.png", ACCEPTED)
    assert correction.fingerprint == file_digest(folder / "ring.png")
    for name, mask in masks_by_name(correction).items():
        np.testing.assert_array_equal(mask, MENDED[name])
    assert "1 picture of" in found.notes[0]  # the one without masks


@pytest.mark.parametrize(
    ("segmentation", "changes", "told"),
    [
        (encoded_mask, {"height": 31}, "40 x 31 pixels, and .* has 40 x 30"),
        (lambda mask: [[0, 0, 1e9, 0, 5, 5]], {}, "outside"),
        (lambda mask: [[0, 0, float("nan"), 0, 5, 5]], {}, "outside"),
        (lambda mask: [[0, 0, 5, 5]], {}, "three corners"),
        (lambda mask: [[0, 0, 5, "x", 5, 5]], {}, "not numbers"),
        (lambda mask: {"size": [9, 9], "counts": "0"}, {}, "another size"),
        (lambda mask: {"size": list(SIZE), "counts": [10**9]}, {}, "fill"),
        (lambda mask: {"size": list(SIZE), "counts": [-1, 1201]}, {}, "neither"),
        (lambda mask: None, {}, "ring.png"),
        (encoded_mask, {"file_name": "../../etc/passwd"}, "says nothing of any picture"),
        (encoded_mask, {"file_name": "nowhere.png"}, "says nothing of any picture"),
    ],
)
def test_coco_that_does_not_fit_is_refused(folder, tmp_path, segmentation, changes, told):
    with pytest.raises(CorrectionsError, match=told):
        corrections_from(coco_file(tmp_path, segmentation, **changes), folder)


def task(results, url="/data/local-files/?d=photos/ring.png"):
    return [{"data": {"image": url}, "annotations": [{"result": results}]}, {"data": {"image": "x"}, "predictions": []}]


def result(kind, value, **changes):
    size = {"original_height": SIZE[0], "original_width": SIZE[1], "image_rotation": 0}
    return {"type": kind, "value": value, **size, **changes}


@pytest.mark.parametrize(
    "url", ["/data/local-files/?d=photos/ring.png", "/data/upload/1/0123abcd-ring.png", "https://host/a/ring.png?x=1"]
)
def test_label_studio_comes_back(folder, tmp_path, url):
    height, width = SIZE
    flat = corners(MENDED["lynx"])
    points = [[100 * x / width, 100 * y / height] for x, y in zip(flat[::2], flat[1::2], strict=True)]
    results = [
        result("brushlabels", {"format": "rle", "rle": encode_brush(MENDED["red"]), "brushlabels": ["red"]}),
        result("polygonlabels", {"points": points, "polygonlabels": ["lynx"]}),
        result("rectanglelabels", {"x": 0, "rectanglelabels": ["red"]}),
    ]
    (tmp_path / "export.json").write_text(json.dumps(task(results, url)))
    found = corrections_from(tmp_path / "export.json", folder)
    (correction,) = found
    masks = masks_by_name(correction)
    assert masks.keys() == MENDED.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, MENDED[name])
    assert any("neither brushes nor polygons" in note for note in found.notes)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (result("brushlabels", {"rle": [1, 2], "brushlabels": ["red"]}), "brush"),
        (
            result("brushlabels", {"rle": encode_brush(MENDED["red"]), "brushlabels": ["red"]}, original_width=9),
            "9 x 30",
        ),
        (result("polygonlabels", {"points": [[0, 0], [300, 0], [5, 5]], "polygonlabels": ["red"]}), "outside"),
        (result("brushlabels", {"rle": [], "brushlabels": ["red"]}, image_rotation=90), "turn it back"),
        (result("brushlabels", {}), "missing"),
    ],
)
def test_label_studio_that_does_not_fit_is_refused(folder, tmp_path, made, told):
    (tmp_path / "export.json").write_text(json.dumps(task([made])))
    with pytest.raises(CorrectionsError, match=told):
        corrections_from(tmp_path / "export.json", folder)


def test_our_own_export_of_label_studio_comes_back_once_it_is_annotated(folder, tmp_path):
    label(folder, tmp_path / "out", "label-studio")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    for each in tasks:
        each["annotations"] = each.pop("predictions")
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = {each.picture: each for each in corrections_from(tmp_path / "export.json", folder)}
    ledger = Ledger(tmp_path / "out" / ".wordmask" / "ledger.sqlite")
    for row in ledger.rows():
        assert {mask.counts for mask in found[row.picture].masks} == {part.rle for part in row.parts}
    ledger.close()


def test_label_maps_come_back_by_their_own_names_or_by_a_file_of_names(folder, tmp_path):
    labels = np.full(SIZE, 2, np.uint8)
    for number, mask in enumerate(MENDED.values()):
        labels[mask] = number
    Segmentation(labels, ["red", "lynx", "background"]).save(tmp_path / "own" / "ring.png")
    (tmp_path / "plain").mkdir()
    plain = np.where(labels == 2, 255, labels + 1)
    plain[0, 0] = 0
    Image.fromarray(plain.astype(np.uint8)).save(tmp_path / "plain" / "ring.png")
    (tmp_path / "names.txt").write_text("0 background\n1 red\n2 lynx\n255 void\n")
    for found in (
        corrections_from(tmp_path / "own", folder),
        corrections_from(tmp_path / "plain", folder, format="png", names_file=tmp_path / "names.txt"),
    ):
        (correction,) = found
        for name, mask in masks_by_name(correction).items():
            np.testing.assert_array_equal(mask, MENDED[name])
    with pytest.raises(CorrectionsError, match="--names-file"):
        corrections_from(tmp_path / "plain", folder)
    (tmp_path / "names.txt").write_text("background\nred\nlynx\n")
    with pytest.raises(CorrectionsError, match="number 255"):
        corrections_from(tmp_path / "plain", folder, names_file=tmp_path / "names.txt")
    Image.fromarray(plain[:9].astype(np.uint8)).save(tmp_path / "plain" / "ring.png")
    with pytest.raises(CorrectionsError, match="40 x 9"):
        corrections_from(tmp_path / "plain", folder, names_file=tmp_path / "names.txt")


def test_the_command_makes_them_and_adds_to_others(folder, tmp_path, command):
    out = tmp_path / "corrections.json"
    line = ("label", "corrections", coco_file(tmp_path, encoded_mask), "--images", folder, "-o", out)
    assert command(*line)[0] == 0
    other = Correction("parts.png", file_digest(folder / "parts.png"), (24, 24), REJECTED)
    write_corrections(tmp_path / "others.json", [other])
    status, _, error = command(*line)
    assert status == 1
    assert "--add-to" in error
    write_corrections(out, [*read_corrections(out), other])
    status, printed, _ = command(*line, "--add-to", out, "--json")
    assert (status, json.loads(printed)["in_all"]) == (0, 2)


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
