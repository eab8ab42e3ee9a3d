"""Composed pictures: several small ones side by side, and things of others over them.

Archives hold pictures of one large thing each. Who has learnt from these alone does not know small things, nor many of
them; frozen features cannot be moved about afterwards, so that pictures are composed before anybody looks at them.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.batches import Examples, Samples

SIDE = 2
"""Small pictures along each side of a crowd."""


class Crowds(Samples):
    """As `Samples`, but that a share of the pictures are made of four small ones, each about half as large."""

    def __init__(
        self,
        examples: Examples,
        augmentation: Augmentation,
        *,
        crowds: float,
        most_pasted: int,
        seed: int,
        ignore: int,
    ):
        super().__init__(examples, augmentation, most_pasted=most_pasted, seed=seed, ignore=ignore)
        self.crowds = crowds
        low, high = augmentation.scale
        self._small = replace(augmentation, crop=augmentation.crop // SIDE, scale=(low / SIDE, high / SIDE))

    def _ground(self, place: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        crowded = bool(chance.random() < self.crowds)
        return self._crowd(place, chance) if crowded else super()._ground(place, chance)

    def _pasted(self, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        small = bool(chance.random() < self.crowds)
        index = int(chance.integers(len(self.examples)))
        return self._view(index, chance, self._small if small else self.augmentation)

    def _crowd(self, place: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Four small pictures side by side, the place's own among them."""
        others = [int(chance.integers(len(self.examples))) for _ in range(SIDE**2 - 1)]
        parts = [self._view(index, chance, self._small) for index in (self.index(place), *others)]
        chance.shuffle(parts)
        rows = [parts[start : start + SIDE] for start in range(0, len(parts), SIDE)]
        image = torch.cat([torch.cat([image for image, _ in row], dim=-1) for row in rows], dim=-2)
        labels = torch.cat([torch.cat([labels for _, labels in row], dim=-1) for row in rows], dim=-2)
        return image, labels
