"""A segmentation in the types of other libraries. `Segmentation.to_*` leads here."""

from typing import TYPE_CHECKING, Any

import numpy as np

from wordmask.extras import need
from wordmask.names.vocabulary import BACKGROUND

if TYPE_CHECKING:
    from supervision import Detections

    from wordmask.masks.segmentation import Segmentation


def to_numpy(segmentation: "Segmentation") -> np.ndarray:
    """(names, H, W) bool: one mask a name, in the order of the names."""
    names = np.arange(len(segmentation.names), dtype=segmentation.labels.dtype)
    masks: np.ndarray = segmentation.labels == names[:, None, None]
    return masks


def to_supervision(segmentation: "Segmentation", *, min_area: int = 1) -> "Detections":
    """Roboflow supervision's detections: one a connected part, `background` aside.

    `class_id` is the index into the segmentation's names, `data["class_name"]` the name.
    """
    need("supervision")
    from supervision import Detections

    from wordmask.masks.instances import find_instances

    instances = find_instances(segmentation, min_area=min_area)
    if not instances:
        return Detections.empty()
    masks = np.zeros((len(instances), *segmentation.size), bool)
    for mask, instance in zip(masks, instances, strict=True):
        instance.paste_into(mask, True)
    boxes = np.array([instance.box for instance in instances], np.float64)
    scores = [1.0 if instance.score is None else instance.score for instance in instances]
    return Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=masks,
        confidence=None if segmentation.scores is None else np.array(scores, np.float32),
        class_id=np.array([instance.label for instance in instances]),
        data={"class_name": np.array([segmentation.names[instance.label] for instance in instances])},
    )


def to_coco(segmentation: "Segmentation", *, min_area: int = 1) -> dict[str, Any]:
    """COCO's JSON of this one picture as a dictionary: images, categories, and an annotation a connected part."""
    from wordmask.labelling.coco import coco_annotation
    from wordmask.labelling.ledger import part_of
    from wordmask.masks.instances import find_instances

    names = [name for name in segmentation.names if name.casefold() != BACKGROUND]
    canvas = np.zeros(segmentation.size, np.uint8, order="F")
    parts = [
        part_of(instance, segmentation.names, canvas) for instance in find_instances(segmentation, min_area=min_area)
    ]
    height, width = segmentation.size
    return {
        "images": [{"id": 1, "file_name": segmentation.source or "", "height": height, "width": width}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
        "annotations": [
            coco_annotation(i, 1, names.index(part.name) + 1, segmentation.size, part)
            for i, part in enumerate(parts, start=1)
        ],
    }
