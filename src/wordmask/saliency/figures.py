"""How good saliency maps are, in the field's three figures, over any number of pictures."""

from dataclasses import dataclass

import numpy as np

from wordmask.refinement.clean_up import THRESHOLD, intersection_over_union

LEVELS = 256
BETA_SQUARED = 0.3
"""Precision counts more than recall (Achanta et al., CVPR 2009), as everywhere in this field."""


@dataclass(frozen=True)
class Figures:
    """iou: of the map above one half, averaged over pictures. max_f: the largest F-measure at any one threshold, each
    threshold's being averaged over the pictures that have a foreground. mae: the mean absolute error of the soft map.
    """

    pictures: int
    iou: float
    max_f: float
    mae: float


class SaliencyFigures:
    """`add` map after map; `figures()` at any time. Memory does not grow."""

    def __init__(self) -> None:
        self._pictures = 0
        self._with_foreground = 0
        self._iou = 0.0
        self._error = 0.0
        self._f = np.zeros(LEVELS)  # summed over pictures, by threshold

    def add(self, soft: np.ndarray, mask: np.ndarray) -> None:
        """A map (H, W) in [0, 1] and the true foreground (H, W) bool."""
        if soft.shape != mask.shape:
            raise ValueError(f"the map is {soft.shape} and the mask {mask.shape}")
        self._pictures += 1
        self._iou += intersection_over_union(soft > THRESHOLD, mask)
        self._error += float(np.abs(soft - mask).mean(dtype=np.float64))
        foreground = int(np.count_nonzero(mask))
        if foreground:
            self._with_foreground += 1
            self._f += f_measures(soft, mask, foreground)

    def figures(self) -> Figures:
        """All figures are 0 before the first picture."""
        count = max(self._pictures, 1)
        max_f = float(self._f.max()) / max(self._with_foreground, 1)
        return Figures(self._pictures, self._iou / count, max_f, self._error / count)


def f_measures(soft: np.ndarray, mask: np.ndarray, foreground: int) -> np.ndarray:
    """(256,): the F-measure of `soft >= level / 255` for every level. A threshold that nothing reaches scores 0."""
    levels = np.rint(soft * (LEVELS - 1)).astype(np.int64)
    chosen = np.bincount(levels.ravel(), minlength=LEVELS)[::-1].cumsum()[::-1]
    right = np.bincount(levels[mask], minlength=LEVELS)[::-1].cumsum()[::-1]
    # (1 + b) P R / (b P + R), with P = right / chosen and R = right / foreground
    return (1 + BETA_SQUARED) * right / (BETA_SQUARED * foreground + chosen)
