"""Batches that depend on the seed and the step alone, so that a run killed and resumed sees the same ones."""

import math
import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as settings
from torch import Tensor

from wordmask.errors import WordmaskError
from wordmask.training.order import shuffled
from wordmask_world.drawing.captions import caption_names
from wordmask_world.drawing.names import NAMES
from wordmask_world.drawing.scenes import KINDS, Kind
from wordmask_world.training.data import TrainingPictures

_SIDES = {"left": "right", "right": "left"}
_NAME_PLACE = {name: place for place, name in enumerate(NAMES)}


@settings(frozen=True)
class Stage:
    """A part of a training run.

    pictures: how many are seen, repeats included. least_crop: the smallest share of the picture that a random crop
    may keep. keep: the share of the patches that a transformer looks at, drawn anew for every picture; fewer cost less.
    learning_rate: the highest of a new rise and fall that begins here, as a change of size asks for; None: the one
    before goes on.
    """

    pictures: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=16)] = 64
    batch: Annotated[int, Field(ge=2)] = 128
    kinds: tuple[Kind, ...] = KINDS
    least_crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    @property
    def steps(self) -> int:
        return max(1, self.pictures // self.batch)


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (B, 3, H, W) in [0, 1]; without captions, pictures come whole and are cut by the recipe
    size: int  # the stage's
    keep: float  # the stage's
    captions: list[str]  # one of each picture's wordings, or none
    named: Tensor  # (B, len(NAMES)) 1 where any of the picture's wordings mentions the name, else 0


class Batches:
    """`batches.at(stage, step, number)`: batch `step` of a stage; `number` is the step of the whole run."""

    def __init__(self, pictures: TrainingPictures, *, seed: int, device: torch.device):
        self.pictures = pictures
        self.seed = seed
        self.device = device
        self._order: tuple[tuple[tuple[Kind, ...], int], np.ndarray] | None = None
        self._mentioned: dict[int, list[int]] = {}
        self._on_device = pictures.everything().to(device) if device.type == "cuda" else None

    def indices(self, stage: Stage, step: int) -> np.ndarray:
        """Every eligible picture once an epoch."""
        eligible = self.pictures.of_kinds(stage.kinds)
        if not len(eligible):
            raise WordmaskError(f"no training picture is of a kind among {', '.join(stage.kinds)}: draw some")
        places = np.arange(step * stage.batch, (step + 1) * stage.batch)
        epochs = places // len(eligible)
        orders = {epoch: self._epoch(stage.kinds, eligible, int(epoch)) for epoch in np.unique(epochs)}
        return np.array([orders[epoch][place] for epoch, place in zip(epochs, places % len(eligible), strict=True)])

    def _epoch(self, kinds: tuple[Kind, ...], eligible: np.ndarray, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != (kinds, epoch):
            self._order = ((kinds, epoch), shuffled(eligible, self.seed, epoch))
        return self._order[1]

    def _named(self, index: int) -> list[int]:
        """Places in NAMES of what the captions of a picture mention."""
        if index not in self._mentioned:
            names = caption_names(". ".join(self.pictures.captions[index]))
            self._mentioned[index] = sorted(_NAME_PLACE[name] for name in names)
        return self._mentioned[index]

    def raw(self, indices: np.ndarray) -> Tensor:
        """(n,) -> (n, 3, H, W) in [0, 1]."""
        if self._on_device is not None:
            images = self._on_device[torch.from_numpy(indices).to(self.device)]
        else:
            images = self.pictures.images(indices).to(self.device)
        return images.float() / 255

    def at(self, stage: Stage, step: int, number: int, *, captioned: bool = True, least_size: int = 0) -> Batch:
        indices = self.indices(stage, step)
        images = self.raw(indices)
        if not captioned:
            return Batch(images, stage.size, stage.keep, [], torch.zeros(0))
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        flips = torch.rand(len(indices), generator=chance) < 0.5
        images = random_crops(images, max(stage.size, least_size), (stage.least_crop, 1.0), flips, chance)
        images = jitter(images, chance)
        wordings = torch.randint(1 << 30, (len(indices),), generator=chance).tolist()
        captions, named = [], torch.zeros(len(indices), len(NAMES))
        for place, (index, wording, flipped) in enumerate(zip(indices, wordings, flips.tolist(), strict=True)):
            own = self.pictures.captions[index]
            caption = own[wording % len(own)]
            captions.append(mirrored(caption) if flipped else caption)
            named[place, self._named(int(index))] = 1
        return Batch(images, stage.size, stage.keep, captions, named.to(self.device))


def mirrored(caption: str) -> str:
    """The caption of the flipped picture."""
    return re.sub(r"\b(left|right)\b", lambda word: _SIDES[word[0]], caption)


def crop_places(
    area: tuple[float, float],
    flips: Tensor,
    chance: torch.Generator | None = None,
    *,
    upside_down: Tensor | None = None,
) -> Tensor:
    """(B, 2, 3): affine maps from a crop to its picture, both in [-1, 1]. Each crop keeps a share of the picture's
    area, its aspect changed a little.
    """
    count = len(flips)
    share = torch.empty(count).uniform_(*area, generator=chance)
    stretch = torch.exp(torch.empty(count).uniform_(-0.15, 0.15, generator=chance))
    width, height = ((share.sqrt() * factor).clamp(max=1) for factor in (stretch, 1 / stretch))
    x = (torch.rand(count, generator=chance) * 2 - 1) * (1 - width)
    y = (torch.rand(count, generator=chance) * 2 - 1) * (1 - height)
    where = torch.zeros(count, 2, 3)
    where[:, 0, 0] = torch.where(flips, -width, width)
    where[:, 1, 1] = height if upside_down is None else torch.where(upside_down, -height, height)
    where[:, 0, 2], where[:, 1, 2] = x, y
    return where


def crop(images: Tensor, where: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size)."""
    grid = F.affine_grid(where.to(images.device), [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def random_crops(
    images: Tensor, size: int, area: tuple[float, float], flips: Tensor, chance: torch.Generator | None = None
) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size)."""
    return crop(images, crop_places(area, flips, chance), size)


def jitter(
    images: Tensor, chance: torch.Generator | None = None, *, strength: float = 0.15, tint: float = 0.04
) -> Tensor:
    """Brightness, contrast and tint; by default mild enough that the colours' names stay true."""
    count = len(images)

    def factors(channels: int, reach: float) -> Tensor:
        drawn = torch.empty(count, channels, 1, 1).uniform_(1 - reach, 1 + reach, generator=chance)
        return drawn.to(images.device)

    grey = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - grey) * factors(1, strength) + grey
    return (images * factors(1, strength) * factors(3, tint)).clamp(0, 1)


def hue_turned(images: Tensor, reach: float) -> Tensor:
    """Every picture's colours turned around the grey axis, by at most `reach` of a full turn either way."""
    angle = (torch.rand(len(images)) * 2 - 1) * reach * 2 * math.pi
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = cosine * torch.eye(3) + sine * across + (1 - cosine) / 3  # Rodrigues' formula
    return torch.einsum("bij,bjhw->bihw", turn.to(images.device), images).clamp(0, 1)


def greyed(images: Tensor, probability: float) -> Tensor:
    """Some of the pictures without colour."""
    chosen = (torch.rand(len(images), 1, 1, 1) < probability).to(images.device)
    return torch.where(chosen, images.mean(dim=1, keepdim=True).expand_as(images), images)


def blurred(images: Tensor, probability: float) -> Tensor:
    """Some of the pictures a little out of focus."""
    chosen = (torch.rand(len(images), 1, 1, 1) < probability).to(images.device)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.where(chosen, soft, images)
