"""CLIP-DINOiser (Wysoczańska et al., "Teaching CLIP a few DINO tricks", 2024).

MaskCLIP's patch features are averaged over the patches that belong together (guided pooling, equation 1). What belongs
together is read from CLIP itself, by a 3x3 convolution that learnt DINO's correlations; what is no object, by a 1x1
convolution that learnt FOUND's masks. One pass of CLIP, two light layers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.clip_dense import CLIP_DINOISER, DenseFeatures, key_affinity
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.methods import DEFAULT_PRESET, load_method, networks_behind
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.pictures.windows import SlidingWindows
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.open_vocabulary import (
    COSINE_SCALE,
    Objectness,
    OpenVocabularySegmenter,
    Sliding,
    look_for_objects,
)
from wordmask.weights.addresses import Address, resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import read_state_dict

GUIDING_BLOCK = -3
"""Layer l of the paper: both heads read the ln_2 output of the third block from the end."""
GUIDE_CHANNELS = 256
"""d_g of the paper."""
TINY = 1e-6
"""Added to the sum of weights in equation 1."""
AFFINITY_BYTES = 64 * 2**20
"""The most of a picture's N x N that is made at a time: all of it up to 4096 patches, beyond that some rows of it."""
GAMMA = 0.2
"""The paper's, for all guides."""


class DinoiserHeads(nn.Module):
    """The two layers that are trained; parameter names are those of the published checkpoint."""

    def __init__(self, width: int, channels: int = GUIDE_CHANNELS):
        super().__init__()
        self.obj_proj = nn.Conv2d(width, channels, kernel_size=3, padding=1, padding_mode="replicate")
        self.bkg_decoder = nn.Conv2d(width, 1, kernel_size=1)

    def guide(self, features: Tensor) -> Tensor:
        """g of equation 2, (B, C, h, w) -> (B, d_g, h, w): patches that belong together have like guides."""
        guide: Tensor = self.obj_proj(features)
        return guide

    def affinity(self, features: Tensor) -> Tensor:
        """Equation 2: (B, C, h, w) -> (B, h*w, h*w), cosines of g's output."""
        return key_affinity(self.guide(features))

    def objectness(self, features: Tensor) -> Tensor:
        """h of section 3.5, (B, C, h, w) -> (B, 1, h, w), before the sigmoid."""
        objectness: Tensor = self.bkg_decoder(F.normalize(features, dim=1))
        return objectness


def load_heads(source: str | Path) -> DinoiserHeads:
    """Return the heads of a file in the published checkpoint's layout, {"model_state_dict": {"obj_proj.weight", ...}},
    or of one of those tensors alone, as `wordmask train-dinoiser` writes it.
    """
    state = read_state_dict(resolve(source, "heads"), unwrap=("model_state_dict",))
    guide = state.get("obj_proj.weight")
    if guide is None or guide.ndim != 4:
        raise SegmenterError(f"{source} holds no heads of CLIP-DINOiser: there is no obj_proj.weight (256, C, 3, 3)")
    what = "the heads of CLIP-DINOiser"
    heads = built_from(lambda: DinoiserHeads(guide.shape[1], guide.shape[0]), state, what=what)
    return heads.eval().requires_grad_(False)


def _gamma(settings: dict[str, Any]) -> float:
    """Of those settings that are known before it."""
    of_dino: float | None = settings.get("dino_threshold")
    return GAMMA if of_dino is None or settings.get("affinity") != "dino" else of_dino


