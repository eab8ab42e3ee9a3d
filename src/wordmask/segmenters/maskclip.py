"""MaskCLIP (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", 2022).

A patch bears the name whose text embedding is nearest to its value features: softmax over the names of 100 times the
cosine. Key smoothing averages each patch's prediction over the patches with like keys.
"""

from collections.abc import Mapping
from typing import Annotated, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.clip_dense import CLIP_DINOISER, MASKCLIP, Reading, key_affinity
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.segmenters.open_vocabulary import COSINE_SCALE, OpenVocabularySegmenter, Sliding
from wordmask.weights.addresses import Address


@dataclass(frozen=True)
class MaskClipSettings(Sliding):
    """clip: an `open_clip` architecture and the tag of its weights, "ViT-B-16/laion2b_s34b_b88k", or another address of
    a whole CLIP. clip_weights: a file or URL for the architecture that `clip` names. templates: the prompts that a name
    is read in, a set of `names.prompts.TEMPLATE_SETS`.

    residual: keep the last block's residual and MLP, as CLIP-DINOiser reads CLIP; without them the value path stands
    alone, as in the original paper. By default what the tower allows: True for a ViT, False for a ResNet.
    key_smoothing: the original paper's refinement.
    background_threshold: "background" is where no name scores as much; without it, "background" is a prompt like
    others. The NamedMask paper found 0.25 best for MaskCLIP.
    """

    clip: Address = "ViT-B-16/laion2b_s34b_b88k"
    clip_weights: Address | None = None
    templates: str = "imagenet-80"
    residual: bool | None = None
    key_smoothing: bool = False
    background_threshold: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def reading(self) -> Reading | None:
        """Return how the last block is read; None for what the tower allows."""
        return None if self.residual is None else CLIP_DINOISER if self.residual else MASKCLIP


PRESETS = {"paper": MaskClipSettings()}


class MaskClip(OpenVocabularySegmenter):
    method = "maskclip"
    Settings = MaskClipSettings
    presets = PRESETS

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
        self.precision = clip.precision

    @classmethod
    def build(cls, settings: MaskClipSettings, compute: Compute) -> Self:
        return cls(clip_at(settings.clip, settings.clip_weights, compute), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"clip": self.clip.model, **self.refining_networks}

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        dense = self.clip.dense(windows, reading=self.settings.reading, keys=self.settings.key_smoothing)
        return (dense.values,) if dense.keys is None else (dense.values, dense.keys)

    def in_text_space(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0]

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        probabilities = (COSINE_SCALE * text.cosines(features[0])).softmax(dim=1)  # (n, K, h, w)
        return smooth_by_keys(probabilities, features[1]) if self.settings.key_smoothing else probabilities


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
