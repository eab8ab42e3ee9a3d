"""Panoptic Cut (LaVG, Kang and Cho, ECCV 2024): objects cut out of DINO's patches one after the other.

The patches that are still free are the nodes of a graph, joined where their keys are alike. Its normalised cut in two
(Shi and Malik) has an object on one side: the connected part around the patch that the cut is surest of. Its patches
are taken, and the rest is cut again. No mask was ever learnt from.

The authors let a dense conditional random field draw the masks' edges. This package has none: the bilateral solver or
PAMR stands in its place, which differs, or nothing does.
"""

from typing import Annotated, Literal

import numpy as np
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from scipy import ndimage
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from wordmask.pictures.images import to_tensor
from wordmask.refinement.clean_up import LEAST_OVERLAP, THRESHOLD, intersection_over_union
from wordmask.regions.base import in_order, mask_refiner
from wordmask.regions.by_dino import RegionsByDino
from wordmask.weights.addresses import Address

UNLIKE = 1e-5
"""The affinity of patches that are not alike: none of them is alone."""
LEAST_FREE = 5
"""No cut is tried on so few patches."""
DENSE = 64
"""Patches of which all eigenvectors are computed: Lanczos' method needs more than it finds."""
CORNERS = 3
"""Of four, that only what is behind the objects reaches."""


@dataclass(frozen=True)
class PanopticCutSettings:
    """side: of the square that a picture is resized to. threshold: the cosine above which two patches are alike, the
    paper's tau. most: cuts at most. 640, 0.3 and 8 are the published evaluation's.

    refine: what makes masks follow the picture's edges, in place of the published dense random field: the bilateral
    solver, PAMR, or none. rest: what no cut has taken is a region of its own, as published, or belongs to none.
    dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones.
    """

    dino: Address = "vit_base_patch8_224.dino"
    dino_weights: Address | None = None
    side: PositiveInt = 640
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.3
    most: PositiveInt = 8
    refine: Literal["solver", "pamr", "none"] = "solver"
    rest: Literal["region", "none"] = "region"


PRESETS = {"paper": PanopticCutSettings()}


class PanopticCut(RegionsByDino):
    method = "panoptic-cut"
    Settings = PanopticCutSettings
    presets = PRESETS

    def __call__(self, image: np.ndarray, /) -> np.ndarray:
        settings, size = self.settings, (image.shape[0], image.shape[1])
        side = settings.side
        square = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))
        keys = self.dino(to_tensor(square)[None]).key_maps()[0]  # (C, h, w)
        refine = mask_refiner(settings.refine, square)
        masks = []
        for cut in panoptic_cut(keys, settings.threshold, settings.most):
            mask = nearest(cut, self.dino.patch_size, (side, side))
            drawn = ndimage.binary_fill_holes(refine(mask) >= THRESHOLD)
            if intersection_over_union(mask, drawn) >= LEAST_OVERLAP:
                masks.append(drawn)
        # The published masks may overlap once they are drawn; here the one that was cut first keeps its pixels.
        found = in_order(masks[::-1], (side, side))
        if settings.rest == "region":
            found[found == 0] = found.max() + 1
        rows, columns = (np.arange(pixels) * side // pixels for pixels in size)
        return found[rows[:, None], columns]


def nearest(cells: np.ndarray, patch: int, size: tuple[int, int]) -> np.ndarray:
    """Return a mask of patches (h, w) at the size (H, W) in pixels that they cover."""
    return cells.repeat(patch, axis=0).repeat(patch, axis=1)[: size[0], : size[1]]


def panoptic_cut(features: Tensor, threshold: float, most: int) -> list[np.ndarray]:
    """Features (C, h, w) -> at most so many masks (h, w) bool, none of which shares a patch with another."""
    grid = (features.shape[1], features.shape[2])
    unit = F.normalize(features.flatten(1).double(), dim=0).T.cpu().numpy()  # (N, C)
    free = np.ones(len(unit), dtype=bool)
    masks: list[np.ndarray] = []
    while len(masks) < most and free.sum() > LEAST_FREE:
        own = unit[free]
        vector = second_eigenvector(own @ own.T > threshold)
        if vector is None:
            break
        cut = np.zeros(len(unit))
        cut[free] = vector
        # An eigenvector has no sign of its own: the published start leaves it to chance, here its peak is positive.
        side = np.zeros(len(unit), dtype=bool)
        side[free] = vector > vector.mean()
        if side.reshape(grid)[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= CORNERS:
            cut, side[free] = -cut, ~side[free]
        seed = int(np.flatnonzero(free)[cut[free].argmax()])
        parts, _ = ndimage.label(side.reshape(grid))
        mask = parts == parts.ravel()[seed]
        masks.append(mask)
        free &= ~mask.ravel()
    return masks


def second_eigenvector(alike: np.ndarray) -> np.ndarray | None:
    """Return the second smallest generalised eigenvector (N,) of (D - A, D), where patches (N, N) bool that are alike
    have an affinity of 1 and others nearly none; None where all are alike, which no cut parts.

    It is that of the second largest eigenvalue of the scaled affinities, divided by the roots of the degrees.
    """
    if alike.all():
        return None
    affinity = np.where(alike, 1.0, UNLIKE)
    roots = np.sqrt(affinity.sum(axis=1))
    affinity /= roots[:, None]
    affinity /= roots
    count = len(affinity)
    if count <= DENSE:
        vector = eigh(affinity)[1][:, -2]
    else:
        # The largest eigenvalue's vector is known, so it is taken out, and the second becomes the largest.
        first = roots / np.linalg.norm(roots)
        rest = LinearOperator((count, count), matvec=lambda x: affinity @ x - first * (first @ x.ravel()), dtype=float)
        start = np.random.default_rng(0).standard_normal(count)
        try:
            vector = eigsh(rest, k=1, which="LA", v0=start)[1][:, 0]
        except ArpackNoConvergence:  # several cuts are about as good
            vector = eigh(affinity, subset_by_index=(count - 2, count - 2))[1][:, 0]
    vector = vector / roots
    return vector if vector[np.abs(vector).argmax()] > 0 else -vector
