"""Connected parts of a segmentation, each an instance of its name, and as COCO and supervision tell of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from wordmask.masks.run_lengths import count_labels, encoded_part
from wordmask.names.vocabulary import BACKGROUND

if TYPE_CHECKING:
    from supervision import Detections

SCORE_DIGITS = 4


@dataclass(frozen=True, eq=False)
class Instance:
    """One connected part. Pixels are neighbours along rows and columns; parts that touch at a corner are apart."""

    label: int  # index into the segmentation's names
    top: int
    left: int
    mask: np.ndarray  # (h, w) bool, within its box
    score: float | None  # the mean score of its pixels

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x, y, width, height), COCO's order."""
        return self.left, self.top, self.mask.shape[1], self.mask.shape[0]

    @property
    def corner(self) -> np.ndarray:
        """(x, y) of its box's upper left."""
        return np.array([self.left, self.top])

    def paste_into(self, canvas: np.ndarray, value: int) -> None:
        """Write `value` where the instance is in an array (H, W) of the whole picture."""
        height, width = self.mask.shape
        canvas[self.top : self.top + height, self.left : self.left + width][self.mask] = value


def find_instances(
    labels: np.ndarray, names: Sequence[str], scores: np.ndarray | None = None, *, min_area: int = 1
) -> list[Instance]:
    """Return every part of `min_area` pixels or more, name by name, each name's from the top. `background` has none.

    labels (H, W): indices into names. scores (H, W): how sure each pixel's is.
    """
    counts = count_labels(labels, len(names))
    instances: list[Instance] = []
    from_one = np.add(labels, 1, dtype=np.int32)
    for label, box in enumerate(ndimage.find_objects(from_one, len(names))):
        if box is not None and names[label].casefold() != BACKGROUND and counts[label] >= min_area:
            instances += _parts_of(labels, label, scores, box, min_area)
    return instances


def _parts_of(
    labels: np.ndarray, label: int, scores: np.ndarray | None, within: tuple[slice, slice], min_area: int
) -> Iterator[Instance]:
    """Yield the parts of a name, all of which lie in one box."""
    parts, count = ndimage.label(labels[within] == label)  # int32, 0 outside
    areas = count_labels(parts, count + 1)
    scores = None if scores is None else scores[within]
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if areas[number] < min_area:
            continue
        mask = parts[box] == number
        score = None if scores is None else float(scores[box][mask].mean(dtype=np.float64))
        yield Instance(label, within[0].start + box[0].start, within[1].start + box[1].start, mask, score)


@dataclass(frozen=True)
class Part:
    """What is kept of an instance. `rle` are COCO's counts; `more` is what a format needs to be written."""

    name: str
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    rle: str
    more: Any = None


def part_of(instance: Instance, names: Sequence[str], size: tuple[int, int], more: Any = None) -> Part:
    """Return an instance of a picture (H, W) as it is kept."""
    counts = encoded_part(instance.mask, instance.top, instance.left, size)["counts"]
    score = None if instance.score is None else round(instance.score, SCORE_DIGITS)
    return Part(names[instance.label], score, instance.area, instance.box, counts, more)


def coco_annotation(number: int, image: int, category: int, size: tuple[int, int], part: Part) -> dict[str, Any]:
    """Return COCO's annotation of a part. `area` is the mask's own, `score` as in COCO's result files."""
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": part.more or {"size": list(size), "counts": part.rle},
        "area": part.area,
        "bbox": list(part.box),
        "iscrowd": 0,
    }
    return annotation if part.score is None else {**annotation, "score": part.score}


def coco_of(
    instances: Sequence[Instance], names: Sequence[str], size: tuple[int, int], source: str | None
) -> dict[str, Any]:
    """Return COCO's JSON of one picture as a dictionary: images, categories, and an annotation an instance."""
    things = [name for name in names if name.casefold() != BACKGROUND]
    parts = [part_of(instance, names, size) for instance in instances]
    height, width = size
    return {
        "images": [{"id": 1, "file_name": source or "", "height": height, "width": width}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(things, start=1)],
        "annotations": [
            coco_annotation(i, 1, things.index(part.name) + 1, size, part) for i, part in enumerate(parts, start=1)
        ],
    }


def detections_of(
    instances: Sequence[Instance], names: Sequence[str], size: tuple[int, int], *, scored: bool
) -> "Detections":
    """Return Roboflow supervision's detections, one an instance.

    `class_id` is the index into the names, `data["class_name"]` the name. scored: whether scores are known.
    """
    from supervision import Detections

    if not instances:
        return Detections.empty()
    masks = np.zeros((len(instances), *size), bool)
    for mask, instance in zip(masks, instances, strict=True):
        instance.paste_into(mask, True)
    boxes = np.array([instance.box for instance in instances], np.float64)
    return Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=masks,
        confidence=np.array([instance.score for instance in instances], np.float32) if scored else None,
        class_id=np.array([instance.label for instance in instances]),
        data={"class_name": np.array([names[instance.label] for instance in instances])},
    )
