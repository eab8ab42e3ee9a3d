"""What other tools make of labels, with their own readers: FiftyOne and CVAT."""

import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from support.painted import NAMES, Painted, paint, painted_folder
from wordmask.corrections import ACCEPTED, FILE_NAME, REJECTED, Correction, MaskVerdict, write_corrections
from wordmask.extras import MissingExtraError, is_installed
from wordmask.fingerprints import file_digest
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.labelling.settings import LabelError
from wordmask.labelling.to_fiftyone import samples_of, to_fiftyone
from wordmask.masks.run_lengths import encoded_mask
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import read_image

PRECISE = {"min_area": 1, "tolerance": 0}


def labelled(folder, out, corrections=None, **settings):
    chosen = LabelSettings(**PRECISE, **settings)
    load = {"method": "painted", "precision": "fp32"}
    job = Job(folder=folder, out=out, vocabulary=Vocabulary.of(NAMES), settings=chosen, load=load)
    label_folder(job, segmenter=Painted(), corrections=corrections, on_note=lambda note: None)
    return out


@pytest.fixture
def pictures(tmp_path):
    return painted_folder(tmp_path / "pictures")


@pytest.fixture
def fiftyone(tmp_path_factory):
    os.environ.setdefault("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("fiftyone")))
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    return pytest.importorskip("fiftyone", reason="fiftyone is not installed")


def drawn(detections, size):
    """{name: (H, W) bool}"""
    masks = {}
    for own in detections.detections:
        x, y, w, h = np.rint(np.array(own.bounding_box) * [size[1], size[0], size[1], size[0]]).astype(int)
        assert own.mask.shape == (h, w)
        masks.setdefault(own.label, np.zeros(size, bool))[y : y + h, x : x + w] |= own.mask
    return masks


def test_fiftyone_is_given_every_instance(fiftyone, pictures):
    result = Painted().segment(pictures / "ring.png", NAMES)
    told = result.to_fiftyone()
    assert isinstance(told, fiftyone.Detections)
    again = fiftyone.Detections.from_dict(told.to_dict())  # as its own files have it
    masks = drawn(again, result.size)
    assert set(masks) == {"red", "blue"}
    for name, mask in masks.items():
        assert (mask == result.mask(name)).all()
    assert [own.confidence for own in again.detections] == pytest.approx([i.score for i in result.instances()])
    assert len(result.to_fiftyone(min_area=30).detections) == 1


@pytest.mark.parametrize("format", ["coco", "png"])
def test_fiftyone_is_given_a_label_folder_a_picture_at_a_time(fiftyone, pictures, tmp_path, format):
    out = labelled(pictures, tmp_path / "labels", format=format)
    samples = samples_of(out, field="found")
    first = next(samples)
    assert isinstance(first, fiftyone.Sample)
    for sample in [first, *samples]:
        labels, scores = paint(sample.filepath)
        masks = drawn(sample.found, labels.shape)
        for label, name in enumerate(NAMES[:2]):
            assert (masks.get(name, np.zeros(labels.shape, bool)) == (labels == label)).all()
        assert sample.found_unsure == pytest.approx(1 - scores.mean(), abs=1e-5)


def test_fiftyone_is_given_what_a_persons_corrections_left(fiftyone, pictures, tmp_path):
    out, mended = tmp_path / "labels", np.zeros((24, 24), bool)
    mended[3:9, 4:20] = True
    mask = MaskVerdict("lynx", encoded_mask(mended)["counts"], ACCEPTED)
    rejected = Correction("ring.png", file_digest(pictures / "ring.png"), (30, 40), REJECTED)
    accepted = Correction("parts.png", file_digest(pictures / "parts.png"), mended.shape, ACCEPTED, (mask,))
    write_corrections(tmp_path / FILE_NAME, [rejected, accepted])
    labelled(pictures, out, corrections=tmp_path / FILE_NAME)
    samples = {Path(sample.filepath).name: sample for sample in samples_of(out)}
    assert set(samples) == {"parts.png", "nothing.png", "noise.png"}
    [(name, found)] = drawn(samples["parts.png"].wordmask, mended.shape).items()
    assert name == "lynx"
    assert (found == mended).all()


def test_fiftyones_database_keeps_it_where_there_is_one(fiftyone, pictures, tmp_path):
    try:
        fiftyone.list_datasets()
    except Exception as error:
        pytest.skip(f"FiftyOne has no database here ({type(error).__name__})")
    dataset = to_fiftyone(labelled(pictures, tmp_path / "labels"))
    try:
        assert len(dataset) == 4
        assert set(dataset.distinct("wordmask.detections.label")) == {"red", "blue"}
    finally:
        dataset.delete()


def test_fiftyones_own_reader_opens_coco(fiftyone, pictures, tmp_path):
    from fiftyone.utils import coco

    out = labelled(pictures, tmp_path / "labels", format="coco")
    _, classes, _, images, annotations = coco.load_coco_detection_annotations(str(out / "annotations.json"))
    assert list(classes.values() if isinstance(classes, dict) else classes) == ["red", "blue"]
    for number, image in images.items():
        labels, _ = paint(pictures / image["file_name"])
        found = [
            own.to_detection((image["width"], image["height"]), classes, load_segmentation=True)
            for own in annotations.get(number, [])
        ]
        assert sum(int(own.mask.sum()) for own in found) == (labels < 2).sum()


def test_no_label_folder_is_no_dataset(tmp_path, monkeypatch):
    if not is_installed("fiftyone"):
        with pytest.raises(MissingExtraError, match=r"wordmask\[fiftyone\]"):
            samples_of(tmp_path)
    monkeypatch.setattr("wordmask.labelling.to_fiftyone.need", lambda package: None)
    with pytest.raises(LabelError, match="no folder of `wordmask label`"):
        samples_of(tmp_path)


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_cvats_own_reader_opens_coco(pictures, tmp_path, masks):
    """CVAT imports "COCO 1.0" by datumaro, from annotations/instances_default.json beside the pictures."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    out = labelled(pictures, tmp_path / "labels", format="coco", coco_masks=masks)
    task = tmp_path / "task"
    (task / "annotations").mkdir(parents=True)
    (task / "images").mkdir()
    (out / "annotations.json").rename(task / "annotations/instances_default.json")
    items = {item.id: item for item in datumaro.Dataset.import_from(str(task), "coco_instances")}
    assert set(items) == {"ring", "parts", "nothing", "below/noise"}
    for name, item in items.items():
        labels, _ = paint(read_image(pictures / f"{name}.png"))
        found = np.full(labels.shape, 2)
        for own in item.annotations:
            if own.type.name == "mask":
                found[np.asarray(own.image).astype(bool)] = own.label
            elif own.type.name == "polygon":
                code = coco_mask.frPyObjects([[float(x) for x in own.points]], *labels.shape)
                found[coco_mask.decode(code)[..., 0].astype(bool)] = own.label
        assert (found == labels).all(), name
