"""A network's features at the pixels of a picture, as bilinear upsampling has them, without the maps in between.

A thousand features of every pixel of a photograph take gigabytes. What is wanted of them are means over regions, and a
few of the pixels: made strip by strip, and where they are asked for.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP_NUMBERS = 2**24
"""Features that are made together: 64 MB."""


class Upsampled:
    """Features (C, h, w) as they are at a size (H, W), each pixel's of length 1."""

    def __init__(self, maps: Tensor, size: tuple[int, int]):
        self.maps, self.size = maps.float(), size

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        """How rows and columns of pixels are mixed from those of the map: (H, h) and (W, w)."""
        rows, columns = (
            linear(cells, pixels, self.maps.device)
            for cells, pixels in zip(self.maps.shape[1:], self.size, strict=True)
        )
        return rows, columns

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the features of the pixels where some rows (r,) and columns (c,) meet: (C, r, c)."""
        down, across = self._weights
        return F.normalize(down[rows] @ self.maps @ across[columns].T, dim=0)

    def means(self, places: Tensor, count: int) -> Tensor:
        """Return the mean features of regions, of length 1: (count, C). places: (H, W), each pixel's region."""
        width, depth = self.size[1], len(self.maps)
        summed = self.maps.new_zeros(count, depth)
        every = torch.arange(width, device=places.device)
        for rows in torch.arange(self.size[0], device=places.device).split(max(1, STRIP_NUMBERS // (width * depth))):
            found = self.at(rows, every).flatten(1).T  # (r * W, C)
            summed.index_add_(0, places[rows].flatten(), found)
        return F.normalize(summed, dim=1)

    def window(
        self, top: int, left: int, size: tuple[int, int], padding: tuple[int, ...], grid: tuple[int, int]
    ) -> Tensor:
        """Return the features of a window, (C, *grid): cut out, its border repeated outwards, resized, of length 1.

        padding: pixels added at the left, top, right and bottom.
        """
        before, after, borders = (padding[1], padding[0]), (padding[3], padding[2]), []
        for start, side, first, last, cells in zip((top, left), size, before, after, grid, strict=True):
            weights = linear(first + side + last, cells, self.maps.device)  # (cells, padded pixels)
            used = weights.any(dim=0).nonzero()[:, 0]
            borders.append((start + (used - first).clamp(0, side - 1), weights[:, used]))
        (rows, down), (columns, across) = borders
        return F.normalize(down @ self.at(rows, columns) @ across.T, dim=0)


def linear(old: int, new: int, device: torch.device) -> Tensor:
    """Return the matrix (new, old) of bilinear resizing along one axis, corners not aligned."""
    return F.interpolate(torch.eye(old, device=device)[None], size=new, mode="linear")[0].T
