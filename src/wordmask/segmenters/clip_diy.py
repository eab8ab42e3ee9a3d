"""CLIP-DIY (Wysoczańska et al., WACV 2024).

CLIP classifies windows of several sizes, each alone. The windows' cosines, put back on grids, upsampled and averaged
over the sizes, are multiplied with a saliency network's idea of what is an object.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask import saliency
from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.methods import networks_behind
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.pictures.images import resize, size_with_shorter_side
from wordmask.pictures.reduced import Picture, Reduced
from wordmask.pictures.windows import SlidingWindows, upsample_argmax
from wordmask.refinement.by_name import NameRefinement, refine_names
from wordmask.segmenters.base import Seen, Segmenter, SegmenterError
from wordmask.segmenters.open_vocabulary import Objectness, look_for_objects
from wordmask.text_files import counted
from wordmask.weights.addresses import Address

WINDOWS_PER_PASS, WINDOWS_IN_INT8 = 64, 32
"""That go through CLIP together. In int8, whose products are short, it counts whether what is between them stays in
cores' caches: of 8, 16, 32 and 64, a ViT-B/32 took the least time by 32, on two cores of a Xeon without AMX. In fp32
it is the same."""
MAP_BYTES = 64 * 2**20
"""The most that the maps of the names that are scored together take."""
EQUAL = 1e-6
"""Names whose scores at a pixel differ by no more, relative to the largest there, are equally likely: cosines in single
precision are no more exact than that. Of them the first is taken."""


@dataclass(frozen=True)
class ClipDiySettings:
    """clip: an `open_clip` architecture and the tag of its weights, or another address of a whole CLIP. clip_weights: a
    file or URL for the architecture that `clip` names. templates: the prompts that a name is read in, a set of
    `names.prompts.TEMPLATE_SETS`.

    windows: sizes in pixels of the resized picture (table 3). scale_weights: what each size counts; by default all
    count alike. overlap: of neighbouring windows, as a share of their side.
    shorter_side: of the picture as it is looked at, in pixels, as the paper says. longest_side: what the longer one may
    be at most. square: resize to a square of so many pixels instead, as the published code does (256).
    saliency: which registered method tells objects (table 4), or "none" (table 2). saliency_preset: which of its own
    presets, "paper" by default. saliency_weights: in place of its usual ones.
    positive: cosines are moved to [0, 1], (1 + cosine) / 2, before they are multiplied with objectness. Those of the
    published CLIPs are all above 0 and need it not; below 0, names would win by being no object.
    refine: what makes the names' scores follow the picture's edges.
    """

    clip: Address = "ViT-B-32/laion2b_s34b_b79k"
    clip_weights: Address | None = None
    templates: str = "photo-a"
    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 128, 64)
    scale_weights: tuple[PositiveFloat, ...] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    shorter_side: PositiveInt = 448
    longest_side: PositiveInt = 2048
    square: PositiveInt | None = None
    saliency: str = "found"
    saliency_weights: Address | None = None
    saliency_preset: str | None = None
    positive: bool = False
    refine: NameRefinement = "none"


PRESETS = {"paper": ClipDiySettings()}


class SeenAtScales(Seen):
    """Every window's embedding, scale by scale, and where the objects are."""

    def __init__(
        self,
        segmenter: "ClipDiy",
        image: Picture,
        source: str,
        size: tuple[int, int],
        scales: list[Tensor],
        objectness: Tensor | None,
    ):
        super().__init__(image, source)
        self._segmenter, self._size = segmenter, size
        self._scales = scales  # each (rows, columns, D), normalised
        self._objectness = objectness  # (h, w) at the resized picture's size

    def kept(self) -> dict[str, Tensor]:
        kept = {f"scales.{i}": scale for i, scale in enumerate(self._scales)}
        return kept if self._objectness is None else kept | {"objectness": self._objectness}

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        # What scores is a mean over scales. The best rival of each scale would be more than any single rival is.
        text, asked = self._segmenter.embed(vocabulary).rivals_apart(), vocabulary
        vocabulary = text.vocabulary
        grids = [text.cosines(scale.permute(2, 0, 1)[None])[0] for scale in self._scales]  # each (K, rows, columns)
        count = len(vocabulary)
        together = max(1, MAP_BYTES // (4 * self._size[0] * self._size[1]))
        chunks = [slice(start, start + together) for start in range(0, count, together)]
        total = torch.full(self._size, float(count), device=grids[0].device)
        for chunk in chunks:
            maps = self._maps(grids, chunk, vocabulary).expm1_()  # scores are cosines: no exponential is large
            total += maps.sum(dim=0)
        size = self.size
        # Equation 4, less what a name of score 0 has, which is the same for all. Where there is hardly an object all
        # probabilities are about 1 / K, and rounding would hide by how much they differ; what remains here is as small
        # as the scores themselves.
        at_zero = total.reciprocal_()
        labels = scores = torch.empty(0)
        for chunk in chunks:
            if len(chunks) > 1:  # of several, only the last is still there
                maps = self._maps(grids, chunk, vocabulary).expm1_()
            found, sure = (part.cpu() for part in upsample_argmax(maps.mul_(at_zero), size, equal=EQUAL))
            if chunk.start == 0:
                labels, scores = found, sure
                continue
            better = sure - scores > EQUAL * torch.maximum(sure.abs(), scores.abs())
            labels[better] = found[better] + chunk.start
            torch.maximum(scores, sure, out=scores)
        scores += F.interpolate(at_zero[None, None], size=size, mode="bilinear")[0, 0].cpu()
        best, sure_of_it = labels.numpy(), scores.numpy()
        if self._segmenter.settings.refine != "none":

            def maps_of(which: Sequence[int], small: tuple[int, int]) -> Tensor:
                own = torch.cat([self._maps(grids, slice(i, i + 1), vocabulary) for i in which])
                return F.interpolate((own.exp_() * at_zero)[None], size=small, mode="bilinear")[0]

            best, sure_of_it = refine_names(self.image, best, maps_of, self._segmenter.settings.refine)
        best = np.minimum(best, len(asked) - 1).astype(label_type(len(asked)))
        return Segmentation(best, list(asked.names), sure_of_it, self._image, self.source)

    def _maps(self, grids: list[Tensor], chunk: slice, vocabulary: Vocabulary) -> Tensor:
        """Equations 1 to 3 for some of the names: (k, h, w)."""
        # A mean of maps is linear: weights go on the few cells. In place, as every new map of this size costs as much
        # again as making it.
        first, *others = zip(self._segmenter.scale_weights, grids, strict=True)
        maps = self._large(*first, chunk)
        for scale in others:
            maps += self._large(*scale, chunk)
        if self._objectness is None:
            return maps
        if self._segmenter.settings.positive:
            maps = maps.add_(1).div_(2)
        background = vocabulary.background
        if background is None or not chunk.start <= background < chunk.start + len(maps):
            return maps.mul_(self._objectness)
        behind = maps[background - chunk.start] * (1 - self._objectness)
        maps.mul_(self._objectness)[background - chunk.start] = behind
        return maps

    def _large(self, weight: float, grid: Tensor, chunk: slice) -> Tensor:
        return F.interpolate(weight * grid[None, chunk], size=self._size, mode="bilinear")[0]


class ClipDiy(Segmenter):
    method = "clip-diy"
    Settings = ClipDiySettings
    presets = PRESETS

    def __init__(
        self, clip: ClipEncoder, settings: ClipDiySettings | None = None, *, objectness: Objectness | None = None
    ):
        settings = settings or ClipDiySettings()
        weights = settings.scale_weights or (1.0,) * len(settings.windows)
        if len(weights) != len(settings.windows):
            raise SegmenterError(
                f"{counted(len(settings.windows), 'window')} {settings.windows} but {len(weights)} scale_weights"
            )
        self.clip, self.settings, self.objectness = clip, settings, objectness
        self.precision = clip.precision
        self.embed = TextEmbedder(clip, templates(settings.templates))
        self.scale_weights = [weight / sum(weights) for weight in weights]

    @property
    def background_words(self) -> tuple[str, ...]:
        return super().background_words if self.objectness is not None else (BACKGROUND, *self.clip.grounds)

    @property
    def sees_objects(self) -> bool:
        return self.objectness is not None

    @property
    def races_alone(self) -> bool:
        """What is salient is rather the one name that is asked for than a concept."""
        return False

    @classmethod
    def build(cls, settings: ClipDiySettings, compute: Compute) -> Self:
        clip = clip_at(settings.clip, settings.clip_weights, compute)
        if settings.saliency == "none":
            return cls(clip, settings)
        objects = saliency.load_within(settings, compute.like(clip))
        return cls(clip, settings, objectness=objects.maps)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"clip": self.clip.model, **networks_behind(self.objectness, "saliency")}

    @torch.inference_mode()
    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        pictures = [
            resize(as_tensor(image), self._resized(*image.shape[:2])).to(self.clip.device)  # (3, h, w) uint8
            for image in images
        ]
        plans = [[self._plan(picture, window) for window in self.settings.windows] for picture in pictures]
        guides: Sequence[Tensor | None] = [None] * len(pictures)
        if self.objectness is not None:
            guides = look_for_objects(self.objectness, pictures, self.clip.device)
        embeddings = iter(self._embed_windows(pictures, plans))
        seen: list[Seen] = []
        for image, source, picture, own, guide in zip(images, sources, pictures, plans, guides, strict=True):
            scales = [next(embeddings).view(*plan.grid, -1) for plan in own]
            seen.append(SeenAtScales(self, image, source, (picture.shape[1], picture.shape[2]), scales, guide))
        return seen

    @torch.inference_mode()
    def see_again(self, kept: Mapping[str, Tensor], size: tuple[int, int], source: str) -> Seen:
        kept = {name: value.to(self.clip.device) for name, value in kept.items()}
        scales = [kept[f"scales.{i}"] for i in range(len(self.settings.windows))]
        objectness = kept.get("objectness")
        return SeenAtScales(self, Reduced.gone(size), source, self._resized(*size), scales, objectness)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.settings.square is not None:
            return self.settings.square, self.settings.square
        return size_with_shorter_side(height, width, self.settings.shorter_side, self.settings.longest_side)

    def _plan(self, picture: Tensor, window: int) -> SlidingWindows:
        stride = max(1, round(window * (1 - self.settings.overlap)))
        return SlidingWindows(picture.shape[1], picture.shape[2], window, stride)

    def _embed_windows(self, pictures: list[Tensor], plans: list[list[SlidingWindows]]) -> Sequence[Tensor]:
        """Every scale of every picture in turn: (windows, D). All go through CLIP together, in full batches."""
        together = WINDOWS_IN_INT8 if self.precision == "int8" else WINDOWS_PER_PASS
        parts = (
            part
            for picture, own in zip(pictures, plans, strict=True)
            for plan in own
            for part in plan.cut(picture).split(together)
        )
        embedded = [
            self.clip.encode_image(batch.float().div_(255))
            for batch in in_batches(together, (self._as_clip_sees(part) for part in parts))
        ]
        return torch.cat(embedded).split([len(plan) for own in plans for plan in own])

    def _as_clip_sees(self, windows: Tensor) -> Tensor:
        """Windows at the size that CLIP takes, as bytes: in Pillow's arithmetic, and many times as fast as floats."""
        return resize(windows, self.clip.image_size, mode="bicubic", antialias=True)


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) uint8"""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def in_batches(size: int, parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Tensors (n, ...) of any n as tensors (size, ...), and a smaller one at the end."""
    waiting: list[Tensor] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        while count >= size:
            ready = torch.cat(waiting)
            yield ready[:size]
            waiting = [ready[size:]]
            count -= size
    if count:
        yield torch.cat(waiting)
