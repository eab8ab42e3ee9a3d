"""Connected parts of a segmentation, each an instance of its name."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import BACKGROUND


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


def find_instances(segmentation: Segmentation, *, min_area: int = 1) -> list[Instance]:
    """Every part of `min_area` pixels or more, name by name, each name's from the top. `background` has none."""
    instances = []
    for label, name in enumerate(segmentation.names):
        if name.casefold() != BACKGROUND and segmentation.pixels[name] >= min_area:
            instances += _parts_of(segmentation, label, min_area)
    return instances


def _parts_of(segmentation: Segmentation, label: int, min_area: int) -> list[Instance]:
    parts, count = ndimage.label(segmentation.labels == label)  # (H, W) int32, 0 outside
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if areas[number] < min_area:
            continue
        mask = parts[box] == number
        scores = segmentation.scores
        score = None if scores is None else float(scores[box][mask].mean(dtype=np.float64))
        found.append(Instance(label, box[0].start, box[1].start, mask, score))
    return found
