"""LPOSS and LPOSS+ (Stojnić, Kalantidis, Matas and Tolias, CVPR 2025): names' scores spread over a graph, of a
picture's patches and then of its pixels.

What CLIP says of a patch is weak evidence; patches that DINO sees alike and that lie near each other should bear one
name. Label propagation (Zhou et al., NeurIPS 2003) asks for scores Z that are near what CLIP says, Y, and alike where
the graph has weight: (I - alpha W) Z = Y, one system for every name. All windows of a picture are one graph, so that
what one window knows reaches the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.grid import Grid
from wordmask.pictures.windows import Patch, SlidingWindows, Spread, merge_maps

LPOSS, LPOSS_PLUS = "lposs", "lposs+"
"""The names of the refinements."""
CSR = ("data", "indices", "indptr")
"""What SciPy's sparse rows are made of."""
WINDOWS_TOGETHER = 8
"""Windows that go through DINO together."""
ROWS_TOGETHER = 1024
"""Patches whose likeness to all others is looked at together."""
NUMBERS_TOGETHER = {"cpu": 2**16, "other": 2**24}
"""Numbers of pixels' maps that are worked on together; on a CPU, as many as stay in its cache (measured)."""
MAPS_TOGETHER = 8
"""Maps of pixels that are solved for together, for the sake of memory."""


@dataclass(frozen=True)
class LpossParameters:
    """The paper's figures, and those of its published code.

    neighbours: of a patch, itself among them, by the cosine of DINO's values; all where a picture has fewer. sharpness:
    the power of that cosine. falloff: a pixel of distance between two patches divides their weight by e to this.
    alpha: how much the neighbours say. iterations: of conjugate gradients, at most. tolerance: where they stop, as a
    share of what was asked for.

    reach: of a pixel's neighbours in LPOSS+, along each axis. colours: a difference in Lab of so much divides a weight
    by e, channels divided by 100, 128 and 128.
    """

    neighbours: int = 400
    sharpness: float = 3.0
    falloff: float = 0.01
    alpha: float = 0.95
    iterations: int = 10
    tolerance: float = 1e-6
    reach: int = 6
    colours: float = 0.01


DEFAULTS = LpossParameters()
Linear = Callable[[Tensor], Tensor]
"""Maps (Q, ...) -> maps (Q, ...), each by itself: a symmetric matrix times each."""


def conjugate_gradients(matrix: Linear, target: Tensor, parameters: LpossParameters = DEFAULTS) -> Tensor:
    """Solve matrix(Z) = target for every map of (Q, ...) by itself, all at once, from nothing.

    Every one stops by its own residual, so that no result depends on the company it keeps.
    """
    ones = (1,) * (target.ndim - 1)

    def dot(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).flatten(1).sum(dim=1).view(-1, *ones)

    found, residual = torch.zeros_like(target), target.clone()
    direction, squared = target.clone(), dot(target, target)
    enough = parameters.tolerance**2 * squared
    for _ in range(parameters.iterations):
        going = squared > enough
        if not going.any():
            break
        image = matrix(direction)
        nothing = torch.zeros_like(squared)
        step = torch.where(going, squared / dot(direction, image), nothing)
        found += step * direction
        residual -= step * image
        left = dot(residual, residual)
        direction = residual + torch.where(going, left / squared, nothing) * direction
        squared = torch.where(going, left, squared)
    return found


class Lposs:
    """LPOSS, or LPOSS+ with `pixels`, for whatever scores the patches of windows."""

    def __init__(self, dino: DinoEncoder, *, pixels: bool = False, parameters: LpossParameters = DEFAULTS):
        self.dino, self.pixels, self.parameters = dino, pixels, parameters

    @torch.inference_mode()
    def look(self, plan: SlidingWindows, picture: Tensor) -> "Spreading":
        """picture (3, H, W) in [0, 1], as it is cut into windows."""
        windows = plan.cut(picture).split(WINDOWS_TOGETHER)
        values = torch.cat([self.dino(part).value_maps() for part in windows])
        graph = PatchGraph(values, plan, self.dino.patch_size, self.parameters)
        return Spreading(graph, picture if self.pixels else None)

    def look_again(self, plan: SlidingWindows, kept: Mapping[str, Tensor]) -> "Spreading":
        """Return what `look` gave, from what `Spreading.kept` says of it."""
        return Spreading(PatchGraph.again(kept, plan, self.parameters), kept.get("spreading.picture"))