@dataclass(frozen=True)
class ClipDinoiserSettings(Sliding):
    """affinity: whose correlations guide the pooling (table 2a): the trained head's, DINO's values', CLIP's keys'.

    background: what filters it, where "background" is among the names (table 2b). trained: patches that are unsure of
    their name and no object for the trained head. found: the same, by FOUND's mask of the whole picture. found-alone:
    all that FOUND's mask leaves out, however sure. none: it is left to the prompt.

    affinity_threshold: the paper's gamma, 0.2; for affinity="dino" it is `dino_threshold` by default, where a preset
    has one. dino_threshold: how much the values of the preset's own DINO correlate. confidence: the paper's delta.
    clip: an `open_clip` architecture and the tag of its weights, or another address of a whole CLIP. clip_weights: a
    file or URL for the architecture that `clip` names. templates: the prompts that a name is read in, a set of
    `names.prompts.TEMPLATE_SETS`. heads: the address of the two trained layers.
    dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones. found_preset: of FOUND, "paper" by default. found_weights: in place of its head.
    """

    clip: Address = "ViT-B-16/laion2b_s34b_b88k"
    clip_weights: Address | None = None
    heads: Address = "clip-dinoiser"
    dino: Address = "vit_base_patch16_224.dino"
    dino_weights: Address | None = None
    found_weights: Address | None = None
    found_preset: str | None = None
    templates: str = "imagenet-80"
    affinity: Literal["trained", "dino", "clip-keys"] = "trained"
    background: Literal["trained", "found", "found-alone", "none"] = "trained"
    dino_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    affinity_threshold: float = Field(default_factory=_gamma, ge=-1, le=1)
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.99

    @property
    def needs_heads(self) -> bool:
        return "trained" in (self.affinity, self.background)

    @property
    def needs_objectness(self) -> bool:
        return self.background in ("found", "found-alone")


PRESETS = {"paper": ClipDinoiserSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    name: {"background": "none"} for name in ("context", "voc20", "context59", "coco-stuff", "cityscapes", "ade20k")
}
"""What the paper has for single benchmarks: background is filtered where it is stuff, in VOC and COCO-Object. In
Context it is a rest of few pixels, and left to the prompt; elsewhere there is none."""


