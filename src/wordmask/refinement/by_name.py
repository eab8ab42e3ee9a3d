"""Every name's score map refined, and the best name of every pixel chosen anew: an option of every segmenter.

Refining costs time and memory for each name and each pixel. So it is done for the names that are somewhere the best,
a few at a time, at a bounded size; the refined scores are upsampled before the best one is taken.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

from wordmask.methods import find_method, methods_of
from wordmask.pictures.images import resize
from wordmask.pictures.windows import upsample_argmax
from wordmask.plugins import named
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.pamr import PixelAffinity

NONE = "none"


def _known_for(*kinds: str) -> Callable[[str], str]:
    def check(how: str) -> str:
        own = (name for name, method in methods_of("refinement").items() if set(kinds) & set(method.refines))
        known = [NONE, *own]
        if how not in known:
            raise PydanticCustomError("refinement", "Input should be one of {known}", {"known": ", ".join(known)})
        return how

    return check


NameRefinement = Annotated[str, AfterValidator(_known_for("names"))]
"""none: scores as they are. Or a refinement by its name, such as pamr, Araslanov and Roth's, and solver, the fast
bilateral solver, one name after another."""
PatchRefinement = Annotated[str, AfterValidator(_known_for("names", "patches"))]
"""Those, and what works on the patches of windows before they become pixels: lposs and lposs+, Stojnić et al.'s label
propagation."""
Refiner = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""A picture (3, H, W) uint8 -> a function from scores (k, H, W) to the refined ones."""
MapsOf = Callable[[Sequence[int], tuple[int, int]], Tensor]
"""Labels and a size (h, w) -> those names' scores there, (k, h, w)."""

MOST_PIXELS = 2**19
"""Larger pictures are refined smaller: photographs of 800 x 600, as in VOC and COCO, still at their own size. PAMR's
48 weights a pixel take 100 MB then."""
NAMES_TOGETHER = 16
"""Their maps, and those in between, take some 100 MB."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return the size at which a picture is refined: its own, or the largest of its shape with `MOST_PIXELS`."""
    scale = sqrt(min(1.0, MOST_PIXELS / (height * width)))
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    return min(rows, MOST_PIXELS // columns or 1), min(columns, MOST_PIXELS // rows or 1)


def refine_names(
    image: np.ndarray, labels: np.ndarray, maps_of: MapsOf, how: NameRefinement
) -> tuple[np.ndarray, np.ndarray]:
    """Refine the labels (H, W) of a picture (H, W, 3) uint8: labels (H, W) int64 and scores (H, W) float32.

    Names that have no pixel in `labels` win none here.
    """
    if how == NONE:
        raise ValueError("nothing is to be refined: keep the labels")
    height, width = labels.shape
    size = working_size(height, width)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # (3, H, W)
    refine: Refiner = named(find_method("refinement", how).at)
    refiner = refine(resize(pixels, size))
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


def by_pamr(image: Tensor) -> Callable[[Tensor], Tensor]:
    """Refine by PAMR, a `Refiner`."""
    affinity: list[PixelAffinity] = []

    def refine(maps: Tensor) -> Tensor:
        if not affinity:  # on the device of the maps, which is known only now
            affinity.append(PixelAffinity(image.to(maps.device, torch.float32) / 255))
        return affinity[0].refine(maps)

    return refine


def by_solver(image: Tensor) -> Callable[[Tensor], Tensor]:
    """Refine by the bilateral solver, a `Refiner`."""
    grid = BilateralGrid(image.permute(1, 2, 0).contiguous().numpy())
    return lambda maps: torch.stack([torch.from_numpy(grid.solve(own.double().cpu().numpy())).float() for own in maps])
