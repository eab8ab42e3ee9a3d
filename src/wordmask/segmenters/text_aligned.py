"""Patches and words in one space: an image tower, a text tower, perhaps a mapper between the two, and a rule by which
cosines become scores. Talk2DINO, TIPSv2 and dino.txt are this.

Unlike MaskCLIP and its descendants, these methods settle what a score is at the pixels of every window, before windows
are averaged: by a refinement within the window, or by a softmax over the names. A few names go through at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.pictures.windows import label_dtype, upsample_argmax
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter, SeenThroughWindows

MAPS_BYTES = 256 * 2**20
"""The most that scores at the pixels of all windows take together; more names go through in turn."""
Pixels = Callable[[Sequence[int]], Tensor]
"""Some names -> their scores at the pixels of one window, (k, H, W)."""


class SeenAligned(SeenThroughWindows):
    """A picture's patch features, whose scores are settled at the pixels of each window."""

    _segmenter: "TextAligned"

    def _best(self, maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        labels = maps.new_zeros(size, dtype=label_dtype(maps.shape[1] + 1))
        scores = maps.new_full(size, -torch.inf, dtype=torch.float32)
        for names, merged in self._merged(maps, range(maps.shape[1])):
            best, own = upsample_argmax(merged, size)
            better = own > scores  # of equals, the first name
            labels[better] = (best[better] + names[0]).to(labels.dtype)
            scores[better] = own[better]
        return labels, scores

    def _maps_of(self, maps: Tensor, which: Sequence[int], size: tuple[int, int]) -> Tensor:
        found = [F.interpolate(merged[None], size, mode="bilinear")[0] for _, merged in self._merged(maps, which)]
        return torch.cat(found)

    def _merged(self, maps: Tensor, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Scores (n, K, h, w) on patches -> some names, and their scores (k, height, width) on the resized picture."""
        plan = self._plan
        windows = [
            self._segmenter.at_pixels(own, tuple(kept[i] for kept in self._features), plan.window)
            for i, own in enumerate(maps)
        ]
        together = max(1, MAPS_BYTES // (4 * len(plan) * plan.window[0] * plan.window[1]))
        for start in range(0, len(which), together):
            names = which[start : start + together]
            yield names, plan.merge(torch.stack([pixels(names) for pixels in windows]))


class TextAligned(OpenVocabularySegmenter):
    """A subclass says how windows are read; and how cosines become scores on patches, and those scores at pixels, where
    that is not by a softmax over the names.
    """

    seen: ClassVar[type[SeenThroughWindows]] = SeenAligned

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        return text.cosines(features[0])

    def at_pixels(self, maps: Tensor, features: tuple[Tensor, ...], size: tuple[int, int]) -> Pixels:
        """Scores (K, h, w) on the patches of one window, and what was kept of it -> scores at its pixels."""
        return soft_choice(maps, size)


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
    """Windows (n, 3, H, W), stretched to whole patches where they are not: bicubic, without antialiasing."""
    height, width = (-(-side // patch) * patch for side in windows.shape[-2:])
    if (height, width) == tuple(windows.shape[-2:]):
        return windows
    return F.interpolate(windows, (height, width), mode="bicubic", align_corners=False)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
