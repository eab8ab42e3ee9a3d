"""The F-measure of a saliency map at every threshold, in which precision counts more than recall."""

import numpy as np

LEVELS = 256
BETA_SQUARED = 0.3
"""Precision counts more than recall (Achanta et al., CVPR 2009), as everywhere in this field."""


def f_measures(soft: np.ndarray, mask: np.ndarray, foreground: int) -> np.ndarray:
    """(256,): the F-measure of `soft >= level / 255` for every level. A threshold that nothing reaches scores 0."""
    levels = np.rint(soft * (LEVELS - 1)).astype(np.int64)
    chosen = np.bincount(levels.ravel(), minlength=LEVELS)[::-1].cumsum()[::-1]
    right = np.bincount(levels[mask], minlength=LEVELS)[::-1].cumsum()[::-1]
    # (1 + b) P R / (b P + R), with P = right / chosen and R = right / foreground
    return (1 + BETA_SQUARED) * right / (BETA_SQUARED * foreground + chosen)
