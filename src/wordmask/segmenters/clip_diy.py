"""CLIP-DIY (Wysoczańska et al., WACV 2024).

CLIP classifies windows of several sizes, each alone. The windows' cosines, put back on grids, upsampled and averaged
over the sizes, are multiplied with a saliency network's idea of what is an object.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask import saliency
from wordmask.encoders.clip import ClipEncoder, Precision
from wordmask.images import resize, size_with_shorter_side, to_tensor
from wordmask.prompts import templates
from wordmask.refinement.names import NameRefinement, refine_names
from wordmask.segmentation import Segmentation, label_type
from wordmask.segmenters.base import Names, Seen, Segmenter, SegmenterError
from wordmask.segmenters.maskclip import open_clip_encoder
from wordmask.text_embeddings import TextEmbedder
from wordmask.vocabulary import Vocabulary
from wordmask.windows import SlidingWindows, upsample_argmax

Objectness = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Pictures (H, W, 3) uint8 -> maps (H, W) in [0, 1]."""

WINDOWS_PER_PASS = 64
MAP_BYTES = 64 * 2**20
"""The most that the maps of the names that are scored together take."""


@dataclass(frozen=True)
class ClipDiySettings:
    """windows: sizes in pixels of the resized picture, with weights in `weights` (equal by default).

    square: resize to a square of so many pixels, as the published code does (256); by default the picture keeps its
    shape and its shorter side becomes `shorter_side`, as the paper says.
    saliency: which registered method tells objects (table 4), or "none" (table 2).
    refine: what makes the names' scores follow the picture's edges.
    """

    clip: str = "ViT-B-32/laion2b_s34b_b79k"
    templates: str = "photo"
    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 128, 64)
    weights: tuple[PositiveFloat, ...] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    shorter_side: PositiveInt = 448
    longest_side: PositiveInt = 2048
    square: PositiveInt | None = None
    saliency: str = "found"
    refine: NameRefinement = "none"


PRESETS = {"paper": ClipDiySettings()}


