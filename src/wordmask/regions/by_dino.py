"""What makers of regions share that look at pictures with one DINO."""

from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.regions.base import Regions


class RegionsByDino(Regions):
    """Its settings name the network: `dino` and `dino_weights`."""

    def __init__(self, dino: DinoEncoder, settings: Any = None):
        self.dino, self.settings, self.precision = dino, settings or self.Settings(), dino.precision

    @classmethod
    def build(cls, settings: Any, compute: Compute) -> Self:
        return cls(dino_at(settings.dino, settings.dino_weights, compute), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"dino": self.dino.model}