class ClipDinoiser(OpenVocabularySegmenter):
    method = "clip-dinoiser"
    Settings = ClipDinoiserSettings
    presets = PRESETS
    has_weights = True

    def __init__(
        self,
        clip: ClipEncoder,
        heads: DinoiserHeads | None,
        settings: ClipDinoiserSettings | None = None,
        *,
        dino: DinoEncoder | None = None,
        objectness: Objectness | None = None,
    ):
        """heads, dino and objectness (FOUND's maps) are needed only where the settings ask for them."""
        settings = settings or ClipDinoiserSettings()
        super().__init__(TextEmbedder(clip, templates(settings.templates)), settings)
        if heads is None and settings.needs_heads:
            raise SegmenterError("the trained affinity and background need CLIP-DINOiser's heads: give heads=...")
        if dino is None and settings.affinity == "dino":
            raise SegmenterError("affinity='dino' needs a DINO: give dino=...")
        if objectness is None and settings.needs_objectness:
            raise SegmenterError(f"background={settings.background!r} needs FOUND's maps: give objectness=...")
        self.clip, self.dino, self.objectness, self.settings = clip, dino, objectness, settings
        self.heads = None if heads is None else heads.eval().requires_grad_(False).to(clip.device)
        self.patch_size = clip.patch_size
        self.precision = clip.precision

    @classmethod
    def build(cls, settings: ClipDinoiserSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: of the heads."""
        heads = load_heads(weights or settings.heads) if settings.needs_heads else None
        clip = clip_at(settings.clip, settings.clip_weights, compute)
        dino = objectness = None
        if settings.affinity == "dino":
            dino = dino_at(settings.dino, settings.dino_weights, compute.like(clip))
        if settings.needs_objectness:
            found = load_method(
                "saliency",
                "found",
                preset=settings.found_preset or DEFAULT_PRESET,
                weights=settings.found_weights,
                compute=compute.like(clip),
                settings={},
            )
            objectness = found.maps
        return cls(clip, heads, settings, dino=dino, objectness=objectness)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        dino = {} if self.dino is None else {"dino": self.dino.model}
        heads = {} if self.heads is None else {"heads": self.heads}
        return {
            "clip": self.clip.model,
            **dino,
            **networks_behind(self.objectness, "found"),
            **heads,
        } | self.refining_networks

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Pooled features (n, D, h, w), and the trained objectness (n, 1, h, w) where it will be asked for: names play
        no part.
        """
        dense = self.clip.dense(
            windows,
            reading=CLIP_DINOISER,
            keys=self.settings.affinity == "clip-keys",
            ln_2=[GUIDING_BLOCK] if self.settings.needs_heads else [],
        )
        pooled = torch.stack(
            [
                guided_pooling(values, guide, self.settings.affinity_threshold)
                for values, guide in zip(dense.values, self.guides(windows, dense), strict=True)
            ]
        )
        if self.settings.background != "trained":
            return (pooled,)
        heads, features = self._trained(dense)
        return pooled, heads.objectness(features).sigmoid()

    def read_whole(self, pictures: Sequence[Tensor], plans: Sequence[SlidingWindows]) -> list[tuple[Tensor, ...]]:
        """FOUND looks at whole pictures; what it says of each window's patches, (n, 1, h, w)."""
        if self.objectness is None or not self.settings.needs_objectness:
            return super().read_whole(pictures, plans)
        levels = [picture.mul(255).round_().byte() for picture in pictures]
        maps = look_for_objects(self.objectness, levels, self.device)
        return [(on_patches(plan.cut(found[None]), self.patch_size),) for plan, found in zip(plans, maps, strict=True)]

    def in_text_space(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0]

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        probabilities = (COSINE_SCALE * text.cosines(features[0])).softmax(dim=1)  # (n, K, h, w)
        background = text.vocabulary.background
        if background is None or len(features) == 1:
            return probabilities
        confidence = None if self.settings.background == "found-alone" else self.settings.confidence
        return filter_background(probabilities, features[1] > 0.5, background, confidence)

    def guides(self, windows: Tensor, dense: DenseFeatures) -> Tensor:
        """Return what tells which patches belong together, (n, C, h, w) on CLIP's patches."""
        if dense.keys is not None:
            return dense.keys
        if self.settings.affinity == "dino" and self.dino is not None:
            return dino_values(self.dino, windows, dense.grid)
        heads, features = self._trained(dense)
        return heads.guide(features)

    def _trained(self, dense: DenseFeatures) -> tuple[DinoiserHeads, Tensor]:
        features = dense.ln_2[GUIDING_BLOCK]
        if self.heads is None or self.heads.obj_proj.in_channels != features.shape[1]:
            of = "none" if self.heads is None else f"for features of {self.heads.obj_proj.in_channels} channels"
            raise SegmenterError(
                f"CLIP-DINOiser's heads are {of}, and {self.clip.name} has {features.shape[1]}: choose the CLIP that "
                "they were trained on"
            )
        return self.heads, features


def dino_values(dino: DinoEncoder, images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return what teaches the pooling: DINO's values on a grid of CLIP's, (B, 3, H, W) in [0, 1] -> (B, C, *grid).

    Where the patches of the two differ in size, pictures are resized so that the grids agree.
    """
    height, width = (side * dino.patch_size for side in grid)
    if -(-images.shape[-2] // dino.patch_size) != grid[0] or -(-images.shape[-1] // dino.patch_size) != grid[1]:
        images = F.interpolate(images, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return dino(images).value_maps()


def on_patches(maps: Tensor, patch: int) -> Tensor:
    """(B, 1, H, W) -> (B, 1, h, w): the mean over each patch, over the part inside where it reaches outside."""
    return F.avg_pool2d(maps, patch, ceil_mode=True, count_include_pad=False)


def guided_pooling(values: Tensor, guide: Tensor, threshold: float) -> Tensor:
    """Equation 1, for one picture: (D, h, w), (C, h, w) -> (D, h, w). The weights are the guide's cosines; those below
    the threshold count nothing.
    """
    unit = F.normalize(guide.flatten(1), dim=0)  # (C, N)
    summed = torch.cat([values.flatten(1), values.new_ones(1, unit.shape[1])]).T  # (N, D + 1): the ones sum the weights
    pooled = torch.empty_like(summed)
    rows = max(1, AFFINITY_BYTES // (4 * unit.shape[1]))
    for start in range(0, len(pooled), rows):
        weights = unit[:, start : start + rows].T @ unit
        weights.mul_(weights >= threshold)
        pooled[start : start + rows] = weights @ summed
    means = pooled[:, :-1] / (pooled[:, -1:] + TINY)
    return means.T.reshape(values.shape)


def filter_background(probabilities: Tensor, is_object: Tensor, background: int, confidence: float | None) -> Tensor:
    """Section 3.5: patches that are unsure of their name and no part of an object are background. Without a confidence
    to reach, all patches are unsure.

    probabilities (n, K, h, w), is_object (n, 1, h, w) bool.
    """
    nothing = ~is_object
    if confidence is not None:
        nothing = nothing & (probabilities.amax(dim=1, keepdim=True) < confidence)
    only_background = torch.zeros_like(probabilities)
    only_background[:, background] = 1
    return torch.where(nothing, only_background, probabilities)
