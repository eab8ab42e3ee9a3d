"""Corrections: their own file, and what comes back from other tools."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from support.corrected_masks import MENDED, SIZE, box, coco_file, masks_by_name
from support.labelling_job import label
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
from wordmask.labelling.brush_rle import encode_brush
from wordmask.labelling.ledger import Ledger
from wordmask.masks.run_lengths import encoded_mask
from wordmask.masks.segmentation import Segmentation

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