@dataclass(frozen=True)
class Spreading:
    """How scores are spread over one picture, whatever the names.

    picture: as it was looked at, (3, H, W); None where its pixels are not asked for.
    """

    graph: "PatchGraph"
    picture: Tensor | None

    def kept(self) -> dict[str, Tensor]:
        """Return all of it as tensors by name."""
        return self.graph.kept() | ({} if self.picture is None else {"spreading.picture": self.picture})

    def spread(self, plan: SlidingWindows, maps: Tensor, patch: Patch) -> tuple[SlidingWindows, Tensor, Patch]:
        """Return scores (n, K, h, w) of windows, spread, and where they lie now, as `merge_argmax` takes all three: on
        the patches of the graph, or for LPOSS+ on the pixels of the picture as it was looked at.
        """
        maps, patch = self.graph.spread(maps, patch), self.graph.lies
        if self.picture is None:
            return plan, maps, patch
        size = (plan.height, plan.width)
        pixels = PixelGraph(self.picture, self.graph.parameters)
        parts = maps.split(MAPS_TOGETHER, dim=1)
        found = torch.cat([pixels.spread(merge_maps(plan, part, patch, size)) for part in parts])
        return SlidingWindows.whole(size), found[None], 1


class PatchGraph:
    """Which patches of a picture's windows should bear one name. It hangs on the picture alone and serves any names."""

    def __init__(
        self,
        values: Tensor,
        plan: SlidingWindows,
        patch: int,
        parameters: LpossParameters = DEFAULTS,
    ):
        """values (n, C, h, w): DINO's, on the grids of n windows. patch: pixels along a side of one."""
        grid = (values.shape[-2], values.shape[-1])
        self._hold(plan, grid, parameters, normalised(weights(values, places(plan, grid, patch), parameters)))

    def _hold(self, plan: SlidingWindows, grid: Grid, parameters: LpossParameters, matrix: Any) -> None:
        self.parameters, self.grid = parameters, grid
        self.lies = Spread(plan.window)
        """Where the grids lie in their windows: all over them, also where DINO had to pad, as in the published code."""
        self._matrix = matrix

    def kept(self) -> dict[str, Tensor]:
        """Return all of it that hangs on the picture, as tensors by name."""
        parts = {name: torch.from_numpy(getattr(self._matrix, name)) for name in CSR}
        return {f"graph.{name}": part for name, part in parts.items()} | {"graph.grid": torch.tensor(self.grid)}

    @classmethod
    def again(cls, kept: Mapping[str, Tensor], plan: SlidingWindows, parameters: LpossParameters) -> "PatchGraph":
        """Return a graph of what `kept` gave, among other things."""
        graph = cls.__new__(cls)
        parts = tuple(kept[f"graph.{name}"].cpu().numpy() for name in CSR)
        height, width = kept["graph.grid"].tolist()
        count = len(parts[-1]) - 1
        graph._hold(plan, (height, width), parameters, scipy.sparse.csr_array(parts, shape=(count, count)))
        return graph

    def solve(self, scores: Tensor) -> Tensor:
        """Return Z of the paper, (n, Q, h, w) float64 of the patches' scores (n, Q, h, w)."""
        target = scores.detach().cpu().double().transpose(0, 1)  # (Q, n, h, w)

        def matrix(maps: Tensor) -> Tensor:
            spread = self._matrix @ maps.numpy().T  # (N, Q)
            return maps - self.parameters.alpha * torch.from_numpy(np.ascontiguousarray(spread.T))

        return conjugate_gradients(matrix, target.flatten(1), self.parameters).view_as(target).transpose(0, 1)

    def spread(self, scores: Tensor, patch: Patch) -> Tensor:
        """Return scores (n, Q, ...) on any grid, spread, on the graph's: (n, Q, h, w), on the scale that they were on.

        Where all patches say the same, 1 - alpha times Z does so too: thresholds keep their meaning.
        """
        own = on_grid(scores.float(), patch, self.grid, self.lies)
        return ((1 - self.parameters.alpha) * self.solve(own)).to(scores.device, torch.float32)


