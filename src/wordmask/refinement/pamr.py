"""PAMR, pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels",
CVPR 2020): scores flow between pixels of like colour, a few steps, without anything learnt.

Each pixel has eight neighbours at each of several distances. Its score becomes their mean, weighted by how like their
colours are to its own; that is done ten times over.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1) if (down, across) != (0, 0))
KERNEL_WIDTH = 0.1
"""A difference of so many local deviations divides a weight by e; from the published code."""
TINY = 1e-8
"""Keeps a difference over no deviation finite: the published code's."""
STRIP_NUMBERS = {"cpu": 2**17, "other": 2**20}
"""Numbers of a map that are worked on together: on a CPU as many as stay in its second-level cache and are more work
than it is to ask for them (measured), elsewhere enough to keep many cores busy."""


@dataclass(frozen=True)
class PamrParameters:
    """The paper's figures.

    iterations: how often scores are averaged. dilations: the distances in pixels at which neighbours are looked up.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)


DEFAULTS = PamrParameters()


class PixelAffinity:
    """The weights of one picture's neighbours. What hangs on the picture alone is made once, for any number of maps."""

    def __init__(self, image: Tensor, parameters: PamrParameters = DEFAULTS):
        """image (3, H, W), on whatever scale: the weights are the same on all of them, but for `TINY`."""
        self.parameters = parameters
        self.reach = max(parameters.dilations)
        self._steps = [(far * down, far * across) for far in parameters.dilations for down, across in SIDES]
        height, width = image.shape[1:]
        self.weights = image.new_empty(len(self._steps), height, width)  # (P, H, W), they sum to 1 over P
        padded = self._pad(image)
        for rows in self._strips(len(self._steps) * len(image), height, width, image.device):
            # A pixel counts as a neighbour of itself at every distance, which adds nothing but its weight to the mean.
            centre = padded[:, self.reach + rows.start : self.reach + rows.stop, self.reach : self.reach + width]
            steps = torch.stack([self._shifted(padded, rows, width, step) - centre for step in self._steps])
            count = len(self._steps) + len(parameters.dilations)
            mean = steps.sum(dim=0) / count
            squares = (steps - mean).square_().sum(dim=0) + len(parameters.dilations) * mean.square()
            deviation = (squares / (count - 1)).sqrt()  # (3, rows, W)
            likeness = -(steps.abs_() / (TINY + KERNEL_WIDTH * deviation)).mean(dim=1)  # (P, rows, W)
            self.weights[:, rows] = likeness.softmax(dim=0)

    def refine(self, maps: Tensor) -> Tensor:
        """(K, H, W) -> (K, H, W). Each is a mean of what was there: maps that sum to 1 still do."""
        if maps.shape[1:] != self.weights.shape[1:]:
            raise ValueError(f"maps {tuple(maps.shape)} are not of this picture of {tuple(self.weights.shape[1:])}")
        height, width = maps.shape[1:]
        for _ in range(self.parameters.iterations):
            padded = self._pad(maps)
            maps = torch.zeros_like(maps, memory_format=torch.contiguous_format)
            for rows in self._strips(len(maps), height, width, maps.device):
                strip = maps[:, rows]
                for step, weight in zip(self._steps, self.weights, strict=True):
                    strip.addcmul_(self._shifted(padded, rows, width, step), weight[rows])
        return maps

    def _pad(self, maps: Tensor) -> Tensor:
        """Beyond its border a picture goes on as it is at the border."""
        return F.pad(maps[None], [self.reach] * 4, mode="replicate")[0]

    def _shifted(self, padded: Tensor, rows: slice, width: int, step: tuple[int, int]) -> Tensor:
        top, left = self.reach + step[0], self.reach + step[1]
        return padded[:, top + rows.start : top + rows.stop, left : left + width]

    @staticmethod
    def _strips(maps: int, height: int, width: int, device: torch.device) -> list[slice]:
        together = max(1, STRIP_NUMBERS["cpu" if device.type == "cpu" else "other"] // (maps * width))
        return [slice(top, min(top + together, height)) for top in range(0, height, together)]


def pamr(image: Tensor, maps: Tensor, parameters: PamrParameters = DEFAULTS) -> Tensor:
    """Refine maps (K, H, W) of one picture (3, H, W); several calls for the same picture share a `PixelAffinity`."""
    return PixelAffinity(image, parameters).refine(maps)
