"""MaskCLIP (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", 2022).

A patch bears the name whose text embedding is nearest to its value features: softmax over the names of 100 times the
cosine. Key smoothing averages each patch's prediction over the patches with like keys.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder, Precision, load_clip
from wordmask.encoders.clip_dense import key_affinity
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter, Sliding

COSINE_SCALE = 100.0
"""CLIP's own logit scale at the end of its training."""


@dataclass(frozen=True)
class MaskClipSettings(Sliding):
    """clip: an `open_clip` architecture and the tag of its weights, "ViT-B-16/laion2b_s34b_b88k".

    residual: keep the last block's residual and MLP, as CLIP-DINOiser reads CLIP; without them the value path stands
    alone, as in the original paper. By default what the tower allows: True for a ViT, False for a ResNet.
    key_smoothing: the original paper's refinement.
    background_threshold: "background" is where no name scores as much; without it, "background" is a prompt like
    others. The NamedMask paper found 0.25 best for MaskCLIP.
    """

    clip: str = "ViT-B-16/laion2b_s34b_b88k"
    templates: str = "imagenet-80"
    residual: bool | None = None
    key_smoothing: bool = False
    background_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


WORLD_CLIP = "world"
"""In place of an architecture and a tag: the small CLIP that ships with the package."""
PRESETS = {
    "paper": MaskClipSettings(),
    "world": MaskClipSettings(clip=WORLD_CLIP, templates="photo", shorter_side=128, window=128, stride=64),
}


class MaskClip(OpenVocabularySegmenter):
    method = "maskclip"

    def __init__(self, clip: ClipEncoder, settings: MaskClipSettings | None = None):
        settings = settings or MaskClipSettings()
        super().__init__(
            TextEmbedder(clip, templates(settings.templates)),
            settings,
            background_threshold=settings.background_threshold,
        )
        self.clip = clip
        self.settings = settings
        self.patch_size = clip.patch_size
        self.device, self.precision = clip.device, clip.precision

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
        """With a preset's CLIP, or with `weights` (file or URL) for the architecture that `clip` names."""
        settings = replace(PRESETS[preset], **changes)
        return cls(open_clip_encoder(settings.clip, weights, device, precision), settings)

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        dense = self.clip.dense(windows, residual=self.settings.residual, keys=self.settings.key_smoothing)
        return (dense.values,) if dense.keys is None else (dense.values, dense.keys)

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        probabilities = (COSINE_SCALE * text.cosines(features[0])).softmax(dim=1)  # (n, K, h, w)
        return smooth_by_keys(probabilities, features[1]) if self.settings.key_smoothing else probabilities


def open_clip_encoder(
    clip: str, weights: str | Path | None, device: str | torch.device, precision: Precision
) -> ClipEncoder:
    """ "ARCHITECTURE/TAG", "ARCHITECTURE" with a file or URL of weights, or "world"."""
    architecture, _, tag = clip.partition("/")
    if clip == WORLD_CLIP:
        if weights is not None:
            raise SegmenterError(f"clip='world' brings its own weights; name the architecture that {weights} is of")
        from wordmask_world.models import world_clip

        return world_clip(device=device, precision=precision)
    if weights is None and not tag:
        raise SegmenterError(f"clip={clip!r} names no weights: write ARCHITECTURE/TAG, or give weights=FILE")
    return load_clip(architecture, weights or tag, device=device, precision=precision)


def smooth_by_keys(probabilities: Tensor, keys: Tensor) -> Tensor:
    """Predictions (n, K, h, w) averaged with the cosine of the keys (n, C, h, w) as weights.

    The weights are divided by their absolute sum: the paper's unnormalised sum has the same best name everywhere, and
    this one stays a score that a threshold and overlapping windows can use.
    """
    smoothed = []
    for own, key in zip(probabilities, keys, strict=True):  # one window's N x N at a time
        weights = key_affinity(key[None])[0]  # (N, N)
        weights = weights / weights.abs().sum(dim=1, keepdim=True)
        smoothed.append((own.flatten(1) @ weights.T).view_as(own))
    return torch.stack(smoothed)
