"""Instances as FiftyOne has them: boxes in shares of the picture, masks within their boxes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wordmask.extras import need
from wordmask.masks.instances import Instance

if TYPE_CHECKING:
    from fiftyone import Detections


def detections_of(instances: Sequence[Instance], names: Sequence[str], size: tuple[int, int]) -> "Detections":
    """Return instances of a picture (H, W) as FiftyOne's detections with masks."""
    told = ((names[own.label], own.box, own.mask, own.score) for own in instances)
    return from_boxes(told, size)


def from_boxes(
    told: Iterable[tuple[str, tuple[int, int, int, int], np.ndarray, float | None]], size: tuple[int, int]
) -> "Detections":
    """Return detections of (name, (x, y, width, height), mask within the box, score or None) of a picture (H, W)."""
    need("fiftyone")
    from fiftyone import Detection, Detections

    height, width = size
    return Detections(
        detections=[
            Detection(
                label=name, bounding_box=[x / width, y / height, w / width, h / height], mask=mask, confidence=score
            )
            for name, (x, y, w, h), mask, score in told
        ]
    )
