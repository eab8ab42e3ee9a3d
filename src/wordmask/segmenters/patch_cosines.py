"""The way that SCLIP and its descendants share: cosines of patches and phrases, put together before they compete.

Each window's patch features and each phrase's embedding have length 1. Their cosines are upsampled to the window's
pixels, averaged where windows overlap, and resized to the picture's own size; only there a softmax over all phrases of
all names turns them into probabilities. A name is as probable as the best of its phrases. "background" competes by its
words, and gets what no name is probable enough for.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.windows import (
    Patch,
    SlidingWindows,
    Spread,
    label_dtype,
    merge_argmax,
    merge_logsumexp,
    merge_maps,
)
from wordmask.refinement.by_name import NAMES_TOGETHER, working_size
from wordmask.refinement.pamr import PamrParameters, PixelAffinity
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter, PictureScores, Sliding
from wordmask.weights.addresses import Address

OPENAI_B_16 = "ViT-B-16/openai"
PAMR = PamrParameters(iterations=10, dilations=(8, 16))
"""SCLIP's and NACLIP's."""
PAMR_NUMBERS = 2**25
"""Of the maps of the phrases that PAMR refines together, at a picture's own size: 128 MB."""


@dataclass(frozen=True)
class PatchCosineSettings(Sliding):
    """clip: an `open_clip` architecture and the tag of its weights, "ViT-B-16/openai", or another address of
    a whole CLIP. clip_weights: a file or URL for the architecture that `clip` names. templates: the prompts that a name
    is read in, a set of `names.prompts.TEMPLATE_SETS`.

    scale: what cosines are multiplied by before the softmax over all phrases.
    background_threshold: where no name is as probable as this, there is "background", which also competes by its words.
    Without it, "background" has its words alone.
    area_threshold: a name that is the best in no more than this share of what is not background leaves the race.
    pad_multiple: pad windows to such a multiple, in pixels, or to whole patches: with the mean colour, on all sides
    alike. Without it, what is no whole patch at the right and the bottom is not looked at, and the grid of patches is
    stretched over it.
    pamr: let the cosines of every phrase flow between like pixels before they compete, by PAMR (10 steps, neighbours 8
    and 16 pixels away). It takes time for each phrase; `refine` is cheaper, and does so for the names that are found.
    """

    shorter_side: PositiveInt | None = 336
    window: PositiveInt | None = 224
    stride: PositiveInt = 112
    clip: Address = OPENAI_B_16
    clip_weights: Address | None = None
    templates: str = "imagenet-80"
    scale: PositiveFloat = 40.0
    background_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    area_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    pad_multiple: PositiveInt | Literal["patch"] | None = None
    pamr: bool = False


class PatchCosines(OpenVocabularySegmenter):
    """A subclass says what a window's patches look like (`features`), in the space of CLIP's texts."""

    background_competes: ClassVar[bool] = True
    whole_in_one_step: ClassVar[bool] = True
    """Whether cosines of a picture that is looked at whole go from patches to its own size without a size between."""

    def __init__(self, clip: ClipEncoder, settings: PatchCosineSettings | None = None):
        settings = settings or self.Settings()
        super().__init__(
            TextEmbedder(clip, templates(settings.templates)),
            settings,
            background_threshold=settings.background_threshold,
        )
        self.clip, self.settings = clip, settings
        self.patch_size = clip.patch_size
        self.precision = clip.precision

    @classmethod
    def build(cls, settings: Any, compute: Compute) -> Self:
        return cls(clip_at(settings.clip, settings.clip_weights, compute), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"clip": self.clip.model, **self.refining_networks}

    @property
    def background_words(self) -> tuple[str, ...]:
        """Name the places behind things, threshold or not: among a few names alone, one is always probable."""
        if self.background_threshold is not None and not self.hears_grounds:
            return (BACKGROUND,)
        return (BACKGROUND, *self.embed.encoder.grounds)

    @abstractmethod
    def features(self, windows: Tensor) -> Tensor:
        """Windows (n, 3, H, W) in [0, 1] -> features (n, D, h, w) of a grid of patches that spreads over all of each.

        Here the network runs. No window's features may depend on the others.
        """

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        return (F.normalize(self.features(self.padded(windows)).float(), dim=1),)

    def padded(self, windows: Tensor) -> Tensor:
        """Return windows (n, 3, H, W) in [0, 1] with the mean colour around them, as `pad_multiple` says."""
        left, top, right, bottom = self._padding(windows.shape[-2:])
        if not (left or top or right or bottom):
            return windows
        padded = windows.new_tensor(self.clip.statistics.mean)[:, None, None].repeat(
            len(windows), 1, windows.shape[-2] + top + bottom, windows.shape[-1] + left + right
        )
        padded[..., top : top + windows.shape[-2], left : left + windows.shape[-1]] = windows
        return padded

    def _padding(self, window: tuple[int, int] | torch.Size) -> tuple[int, int, int, int]:
        """Return how many pixels are added to a window (height, width): left, top, right, bottom."""
        multiple = self.settings.pad_multiple
        if multiple == "patch":
            multiple = self.patch_size
        more = [max(self.patch_size - side, 0) if multiple is None else -side % multiple for side in window]
        return more[1] // 2, more[0] // 2, more[1] - more[1] // 2, more[0] - more[0] // 2

    def in_text_space(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0]

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        """Features of n windows -> cosines with every phrase, (n, P, h, w)."""
        return torch.einsum("pd,ndhw->nphw", text.vectors.to(features[0]), features[0])

    def guide(self, picture: Tensor) -> Tensor | None:
        return picture.mul(255).round_().byte() if self.settings.pamr else None

    def lie(self, plan: SlidingWindows) -> Patch:
        height, width = plan.window
        left, top, right, bottom = self._padding(plan.window)
        return Spread((height + top + bottom, width + left + right), (top, left))

    def merge(
        self, plan: SlidingWindows, maps: Tensor, patch: Patch, text: TextEmbeddings, guide: Tensor | None
    ) -> PictureScores:
        if self.whole_in_one_step and self.settings.window is None and patch == Spread((plan.height, plan.width)):
            # A picture looked at as a whole goes from patches to its own size in one step.
            grid = (maps.shape[-2], maps.shape[-1])
            plan, patch = SlidingWindows.whole(grid), 1
        return CompetingPhrases(plan, maps, patch, text, self.settings, guide)


