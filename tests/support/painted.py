"""A segmenter whose answers are known: pictures are painted in pure colours, and a pixel's colour is its name."""

from pathlib import Path

import numpy as np
from PIL import Image

from wordmask.masks.segmentation import Segmentation
from wordmask.pictures.images import read_image
from wordmask.segmenters.base import Seen, Segmenter

NAMES = ["red", "blue", "background"]
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "background": (0, 0, 0)}


def paint(picture):
    """A painted picture's labels (H, W) and scores (H, W); green says how unsure a pixel is."""
    image = read_image(picture) if isinstance(picture, str | Path) else np.asarray(picture)
    labels = np.where(image[..., 0] > 127, 0, np.where(image[..., 2] > 127, 1, 2))
    return labels, 1 - image[..., 1].astype(np.float32) / 255


class SeenPaint(Seen):
    def answer(self, vocabulary):
        labels, scores = paint(self.image)
        places = [vocabulary.names.index(n) if n in vocabulary.names else len(vocabulary) - 1 for n in NAMES]
        return Segmentation(np.array(places, np.uint8)[labels], list(vocabulary.names), scores, self.image, self.source)


class Painted(Segmenter):
    method = "painted"

    def __init__(self):
        self.looked: list[str] = []

    def look_many(self, images, sources):
        self.looked += sources
        return [SeenPaint(image, source) for image, source in zip(images, sources, strict=True)]


def painted_folder(folder):
    """Four pictures: a ring with a hole and a speck, two parts, nothing, and noise in a folder below."""
    (folder / "below").mkdir(parents=True)
    ring = np.zeros((30, 40, 3), np.uint8)
    ring[5:25, 5:30, 0] = 255
    ring[10:20, 12:22] = 0
    ring[12:16, 14:18, 2] = 255
    ring[28, 38, 0] = 255
    ring[:3, :, 1] = 100
    parts = np.zeros((24, 24, 3), np.uint8)
    parts[2:10, 2:10, 2] = 255
    parts[10:20, 10:20, 2] = 255
    noise = np.zeros((20, 33, 3), np.uint8)
    noise[..., 0] = 255 * (np.random.default_rng(0).random((20, 33)) < 0.6)
    noise[..., 1] = 200
    for name, image in {"ring": ring, "parts": parts, "nothing": 0 * parts, "below/noise": noise}.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder
