"""What a segmenter must beat to have seen anything."""

from collections.abc import Sequence

import numpy as np
import torch

from wordmask.encoders.clip import ClipEncoder
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.prompts import Templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import Seen, Segmenter


class SeenAsOne(Seen):
    """A picture of which every pixel bears the same name."""

    def __init__(
        self, image: np.ndarray, source: str, choose: "AllBackground | BestName", feature: torch.Tensor | None
    ):
        super().__init__(image, source)
        self._choose, self._feature = choose, feature

    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        label = self._choose.label(self._feature, vocabulary)
        labels = np.full(self.image.shape[:2], label, dtype=label_type(len(vocabulary)))
        return Segmentation(labels, list(vocabulary.names), None, self.image, self.source)


class AllBackground(Segmenter):
    """Everything is background."""

    method = "all background"

    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        return [SeenAsOne(image, source, self, None) for image, source in zip(images, sources, strict=True)]

    def label(self, feature: torch.Tensor | None, vocabulary: Vocabulary) -> int:
        if vocabulary.background is None:
            raise ValueError("there is no background among the names")
        return vocabulary.background


class BestName(Segmenter):
    """The whole picture is the name that CLIP's global embedding likes best."""

    method = "best name everywhere"

    def __init__(self, clip: ClipEncoder, templates: Templates):
        self.clip = clip
        self.embed = TextEmbedder(clip, templates)

    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        return [
            SeenAsOne(image, source, self, self.clip.encode_image(to_tensor(image, self.clip.image_size)[None])[0])
            for image, source in zip(images, sources, strict=True)
        ]

    def label(self, feature: torch.Tensor | None, vocabulary: Vocabulary) -> int:
        if feature is None:
            raise ValueError("the picture was not looked at")
        cosines = self.embed(vocabulary).cosines(feature[None, :, None, None])
        return int(cosines.argmax())
