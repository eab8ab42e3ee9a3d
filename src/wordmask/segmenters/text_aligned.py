"""Patches and words in one space: an image tower, a text tower, perhaps a mapper between the two, and a rule by which
cosines become scores. Talk2DINO, TIPSv2 and dino.txt are this.

Unlike MaskCLIP and its descendants, these methods settle what a score is at the pixels of every window, before windows
are averaged: by a refinement within the window, or by a softmax over the names. A few names go through at a time.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.pictures.windows import Patch, SlidingWindows, Spread, label_dtype, upsample_argmax
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter, PictureScores

MAPS_BYTES = 256 * 2**20
"""The most that scores at the pixels of all windows take together; more names go through in turn."""
Pixels = Callable[[Sequence[int]], Tensor]
"""Some names -> their scores at the pixels of one window, (k, H, W)."""


class AlignedScores(PictureScores):
    """Scores that were settled at the pixels of each window."""

    def __init__(self, plan: SlidingWindows, maps: Tensor, patch: Patch, windows: Sequence[Pixels]):
        super().__init__(plan, maps, patch)
        self._windows = windows

    def best(self, size: tuple[int, int], stay: Tensor | None = None) -> tuple[Tensor, Tensor]:
        labels = self.maps.new_zeros(size, dtype=label_dtype(self.count + 1))
        scores = self.maps.new_full(size, -torch.inf, dtype=torch.float32)
        for names, merged in self._merged(range(self.count) if stay is None else stay.tolist()):
            best, own = upsample_argmax(merged, size)
            better = own > scores  # of equals, the first name
            labels[better] = torch.tensor(names, device=best.device)[best[better]].to(labels.dtype)
            scores[better] = own[better]
        return labels, scores

    def of(self, names: Sequence[int], size: tuple[int, int]) -> Tensor:
        return torch.cat([_enlarged(merged, size) for _, merged in self._merged(names)])

    def _merged(self, names: Sequence[int]) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield some names, and their scores (k, height, width) on the resized picture, until all have come."""
        plan = self.plan
        together = max(1, MAPS_BYTES // (4 * len(plan) * plan.window[0] * plan.window[1]))
        for start in range(0, len(names), together):
            part = names[start : start + together]
            yield part, plan.merge(torch.stack([pixels(part) for pixels in self._windows]))


class TextAligned(OpenVocabularySegmenter):
    """A subclass says how windows are read; and how cosines become scores on patches, and those scores at pixels, where
    that is not by a softmax over the names.
    """

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        return text.cosines(features[0])

    def at_pixels(self, maps: Tensor, size: tuple[int, int], image: Tensor | None) -> Pixels:
        """Scores (K, h, w) on the patches of one window, and its pixels (3, *size) where `guide` keeps them -> those at
        its pixels.
        """
        return soft_choice(maps, size)

    def lie(self, plan: SlidingWindows) -> Patch:
        return Spread(plan.window)  # they are stretched over it

    def merge(
        self, plan: SlidingWindows, maps: Tensor, patch: Patch, text: TextEmbeddings, guide: Tensor | None
    ) -> PictureScores:
        images = [None] * len(plan) if guide is None else plan.cut(guide)
        windows = [self.at_pixels(own, plan.window, image) for own, image in zip(maps, images, strict=True)]
        return AlignedScores(plan, maps, patch, windows)


def soft_choice(maps: Tensor, size: tuple[int, int]) -> Pixels:
    """Return each pixel's softmax over the names, of cosines (K, h, w) as they are: the rule of TIPSv2 and dino.txt.

    Nothing scales them, so scores are near 1 / K everywhere, and only their order says anything.
    """
    total = maps.new_zeros(size)
    together = max(1, MAPS_BYTES // (4 * size[0] * size[1]))
    for part in maps.split(together):
        total += _enlarged(part, size).exp_().sum(dim=0)
    return lambda which: _enlarged(maps[list(which)], size).exp_() / total


def stretched(windows: Tensor, patch: int) -> Tensor:
    """Return windows (n, 3, H, W), stretched to whole patches where they are not: bicubic, without antialiasing."""
    height, width = (-(-side // patch) * patch for side in windows.shape[-2:])
    if (height, width) == tuple(windows.shape[-2:]):
        return windows
    return F.interpolate(windows, (height, width), mode="bicubic", align_corners=False)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