class SeenAtScales(Seen):
    """Every window's embedding, scale by scale, and where the objects are."""

    def __init__(
        self,
        segmenter: "ClipDiy",
        image: np.ndarray,
        source: str,
        size: tuple[int, int],
        scales: list[Tensor],
        objectness: Tensor | None,
    ):
        super().__init__(image, source)
        self._segmenter, self._size = segmenter, size
        self._scales = scales  # each (rows, columns, D), normalised
        self._objectness = objectness  # (h, w) at the resized picture's size

    @torch.inference_mode()
    def segment(self, names: Names) -> Segmentation:
        vocabulary = Vocabulary.of(names)
        text = self._segmenter.embed(vocabulary)
        grids = [text.cosines(scale.permute(2, 0, 1)[None])[0] for scale in self._scales]  # each (K, rows, columns)
        count = len(vocabulary)
        together = max(1, MAP_BYTES // (4 * self._size[0] * self._size[1]))
        chunks = [slice(start, start + together) for start in range(0, count, together)]
        normaliser = torch.full(self._size, -torch.inf, device=grids[0].device)
        for chunk in chunks:
            normaliser = torch.logaddexp(normaliser, self._maps(grids, chunk, vocabulary).logsumexp(dim=0))
        size = (self.image.shape[0], self.image.shape[1])
        labels = torch.zeros(size, dtype=torch.int64)
        scores = torch.full(size, -torch.inf)
        for chunk in chunks:
            probabilities = (self._maps(grids, chunk, vocabulary) - normaliser).exp_()  # equation 4
            found, sure = (part.cpu() for part in upsample_argmax(probabilities, size))
            better = sure > scores
            labels = torch.where(better, found + chunk.start, labels)
            scores = torch.where(better, sure, scores)
        best, sure_of_it = labels.numpy(), scores.numpy()
        if self._segmenter.settings.refine != "none":

            def maps_of(which: Sequence[int], small: tuple[int, int]) -> Tensor:
                own = torch.cat([self._maps(grids, slice(i, i + 1), vocabulary) for i in which])
                return F.interpolate((own - normaliser).exp_()[None], size=small, mode="bilinear")[0]

            best, sure_of_it = refine_names(self.image, best, maps_of, self._segmenter.settings.refine)
        return Segmentation(best.astype(label_type(count)), list(vocabulary.names), sure_of_it, self.image, self.source)

    def _maps(self, grids: list[Tensor], chunk: slice, vocabulary: Vocabulary) -> Tensor:
        """Equations 1 to 3 for some of the names: (k, h, w)."""
        maps = torch.zeros(())
        for weight, grid in zip(self._segmenter.scale_weights, grids, strict=True):
            maps = maps.to(grid) + weight * F.interpolate(grid[None, chunk], size=self._size, mode="bilinear")[0]
        if self._objectness is None:
            return maps
        guide = self._objectness.expand_as(maps).clone()
        background = vocabulary.background
        if background is not None and chunk.start <= background < chunk.start + len(maps):
            guide[background - chunk.start] = 1 - self._objectness
        return maps * guide


class ClipDiy(Segmenter):
    method = "clip-diy"

    def __init__(
        self, clip: ClipEncoder, settings: ClipDiySettings | None = None, *, objectness: Objectness | None = None
    ):
        settings = settings or ClipDiySettings()
        weights = settings.weights or (1.0,) * len(settings.windows)
        if len(weights) != len(settings.windows):
            raise SegmenterError(f"{len(settings.windows)} windows {settings.windows} but {len(weights)} weights")
        self.clip, self.settings, self.objectness = clip, settings, objectness
        self.embed = TextEmbedder(clip, templates(settings.templates))
        self.scale_weights = [weight / sum(weights) for weight in weights]

    @classmethod
    def load(
        cls,
        preset: str = "paper",
        *,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        **changes: Any,
    ) -> Self:
        settings = replace(PRESETS[preset], **changes)
        clip = open_clip_encoder(settings.clip, weights, device, precision)
        if settings.saliency == "none":
            return cls(clip, settings)
        objects = saliency.load(settings.saliency, preset=preset, device=str(device), precision=precision)
        return cls(clip, settings, objectness=objects.maps)

    @torch.inference_mode()
    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        sizes = [self._resized(*image.shape[:2]) for image in images]
        pictures = [to_tensor(image, size) for image, size in zip(images, sizes, strict=True)]  # (3, h, w)
        plans = [[self._plan(size, window) for window in self.settings.windows] for size in sizes]
        embeddings = self._embed_windows(pictures, plans)
        guides = self._guides(pictures)
        seen: list[Seen] = []
        for index, (image, source) in enumerate(zip(images, sources, strict=True)):
            scales = [next(embeddings).view(*plan.grid, -1) for plan in plans[index]]
            seen.append(SeenAtScales(self, image, source, sizes[index], scales, guides[index]))
        return seen

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.settings.square is not None:
            return self.settings.square, self.settings.square
        return size_with_shorter_side(height, width, self.settings.shorter_side, self.settings.longest_side)

    def _plan(self, size: tuple[int, int], window: int) -> SlidingWindows:
        stride = max(1, round(window * (1 - self.settings.overlap)))
        return SlidingWindows(*size, window, stride)

    def _embed_windows(self, pictures: list[Tensor], plans: list[list[SlidingWindows]]) -> Iterator[Tensor]:
        """Every scale of every picture in turn: (windows, D). All go through CLIP together, in full batches."""
        counts = [len(plan) for own in plans for plan in own]
        embedded: list[Tensor] = []
        waiting: list[Tensor] = []
        waiting_count = 0
        for picture, own in zip(pictures, plans, strict=True):
            for plan in own:
                for part in plan.cut(picture).split(WINDOWS_PER_PASS):
                    waiting.append(resize(part, self.clip.image_size, mode="bicubic", antialias=True).clamp(0, 1))
                    waiting_count += len(part)
                    while waiting_count >= WINDOWS_PER_PASS:
                        ready = torch.cat(waiting)
                        embedded.append(self.clip.encode_image(ready[:WINDOWS_PER_PASS]))
                        waiting = [ready[WINDOWS_PER_PASS:]]
                        waiting_count -= WINDOWS_PER_PASS
        if waiting_count:
            embedded.append(self.clip.encode_image(torch.cat(waiting)))
        return iter(torch.cat(embedded).split(counts))

    def _guides(self, pictures: list[Tensor]) -> list[Tensor] | list[None]:
        if self.objectness is None:
            return [None] * len(pictures)
        arrays = [(255 * picture).round().byte().permute(1, 2, 0).numpy() for picture in pictures]
        return [torch.from_numpy(found).to(self.clip.device, torch.float32) for found in self.objectness(arrays)]
