"""Every name's score map refined, and the best name of every pixel chosen anew: an option of every segmenter.

Refining costs time and memory for each name and each pixel. So it is done for the names that are somewhere the best,
a few at a time, at a bounded size; the refined scores are upsampled before the best one is taken.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wordmask.pictures.images import resize
from wordmask.pictures.windows import upsample_argmax
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.pamr import PixelAffinity

NameRefinement = Literal["none", "pamr", "solver"]
"""none: scores as they are. pamr: Araslanov and Roth's. solver: the fast bilateral solver, one name after another."""
MapsOf = Callable[[Sequence[int], tuple[int, int]], Tensor]
"""Labels and a size (h, w) -> those names' scores there, (k, h, w)."""

MOST_PIXELS = 2**19
"""Larger pictures are refined smaller: photographs of 800 x 600, as in VOC and COCO, still at their own size. PAMR's
48 weights a pixel take 100 MB then."""
NAMES_TOGETHER = 16
"""Their maps, and those in between, take some 100 MB."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture is refined: its own, or the largest of its shape with `MOST_PIXELS`."""
    scale = sqrt(min(1.0, MOST_PIXELS / (height * width)))
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    return min(rows, MOST_PIXELS // columns or 1), min(columns, MOST_PIXELS // rows or 1)


def refine_names(
    image: np.ndarray, labels: np.ndarray, maps_of: MapsOf, how: NameRefinement
) -> tuple[np.ndarray, np.ndarray]:
    """The labels (H, W) of a picture (H, W, 3) uint8 -> labels (H, W) int64 and scores (H, W) float32, refined.

    Names that have no pixel in `labels` win none here.
    """
    if how == "none":
        raise ValueError("nothing is to be refined: keep the labels")
    height, width = labels.shape
    size = working_size(height, width)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # (3, H, W)
    refiner = _REFINERS[how](resize(pixels, size))
    present = np.flatnonzero(np.bincount(labels.ravel()))
    found, sure = np.zeros((height, width), np.int64), np.full((height, width), -np.inf, np.float32)
    for start in range(0, len(present), NAMES_TOGETHER):
        names = present[start : start + NAMES_TOGETHER]
        refined = refiner(maps_of(names.tolist(), size).float())
        best, scores = (part.cpu().numpy() for part in upsample_argmax(refined, (height, width)))
        better = scores > sure
        found[better] = names[best[better]]
        sure[better] = scores[better]
    return found, sure


def _pamr(image: Tensor) -> Callable[[Tensor], Tensor]:
    affinity: list[PixelAffinity] = []

    def refine(maps: Tensor) -> Tensor:
        if not affinity:  # on the device of the maps, which is known only now
            affinity.append(PixelAffinity(image.to(maps.device, torch.float32) / 255))
        return affinity[0].refine(maps)

    return refine


def _solver(image: Tensor) -> Callable[[Tensor], Tensor]:
    grid = BilateralGrid(image.permute(1, 2, 0).contiguous().numpy())
    return lambda maps: torch.stack([torch.from_numpy(grid.solve(own.double().cpu().numpy())).float() for own in maps])


_REFINERS: dict[NameRefinement, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {"pamr": _pamr, "solver": _solver}