def places(plan: SlidingWindows, grid: tuple[int, int], patch: int) -> Tensor:
    """Return the centres of the patches of all windows, (n * h * w, 2) in pixels of the picture."""
    tops, lefts = (torch.tensor([box[axis] for box in plan.boxes]) for axis in (0, 1))
    rows, columns = (torch.arange(cells) * patch + patch // 2 for cells in grid)
    down = (tops[:, None, None] + rows[:, None]).expand(-1, *grid)
    across = (lefts[:, None, None] + columns).expand(-1, *grid)
    return torch.stack([down, across], dim=-1).flatten(0, 2).double()


def weights(values: Tensor, places: Tensor, parameters: LpossParameters = DEFAULTS) -> scipy.sparse.csr_array:
    """Return the weights of every patch's neighbours (N, N), not symmetric yet, of features (n, C, h, w)."""
    unit = F.normalize(values.permute(0, 2, 3, 1).flatten(0, 2).float().cpu(), dim=1)  # (N, C)
    count = len(unit)
    neighbours = min(parameters.neighbours, count)
    columns = torch.empty(count, neighbours, dtype=torch.int64)
    entries = torch.empty(count, neighbours, dtype=torch.float64)
    for start in range(0, count, ROWS_TOGETHER):
        rows = slice(start, start + ROWS_TOGETHER)
        cosines, nearest = (unit[rows] @ unit.T).topk(neighbours, dim=1)
        distance = (places[rows, None] - places[nearest]).norm(dim=2)
        entries[rows] = cosines.clamp(min=0).double() ** parameters.sharpness * (-parameters.falloff * distance).exp()
        columns[rows] = nearest
    starts = np.arange(0, count * neighbours + 1, neighbours)
    return scipy.sparse.csr_array((entries.numpy().ravel(), columns.numpy().ravel(), starts), shape=(count, count))


def normalised(matrix: Any) -> Any:
    """Return D^-1/2 (W + W^T) D^-1/2 without loops; a patch without neighbours has the degree 1."""
    both = (matrix + matrix.T).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    degrees = both.sum(axis=1)
    degrees[degrees == 0] = 1
    scale = scipy.sparse.diags_array(degrees**-0.5)
    return (scale @ both @ scale).tocsr()


def on_grid(maps: Tensor, patch: Patch, grid: Grid, lies: Spread) -> Tensor:
    """Return windows' maps (n, K, ...) of patches that lie so, read at the centres of a grid that lies elsewhere."""
    cells = (maps.shape[-2], maps.shape[-1])
    if not isinstance(patch, Spread):
        sides = (patch, patch) if isinstance(patch, int) else patch
        patch = Spread((cells[0] * sides[0], cells[1] * sides[1]))
    if cells == grid and patch == lies:
        return maps
    down, across = (
        2
        * (
            (torch.arange(grid[axis], device=maps.device) + 0.5) * lies.size[axis] / grid[axis]
            - lies.start[axis]
            + patch.start[axis]
        )
        / patch.size[axis]
        - 1
        for axis in (0, 1)
    )
    where = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)  # (h, w, 2)
    where = where.expand(len(maps), -1, -1, -1).to(maps)
    return F.grid_sample(maps, where, padding_mode="border", align_corners=False)


