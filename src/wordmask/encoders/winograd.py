"""Convolutions of 3 x 3 by Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016): tiles of 4 x 4 cells from 36 products in place of 144.

It is what is left to win where a processor multiplies single floats as fast as it can. All of it is matrix products:
tiles of 6 x 6 into another basis, a product over channels for each of the 36 numbers, and back.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

TILE, TAPS = 4, 3
SPAN = TILE + TAPS - 1
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Where polynomials are evaluated, beside infinity. Of those that were tried, they round least (Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution for DNNs", ACM TOMS 2020)."""
TOGETHER = 160
"""Tiles that go through together: enough for a matrix product at full speed, and few enough for the cache."""


class Winograd(nn.Module):
    """A convolution for which `has_form` holds, in single precision: the same to what rounding leaves. Its weights take
    four times the memory.
    """

    weight: Tensor  # (36, C, O)
    bias: Tensor  # (O,)
    into: Tensor  # (36, 36)
    back: Tensor  # (16, 36)

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int):
        """weight: (O, C, 3, 3)."""
        super().__init__()
        into, taps, back = matrices()
        outputs, channels = weight.shape[:2]
        self.dilation = dilation
        filters = weight.detach().permute(2, 3, 1, 0).reshape(TAPS**2, -1).double()
        filters = (torch.kron(taps, taps) @ filters).float()  # rounded once
        self.register_buffer("weight", filters.view(SPAN**2, channels, outputs), persistent=False)
        self.register_buffer("bias", torch.zeros(outputs) if bias is None else bias.detach(), persistent=False)
        self.register_buffer("into", torch.kron(into, into).float(), persistent=False)
        self.register_buffer("back", torch.kron(back, back).float(), persistent=False)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W), channels last. relu: of what comes out."""
        found = [self._one(own, relu) for own in x.split(1)]  # one by one they fit the cache
        return found[0] if len(found) == 1 else torch.cat(found)

    def _one(self, x: Tensor, relu: bool) -> Tensor:
        """Take one picture through, which a dilation of d makes d * d pictures of every d-th row and column: they know
        nothing of each other.
        """
        seen, apart = x[0].permute(1, 2, 0), self.dilation  # (H, W, C)
        height, width, channels = seen.shape
        rows, columns = _count(height, apart), _count(width, apart)
        padded = seen.new_zeros((TILE * rows + 2) * apart, (TILE * columns + 2) * apart, channels)
        padded[apart : apart + height, apart : apart + width] = seen
        padded = padded.view(TILE * rows + 2, apart, TILE * columns + 2, apart, channels)
        outputs = len(self.bias)
        out = seen.new_empty(rows, TILE, apart, columns, TILE, apart, outputs)
        step = max(1, TOGETHER // (columns * apart**2))
        for first in range(0, rows, step):
            last = min(first + step, rows)
            tiles = padded[TILE * first : TILE * last + 2].unfold(0, SPAN, TILE).unfold(2, SPAN, TILE)
            tiles = tiles.permute(5, 6, 0, 1, 2, 3, 4).reshape(SPAN**2, -1)  # rows, d, columns, d, C
            found = torch.bmm((self.into @ tiles).view(SPAN**2, -1, channels), self.weight)
            tiles = (self.back @ found.view(SPAN**2, -1)).view(TILE, TILE, last - first, apart, columns, apart, outputs)
            torch.add(tiles.permute(2, 0, 3, 4, 1, 5, 6), self.bias, out=out[first:last])
        if relu:
            out.relu_()
        whole = out.view(1, TILE * rows * apart, TILE * columns * apart, outputs)[:, :height, :width]
        return whole.contiguous().permute(0, 3, 1, 2)


def has_form(convolution: nn.Conv2d) -> bool:
    """Return whether a convolution can be computed in this way."""
    return (
        convolution.kernel_size == (TAPS, TAPS)
        and convolution.stride == (1, 1)
        and convolution.groups == 1
        and convolution.padding == convolution.dilation == (convolution.dilation[0],) * 2
        and convolution.padding_mode == "zeros"
    )


def tiles(height: int, width: int, dilation: int) -> int:
    """Return how many tiles a picture has."""
    return _count(height, dilation) * _count(width, dilation) * dilation**2


@cache
def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that bring a row of 6 cells into the basis (6, 6), 3 taps into it (6, 3), and the products
    back to 4 cells (4, 6), in double precision.

    Toom's and Cook's way to multiply polynomials, by values at points, transposed (Lavin and Gray's A, B and G).
    """
    into = np.linalg.inv(_powers(SPAN).T)
    size = np.abs(into).max(axis=1, keepdims=True)  # numbers of a size in all rows round least
    return torch.tensor(into / size), torch.tensor(_powers(TAPS) * size), torch.tensor(_powers(TILE).T)


def _powers(count: int) -> np.ndarray:
    """Return the powers of each point below `count`; infinity has the highest alone."""
    finite = np.power.outer(np.array(POINTS), np.arange(count))
    return np.vstack([finite, np.eye(count)[-1]])


def _count(side: int, apart: int) -> int:
    """Return the tiles along a side, of each of the pictures that a dilation makes."""
    return -(-side // (TILE * apart))
