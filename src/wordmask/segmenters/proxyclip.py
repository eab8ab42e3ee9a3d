"""ProxyCLIP (Lan et al., "ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation", ECCV 2024).

CLIP knows what things are called, a self-supervised transformer which patches belong together. In CLIP's last block
the attention is replaced by how alike the other network's patches are; the values stay CLIP's. They are resized to
the other network's grid, so that its finer patches set the resolution of what is found.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.grid import DINO_POSITIONS, Grid, to_maps
from wordmask.encoders.timm_building import dino_at
from wordmask.segmenters.patch_cosines import PatchCosines, PatchCosineSettings
from wordmask.weights.addresses import Address


@dataclass(frozen=True)
class ProxyClipSettings(PatchCosineSettings):
    """proxy: whose patches tell what belongs together: a `timm` name of a self-supervised vision transformer (DINO,
    DINOv2 with registers, DINOv3), or another address of one. proxy_weights: those of a `timm` name, in place of its
    usual ones.
    beta: of the mean likeness of all patches of a window, what two must reach to attend to each other. gamma: what
    likeness beyond that is multiplied by before the softmax.
    """

    window: PositiveInt | None = 336
    pad_multiple: PositiveInt | None = 56
    proxy: Address = "vit_base_patch8_224.dino"
    proxy_weights: Address | None = None
    beta: float = 1.2
    gamma: PositiveFloat = 3.0


PRESETS = {"paper": ProxyClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"background_threshold": 0.2},
    "context": {"background_threshold": 0.15},
    "coco-object": {"background_threshold": 0.25},
    "cityscapes": {"shorter_side": 448, "window": 224},
    "ade20k": {"shorter_side": 448},
}
"""What the authors set for single benchmarks, by their names."""


class ProxyClip(PatchCosines):
    method = "proxyclip"
    Settings = ProxyClipSettings
    presets = PRESETS
    settings: ProxyClipSettings

    def __init__(self, clip: ClipEncoder, proxy: DinoEncoder, settings: ProxyClipSettings | None = None):
        super().__init__(clip, settings)
        self.proxy = proxy

    @classmethod
    def build(cls, settings: ProxyClipSettings, compute: Compute) -> Self:
        clip = clip_at(settings.clip, settings.clip_weights, compute)
        return cls(clip, dino_at(settings.proxy, settings.proxy_weights, compute.like(clip)), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks, "proxy": self.proxy.model}

    def features(self, windows: Tensor) -> Tensor:
        vit = self.clip.vit
        tokens = self.clip.run(windows, positions=DINO_POSITIONS)
        values = to_maps(vit.values(vit.last.ln_1(tokens.x[:, 1:])), tokens.grid)
        alike = self.proxy(whole_patches(windows, self.proxy.patch_size)).tokens
        mixed = mixed_by_proxy(values.float(), alike, self.settings.beta, self.settings.gamma)
        grid = (alike.shape[-2], alike.shape[-1])
        return to_maps(vit.to_text(vit.project(mixed.to(values.dtype))), grid)


def whole_patches(windows: Tensor, patch: int) -> Tensor:
    """Return windows (n, 3, H, W) without what is no whole patch at the right and the bottom, at least one patch."""
    height, width = (max(side // patch, 1) * patch for side in windows.shape[-2:])
    return windows[..., :height, :width]


def mixed_by_proxy(values: Tensor, alike: Tensor, beta: float, gamma: float) -> Tensor:
    """Return CLIP's values (n, C, h, w), mixed by the features of the other network (n, D, H, W): (n, H*W, C)."""
    grid: Grid = (alike.shape[-2], alike.shape[-1])
    if values.shape[-2:] != grid:
        values = F.interpolate(values, size=grid, mode="bilinear", align_corners=False)
    tokens = values.flatten(2).transpose(1, 2)  # (n, N, C)
    # One window's N x N at a time; and the mean is of one window, whatever others are looked at with it.
    return torch.stack([proxy_attention(own, beta, gamma) @ values for own, values in zip(alike, tokens, strict=True)])


def proxy_attention(features: Tensor, beta: float, gamma: float) -> Tensor:
    """Return the attention of one window, (N, N), from the features (D, h, w) of its patches.

    A patch attends to those whose likeness, less beta times the mean of all, is not below zero. Where even its own is,
    as in a picture of one colour, the paper's formula has no answer, and here the patch attends to itself.
    """
    unit = F.normalize(features.flatten(1), dim=0)
    likeness = unit.T @ unit
    weights = (likeness - beta * likeness.mean()) * gamma
    own = torch.eye(len(weights), dtype=torch.bool, device=weights.device)
    lonely = (weights < 0).all(dim=1, keepdim=True)
    return weights.masked_fill((weights < 0) & ~(own & lonely), -torch.inf).softmax(dim=1)
