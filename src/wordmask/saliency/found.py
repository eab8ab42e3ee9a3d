"""FOUND (Simeoni et al., "Unsupervised Object Localization: Observing the Background to Discover Objects", CVPR 2023).

Objects differ, backgrounds are alike: the patch that a DINO attends to least is background, and so is every patch
like it. That seed mask needs no training; FOUND proper is one 1x1 convolution on the same features, taught by it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder, DinoFeatures
from wordmask.encoders.timm_building import dino_at
from wordmask.refinement.clean_up import THRESHOLD
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, network_maps
from wordmask.weights.addresses import Address, resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import read_state_dict

HEAD = "head"
"""The role of the head among a plug-in's addresses."""
EPSILON = 1e-10
"""Keeps the logarithm finite for a head in which no patch is above the mean."""


@dataclass(frozen=True)
class FoundSettings(SaliencySettings):
    """dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones; a catalogue name, a file or a URL.

    head: the address of the 1x1 convolution's weights.
    """

    dino: Address = "vit_small_patch8_224.dino"
    dino_weights: Address | None = None
    head: Address = "found"


@dataclass(frozen=True)
class SeedSettings(SaliencySettings):
    """dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones; a catalogue name, a file or a URL.

    similarity: patches whose cosine with the seed is above this are background.
    """

    dino: Address = "vit_small_patch8_224.dino"
    dino_weights: Address | None = None
    similarity: Annotated[float, Field(ge=-1, le=1)] = 0.3


PRESETS = {"paper": FoundSettings()}
SEED_PRESETS = {"paper": SeedSettings()}


def head_weights(cls_attention: Tensor) -> Tensor:
    """Return how much each attention head is trusted, (B, heads, N) -> (B, heads).

    A head that looks at few patches counts more: the log of all heads' sparsities over its own, where sparsity is the
    share of patches that get more than the picture's mean attention. A lone head has no others and counts as one.
    """
    if cls_attention.shape[1] == 1:
        return torch.ones_like(cls_attention[:, :, 0])
    mean = cls_attention.mean(dim=(1, 2), keepdim=True)
    sparsity = (cls_attention > mean).to(cls_attention.dtype).mean(dim=2) + EPSILON  # (B, heads)
    return (sparsity.sum(dim=1, keepdim=True) / sparsity).log()


def background_mask(features: DinoFeatures, similarity: float = 0.3) -> Tensor:
    """Return (B, h, w) bool: the patches whose keys, heads weighted, are like those of the least attended patch.

    The seed itself is always among them, so there is no picture without background; where nothing differs from it,
    as on a blank picture, everything is background.
    """
    weights = head_weights(features.cls_attention)
    seed = (features.cls_attention * weights[..., None]).sum(dim=1).argmin(dim=1)  # (B,)
    weighted = (features.keys * weights[..., None, None]).transpose(1, 2).flatten(2)  # (B, N, heads*d)
    weighted = F.normalize(weighted, dim=2)
    own = weighted[torch.arange(len(seed)), seed]  # (B, heads*d)
    background = (weighted @ own[..., None])[..., 0] > similarity  # (B, N)
    background[torch.arange(len(seed)), seed] = True
    return background.unflatten(1, features.grid)


class SeedSaliency(Saliency):
    """The complement of the seed's background: no training at all. Maps are 0 or 1."""

    method = "seed"
    Settings = SeedSettings
    presets = SEED_PRESETS

    def __init__(self, encoder: DinoEncoder, settings: SeedSettings | None = None):
        self.encoder, self.precision = encoder, encoder.precision
        self.settings: SeedSettings = settings or SeedSettings()

    @classmethod
    def build(cls, settings: SeedSettings, compute: Compute) -> Self:
        return cls(dino_at(settings.dino, settings.dino_weights, compute), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"dino": self.encoder.model}

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        soft = network_maps(images, self.read, patch=self.encoder.patch_size, settings=self.settings)
        return [(own > THRESHOLD).astype(np.float32) for own in soft]

    def read(self, images: Tensor) -> Tensor:
        """Return the foreground blown up by the patch, the padding cut off: (B, 3, H, W) in [0, 1] -> (B, H, W)."""
        foreground = ~background_mask(self.encoder(images), self.settings.similarity)
        return blown_up(foreground[:, None].float(), self.encoder.patch_size, images)


class Found(Saliency):
    """The trained head: sigmoid of a 1x1 convolution on the last attention's keys."""

    method = "found"
    Settings = FoundSettings
    presets = PRESETS
    has_weights = True

    def __init__(self, encoder: DinoEncoder, head: nn.Conv2d, settings: FoundSettings | None = None):
        if head.in_channels != encoder.width:
            raise SaliencyError(
                f"FOUND's head is for features of {head.in_channels} channels, and {encoder.name} has {encoder.width}: "
                "choose the DINO that it was trained on"
            )
        self.encoder, self.precision = encoder, encoder.precision
        self.head = head.eval().requires_grad_(False).to(encoder.device)
        self.settings: FoundSettings = settings or FoundSettings()

    @classmethod
    def build(cls, settings: FoundSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: of the head."""
        encoder = dino_at(settings.dino, settings.dino_weights, compute)
        return cls(encoder, load_head(weights or settings.head), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"dino": self.encoder.model, "head": self.head}

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return network_maps(images, self.read, patch=self.encoder.patch_size, settings=self.settings)

    @torch.inference_mode()
    def read(self, images: Tensor) -> Tensor:
        """Return the sigmoid of logits, blown up by the patch and the padding cut off: (B, 3, H, W) -> (B, H, W)."""
        logits = self.head(self.encoder(images).key_maps())  # (B, 1, h, w)
        return blown_up(logits, self.encoder.patch_size, images).sigmoid()


def blown_up(maps: Tensor, factor: int, images: Tensor) -> Tensor:
    """Return maps (B, 1, h, w) `factor` times as large, cut to their pictures (B, 3, H, W): (B, H, W)."""
    large = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    return large[:, 0, : images.shape[2], : images.shape[3]]


def new_head(width: int) -> nn.Conv2d:
    """Return an untrained head."""
    return nn.Conv2d(width, 1, kernel_size=1)


def load_head(weights: str | Path) -> nn.Conv2d:
    """Return a head from the published file, a torch pickle with the tensors under "decoder", or from one of ours."""
    path = resolve(weights, HEAD)
    state = read_state_dict(path, unwrap=("decoder",), strip=("decoder.",))
    if "weight" not in state or state["weight"].ndim != 4:
        raise SaliencyError(f"{path} is no head of FOUND: it has {', '.join(sorted(state))}, not weight and bias")
    return built_from(lambda: new_head(state["weight"].shape[1]), state, what=f"FOUND's head {path}")
