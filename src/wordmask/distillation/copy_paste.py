"""Copy-paste (Ghiasi et al., 2021), as NamedMask does it: things of other pictures, put somewhere over this one.

Archives hold pictures of one thing each. Pasted together they teach what several things in one picture look like.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Box(NamedTuple):
    """bottom and right are the first row and column outside."""

    top: int
    left: int
    bottom: int
    right: int


def bounding_box(mask: Tensor) -> Box | None:
    """Return the smallest box around a mask (H, W) bool, its last row and column included; None around nothing."""
    rows, columns = (mask.any(dim=dim).nonzero().flatten() for dim in (1, 0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def paste(
    image: Tensor,
    labels: Tensor,
    other: Tensor,
    other_labels: Tensor,
    chance: np.random.Generator,
    *,
    ignore: int,
    thing: Tensor | None = None,
) -> None:
    """Put the thing of `other` (3, S, S) at a random place over `image`, in place; its labels go along. A picture
    without anything on it changes nothing. thing: where it is, (S, S) bool, if not wherever `other` has a name.
    """
    if thing is None:
        thing = (other_labels > 0) & (other_labels != ignore)  # (S, S)
    box = bounding_box(thing)
    if box is None:
        return
    height, width = box.bottom - box.top, box.right - box.left
    top = int(chance.integers(image.shape[-2] - height + 1))
    left = int(chance.integers(image.shape[-1] - width + 1))
    source = (slice(box.top, box.bottom), slice(box.left, box.right))
    target = (slice(top, top + height), slice(left, left + width))
    on = thing[source]
    part = image[:, *target]
    torch.where(on, other[:, *source], part, out=part)
    covered = labels[target]
    torch.where(on, other_labels[source], covered, out=covered)
