"""Which patches of a picture speak for each other, given its regions (CorrCLIP, section 3).

Patches of a region listen to each other alone. Regions that look alike are one. A patch of no region listens to, and
is heard by, any patch that is more like it than two patches are on the mean.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from wordmask.encoders.grid import Grid

MERGE_DISTANCE = 0.2
"""eps: how much less alike than the most alike two regions may be to be one."""
SHARPNESS = 4.0
"""tau: what likenesses are multiplied by before the softmax."""


def on_grid(regions: Tensor, grid: Grid) -> Tensor:
    """Return a map of regions (H, W) on another grid (h, w), each cell the number nearest to it: int64."""
    return F.interpolate(regions[None, None].float(), size=grid, mode="nearest")[0, 0].long()


def no_region(regions: Tensor, *, least: bool) -> int:
    """Return the number that stands for no region: with `least` the least there is, as published, whatever it is; else
    0.
    """
    return int(regions.min()) if least else 0


def merge_regions(regions: Tensor, unit: Tensor, none: int, distance: float = MERGE_DISTANCE) -> Tensor:
    """Return a map of regions (h, w) in which those that look alike have one number.

    unit: features (h*w, C) of length 1. A region looks like the mean of its patches. Any two whose likeness is no more
    than `distance` below the largest likeness are one, and so are chains of such: DBSCAN with single points as cores.
    """
    numbers, places = regions.flatten().unique(return_inverse=True)
    if len(numbers) <= 2:
        return regions
    means = unit.new_zeros(len(numbers), unit.shape[1]).index_add_(0, places, unit)
    means = F.normalize(means / torch.bincount(places)[:, None], dim=1)[numbers != none]
    alike = means @ means.T
    near = (alike.max() - alike <= distance).cpu().numpy()
    parts = torch.from_numpy(connected_components(near, directed=False)[1].astype(np.int64)).to(regions.device)
    found = numbers.clone()
    found[numbers != none] = numbers.max() + 1 + parts
    return found[places].view_as(regions)


def listen(unit: Tensor, regions: Tensor, none: int, sharpness: float = SHARPNESS) -> Tensor:
    """Return how much every patch listens to every other, (N, N); rows sum to 1.

    unit: features (N, C) of length 1; regions: (N,). A patch always hears itself, also where all patches are the same.
    """
    similar = unit @ unit.T
    apart = regions == none
    same = (regions[:, None] == regions) & ~apart[:, None]
    across = (apart[:, None] | apart) & (similar > similar.mean())
    heard = same | across
    heard.fill_diagonal_(True)
    return (sharpness * similar).masked_fill_(~heard, -torch.inf).softmax(dim=1)
