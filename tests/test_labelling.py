"""Labels in every format, read back by the format's own reader or by a plain decoder written here."""

import csv
import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision.datasets import VOCSegmentation

from support.labelling_job import label
from support.painted import NAMES, paint
from wordmask.labelling import LabelError
from wordmask.labelling.brush_rle import encode_brush
from wordmask.labelling.polygons import in_one_ring, outlines, polygons_of, signed_area, simplified
from wordmask.labelling.voc import voc_palette
from wordmask.masks.segmentation import Segmentation

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def places_of(mask):
    return list(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True))


def flooded(mask):
    """Connected parts by flood fill, a pixel at a time: {frozenset of places}."""
    left, parts = set(places_of(mask)), []
    while left:
        part, edge = set(), {left.pop()}
        while edge:
            part |= edge
            near = {(r + dr, c + dc) for r, c in edge for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            edge = near & left
            left -= edge
        parts.append(frozenset(part))
    return set(parts)


def as_mask(part, shape):
    mask = np.zeros(shape, int)
    mask[tuple(np.array(sorted(part)).T)] = 1
    return mask


def inside_by_parity(rings, shape):
    """Pixels whose centre is inside: a ray to the right crosses the rings' edges an odd number of times."""
    mask = np.zeros(shape, bool)
    for row, column in np.ndindex(shape):
        y, x, crossings = row + 0.5, column + 0.5, 0
        for ring in rings:
            for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    crossings += 1
        mask[row, column] = crossings % 2
    return mask


@settings(max_examples=40, deadline=None)
@given(MASKS, st.integers(1, 4))
def test_instances_are_the_parts_that_a_flood_fill_finds(mask, min_area):
    scores = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    found = Segmentation(mask.astype(np.uint8), ["background", "dog"], scores).instances(min_area=min_area)
    wanted = {part for part in flooded(mask) if len(part) >= min_area}
    got = set()
    for instance in found:
        canvas = np.zeros(mask.shape, np.uint8)
        instance.paste_into(canvas, 1)
        places = frozenset(places_of(canvas))
        got.add(places)
        assert instance.area == len(places)
        assert instance.score == pytest.approx(np.mean([scores[place] for place in places]), abs=1e-6)
        x, y, width, height = instance.box
        assert canvas[y : y + height, x : x + width].sum() == len(places)
        assert all(instance.mask.any(axis=axis).all() for axis in (0, 1))
    assert got == wanted
    assert len(found) == len(wanted)


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_outlines_enclose_the_mask_and_nothing_else(mask):
    rings = outlines(mask)
    assert (inside_by_parity(rings, mask.shape) == mask).all()
    assert sum(signed_area(ring) for ring in rings) == mask.sum()
    assert sum(signed_area(ring) > 0 for ring in rings) == len(flooded(mask))


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_holes_cut_open_are_the_same_mask(mask):
    for part in flooded(mask):
        own = as_mask(part, mask.shape).astype(bool)
        joined = in_one_ring(outlines(own))
        assert (inside_by_parity([joined], mask.shape) == own).all()
        assert signed_area(joined) == own.sum()


@settings(max_examples=25, deadline=None)
@given(arrays(bool, st.tuples(st.integers(8, 16), st.integers(8, 16))), st.sampled_from([0.5, 1.0, 2.5]))
def test_no_corner_is_further_from_its_polygon_than_the_tolerance(mask, tolerance):
    for ring in outlines(mask):
        fewer = simplified(ring, tolerance)
        assert len(fewer) <= len(ring)
        edges = list(zip(fewer.astype(float), np.roll(fewer, -1, axis=0).astype(float), strict=True))
        for point in ring:
            gaps = []
            for a, b in edges:
                t = np.clip(np.dot(point - a, b - a) / max(np.dot(b - a, b - a), 1e-9), 0, 1)
                gaps.append(np.linalg.norm(point - a - t * (b - a)))
            assert min(gaps) <= tolerance + 1e-9


def test_a_slanting_edge_takes_few_corners():
    mask = np.tri(100, dtype=bool)
    (ring,) = outlines(mask)
    assert len(ring) > 190
    assert len(polygons_of(mask, 1.0)[0]) <= 5


def test_a_thin_line_is_not_simplified_away():
    mask = np.zeros((20, 20), bool)
    mask[3, 2:18] = True
    (ring,) = polygons_of(mask, 3.0)
    assert signed_area(ring) == 16


def decode_brush(code, size):
    """rle-pack as its description has it, a bit at a time."""
    bits = "".join(f"{byte:08b}" for byte in code)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, value_bits = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < total:
        is_run, length = read(1), read(sizes[read(2)]) + 1
        out += [read(value_bits)] * length if is_run else [read(value_bits) for _ in range(length)]
    assert len(code) == -(-at // 8)
    rgba = np.array(out).reshape(*size, 4)
    assert (rgba == rgba[..., :1]).all()
    return rgba[..., 0] == 255


LONG_RUNS = np.pad(np.ones((180, 395), bool), ((100, 20), (5, 0)))


@settings(max_examples=40, deadline=None)
@given(MASKS)
@example(LONG_RUNS)  # longer than their counter, and so split
def test_brush_run_lengths_read_back(mask):
    assert (decode_brush(encode_brush(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_coco_opens_in_pycocotools(folder, tmp_path, masks):
    label(folder, tmp_path / "out", "coco", coco_masks=masks, tolerance=0)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["red", "blue"]
    assert len(coco.imgs) == 4
    for image in coco.imgs.values():
        truth, _ = paint(folder / image["file_name"])
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert (image["height"], image["width"]) == truth.shape
        for category in (1, 2):
            own = [a for a in annotations if a["category_id"] == category]
            together = np.zeros(truth.shape, int)
            for annotation in own:
                mask = coco.annToMask(annotation)
                together += mask
                assert annotation["area"] == mask.sum()
                assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
                assert 0 < annotation["score"] <= 1
            wanted = [part for part in flooded(truth == category - 1) if len(part) >= 4]
            assert len(own) == len(wanted)
            assert (together == sum((as_mask(part, truth.shape) for part in wanted), 0 * together)).all()


def test_yolo_reads_as_ultralytics_reads_it(folder, tmp_path):
    out = tmp_path / "images" / "out"
    for below in ("images/day", "images_", "x/images/images"):
        (folder / below).mkdir(parents=True)
        Image.open(folder / "parts.png").save(folder / below / "parts.png")
    label(folder, out, "yolo", tolerance=0)
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data["names"] == {0: "red", 1: "blue"}
    images = [path for side in ("train", "val") if data[side] for path in sorted((out / data[side]).rglob("*.*"))]
    assert len(images) == 7
    for image in images:
        # Where Ultralytics looks for labels: the last /images/ in the path becomes /labels/, the suffix .txt.
        path = "/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        lines = Path(path).read_text().splitlines()
        picture = Image.open(image)
        truth, _ = paint(image)
        drawn = np.full(truth.shape, 2)
        for line in lines:
            number, *numbers = line.split()
            points = np.array(numbers, float).reshape(-1, 2)
            assert len(points) >= 3
            assert ((points >= 0) & (points <= 1)).all()
            drawn[inside_by_parity([points * picture.size], truth.shape)] = int(number)
        kept, wanted = Segmentation(truth.astype(np.uint8), NAMES).instances(min_area=4), np.full(truth.shape, 2)
        for instance in kept:
            instance.paste_into(wanted, instance.label)
        assert len(lines) == len(kept)
        assert (drawn == wanted).all()


def test_yolo_holes_stay_empty_when_an_ordinary_filler_draws_them(tmp_path):
    mask = np.zeros((60, 60), bool)
    mask[5:55, 5:55] = True
    mask[20:40, 20:40] = False
    ring = in_one_ring(polygons_of(mask, 0))
    image = Image.new("1", (60, 60))
    ImageDraw.Draw(image).polygon([tuple(point) for point in ring.tolist()], fill=1)
    drawn = np.array(image)
    assert not drawn[22:38, 22:38].any() or drawn[22:38, 22:38].mean() < 0.1  # the cut itself may be drawn
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9


def test_voc_opens_in_torchvision(folder, tmp_path):
    out = tmp_path / "VOCdevkit" / "VOC2012"
    label(folder, out, "voc")
    samples = VOCSegmentation(str(tmp_path), year="2012", image_set="train", download=False)
    assert len(samples) == 4
    for image, target in samples:
        truth, _ = paint(image)
        classes = np.array(target)
        assert target.mode == "P"
        for value, name in ((0, 2), (1, 0), (2, 1)):
            small = [part for part in flooded(truth == name) if len(part) < 4 and name != 2]
            wanted = (truth == name).astype(int) - sum((as_mask(p, truth.shape) for p in small), 0 * truth)
            assert ((classes == value) == wanted.astype(bool)).all()
    assert (out / "labels.txt").read_text().splitlines()[1].split() == ["1", "red"]
    objects = np.array(Image.open(out / "SegmentationObject" / "ring.png"))
    assert set(np.unique(objects)) <= {0, 1, 2, 3, 255}


def test_voc_marks_what_is_too_small_as_void(folder, tmp_path):
    label(folder, tmp_path / "out", "voc")
    classes = np.array(Image.open(tmp_path / "out" / "SegmentationClass" / "ring.png"))
    assert (classes == 255).sum() == 1  # the picture has one speck of a single pixel


def test_vocs_palette_is_the_published_one():
    palette = np.array(voc_palette()).reshape(256, 3)
    assert palette[:6].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert palette[15].tolist() == [192, 128, 128]  # person
    assert palette[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


def test_png_is_what_segment_writes(folder, tmp_path):
    label(folder, tmp_path / "out", "png")
    for picture in folder.rglob("*.png"):
        saved = Segmentation.load(tmp_path / "out" / "masks" / picture.relative_to(folder))
        assert saved.names == NAMES
        assert (saved.labels == paint(picture)[0]).all()


def test_label_studio_tasks_hold_every_mask(folder, tmp_path):
    label(folder, tmp_path / "out", "label-studio", url_prefix="/data/local-files/?d=pictures/")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    config = ElementTree.fromstring((tmp_path / "out" / "labelling_config.xml").read_text())
    (image,), (brush,) = config.findall("Image"), config.findall("BrushLabels")
    assert [own.get("value") for own in brush] == ["red", "blue"]
    assert len(tasks) == 4
    for task in tasks:
        url = task["data"][image.get("value")[1:]]
        assert url.startswith("/data/local-files/?d=pictures/")
        truth, _ = paint(folder / url.removeprefix("/data/local-files/?d=pictures/"))
        (prediction,) = task["predictions"]
        assert 0 <= prediction["score"] <= 1
        found = Counter()
        for result in prediction["result"]:
            assert (result["to_name"], result["from_name"]) == (image.get("name"), brush.get("name"))
            size = (result["original_height"], result["original_width"])
            assert size == truth.shape
            (name,) = result["value"]["brushlabels"]
            mask = decode_brush(result["value"]["rle"], size)
            assert (truth[mask] == NAMES.index(name)).all()
            found[name] += int(mask.sum())
        for name in ("red", "blue"):
            parts = flooded(truth == NAMES.index(name))
            assert found[name] == sum(len(part) for part in parts if len(part) >= 4)


def test_masks_csv_lists_every_mask_with_its_confidence(folder, tmp_path):
    done = label(folder, tmp_path / "out", "yolo")
    with (tmp_path / "out" / "masks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == done.instances
    assert {row["name"] for row in rows} == {"red", "blue"}
    assert all(0 < float(row["score"]) <= 1 and int(row["area"]) >= 4 for row in rows)


def test_more_names_than_a_palette_holds_are_refused(folder, tmp_path):
    with pytest.raises(LabelError, match="choose coco or png"):
        label(folder, tmp_path / "out", "voc", names=[f"n{i}" for i in range(255)])
