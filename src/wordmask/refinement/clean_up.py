"""From the bilateral solver's soft map to a mask, as each paper does it."""

from math import sqrt
from typing import Literal

import numpy as np
import torch
from scipy import ndimage

from wordmask.pictures.images import resize
from wordmask.refinement.bilateral_solver import BilateralGrid

Refinement = Literal["none", "solver", "found"]
"""none: the map as it is. solver: the bilateral solver's output (NamedMask). found: FOUND's mask made from it."""

THRESHOLD = 0.5
"""Every paper's line between foreground and background."""
MOST_PIXELS = 2048 * 2048
"""Larger pictures are solved, and voted on, smaller, so that memory stays bounded."""
LEAST_OVERLAP = 0.5
"""FOUND's: a solver's mask that agrees less with its input is given up."""


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks (H, W) bool; two empty ones are equal."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def found_mask(solved: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """FOUND's clean-up of a solver's output (H, W): no holes, and nothing that departs from `mask` (H, W) bool, which
    comes back itself where the solver's mask overlaps it by no more than half. All connected parts stay, as where FOUND
    trains and evaluates.
    """
    filled: np.ndarray = ndimage.binary_fill_holes(solved > THRESHOLD)
    return filled if intersection_over_union(filled, mask) > LEAST_OVERLAP else mask


def refine(image: np.ndarray, soft: np.ndarray, how: Refinement) -> np.ndarray:
    """Return a map (H, W) in [0, 1] of the picture (H, W, 3), refined: float32 in [0, 1].

    The solver starts from the mask `soft > 0.5`, as in both papers. A picture of more than four million pixels is
    solved smaller, which is still finer than any network here has seen it.
    """
    if how == "none":
        return soft.astype(np.float32)
    height, width = soft.shape
    scale = sqrt(min(1.0, MOST_PIXELS / (height * width)))
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    if size != soft.shape:
        small = resize(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), size)
        shrunk = resize(torch.from_numpy(soft)[None].float(), size)[0].numpy()
        refined = torch.from_numpy(refine(small.permute(1, 2, 0).numpy(), shrunk, how))
        large = resize(refined[None], (height, width))[0].clamp(0, 1).numpy()
        return (large > THRESHOLD).astype(np.float32) if how == "found" else large
    mask = soft > THRESHOLD
    solved = BilateralGrid(image).solve(mask.astype(np.float64))
    refined_here = found_mask(solved, mask) if how == "found" else solved.clip(0, 1)
    return refined_here.astype(np.float32)
