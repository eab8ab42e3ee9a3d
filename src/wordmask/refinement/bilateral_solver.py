"""The fast bilateral solver (Barron and Poole, "The Fast Bilateral Solver", ECCV 2016): a map made smooth within the
edges of its picture.

Pixels of like place and colour share a cell of a grid in five dimensions; the smoothest map that stays near the given
one is found there, in a system of a few thousand unknowns, and read back at every pixel. The grid is the simplified
one: each pixel belongs to the one cell that it falls into.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg

from wordmask.errors import WordmaskError

MILLIONTHS = 1_000_000
RGB_TO_YUV = np.array([[299_000, 587_000, 114_000], [-168_736, -331_264, 500_000], [500_000, -418_688, -81_312]])
"""JPEG's matrix (ITU-T T.871) in millionths. In integers, greys have exactly no chroma, and every cell is exact."""
CHROMA_OFFSET = 128 * MILLIONTHS
TABLE_SPAN = 32
"""Numbers are looked up in a table of at most so many entries a pixel; beyond, sorting them is cheaper."""
CENTRE_WEIGHT = 2
"""The blur is 1-2-1 along each axis, summed over the axes."""


class BilateralSolverError(WordmaskError):
    """This picture and this map cannot be solved for."""


@dataclass(frozen=True)
class SolverParameters:
    """spatial, luma, chroma: a cell's size, in pixels and in levels. smoothness: the paper's lambda.

    diagonal_floor: the least that Jacobi's preconditioner divides by. tolerance, iterations: where conjugate gradients
    stop. bistochastic_rounds: of scaling the blur until its rows sum alike.
    """

    spatial: float = 16
    luma: float = 16
    chroma: float = 8
    smoothness: float = 256
    diagonal_floor: float = 1e-5
    tolerance: float = 1e-5
    iterations: int = 25
    bistochastic_rounds: int = 10

    def __post_init__(self) -> None:
        if min(self.spatial, self.luma, self.chroma) * MILLIONTHS < 1:
            raise BilateralSolverError(
                f"cells of {self.spatial} x {self.luma} x {self.chroma} (spatial, luma, chroma) have no extent: "
                "each must be above 0"
            )


DEFAULTS = SolverParameters()


