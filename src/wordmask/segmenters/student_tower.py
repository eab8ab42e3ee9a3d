"""A student as the frozen tower of another one: what it has learnt to see serves other names."""

from math import ceil

import torch
from torch import Tensor

from wordmask.encoders.towers import Tower
from wordmask.segmenters.deeplab import DeepLabV3Plus


class StudentTower(Tower):
    """What the last layer of a whole network reads, at its own zoom."""

    patch = 1

    def __init__(self, address: str, network: DeepLabV3Plus):
        super().__init__()
        self.address, self.channels = address, network.width
        self.network = network

    def cells(self, side: int, zoom: float = 1.0) -> int:
        with torch.device("meta"):  # nothing but its shape is asked for
            network = DeepLabV3Plus(1, self.network.settings).eval()
            length: int = network.features(torch.empty(1, 3, *2 * (ceil(zoom * side),))).shape[-1]
        return length

    def forward(self, images: Tensor) -> Tensor:
        normalised = self.network.statistics.normalise(images.float())
        return self.network.features(normalised.to(self.network.dtype)).float()
