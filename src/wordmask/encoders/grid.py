"""What every patch network shares: pictures of any size on a grid of patches.

A network's learnt positions are resized to the grid at hand: in a fresh tensor at every call, never in the model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


@dataclass(frozen=True)
class PositionRule:
    """How a family of networks resizes its learnt positions (always bicubic, corners not aligned).

    `offset` is added to the new grid before the scale is taken. DINO and DINOv2 add 0.1, which moves the sampling
    points a little; networks trained and published with it expect it.
    """

    offset: float = 0.0
    antialias: bool = False


CLIP_POSITIONS = PositionRule()
DINO_POSITIONS = PositionRule(offset=0.1)
DINOV2_REGISTER_POSITIONS = PositionRule(antialias=True)


def resize_positions(
    positions: Tensor, old: Grid, new: Grid, *, prefix: int = 1, rule: PositionRule = CLIP_POSITIONS
) -> Tensor:
    """Positions (prefix + h*w, D) of grid `old` for grid `new`; the first `prefix` (CLS, registers) stay."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        return _traced(positions, old, new, prefix, rule)
    if old == new:
        return positions
    plane = positions[prefix:].float().reshape(1, *old, -1).permute(0, 3, 1, 2)  # (1, D, h, w)
    if rule.offset:
        factors = [(n + rule.offset) / o for n, o in zip(new, old, strict=True)]
        plane = F.interpolate(plane, scale_factor=factors, mode="bicubic", antialias=rule.antialias)
    else:
        plane = F.interpolate(plane, size=new, mode="bicubic", antialias=rule.antialias, align_corners=False)
    if plane.shape[-2:] != new:
        raise RuntimeError(f"positions resized to {tuple(plane.shape[-2:])}, wanted {new}")
    patches = plane.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).to(positions.dtype)
    return torch.cat([positions[:prefix], patches])


def _traced(positions: Tensor, old: Grid, new: Grid, prefix: int, rule: PositionRule) -> Tensor:
    """Return the same by products of matrices, for a graph in which the grid is only known when it runs: graphs' own
    resizing takes no scales that are computed, and knows no filter.
    """
    moved = torch.as_tensor(new[0] != old[0]) | torch.as_tensor(new[1] != old[1])
    offset = moved * rule.offset
    rows, columns = (_bicubic(o, torch.as_tensor(n), offset, rule.antialias) for o, n in zip(old, new, strict=True))
    plane = positions[prefix:].float().reshape(*old, -1).permute(2, 0, 1)  # (D, h, w)
    patches = (rows @ plane @ columns.T).flatten(1).T.to(positions.dtype)
    return torch.cat([positions[:prefix], patches])


def _bicubic(old: int, new: Tensor, offset: Tensor, antialias: bool) -> Tensor:
    """Return the matrix (new, old) of bicubic resizing along one axis. Borders are repeated or, by a filter, left
    out.
    """
    scale = old / (new + offset)
    middles = (torch.arange(new) + 0.5) * scale - 0.5  # type: ignore[call-overload]  # (new,)
    every = torch.arange(old)
    if antialias:
        weights = _cubic((every - middles[:, None]) / scale.clamp(min=1), -0.5)
        return weights / weights.sum(dim=1, keepdim=True)
    first = middles.floor()
    taps = [first + step for step in (-1, 0, 1, 2)]
    return torch.stack(
        [_cubic(tap - middles, -0.75)[:, None] * (every == tap.clamp(0, old - 1)[:, None]) for tap in taps]
    ).sum(dim=0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Return Keys' kernel, as torch has it: `a` is -0.75, and -0.5 with a filter."""
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def to_maps(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, h*w, D) -> (B, D, h, w)"""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