class BilateralGrid:
    """The cells of one picture. What depends on the picture alone is computed once, for any number of maps."""

    def __init__(self, image: np.ndarray, parameters: SolverParameters = DEFAULTS):
        """image (H, W, 3) uint8"""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise BilateralSolverError(f"the picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        self.size = (int(image.shape[0]), int(image.shape[1]))
        self.parameters = parameters
        places, colours, self._strides = _cell_keys(image, parameters)
        shades, shade_of_pixel = _distinct(colours, self._strides[1])
        used, self.cell_of_pixel = _distinct(places * len(shades) + shade_of_pixel, int(places[-1] + 1) * len(shades))
        place, shade = np.divmod(used, len(shades))
        self._keys = place * self._strides[1] + shades[shade]  # (cells,) int64, ascending

    @property
    def cells(self) -> int:
        return len(self._keys)

    def splat(self, values: np.ndarray) -> np.ndarray:
        """(H*W,) -> (cells,): the sum over each cell's pixels."""
        return np.bincount(self.cell_of_pixel, weights=values, minlength=self.cells)

    def slice(self, values: np.ndarray) -> np.ndarray:
        """(cells,) -> (H, W)"""
        return values[self.cell_of_pixel].reshape(self.size)

    @cached_property
    def pixels(self) -> np.ndarray:
        """(cells,): how many pixels each cell has."""
        return np.bincount(self.cell_of_pixel, minlength=self.cells).astype(np.float64)

    @cached_property
    def blur(self) -> csr_array:
        """(cells, cells): the 1-2-1 blur in five dimensions, B in the paper."""
        axes = len(self._strides)
        neighbours = np.full((2 * axes + 1, self.cells), -1, dtype=np.int32)  # (11, cells) each cell's in order
        neighbours[axes] = np.arange(self.cells)
        for axis, stride in enumerate(self._strides):  # from the longest step to the shortest
            wanted = self._keys + stride
            places = np.searchsorted(self._keys, wanted)
            places[places == self.cells] = 0
            lower = np.flatnonzero(self._keys[places] == wanted)
            upper = places[lower]
            neighbours[2 * axes - axis][lower] = upper
            neighbours[axis][upper] = lower
        there = neighbours >= 0
        row_ends = np.zeros(self.cells + 1, dtype=np.int32)
        np.cumsum(there.sum(axis=0), out=row_ends[1:])
        columns = neighbours.T[there.T]
        weights = np.ones(len(columns))
        weights[row_ends[:-1] + there[:axes].sum(axis=0)] = CENTRE_WEIGHT * axes
        return csr_array((weights, columns, row_ends), shape=(self.cells, self.cells))

    @cached_property
    def _diagonal(self) -> np.ndarray:
        """(cells,) where the matrices' diagonals lie among their values: the blur alone has the centre's weight."""
        return np.flatnonzero(self.blur.data == CENTRE_WEIGHT * len(self._strides))

    @cached_property
    def roughness(self) -> csr_array:
        """(cells, cells): the paper's D_m - D_n B D_n. Constant maps have none of it."""
        blur = self.blur
        scale = np.ones(self.cells)
        for _ in range(self.parameters.bistochastic_rounds):
            scale = np.sqrt(scale * self.pixels / (blur @ scale))
        values = -blur.data * scale[blur.indices] * np.repeat(scale, np.diff(blur.indptr))
        values[self._diagonal] += scale * (blur @ scale)  # so that rows sum to nothing, however few rounds were run
        return csr_array((values, blur.indices, blur.indptr), shape=blur.shape)

    def solve(self, target: np.ndarray, confidence: float | np.ndarray = 0.999) -> np.ndarray:
        """Return the map (H, W) nearest to `target` (H, W) and smooth within edges, float64.

        confidence: how much each pixel's target counts, one number or (H, W); where it is 0, the rest decides. A map
        without a change comes back as it is. The result may leave the target's range by the solver's tolerance.
        """
        if target.shape != self.size:
            raise BilateralSolverError(f"the map is {target.shape} and the picture {self.size}: resize the map first")
        values = np.asarray(target, dtype=np.float64).ravel()
        trust = np.asarray(confidence, dtype=np.float64)
        if not np.isfinite(values).all() or not np.isfinite(trust).all():
            raise BilateralSolverError("the map or its confidence has values that are no finite numbers")
        if trust.ndim == 0:  # the usual case, at half the price
            weight, wanted = trust * self.pixels, trust * self.splat(values)
        else:
            trust = np.broadcast_to(trust, self.size).ravel()
            weight, wanted = self.splat(trust), self.splat(values * trust)
        if trust.min() < 0 or weight.max() <= 0:
            raise BilateralSolverError("confidence must nowhere be below 0, and somewhere above it")
        parameters = self.parameters
        system = self.roughness * parameters.smoothness
        system.data[self._diagonal] += weight
        jacobi = 1 / np.maximum(system.data[self._diagonal], parameters.diagonal_floor)
        preconditioner = LinearOperator(system.shape, matvec=lambda residual: jacobi * residual, dtype=np.float64)
        start = np.divide(wanted, weight, out=np.zeros_like(wanted), where=weight > 0)
        solution, _ = cg(
            system,
            wanted,
            x0=start,
            rtol=parameters.tolerance,
            maxiter=parameters.iterations,
            M=preconditioner,
            atol=0,
        )
        return self.slice(solution)


def solve(
    image: np.ndarray,
    target: np.ndarray,
    confidence: float | np.ndarray = 0.999,
    parameters: SolverParameters = DEFAULTS,
) -> np.ndarray:
    """One map of one picture; several of the same picture share a `BilateralGrid`."""
    return BilateralGrid(image, parameters).solve(target, confidence)


def _cell_keys(
    image: np.ndarray, parameters: SolverParameters
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int, int]]:
    """Every pixel's place and colour in cells, each as one number (H*W,); and how far a number that joins the two, the
    colour last, moves from a cell to its next one down, across, and along luma and both chromas.
    """
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    luma, u, v = (a * red + b * green + c * blue for a, b, c in RGB_TO_YUV.astype(np.int32))
    luma_step, chroma_step = (round(size * MILLIONTHS) for size in (parameters.luma, parameters.chroma))
    rows, columns = (np.floor(np.arange(side) / parameters.spatial).astype(np.int64) for side in image.shape[:2])
    # One more along each axis than there are, so that no step leads from an axis' end to another row.
    lumas, chromas = 255 * MILLIONTHS // luma_step + 2, 256 * MILLIONTHS // chroma_step + 2
    across = int(columns[-1]) + 2
    span = lumas * chromas * chromas
    if (int(rows[-1]) + 2) * across * span > np.iinfo(np.int64).max:
        raise BilateralSolverError(f"a picture of {image.shape[:2]} has too many cells: make them larger")
    places = (rows * across)[:, None] + columns  # (H, W)
    colours = (luma // luma_step).astype(np.int64) * (chromas * chromas)
    colours += ((u + CHROMA_OFFSET) // chroma_step) * chromas
    colours += (v + CHROMA_OFFSET) // chroma_step
    return places.ravel(), colours.ravel(), (across * span, span, chromas * chromas, chromas, 1)


def _distinct(keys: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys, in order, and each key's place among them. Keys below a `span` of the order of their
    number are looked up in a table, others sorted.
    """
    if span > TABLE_SPAN * len(keys):
        return np.unique(keys, return_inverse=True)
    known = np.zeros(span, dtype=bool)
    known[keys] = True
    distinct = np.flatnonzero(known)
    table = np.empty(span, dtype=np.intp)
    table[distinct] = np.arange(len(distinct))
    return distinct, table[keys]
