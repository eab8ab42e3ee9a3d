"""The way that MaskCLIP and its descendants share: resize, slide windows, read each window, score the names.

Windows of all pictures of a batch go through the network together where their shapes agree. What is kept of a picture
is its windows' features, so asking for other names costs a small matrix product and the upsampling.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.timm_building import dino_at
from wordmask.masks.segmentation import Segmentation, label_type, reject_unsure
from wordmask.names.contrast import NO_CONTRAST, Contrast
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import BACKGROUND, Rivals, Vocabulary
from wordmask.pictures.accelerator import on_device, windows_together
from wordmask.pictures.images import size_with_shorter_side, to_tensor
from wordmask.pictures.reduced import Picture, Reduced, pixels_of, reduced, size_of
from wordmask.pictures.windows import Patch, SlidingWindows, label_dtype, merge_argmax, merge_maps
from wordmask.refinement.by_name import NAMES_TOGETHER, NONE, PatchRefinement, refine_names
from wordmask.refinement.lposs import DEFAULTS as LPOSS_PARAMETERS
from wordmask.refinement.lposs import LPOSS, LPOSS_PLUS, Lposs, Spreading
from wordmask.segmenters.base import Seen, Segmenter, SegmenterError
from wordmask.weights.addresses import Address

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
    refine: what makes the names' scores follow the picture's edges, before any background threshold. refine_dino: the
    DINO that `lposs` and `lposs+` read, loaded where they are asked for: a `timm` name, or another address of one.
    refine_sharpness: the power of its cosines there; a DINO whose patches are all alike needs more than the paper's 3.
    denoise: names whose best score anywhere in the picture is less leave the race, background never; RADSeg takes 0.5.
    """

    shorter_side: PositiveInt | None = 448
    longest_side: PositiveInt = 2048
    window: PositiveInt | None = 448
    stride: PositiveInt = 224
    antialias: bool = True
    refine: PatchRefinement = "none"
    refine_dino: Address = "vit_base_patch16_224.dino"
    refine_sharpness: PositiveFloat = LPOSS_PARAMETERS.sharpness
    denoise: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def spreads(self) -> bool:
        """Return whether scores spread over a graph of the patches, for which a DINO is read."""
        return self.refine in (LPOSS, LPOSS_PLUS)

    def plan(self, height: int, width: int) -> SlidingWindows:
        """Return the windows over a picture of this size, once it is resized."""
        if self.shorter_side is not None:
            height, width = size_with_shorter_side(height, width, self.shorter_side, longest=self.longest_side)
        if self.window is None:
            return SlidingWindows.whole((height, width))
        return SlidingWindows(height, width, self.window, self.stride)


