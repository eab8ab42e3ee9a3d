"""Boundary IoU (Cheng et al., CVPR 2021): intersection over union of what lies near the borders alone."""

import numpy as np
from scipy.ndimage import minimum_filter

SHARE_OF_DIAGONAL = 0.02
"""How wide the border is, by the paper's default."""


def boundary_width(height: int, width: int) -> int:
    """Pixels."""
    return max(1, round(SHARE_OF_DIAGONAL * float(np.hypot(height, width))))


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool -> its pixels with a pixel outside it, or the picture's edge, within `width` rows and columns."""
    inner = minimum_filter(mask, size=2 * width + 1, mode="constant", cval=0)
    return mask & ~inner


def boundary_counts(truth: np.ndarray, answer: np.ndarray, ignore: int) -> np.ndarray:
    """Labels (H, W) both -> (c, 3) int64: a name, and the intersection and union of its two borders, in pixels.

    Names that neither bears are left out; pixels whose truth is `ignore` do not count.
    """
    counted = truth != ignore
    width = boundary_width(*truth.shape)
    rows = []
    for label in np.union1d(truth[counted], answer[counted]):
        near_truth = boundary(truth == label, width) & counted
        near_answer = boundary(answer == label, width) & counted
        rows.append((int(label), int((near_truth & near_answer).sum()), int((near_truth | near_answer).sum())))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
