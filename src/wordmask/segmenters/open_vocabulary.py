"""The way that MaskCLIP and its descendants share: resize, slide windows, read each window, score the names.

Windows of all pictures of a batch go through the network together where their shapes agree. What is kept of a picture
is its windows' features, so asking for other names costs a small matrix product and the upsampling.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.masks.segmentation import Segmentation, label_type, reject_unsure
from wordmask.names.contrast import Contrast
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import BACKGROUND, Rivals, Vocabulary
from wordmask.pictures.images import size_with_shorter_side, to_tensor
from wordmask.pictures.reduced import Picture, pixels_of, reduced, size_of
from wordmask.pictures.windows import Patch, SlidingWindows, label_dtype, merge_argmax, merge_maps
from wordmask.refinement.by_name import NameRefinement, refine_names
from wordmask.segmenters.base import Seen, Segmenter

WINDOWS_PER_PASS = 8
"""Windows that go through the network together; more gain nothing on a CPU and cost memory."""
COSINE_SCALE = 100.0
"""CLIP's own logit scale at the end of its training."""
Objectness = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Pictures (H, W, 3) uint8 -> maps (H, W) in [0, 1]."""


@dataclass(frozen=True)
class Sliding:
    """How large a picture is looked at, and through which windows (CLIP-DINOiser's protocol).

    shorter_side: of the picture as it is looked at, in pixels; None keeps its own size. longest_side: what the longer
    one may be at most. window: the side of the windows; None looks at the whole picture at once. stride: from one to
    the next. antialias: False shrinks large pictures as mmcv does, which the published tables used.
    refine: what makes the names' scores follow the picture's edges, before any background threshold.
    """

    shorter_side: PositiveInt | None = 448
    longest_side: PositiveInt = 2048
    window: PositiveInt | None = 448
    stride: PositiveInt = 224
    antialias: bool = True
    refine: NameRefinement = "none"

    def plan(self, height: int, width: int) -> SlidingWindows:
        """Return the windows over a picture of this size, once it is resized."""
        if self.shorter_side is not None:
            height, width = size_with_shorter_side(height, width, self.shorter_side, longest=self.longest_side)
        if self.window is None:
            return SlidingWindows(height, width, (height, width), (height, width))
        return SlidingWindows(height, width, self.window, self.stride)


class PictureScores:
    """How names score all over one picture, from their scores (n, K, h, w) on the patches of its windows."""

    def __init__(self, plan: SlidingWindows, maps: Tensor, patch: Patch):
        self.plan, self.maps, self.patch = plan, maps, patch

    def best(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the best name of every pixel of the original picture and its score, (H, W) each."""
        narrow = label_dtype(self.maps.shape[1] + 1)
        return merge_argmax(self.plan, self.maps, self.patch, size, dtype=narrow)

    def of(self, names: Sequence[int], size: tuple[int, int]) -> Tensor:
        """Return the scores of some names at a size, (k, H, W)."""
        return merge_maps(self.plan, self.maps[:, names], self.patch, size)


class SeenThroughWindows(Seen):
    """A picture's features, window by window."""

    def __init__(
        self,
        segmenter: "OpenVocabularySegmenter",
        picture: Picture,
        source: str,
        plan: SlidingWindows,
        features: tuple[Tensor, ...],
        guide: Tensor | None = None,
    ):
        super().__init__(picture, source)
        self._segmenter = segmenter
        self._plan = plan
        self._features = features  # each (n windows, ...)
        self._guide = guide  # (3, h, w)

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        segmenter = self._segmenter
        background, threshold = vocabulary.background, segmenter.background_threshold
        rejecting = background is not None and threshold is not None
        apart = rejecting and not segmenter.background_competes
        scored = vocabulary.without_background() if apart else vocabulary
        size = self.size
        if len(scored):
            text = segmenter.embed(scored)
            scores = segmenter.merge(self._plan, self._score(text), text, self._guide)
            found, sure = (part.cpu().numpy() for part in scores.best(size))
            if segmenter.sliding.refine != "none":
                found, sure = refine_names(self.image, found, scores.of, segmenter.sliding.refine)
        else:  # nothing but background was asked for
            found, sure = np.zeros(size, np.int64), np.ones(size, np.float32)
        if len(scored) and background is not None and threshold is not None:
            if apart:
                found = found + (found >= background)
            found, sure = reject_unsure(found, sure, background, segmenter.threshold_for(sure, threshold))
        found = found.astype(label_type(len(vocabulary)), copy=False)
        return Segmentation(found, list(vocabulary.names), sure, self._image, self.source)

    def _score(self, text: TextEmbeddings) -> Tensor:
        """(n, K, h, w), a few windows at a time: scoring needs several maps' room for every map that is kept."""
        maps: Tensor | None = None
        for start in range(0, len(self._plan), WINDOWS_PER_PASS):
            part = slice(start, start + WINDOWS_PER_PASS)
            scored = self._segmenter.score(tuple(kept[part] for kept in self._features), text)
            if maps is None:
                maps = (
                    scored if len(scored) == len(self._plan) else scored.new_empty(len(self._plan), *scored.shape[1:])
                )
            maps[part] = scored
        assert maps is not None  # a plan has one window or more
        return maps


class OpenVocabularySegmenter(Segmenter):
    """A subclass says what to keep of a window (`read`) and how names score on it (`score`)."""

    patch_size: int
    background_competes: ClassVar[bool] = False
    """Whether "background" is read in words, as other names are, although there is a `background_threshold`."""

    def __init__(self, embedder: TextEmbedder, sliding: Sliding, *, background_threshold: float | None = None):
        self.embed: TextEmbedder = embedder
        self.sliding = sliding
        self.background_threshold = background_threshold

    @property
    def background_words(self) -> tuple[str, ...]:
        """Without a threshold these methods choose among words, so there must be some for what is behind things."""
        return (BACKGROUND,) if self.background_threshold is not None else (BACKGROUND, *self.embed.encoder.grounds)

    def rivals(self, contrast: Contrast, vocabulary: Vocabulary) -> Rivals:
        """With a threshold one name alone still scores highest everywhere, so that grounds race as well."""
        found = super().rivals(contrast, vocabulary)
        if contrast == "none" or found.are_given or self.background_threshold is None:
            return found
        own = {text.casefold() for text in (*vocabulary.all_phrases, *vocabulary.names)}
        grounds = (word for word in self.embed.encoder.grounds if word.casefold() not in own)
        return Rivals(tuple(dict.fromkeys((BACKGROUND, *grounds, *found.words))))

    @abstractmethod
    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Windows (n, 3, H, W) in [0, 1] -> what to keep of each, every tensor (n, ...). Here the network runs."""

    def read_whole(self, pictures: Sequence[Tensor], plans: Sequence[SlidingWindows]) -> list[tuple[Tensor, ...]]:
        """Return what to keep of whole pictures (3, h, w) beside what `read` keeps of windows: tensors (n, ...)."""
        return [() for _ in pictures]

    @abstractmethod
    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        """Features of n windows -> probabilities (n, K, h, w) on the grid of patches."""

    def merge(self, plan: SlidingWindows, maps: Tensor, text: TextEmbeddings, guide: Tensor | None) -> PictureScores:
        """Return how names score all over a picture, from what `score` gave for all of its windows."""
        return PictureScores(plan, maps, self.patch_size)

    def guide(self, picture: Tensor) -> Tensor | None:
        """Return what `merge` needs of a picture itself (3, h, w), as it is looked at; usually nothing."""
        return None

    def threshold_for(self, scores: np.ndarray, threshold: float) -> float:
        """Return the score below which background takes a pixel, in a picture whose best names score (H, W)."""
        return threshold

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        plan = self.sliding.plan(height, width)
        is_smaller = plan.height * plan.width < height * width
        return (plan.height, plan.width) if is_smaller and self.sliding.refine == "none" else None

    def reduce(self, image: np.ndarray) -> Picture:
        size = self.input_size(*size_of(image))
        return image if size is None else reduced(image, size, antialias=self.sliding.antialias)

    @torch.inference_mode()
    def look_many(self, images: Sequence[Picture], sources: Sequence[str]) -> list[Seen]:
        plans = [self.sliding.plan(*size_of(image)) for image in images]
        pictures = [
            to_tensor(pixels_of(image), (plan.height, plan.width), antialias=self.sliding.antialias).to(self.device)
            for plan, image in zip(plans, images, strict=True)
        ]
        beside = self.read_whole(pictures, plans)
        cuts = [plan.cut(picture) for plan, picture in zip(plans, pictures, strict=True)]
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, cut in enumerate(cuts):
            alike[(cut.shape[-2], cut.shape[-1])].append(index)
        features: dict[int, tuple[Tensor, ...]] = {}
        for indices in alike.values():
            windows = torch.cat([cuts[i] for i in indices])
            passes = [self.read(part) for part in windows.split(WINDOWS_PER_PASS)]
            kept = [torch.cat(parts).split([len(cuts[i]) for i in indices]) for parts in zip(*passes, strict=True)]
            features.update(zip(indices, zip(*kept, strict=True), strict=True))
        return [
            SeenThroughWindows(self, image, source, plan, features[i] + beside[i], self.guide(pictures[i]))
            for i, (image, source, plan) in enumerate(zip(images, sources, plans, strict=True))
        ]


def look_for_objects(objectness: Objectness, pictures: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return maps (h, w) float32 on `device` of pictures (3, h, w) uint8."""
    arrays = [np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
    return [torch.from_numpy(found).to(device, torch.float32) for found in objectness(arrays)]
