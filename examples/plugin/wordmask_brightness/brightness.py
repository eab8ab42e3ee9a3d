"""A segmenter that looks at brightness and nothing else.

It knows nothing of what names mean, and its masks are worth nothing beside those of a real method. What it shows is how
much code a method takes that `load`, every verb, the page and the REST service can use.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from wordmask.compute import Compute
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Seen, Segmenter

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""How bright red, green and blue are (ITU-R BT.601)."""


@dataclass(frozen=True)
class BrightnessSettings:
    """contrast: "background" is what differs by no more from the picture's mean brightness, on a scale from 0 to 1."""

    contrast: Annotated[float, Field(ge=0, le=1)] = 0.1


class SeenBrightness(Seen):
    """How bright each pixel of a picture is."""

    def __init__(self, image: np.ndarray, source: str, contrast: float):
        super().__init__(image, source)
        self.contrast = contrast
        self.luma = image.astype(np.float32) @ LUMA / 255  # (H, W) in [0, 1]

    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        """Cut the brightness into bands of one width, a band for each name, the darkest first."""
        things = [i for i in range(len(vocabulary)) if i != vocabulary.background]
        away = np.abs(self.luma - self.luma.mean())  # how sure it is: not very
        labels = np.full(self.luma.shape, vocabulary.background or 0, dtype=np.int32)
        if things:
            band = np.minimum((self.luma * len(things)).astype(int), len(things) - 1)
            labels = np.array(things, dtype=np.int32)[band]
            if vocabulary.background is not None:
                labels[away <= self.contrast] = vocabulary.background
        return Segmentation(labels, list(vocabulary.names), away, self.image, self.source)


class Brightness(Segmenter):
    """Names by brightness."""

    method = "brightness"
    Settings = BrightnessSettings
    presets: Mapping[str, BrightnessSettings] = {"paper": BrightnessSettings()}

    def __init__(self, settings: BrightnessSettings | None = None):
        self.settings = settings or BrightnessSettings()

    @classmethod
    def build(cls, settings: BrightnessSettings, compute: Compute) -> "Brightness":
        """Return the method. There is no network, so `compute` has nothing to say."""
        return cls(settings)

    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        """Look at pictures (H, W, 3) uint8."""
        pairs = zip(images, sources, strict=True)
        return [SeenBrightness(image, source, self.settings.contrast) for image, source in pairs]
