"""A segmentation in other libraries' types says the same as the segmentation."""

import sys

import numpy as np
import pytest
from pycocotools.coco import COCO

from support.painted import NAMES, paint, painted_folder
from wordmask.extras import MissingExtraError
from wordmask.masks.segmentation import Segmentation


@pytest.fixture
def result(tmp_path):
    labels, scores = paint(painted_folder(tmp_path) / "ring.png")
    return Segmentation(labels.astype(np.uint8), NAMES, scores, source="ring.png")


def test_numpy_has_a_mask_for_every_name(result):
    masks = result.to_numpy()
    assert (masks.shape, masks.dtype) == ((3, 30, 40), bool)
    for name, mask in zip(result.names, masks, strict=True):
        assert (mask == result.mask(name)).all()


def test_supervision_has_a_detection_for_every_part(result):
    detections = result.to_supervision()
    assert sorted(detections.data["class_name"]) == ["blue", "red", "red"]
    for i in range(len(detections)):
        mask, name = detections.mask[i], detections.data["class_name"][i]
        rows, columns = np.nonzero(mask)
        left, top, right, bottom = detections.xyxy[i]
        assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert result.names[detections.class_id[i]] == name
        assert result.mask(name)[mask].all()
        assert detections.confidence[i] == pytest.approx(result.scores[mask].mean())
    assert (detections.mask.any(axis=0) == ~result.mask("background")).all()


def test_what_is_not_there_stays_away(result):
    bare = Segmentation(result.labels, result.names)
    assert bare.to_supervision().confidence is None
    assert all("score" not in annotation for annotation in bare.to_coco()["annotations"])
    assert len(Segmentation(np.zeros((4, 4), np.uint8), ["background"]).to_supervision()) == 0


def test_coco_is_read_by_pycocotools(result):
    coco = COCO()
    coco.dataset = result.to_coco(min_area=4)
    coco.createIndex()
    assert coco.imgs[1] == {"id": 1, "file_name": "ring.png", "height": 30, "width": 40}
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    masks = {names[a["category_id"]]: coco.annToMask(a) for a in coco.dataset["annotations"]}
    assert (masks["blue"] == result.mask("blue")).all()
    assert masks["red"].sum() == result.mask("red").sum() - 1  # without the speck


def test_without_supervision_the_error_says_how_to_get_it(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wordmask\[labels\]'"):
        result.to_supervision()
