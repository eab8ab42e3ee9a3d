"""CLIP-DIY by its equations, one window at a time."""

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from support import plain_vit
from support.plain_windows import bilinear, starts, text_vectors
from wordmask.segmenters.clip_diy import ClipDiySettings

NAMES = ["background", "dog", "grass"]


def settings(**changes):
    return ClipDiySettings(**{"windows": (32, 16), "shorter_side": 40, **changes})


def ramp(images):
    """A saliency that anybody can compute: brighter from left to right."""
    return [np.tile(np.linspace(0, 1, image.shape[1], dtype=np.float32), (image.shape[0], 1)) for image in images]


def by_the_book(clip, image, size, names, windows, *, weights=None, objectness=None, positive=False):
    """Equations 1 to 4, one window at a time: probabilities (h, w, K) at the resized picture's size."""
    weights = weights or [1 / len(windows)] * len(windows)
    pixels = resize(torch.from_numpy(image).permute(2, 0, 1), list(size), antialias=True)  # (3, h, w) uint8
    text = text_vectors(clip, names)
    total = np.zeros((*size, len(names)))
    for window, weight in zip(windows, weights, strict=True):
        rows, columns = starts(size[0], window, window // 2), starts(size[1], window, window // 2)
        grid = np.zeros((len(rows), len(columns), len(names)))
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                cut = pixels[:, top : top + window, left : left + window]
                cut = resize(cut, [32, 32], interpolation=InterpolationMode.BICUBIC, antialias=True)
                grid[i, j] = text @ clip.encode_image(cut[None] / 255)[0].double().numpy()
        total += weight * bilinear(grid, size)
    if objectness is not None:
        total = (1 + total) / 2 if positive else total
        for k, name in enumerate(names):
            total[..., k] *= 1 - objectness if name == "background" else objectness
    return plain_vit.softmax(total)
