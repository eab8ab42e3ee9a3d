"""A benchmark of rectangles, and a segmenter that guesses."""

import numpy as np

from wordmask.benchmarks.datasets import Sample
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Seen, Segmenter

NAMES = ("background", "dog", "cat")


class Squares:
    """Ten pictures of rectangles of two names on background; one pixel of each does not count."""

    name, split, ignore = "squares", "all", 255
    vocabulary = Vocabulary.of(NAMES)

    def __init__(self, count=10, size=(24, 30)):
        self.count, self.size = count, size
        self.read = []

    def __len__(self):
        return self.count

    def __iter__(self):
        return (self[index] for index in range(self.count))

    def key(self, index):
        return f"picture-{index}"

    def __getitem__(self, index):
        self.read.append(index)
        chance = np.random.default_rng(index)
        labels = np.zeros(self.size, dtype=np.uint8)
        for label in range(1, 1 + index % 3):
            top, left = chance.integers(0, self.size[0] - 4), chance.integers(0, self.size[1] - 4)
            labels[top : top + chance.integers(2, 14), left : left + chance.integers(2, 18)] = label
        labels[0, 0] = 255
        image = chance.integers(0, 256, (*self.size, 3), dtype=np.uint8)
        return Sample(image, labels, self.key(index), objects=index % 3)


class SeenByChance(Seen):
    def answer(self, vocabulary):
        chance = np.random.default_rng(int(self.image[0, 0, 0]))
        coarse = chance.integers(0, len(vocabulary), (6, 6), dtype=np.uint8)
        labels = coarse.repeat(4, 0).repeat(5, 1)
        scores = chance.random(labels.shape, dtype=np.float32)
        return Segmentation(labels, list(vocabulary.names), scores, self.image, self.source)


class Guess(Segmenter):
    """Answers that hang on the picture alone."""

    method = "guess"

    def __init__(self, stop_after=None):
        self.looked, self.stop_after = 0, stop_after

    def look_many(self, images, sources):
        if self.stop_after is not None and self.looked >= self.stop_after:
            raise KeyboardInterrupt
        self.looked += len(images)
        return [SeenByChance(image, source) for image, source in zip(images, sources, strict=True)]
