"""What every saliency method can do: pictures in, soft foreground maps out. None of them knows a name."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as settings
from torch import Tensor

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.masks.overlay import draw_overlay, save_drawn
from wordmask.methods import LOADED_BY, Declared
from wordmask.pictures.image_files import ImageReadError, raise_at_once
from wordmask.pictures.images import ImageSource, resize, to_tensor
from wordmask.pictures.streaming import Read, many_pictures, read_ahead
from wordmask.refinement.clean_up import THRESHOLD, Refinement, refine
from wordmask.runs import marks

FOREGROUND = (220, 60, 50)
BACKGROUND = (0, 0, 0)


class SaliencyError(WordmaskError):
    """This method cannot be set up so, or cannot read this."""


@settings(frozen=True)
class SaliencySettings:
    """refine: what becomes of a map before it is handed out.

    most_patches: a picture on more patches than this is looked at smaller, so that time and memory stay bounded; its
    map comes back at its own size all the same. 16,384 patches are 1024 x 1024 pixels for a network with patches of 8.
    zoom: a picture is looked at so many times as large, as far as that bound allows: small ones have few patches.
    batch: pictures of one size that go through the network together.
    """

    refine: Refinement = "none"
    most_patches: Annotated[int, Field(ge=16)] = 16_384
    zoom: PositiveInt = 1
    batch: PositiveInt = 8


@dataclass(frozen=True)
class SaliencyMap:
    """A picture and how much each of its pixels is foreground."""

    soft: np.ndarray  # (H, W) float32 in [0, 1]
    image: np.ndarray  # (H, W, 3) uint8
    source: str

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool"""
        return self.soft > THRESHOLD

    def save(self, path: str | Path, *, of: marks.Source | None = None) -> None:
        """Save a grey PNG: 0 is background, 255 foreground. of: what it is to say of its picture."""
        levels = np.rint(self.soft * 255).astype(np.uint8)
        with atomic_write(path) as file:
            Image.fromarray(levels).save(file, format="PNG", pnginfo=marks.png_text(marks.SALIENCY, of))

    def overlay(self) -> Image.Image:
        """Return the picture with its foreground tinted, and how much of it that is."""
        names = ("background", "foreground")
        return draw_overlay(self.image, self.mask.astype(np.uint8), names, (BACKGROUND, FOREGROUND), hidden=(0,))

    def save_overlay(self, path: str | Path, *, of: marks.Source | None = None) -> None:
        """Save what `overlay` draws, as .png, .jpg or .jpeg."""
        save_drawn(path, self.overlay, SaliencyError, marks.Made(marks.OVERLAY, of))


class Saliency(Declared, ABC):
    """Pictures of any sizes -> soft maps (H, W) in [0, 1] of the same sizes, never NaN."""

    loaded_by = LOADED_BY["saliency"]
    settings: SaliencySettings

    @abstractmethod
    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the method's own maps, before any refinement: (H, W, 3) uint8 -> (H, W) float32 in [0, 1]."""

    def maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return maps (H, W) float32 in [0, 1] of pictures (H, W, 3) uint8, refined as the settings say."""
        raw = self.raw_maps(images)
        return [refine(image, soft, self.settings.refine) for image, soft in zip(images, raw, strict=True)]

    def look(self, image: ImageSource) -> SaliencyMap:
        """Look at one picture, from wherever."""
        return next(self.look_many([image], on_bad=raise_at_once))

    def look_many(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        on_bad: Callable[[ImageReadError], None] | None = None,
        max_pixels: int | None = None,
    ) -> Iterator[SaliencyMap]:
        """Look at a stream of any length, in its order and in constant memory; pictures are read ahead in threads.

        A picture that cannot be read is left out: it is handed to `on_bad`, or named in a warning.
        """
        stream = many_pictures(images, batch_size, taker="look_many", of_one="look", error=SaliencyError)
        return self._look_at_batches(read_ahead(stream, batch_size, on_bad=on_bad, max_pixels=max_pixels))

    def _look_at_batches(self, batches: Iterator[list[Read]]) -> Iterator[SaliencyMap]:
        for batch in batches:
            maps = self.maps([read.image for read in batch])
            for read, soft in zip(batch, maps, strict=True):
                yield SaliencyMap(soft, read.image, read.source)


def size_for_patches(height: int, width: int, patch: int, most: int, zoom: int = 1) -> tuple[int, int]:
    """Return the picture's own size, `zoom` times as large, or the largest of its shape on at most `most` patches."""
    height, width = height * zoom, width * zoom

    def patches(scale: float) -> int:
        return ceil(max(1, round(height * scale)) / patch) * ceil(max(1, round(width * scale)) / patch)

    if patches(1.0) <= most:
        return height, width
    scale = sqrt(most * patch * patch / (height * width))
    while patches(scale) > most:  # what is cut off at the right and the bottom still costs whole patches
        scale *= 0.98
    return max(1, round(height * scale)), max(1, round(width * scale))


def finite(answer: Tensor) -> Tensor:
    """Return a network's answer, if its numbers are finite."""
    if not torch.isfinite(answer).all():
        raise SaliencyError(
            "the network's answer is no finite number: its weights are damaged, or too large for this precision "
            "(try fp32)"
        )
    return answer


def network_maps(
    images: Sequence[np.ndarray], read: Callable[[Tensor], Tensor], *, patch: int, settings: SaliencySettings
) -> list[np.ndarray]:
    """Return maps by a network: `read` takes (B, 3, H, W) in [0, 1] to (B, H, W). Pictures of one size go together."""
    most, zoom = settings.most_patches, settings.zoom
    sizes = [size_for_patches(image.shape[0], image.shape[1], patch, most, zoom) for image in images]
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        alike[size].append(index)
    maps: dict[int, np.ndarray] = {}
    for size, indices in alike.items():
        for start in range(0, len(indices), settings.batch):
            part = indices[start : start + settings.batch]
            seen = finite(read(torch.stack([to_tensor(images[index], size) for index in part])))
            for index, soft in zip(part, seen, strict=True):
                own = (images[index].shape[0], images[index].shape[1])
                maps[index] = resize(soft[None].float().cpu(), own)[0].clamp(0, 1).numpy()
    return [maps[index] for index in range(len(images))]