class PixelGraph:
    """Which pixels of a picture should bear one name: those near each other, of like colour.

    168 neighbours a pixel are too many to write down as a matrix. The weights of one half are kept, one shift after
    another; the other half is the same seen from the other end. Pixels lie in one long row, with a margin that weighs
    nothing, so that a shift is one step along it, whatever its direction.
    """

    def __init__(self, image: Tensor, parameters: LpossParameters = DEFAULTS):
        """image (3, H, W) in [0, 1]."""
        self.parameters = parameters
        self.size = (image.shape[1], image.shape[2])
        reach = parameters.reach
        colours = self._laid_out(lab(image.float()))  # (3, N)
        inside = self._laid_out(torch.ones_like(image[:1], dtype=torch.float32))[0]  # (N,)
        long = self.size[1] + 2 * reach
        shifts = [(down, across) for down in range(reach + 1) for across in range(-reach, reach + 1)]
        self._steps = [down * long + across for down, across in shifts if (down, across) > (0, 0)]
        self._first, self._end = reach * long + reach, len(inside) - reach * long - reach
        self._weights = inside.new_zeros(len(self._steps), len(inside))  # at a pixel: of it and the one a step on
        degrees = torch.zeros_like(inside)
        for step, weight in zip(self._steps, self._weights, strict=True):
            far = (colours[:, step:] - colours[:, :-step]).square_().sum(dim=0).sqrt_()
            weight[:-step] = far.div_(-parameters.colours).exp_().mul_(inside[step:]).mul_(inside[:-step])
            degrees += weight
            degrees[step:] += weight[:-step]
        degrees[degrees == 0] = 1
        scale = degrees.rsqrt_()
        for step, weight in zip(self._steps, self._weights, strict=True):
            weight.mul_(scale)[:-step].mul_(scale[step:])

    def _laid_out(self, maps: Tensor) -> Tensor:
        """(Q, H, W) -> (Q, N), with the margin."""
        return F.pad(maps, [self.parameters.reach] * 4).flatten(1)

    def _times(self, rows: Tensor) -> Tensor:
        """Return the normalised weights times each of (Q, N)."""
        spread = torch.zeros_like(rows)
        together = max(1, NUMBERS_TOGETHER["cpu" if rows.device.type == "cpu" else "other"] // len(rows))
        for start in range(self._first, self._end, together):
            end = min(start + together, self._end)
            part = spread[:, start:end]
            for step, weight in zip(self._steps, self._weights, strict=True):
                part.addcmul_(rows[:, start + step : end + step], weight[start:end])
                part.addcmul_(rows[:, start - step : end - step], weight[start - step : end - step])
        return spread

    def solve(self, maps: Tensor) -> Tensor:
        """Return Z of the paper, (Q, H, W) float32, of pixels' scores (Q, H, W)."""
        alpha, (height, width), reach = self.parameters.alpha, self.size, self.parameters.reach
        solved = torch.empty(maps.shape, device=maps.device)
        for start in range(0, len(maps), MAPS_TOGETHER):
            part = slice(start, start + MAPS_TOGETHER)
            target = self._laid_out(maps[part].float())
            found = conjugate_gradients(lambda rows: rows - alpha * self._times(rows), target, self.parameters)
            margined = found.view(len(target), height + 2 * reach, width + 2 * reach)
            solved[part] = margined[:, reach : reach + height, reach : reach + width]
        return solved

    def spread(self, maps: Tensor) -> Tensor:
        """Return scores (Q, H, W), spread, on the scale that they were on."""
        return (1 - self.parameters.alpha) * self.solve(maps)


TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""From linear sRGB, under D65 (Rec. 709)."""
WHITE = (0.95047, 1.0, 1.08883)
LAB_SCALE = (100, 128, 128)


def lab(image: Tensor) -> Tensor:
    """Return an sRGB picture (3, H, W) in [0, 1] in CIELAB, its channels divided by 100, 128 and 128."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = torch.einsum("oc,chw->ohw", torch.tensor(TO_XYZ).to(image), linear)
    xyz = xyz / torch.tensor(WHITE).to(image)[:, None, None]
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 4 / 29)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]) / torch.tensor(LAB_SCALE).to(image)[:, None, None]