class PictureScores:
    """How names score all over one picture, from their scores (n, K, h, w) on the patches of its windows."""

    def __init__(self, plan: SlidingWindows, maps: Tensor, patch: Patch):
        self.plan, self.maps, self.patch = plan, maps, patch

    def best(self, size: tuple[int, int], stay: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the best name of every pixel of the original picture and its score, (H, W) each.

        stay: the labels of those that are in the race (k,), where not all are.
        """
        narrow = label_dtype(self.count + 1)
        if stay is None:
            return merge_argmax(self.plan, self.maps, self.patch, size, dtype=narrow)
        found, scores = merge_argmax(self.plan, self.maps[:, stay], self.patch, size, dtype=narrow)
        return stay.to(narrow)[found.long()], scores

    @property
    def count(self) -> int:
        """How many names there are."""
        return self.maps.shape[1]

    def peaks(self) -> Tensor:
        """Return every name's best score in the picture as it is looked at, (K,)."""
        size = (self.plan.height, self.plan.width)
        names = range(0, self.count, NAMES_TOGETHER)
        maps = (self.of(range(first, min(first + NAMES_TOGETHER, self.count)), size) for first in names)
        return torch.cat([own.amax(dim=(1, 2)) for own in maps])

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
        guide: Any = None,
        spreading: Spreading | None = None,
    ):
        super().__init__(picture, source)
        self._segmenter = segmenter
        self._plan = plan
        self._features = features  # each (n windows, ...)
        self._guide = guide  # of the picture, for `merge`
        self._spreading = spreading

    def kept(self) -> dict[str, Tensor]:
        kept = {f"features.{i}": features for i, features in enumerate(self._features)}
        kept |= self._segmenter.kept_guide(self._guide)
        if self._spreading is not None:
            kept |= self._spreading.kept()
        return kept

    @torch.inference_mode()
    def in_text_space(self) -> Tensor | None:
        """As windows together have it, on a grid of whole patches."""
        features = self._segmenter.in_text_space(self._features)
        if features is None:
            return None
        grid = (-(-self._plan.height // self._segmenter.patch_size), -(-self._plan.width // self._segmenter.patch_size))
        unit = F.normalize(features.float(), dim=1)
        return F.normalize(merge_maps(self._plan, unit, self._segmenter.lie(self._plan), grid), dim=0)

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        segmenter = self._segmenter
        background, threshold = vocabulary.background, segmenter.background_threshold
        rejecting = background is not None and threshold is not None
        apart = rejecting and not segmenter.background_competes
        scored = vocabulary.without_background() if apart else vocabulary
        best = self._best(scored, is_rejecting=rejecting) if len(scored) else None
        if best is None:  # nothing but background was asked for, or no other name stayed in the race
            found, sure = np.full(self.size, background or 0), np.ones(self.size, np.float32)
        else:
            found, sure = best
            if background is not None and threshold is not None:
                if apart:
                    found = found + (found >= background)
                found, sure = reject_unsure(found, sure, background, segmenter.threshold_for(sure, threshold))
        found = found.astype(label_type(len(vocabulary)), copy=False)
        return Segmentation(found, list(vocabulary.names), sure, self._image, self.source)

    def _best(self, names: Vocabulary, *, is_rejecting: bool) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the best name of every pixel and its score, (H, W) each; None where no name stays in the race.

        is_rejecting: whether background takes what none of these names scores enough for.
        """
        segmenter, sliding, plan = self._segmenter, self._segmenter.sliding, self._plan
        text = replace(segmenter.embed(names), has_background=is_rejecting)
        maps, patch = self._score(text), segmenter.lie(plan)
        if self._spreading is not None:
            plan, maps, patch = self._spreading.spread(plan, maps, patch)
        scores = segmenter.merge(plan, maps, patch, text, self._guide)
        stay = None
        if sliding.denoise is not None:
            stay = staying(scores.peaks(), sliding.denoise, names.background, is_rejecting=is_rejecting)
            if not len(stay):
                return None
        found, sure = (part.cpu().numpy() for part in scores.best(self.size, stay))
        if sliding.refine != NONE and self._spreading is None:
            found, sure = refine_names(self.image, found, scores.of, sliding.refine)
        return found, sure

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
    hears_grounds: ClassVar[bool] = True
    """Whether its patches tell things from words for what lies behind them."""

    def __init__(self, embedder: TextEmbedder, sliding: Sliding, *, background_threshold: float | None = None):
        self.embed: TextEmbedder = embedder
        self.sliding = sliding
        self.background_threshold = background_threshold
        self.lposs: Lposs | None = None

    def equip(self) -> None:
        """Load the DINO of a refinement that reads one."""
        if self.sliding.spreads and self.lposs is None:
            dino = dino_at(self.sliding.refine_dino, None, Compute(str(self.device), self.precision))
            parameters = replace(LPOSS_PARAMETERS, sharpness=self.sliding.refine_sharpness)
            self.lposs = Lposs(dino, pixels=self.sliding.refine == LPOSS_PLUS, parameters=parameters)

    @property
    def refining_networks(self) -> dict[str, nn.Module]:
        """Those of a refinement, to be named among the `networks`."""
        return {} if self.lposs is None else {"refine_dino": self.lposs.dino.model}

    @property
    def background_words(self) -> tuple[str, ...]:
        """Without a threshold these methods choose among words, so there must be some for what is behind things."""
        return (BACKGROUND,) if self.background_threshold is not None else (BACKGROUND, *self.embed.encoder.grounds)

    @property
    def races_alone(self) -> bool:
        """Where grounds race, concepts would take more of a single thing than of what stands beside it."""
        return self.background_threshold is not None and not self.hears_grounds

    def rivals(self, contrast: Contrast, vocabulary: Vocabulary) -> Rivals:
        """With a threshold one name alone still scores highest everywhere, so that grounds race as well, if they can
        be told from things.
        """
        found = super().rivals(contrast, vocabulary)
        are_given = bool(found.words) and not found.doubtful
        if (
            contrast == NO_CONTRAST
            or not self.hears_grounds
            or are_given
            or len(self.background_words) > 1
            or not vocabulary.has_made_room
        ):
            return found
        own = {text.casefold() for text in (*vocabulary.all_phrases, *vocabulary.names)}
        grounds = tuple(word for word in self.embed.encoder.grounds if word.casefold() not in own)
        return Rivals(tuple(dict.fromkeys((BACKGROUND, *grounds, *found.words))), found.doubtful | {*grounds})

    @abstractmethod
    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Windows (n, 3, H, W) in [0, 1] -> what to keep of each, every tensor (n, ...). Here the network runs."""

    def read_whole(self, pictures: Sequence[Tensor], plans: Sequence[SlidingWindows]) -> list[tuple[Tensor, ...]]:
        """Return what to keep of whole pictures (3, h, w) beside what `read` keeps of windows: tensors (n, ...)."""
        return [() for _ in pictures]

    def in_text_space(self, features: tuple[Tensor, ...]) -> Tensor | None:
        """Return what of n windows' features is in the space of the texts that `embed` reads, (n, D, h, w)."""
        return None

    @abstractmethod
    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        """Features of n windows -> probabilities (n, K, h, w) on the grid of patches."""

    def lie(self, plan: SlidingWindows) -> Patch:
        """Return where the grids of `score` lie in their windows."""
        return self.patch_size

    def merge(
        self, plan: SlidingWindows, maps: Tensor, patch: Patch, text: TextEmbeddings, guide: Any
    ) -> PictureScores:
        """Return how names score all over a picture, from what `score` gave for all of its windows.

        patch: where the grids of `maps` lie in the windows of `plan`. guide: what `guide` gave, or whatever else a
        subclass's own `look_many` has put there.
        """
        return PictureScores(plan, maps, patch)

    def guide(self, picture: Tensor) -> Tensor | None:
        """Return what `merge` needs of a picture itself (3, h, w), as it is looked at; usually nothing."""
        return None

    def kept_guide(self, guide: Any) -> dict[str, Tensor]:
        """Return a guide as tensors by name, of which `guide_again` makes it."""
        return {} if guide is None else {"guide": guide}

    def guide_again(self, kept: Mapping[str, Tensor]) -> Any:
        """Return a guide of what `kept_guide` gave, among other things."""
        return kept.get("guide")

    @torch.inference_mode()
    def see_again(self, kept: Mapping[str, Tensor], size: tuple[int, int], source: str) -> Seen:
        plan = self.sliding.plan(*size)
        kept = {name: value.to(self.device) for name, value in kept.items()}
        count = sum(name.startswith("features.") for name in kept)
        spreading = None if self.lposs is None else self.lposs.look_again(plan, kept)
        features = tuple(kept[f"features.{i}"] for i in range(count))
        return SeenThroughWindows(self, Reduced.gone(size), source, plan, features, self.guide_again(kept), spreading)

    def threshold_for(self, scores: np.ndarray, threshold: float) -> float:
        """Return the score below which background takes a pixel, in a picture whose best names score (H, W)."""
        return threshold

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        plan = self.sliding.plan(height, width)
        is_smaller = plan.height * plan.width < height * width
        sees_pixels = self.sliding.refine != NONE and not self.sliding.spreads
        needs_all = sees_pixels or self.correction is not None
        return (plan.height, plan.width) if is_smaller and not needs_all else None

    def reduce(self, image: np.ndarray) -> Picture:
        size = self.input_size(*size_of(image))
        return image if size is None else reduced(image, size, antialias=self.sliding.antialias)

    def _spreading(self, plan: SlidingWindows, picture: Tensor) -> Spreading | None:
        if self.sliding.spreads and self.lposs is None:
            raise SegmenterError(
                f"refine={self.sliding.refine!r} reads a DINO, which is not loaded: call equip() first"
            )
        return None if self.lposs is None else self.lposs.look(plan, picture)

    @torch.inference_mode()
    def look_many(self, images: Sequence[Picture], sources: Sequence[str]) -> list[Seen]:
        plans = [self.sliding.plan(*size_of(image)) for image in images]
        pictures = [
            on_device(
                to_tensor(pixels_of(image), (plan.height, plan.width), antialias=self.sliding.antialias), self.device
            )
            for plan, image in zip(plans, images, strict=True)
        ]
        beside = self.read_whole(pictures, plans)
        guides = [self.guide(picture) for picture in pictures]
        spreadings = [self._spreading(plan, picture) for plan, picture in zip(plans, pictures, strict=True)]
        cuts = [plan.cut(picture) for plan, picture in zip(plans, pictures, strict=True)]
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, cut in enumerate(cuts):
            alike[(cut.shape[-2], cut.shape[-1])].append(index)
        features: dict[int, tuple[Tensor, ...]] = {}
        for indices in alike.values():
            windows = torch.cat([cuts[i] for i in indices])
            together = windows_together(self.device, windows[0, 0].numel(), WINDOWS_PER_PASS)
            passes = [self.read(part) for part in windows.split(together)]
            kept = [torch.cat(parts).split([len(cuts[i]) for i in indices]) for parts in zip(*passes, strict=True)]
            features.update(zip(indices, zip(*kept, strict=True), strict=True))
        return [
            SeenThroughWindows(self, image, source, plans[i], features[i] + beside[i], guides[i], spreadings[i])
            for i, (image, source) in enumerate(zip(images, sources, strict=True))
        ]


def staying(best: Tensor, least: float, background: int | None, *, is_rejecting: bool) -> Tensor:
    """Return the labels of the names that stay in the race, in their order, by the best score of each, (K,).

    background: its label, which always stays; None where it is not among these names. is_rejecting: whether background
    takes what no name scores enough for. Then it is well that no name stays; where there is no background of either
    kind, names that are all unsure stay all.
    """
    stays = best >= least
    if background is not None:
        stays[background] = True
    if not stays.any() and not is_rejecting:
        stays[:] = True
    return stays.nonzero()[:, 0]


def look_for_objects(objectness: Objectness, pictures: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return maps (h, w) float32 on `device` of pictures (3, h, w) uint8."""
    arrays = [np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
    return [torch.from_numpy(found).to(device, torch.float32) for found in objectness(arrays)]
