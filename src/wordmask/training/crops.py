"""Square pieces of pictures to learn from, with their masks where there are any."""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from wordmask.pictures.images import resize

BLUR_SHARE = 0.1
"""The Gaussian kernel's size, as a share of the crop's."""
BLUR_SIGMA = (0.1, 2.0)


def centre_crop(image: np.ndarray, mask: np.ndarray | None, side: int) -> tuple[Tensor, Tensor | None]:
    """Return the middle square, resized: (H, W, 3) uint8 and (H, W) bool -> (3, side, side) uint8 and (side, side)
    bool.
    """
    shorter = min(image.shape[:2])
    top, left = ((length - shorter) // 2 for length in image.shape[:2])
    box = (top, left, shorter, shorter)
    return _cut(image, box, (side, side)), None if mask is None else _cut_mask(mask, box, (side, side))


def scaled_crop(
    image: np.ndarray, mask: np.ndarray | None, side: int, scale: tuple[float, float], chance: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return a random square of the picture as it would be at a random scale. What is smaller than the square lies in
    one of its corners, on the picture's mean colour; nothing of the object is there.
    """
    factor = chance.uniform(*scale)
    spans, places, starts = [], [], []
    for length in image.shape[:2]:
        scaled = max(1, round(length * factor))
        shown = min(scaled, side)
        start = chance.uniform(0, scaled - shown)
        span = min(length, max(1, round(length * shown / scaled)))
        starts.append(min(round(start * length / scaled), length - span))
        spans.append((span, shown))
        places.append((side - shown) * int(chance.integers(2)))
    (height, shown_height), (width, shown_width) = spans
    box, shown_size = (starts[0], starts[1], height, width), (shown_height, shown_width)
    rows = slice(places[0], places[0] + shown_height)
    columns = slice(places[1], places[1] + shown_width)
    mean = torch.from_numpy(image.mean(axis=(0, 1)).round().astype(np.uint8))
    canvas = mean[:, None, None].repeat(1, side, side)
    canvas[:, rows, columns] = _cut(image, box, shown_size)
    if mask is None:
        return canvas, None
    beside = torch.zeros(side, side, dtype=torch.bool)
    beside[rows, columns] = _cut_mask(mask, box, shown_size)
    return canvas, beside


def blurred(image: Tensor, chance: np.random.Generator) -> Tensor:
    """(3, S, S) uint8, out of focus by a random amount."""
    kernel = int(BLUR_SHARE * image.shape[-1] // 2 * 2) + 1
    return transforms.gaussian_blur(image, [kernel, kernel], [chance.uniform(*BLUR_SIGMA)] * 2)


def _cut(image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    top, left, height, width = box
    piece = np.ascontiguousarray(image[top : top + height, left : left + width])
    return resize(torch.from_numpy(piece).permute(2, 0, 1), size)


def _cut_mask(mask: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    top, left, height, width = box
    piece = np.ascontiguousarray(mask[top : top + height, left : left + width]).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(piece)[None, None], size, mode="nearest-exact")
    return large[0, 0] > 0.5
