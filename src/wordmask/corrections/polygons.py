"""Polygons of a person's as masks: checked to lie in the picture, then filled as COCO fills them."""

from typing import Any

import numpy as np

LEAST_NUMBERS = 6
"""Three corners."""
MOST_NUMBERS = 200_000
OVER_THE_EDGE = 1.0
"""Pixels that a corner may lie outside, by rounding; it is brought to the edge."""


def filled(polygons: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the union (H, W) bool of polygons [[x1, y1, x2, y2, ...], ...]; raise ValueError for what are none."""
    from pycocotools import mask as coco_mask

    if not isinstance(polygons, list) or not polygons:
        raise ValueError("its segmentation is no list of polygons")
    corners = [_checked(polygon, size) for polygon in polygons]
    codes = coco_mask.frPyObjects([own.ravel().tolist() for own in corners], *size)
    found: np.ndarray = coco_mask.decode(coco_mask.merge(codes)).astype(bool)
    return found


def _checked(polygon: Any, size: tuple[int, int]) -> np.ndarray:
    if not isinstance(polygon, list) or not LEAST_NUMBERS <= len(polygon) <= MOST_NUMBERS or len(polygon) % 2:
        raise ValueError("a polygon is three corners or more, x and y by turns")
    if not all(type(number) in (int, float) for number in polygon):
        raise ValueError("a polygon's corners are not numbers")
    corners = np.array([float(number) for number in polygon]).reshape(-1, 2)
    height, width = size
    outside = (corners < -OVER_THE_EDGE) | (corners > np.array([width, height]) + OVER_THE_EDGE)
    if not np.isfinite(corners).all() or outside.any():
        raise ValueError(f"a polygon's corner lies outside of {width} x {height} pixels")
    return corners.clip(0, (width, height))
