"""Pictures of which nothing is kept but what a network reads: small pixels, and how large the picture was."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from wordmask.pictures.images import resize


@dataclass(frozen=True, eq=False)
class Reduced:
    """A picture at the size at which a network reads it."""

    pixels: np.ndarray  # (h, w, 3) uint8
    size: tuple[int, int]  # (H, W), the picture's own

    @classmethod
    def gone(cls, size: tuple[int, int]) -> "Reduced":
        """Return a picture of which only its size is known."""
        return cls(np.empty((0, 0, 3), np.uint8), size)


Picture: TypeAlias = np.ndarray | Reduced


def reduced(image: np.ndarray, size: tuple[int, int], *, antialias: bool = True) -> Reduced:
    """Resize a picture (H, W, 3) uint8 as `to_tensor` does, byte for byte."""
    import torch

    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    small = resize(pixels, size, antialias=antialias).permute(1, 2, 0).contiguous().numpy()
    return Reduced(small, (image.shape[0], image.shape[1]))


def size_of(picture: Picture) -> tuple[int, int]:
    """Return the (H, W) that a picture has, or had."""
    return picture.size if isinstance(picture, Reduced) else (picture.shape[0], picture.shape[1])


def pixels_of(picture: Picture) -> np.ndarray:
    """Return what of its pixels is there, (h, w, 3) uint8."""
    return picture.pixels if isinstance(picture, Reduced) else picture
