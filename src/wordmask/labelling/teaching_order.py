"""Which pictures teach most when a person looks at them: those come first in the review."""

from collections.abc import Iterable, Mapping

import numpy as np

from wordmask.labelling.ledger import Row

STEPS = 20
"""Of sureness, each with as many pictures as the next. Within one other things count."""
MOST_PARTS = 100
"""The largest ones of a picture, whose boxes are compared."""
RULE = (
    f"Order: the least sure pictures first, by the mean score of their pixels, in {STEPS} steps of equally many; in "
    "a step those in which two names claim the same place (by how much the boxes of their masks overlap), then those "
    "with the rarest name."
)


def teaching_order(rows: Iterable[Row], labelled: int, pictures_of: Mapping[str, int]) -> list[str]:
    """Return paths of pictures, those that teach most first.

    rows: the least sure first, all or as many as are to be looked at. labelled: how many there are in all.
    pictures_of: in how many pictures each name is.
    """
    keys = []
    step, before = 0, None
    for rank, row in enumerate(rows):
        if row.unsure != before:  # those that are equally sure are of one step
            step, before = rank * STEPS // max(1, labelled), row.unsure
        rarest = min((pictures_of[part.name] for part in row.parts), default=labelled)
        keys.append((step, -round(disagreement(row), 1), rarest, rank, row.picture))
    return [picture for *_, picture in sorted(keys)]


def disagreement(row: Row) -> float:
    """Return the largest overlap (IoU) of the boxes of two masks of different names, in [0, 1]."""
    parts = sorted(row.parts, key=lambda part: -part.area)[:MOST_PARTS]
    if len({part.name for part in parts}) < 2:
        return 0.0
    boxes = np.array([part.box for part in parts], np.float64)  # (n, 4) x, y, width, height
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).clip(0).prod(axis=2)  # (n, n)
    areas = boxes[:, 2:].prod(axis=1)
    overlap = shared / (areas[:, None] + areas - shared)
    names = np.array([part.name for part in parts])
    return float(np.where(names[:, None] != names, overlap, 0).max())