class CompetingPhrases(PictureScores):
    """Probabilities of names all over a picture, from cosines of their phrases (n, P, h, w) on its windows' patches.

    Of the softmax only its denominator is made as a map; whatever the number of phrases, memory is bounded.
    """

    def __init__(
        self,
        plan: SlidingWindows,
        maps: Tensor,
        patch: Patch,
        text: TextEmbeddings,
        settings: PatchCosineSettings,
        guide: Tensor | None = None,
    ):
        super().__init__(plan, maps, patch)
        self.owner = text.owner.to(maps.device)  # (P,) the name of each phrase
        self.names, self.background = len(text.vocabulary), text.vocabulary.background
        self.settings, self.picture = settings, guide
        self._affinity: tuple[tuple[int, int], PixelAffinity] | None = None
        self._total: tuple[tuple[int, int], Tensor] | None = None

    @property
    def count(self) -> int:
        return self.names

    @property
    def in_parts(self) -> bool:
        """Whether cosines are more than what windows say, so that `_cosines` has to make them, some at a time."""
        return self.picture is not None

    def best(self, size: tuple[int, int], stay: Tensor | None = None) -> tuple[Tensor, Tensor]:
        racing = torch.arange(len(self.owner), device=self.owner.device)
        if stay is not None:
            racing = racing[torch.isin(self.owner, stay)]
        phrases, cosines = self._best_of(racing, size)
        names = self.owner[racing[phrases.long()]]
        left = self._without_small(names, racing)
        if len(left) < len(racing):
            phrases, cosines = self._best_of(left, size)
            names = self.owner[left[phrases.long()]]
        scores = (self.settings.scale * cosines - self._denominator(size)).exp_()
        return names.to(label_dtype(self.count)), scores

    def of(self, names: Sequence[int], size: tuple[int, int]) -> Tensor:
        phrases = [(self.owner == name).nonzero()[:, 0] for name in names]
        maps = self._cosines(torch.cat(phrases), size).split([len(own) for own in phrases])
        best = torch.stack([own.amax(dim=0) for own in maps])  # (k, H, W)
        return best.mul_(self.settings.scale).sub_(self._denominator(size)).exp_()

    def _without_small(self, names: Tensor, racing: Tensor) -> Tensor:
        """Return the phrases in the race whose names stay, where `names` (H, W) were the best of each pixel."""
        least = self.settings.area_threshold
        if least is None or self.background is None:  # what small names lose must have somewhere to go
            return racing
        pixels = torch.bincount(names.flatten(), minlength=self.count)
        is_background = torch.arange(self.count, device=pixels.device) == self.background
        things = pixels[~is_background].sum()
        stays = is_background | (pixels > least * things)
        return racing[stays[self.owner[racing]]]

    def _best_of(self, phrases: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return which of some phrases is the best at every pixel, and its cosine, (H, W) each."""
        if not self.in_parts:
            maps = self.maps if len(phrases) == len(self.owner) else self.maps[:, phrases]
            return merge_argmax(self.plan, maps, self.patch, size, dtype=label_dtype(len(phrases)))
        best, cosines = self.maps.new_zeros(size, dtype=torch.int64), self.maps.new_full(size, -torch.inf)
        total, first = torch.full_like(cosines, -torch.inf), 0
        for part in phrases.split(max(1, min(NAMES_TOGETHER, PAMR_NUMBERS // (size[0] * size[1])))):
            maps = self._cosines(part, size)
            found, where = maps.max(dim=0)
            best = torch.where(found > cosines, where + first, best)
            cosines = torch.maximum(found, cosines)
            total = torch.logaddexp(total, maps.mul_(self.settings.scale).logsumexp(dim=0))
            first += len(part)
        if len(phrases) == len(self.owner):
            self._total = size, total
        return best, cosines

    def _denominator(self, size: tuple[int, int]) -> Tensor:
        """Return the logarithm of the softmax's, (H, W)."""
        if self._total is None or self._total[0] != size:
            if not self.in_parts:
                self._total = size, merge_logsumexp(self.plan, self.maps, self.patch, size, self.settings.scale)
            else:
                self._best_of(torch.arange(len(self.owner), device=self.owner.device), size)
        assert self._total is not None
        return self._total[1]

    def _cosines(self, phrases: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the cosines of some phrases at a size, (k, H, W), refined where that is asked for."""
        chosen = self.maps[:, phrases]
        if self.picture is None:
            return merge_maps(self.plan, chosen, self.patch, size)
        small = working_size(*size)
        if self._affinity is None or self._affinity[0] != small:
            picture = F.interpolate(self.picture[None].float(), size=small, mode="bilinear")[0]
            self._affinity = small, PixelAffinity(picture / 255, PAMR)
        refined = self._affinity[1].refine(merge_maps(self.plan, chosen, self.patch, small))
        return refined if small == size else F.interpolate(refined[None], size=size, mode="bilinear")[0]
