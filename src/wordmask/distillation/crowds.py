"""Composed pictures: several small ones side by side, and things of others over them.

Archives hold pictures of one large thing each. Who has learnt from these alone does not know small things, nor many of
them; frozen features cannot be moved about afterwards, so that pictures are composed before anybody looks at them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from wordmask.distillation.augmentations import LEAST_CROP, Augmentation
from wordmask.distillation.batches import Examples, Samples
from wordmask.distillation.records import DistillationError

CrowdSides = Annotated[tuple[Annotated[int, Field(ge=2, le=6)], ...], Field(min_length=1)]
SIDES = (2,)
"""Small pictures along each side of a crowd."""


def check_sides(sides: Sequence[int], crop: int) -> None:
    """Raise, if so many small pictures along each side of a crop would be too small."""
    if crop // max(sides) < LEAST_CROP:
        raise DistillationError(
            f"crowd_sides of {max(sides)} leave a crop of {crop} pixels parts of fewer than {LEAST_CROP}: take fewer "
            "along each side, or a larger augmentation.crop"
        )


class Crowds(Samples):
    """As `Samples`, but that a share of the pictures are made of small ones: two times two, each about half as large,
    or as many along each side as `sides` has it, one of them by lot.
    """

    def __init__(
        self,
        examples: Examples,
        augmentation: Augmentation,
        *,
        crowds: float,
        most_pasted: int,
        seed: int,
        ignore: int,
        sides: Sequence[int] = SIDES,
    ):
        super().__init__(examples, augmentation, most_pasted=most_pasted, seed=seed, ignore=ignore)
        self.crowds, self.sides = crowds, tuple(sides)
        check_sides(self.sides, augmentation.crop)
        low, high = augmentation.scale
        self._small = {
            side: replace(augmentation, crop=augmentation.crop // side, scale=(low / side, high / side))
            for side in self.sides
        }

    def _ground(self, place: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        crowded = bool(chance.random() < self.crowds)
        return self._crowd(place, chance) if crowded else super()._ground(place, chance)

    def _pasted(self, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        small = bool(chance.random() < self.crowds)
        index = int(chance.integers(len(self.examples)))
        return self._view(index, chance, self._small[self._side(chance)] if small else self.augmentation)

    def _side(self, chance: np.random.Generator) -> int:
        return self.sides[0] if len(self.sides) == 1 else self.sides[int(chance.integers(len(self.sides)))]

    def _crowd(self, place: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Small pictures side by side, the place's own among them. What is left of a crop that cannot be parted teaches
        nothing.
        """
        side = self._side(chance)
        others = [int(chance.integers(len(self.examples))) for _ in range(side**2 - 1)]
        parts = [self._view(index, chance, self._small[side]) for index in (self.index(place), *others)]
        chance.shuffle(parts)
        rows = [parts[start : start + side] for start in range(0, len(parts), side)]
        image = torch.cat([torch.cat([image for image, _ in row], dim=-1) for row in rows], dim=-2)
        labels = torch.cat([torch.cat([labels for _, labels in row], dim=-1) for row in rows], dim=-2)
        rest = self.augmentation.crop - labels.shape[-1]
        return F.pad(image, (0, rest, 0, rest)), F.pad(labels, (0, rest, 0, rest), value=self.ignore)
