"""A teacher for the squares of `tiny_collection`: it calls every pixel by the colour that is nearest."""

import numpy as np
import torch
import torch.nn.functional as F

from support.tiny_collection import COLOURS, embedder
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.vocabulary import Rivals
from wordmask.segmenters.base import Seen, Segmenter


class SeenColours(Seen):
    def answer(self, vocabulary):
        colours = np.array([COLOURS.get(name, COLOURS["grey"]) for name in vocabulary.names], np.float32)
        apart = np.linalg.norm(self.image[:, :, None].astype(np.float32) - colours, axis=-1)  # (H, W, K)
        labels = apart.argmin(axis=-1).astype(label_type(len(vocabulary)))
        scores = (1 - apart.min(axis=-1) / 442).astype(np.float32)
        return Segmentation(labels, list(vocabulary.names), scores, self.image, self.source)

    def in_text_space(self):
        return F.normalize(torch.from_numpy(self.image.astype(np.float32)).permute(2, 0, 1)[:, ::2, ::2], dim=0)


class ColourTeacher(Segmenter):
    """Counts the pictures that it looks at; `most` ends it, as a kill would."""

    method = "colours"

    def __init__(self, most=None):
        self.pictures, self.most = 0, most
        self.embed = embedder()

    def rivals(self, contrast, vocabulary):
        return Rivals()

    def look_many(self, images, sources):
        if self.most is not None and self.pictures >= self.most:
            raise KeyboardInterrupt
        self.pictures += len(images)
        return [SeenColours(image, source) for image, source in zip(images, sources, strict=True)]
