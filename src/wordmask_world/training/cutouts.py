"""Cut-outs pasted on grounds: what pictures without labels can tell of things that stand before others.

A cut-out is a few overlapping shapes, each filled with a piece of some picture. The same one or two are put into two
views with different grounds, so that they are all that the views share (as in CP2: Wang et al., ECCV 2022). Cells of
one cut-out belong together, however their colours differ, and so do those of the ground around it.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask_world.training.batches import crop, crop_places

MOST_SHAPES = 3
LATER_SHAPES = 0.6
"""How often there is a second, and a third."""
PIECE = (0.01, 0.2)
"""Shares of a picture that fill a shape."""
SOFT = 0.04
"""How wide a shape's edge is, over its smaller radius."""
MOSTLY = 0.7
"""A cell that is covered so far is the cut-out's,"""
HARDLY = 0.1
"""and one that is covered less is the ground's. Those between are asked about nothing."""
TURNED = 0.4
"""Radians, at most."""


class Cutouts(NamedTuple):
    colours: Tensor  # (B, 3, S, S), dark beside the edge, like an outline
    cover: Tensor  # (B, 1, S, S) in [0, 1]


def cut_out(images: Tensor, size: int) -> Cutouts:
    """As many as there are pictures, each made of pieces of some of them."""
    count = len(images)
    colours = torch.zeros(count, 3, size, size, device=images.device)
    cover = torch.zeros(count, 1, size, size, device=images.device)
    for number in range(MOST_SHAPES):
        present = torch.rand(count) < (1.0 if number == 0 else LATER_SHAPES)
        shapes = _shapes(count, size, first=number == 0, device=images.device)
        shapes = (shapes * present.to(images.device)[:, None, None])[:, None]
        others = images[torch.randperm(count).to(images.device)]
        pieces = crop(others, crop_places(PIECE, torch.rand(count) < 0.5), size)
        colours = colours + shapes * (pieces - colours)
        cover = torch.maximum(cover, shapes)
    return Cutouts(colours, cover)


def _shapes(count: int, size: int, *, first: bool, device: torch.device) -> Tensor:
    """(B, S, S) in [0, 1]: ellipses, boxes and what lies between, wavy, of any proportion, turned."""

    def drawn(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1).uniform_(low, high).to(device)

    axis = torch.linspace(-1, 1, size, device=device)
    aside = 0.15 if first else 0.6
    x, y = axis[None, None] - drawn(-aside, aside), axis[None, :, None] - drawn(-aside, aside)
    angle = drawn(0, math.pi)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    longer = drawn(0.45, 0.85) if first else drawn(0.15, 0.7)
    shorter = longer * drawn(0.3, 1.0)
    power = torch.exp2(drawn(0.3, 3.0))  # 2 is an ellipse, 8 nearly a box
    distance = ((along / longer).abs() ** power + (across / shorter).abs() ** power) ** (1 / power)
    waves = drawn(0.0, 0.15) * torch.cos(torch.atan2(across, along) * drawn(2, 7).round() + drawn(0, 2 * math.pi))
    return ((1 + waves - distance) / SOFT * shorter + 0.5).clamp(0, 1)


def paste(grounds: Tensor, cutouts: Cutouts, sides: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Views (B, 3, s, s) with a cut-out somewhere in each, and how far it covers every pixel (B, 1, s, s).

    sides: of the cut-outs' squares, least and most, over that of the views.
    """
    count, size = len(grounds), grounds.shape[-1]
    side = torch.empty(count).uniform_(*sides)
    angle = torch.empty(count).uniform_(-TURNED, TURNED)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    centre = (torch.rand(count, 2) * 2 - 1) * (1 - 0.6 * side[:, None]).clamp(min=0.25)
    to_cutout = torch.zeros(count, 2, 3)
    to_cutout[:, 0, 0], to_cutout[:, 0, 1] = mirror * angle.cos() / side, mirror * angle.sin() / side
    to_cutout[:, 1, 0], to_cutout[:, 1, 1] = -angle.sin() / side, angle.cos() / side
    to_cutout[:, :, 2] = -torch.einsum("bij,bj->bi", to_cutout[:, :, :2], centre)
    grid = F.affine_grid(to_cutout.to(grounds.device), [count, 3, size, size], align_corners=False)
    put = F.grid_sample(torch.cat(cutouts, dim=1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    colours, cover = put[:, :3], put[:, 3:]
    return grounds + cover * (colours - grounds), cover


def paste_both(
    grounds: Tensor, first: Cutouts, second: Cutouts, present: Tensor, sides: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """The second cut-out, where it is present (B,), over the first: views, and the covers of both (B, 2, s, s)."""
    views, below = paste(grounds, first, sides)
    here = present.to(grounds.device)[:, None, None, None]
    views, above = paste(views, Cutouts(second.colours, second.cover * here), sides)
    return views, torch.cat([below * (1 - above), above], dim=1)


def mean_of_cutouts(maps: Tensor, covers: Tensor) -> Tensor:
    """Maps (B, C, h, w) averaged over the cells that cut-outs cover (B, K, h, w): (B, C); zeros where there is none."""
    weights = (covers.sum(dim=1, keepdim=True) > MOSTLY).float()
    return (maps.float() * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1)


class Belonging(nn.Module):
    """Do two cells of a view belong together? A cosine, scaled and moved, is the answer's logit."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.6))  # exp -> 5
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, maps: Tensor, covers: Tensor) -> Tensor:
        """Maps (B, C, h, w), covers of K cut-outs (B, K, h, w). Each kind of pair has its share, however few they are:
        two cells of one cut-out, two of a ground, one of each, and two of different cut-outs.
        """
        covers = covers.flatten(2)
        inside = (covers > MOSTLY).float()
        outside = (covers.sum(dim=1, keepdim=True) < HARDLY).float() * (inside.amax(dim=(1, 2), keepdim=True) > 0)
        of_one, of_ground = _pairs(inside, inside), _pairs(outside, outside)
        some = inside.sum(dim=1, keepdim=True)
        mixed = _pairs(some, outside) + _pairs(outside, some)
        of_two = _pairs(some, some) - of_one
        unit = F.normalize(maps.flatten(2).float(), dim=1)
        logits = self.scale.exp() * torch.einsum("bcm,bcn->bmn", unit, unit) + self.bias
        wrong = F.binary_cross_entropy_with_logits(logits, of_one + of_ground, reduction="none")
        shares = ((0.25, of_one), (0.25, of_ground), (0.4, mixed), (0.1, of_two))
        return torch.stack([share * (wrong * pairs).sum() / pairs.sum().clamp(min=1) for share, pairs in shares]).sum()


def _pairs(one: Tensor, other: Tensor) -> Tensor:
    """Memberships (B, K, n), (B, K, n) -> (B, n, n): of how many of the K both cells are members."""
    return torch.einsum("bkm,bkn->bmn", one, other)
