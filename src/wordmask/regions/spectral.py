"""Regions by spectral clustering: DINO's patches parted into clusters, and clusters into connected parts.

The clusters are those of the saliency method "spectral" (Shin, Albanie and Xie), which lets them vote; here one
clustering of every patch is the map itself. Untrained, and of no paper.
"""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from scipy import ndimage

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder
from wordmask.extras import need
from wordmask.pictures.images import to_tensor
from wordmask.regions.by_dino import RegionsByDino
from wordmask.saliency.base import finite, size_for_patches
from wordmask.saliency.spectral_voting import cluster, clustering_grid, spectral_embedding
from wordmask.weights.addresses import Address


@dataclass(frozen=True)
class SpectralRegionsSettings:
    """dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones. clusters: into how many the features are parted. least_share: of the picture's pixels that a region has
    at least; smaller parts belong to none. seed: of the clustering's starts.

    most_points: of the features' grid when it is clustered. most_patches: a picture on more than this is looked at
    smaller. zoom: a picture is looked at so many times as large, as far as that allows.
    """

    dino: Address = "vit_small_patch16_224.dino"
    dino_weights: Address | None = None
    clusters: Annotated[int, Field(ge=2, le=64)] = 8
    least_share: Annotated[float, Field(ge=0, lt=1)] = 0.002
    most_points: Annotated[int, Field(ge=64)] = 4096
    most_patches: Annotated[int, Field(ge=16)] = 16_384
    zoom: PositiveInt = 1
    seed: int = 0


PRESETS = {"paper": SpectralRegionsSettings()}


class SpectralRegions(RegionsByDino):
    method = "spectral-regions"
    Settings = SpectralRegionsSettings
    presets = PRESETS

    def __init__(self, dino: DinoEncoder, settings: SpectralRegionsSettings | None = None):
        need("sklearn")
        super().__init__(dino, settings)

    @classmethod
    def build(cls, settings: SpectralRegionsSettings, compute: Compute) -> Self:
        need("sklearn")  # before a network is fetched
        return super().build(settings, compute)

    def __call__(self, image: np.ndarray, /) -> np.ndarray:
        settings, size = self.settings, (image.shape[0], image.shape[1])
        seen = size_for_patches(*size, self.dino.patch_size, settings.most_patches, settings.zoom)
        tokens = finite(self.dino(to_tensor(image, seen)[None]).tokens[0])  # (D, h, w)
        points, grid = clustering_grid(tokens, settings.most_points)
        embedding = spectral_embedding(points, settings.clusters)
        if embedding is None:  # all of it is alike
            return np.zeros(size, dtype=np.int32)
        labels = cluster(embedding, settings.clusters, settings.seed).reshape(grid)
        covered = (tokens.shape[1] * self.dino.patch_size, tokens.shape[2] * self.dino.patch_size)
        # Each pixel's cell; the network's picture reaches beyond it at the right and the bottom.
        rows, columns = (
            ((np.arange(pixels) + 0.5) * own / pixels * cells / whole).astype(np.int64)
            for pixels, own, cells, whole in zip(size, seen, grid, covered, strict=True)
        )
        return connected_parts(labels[rows[:, None], columns], settings.least_share)


def connected_parts(labels: np.ndarray, least_share: float) -> np.ndarray:
    """Return the connected parts of a map of clusters (H, W) as regions, those that are large enough: (H, W) int32."""
    found, count = np.zeros(labels.shape, dtype=np.int32), 0
    for label in np.unique(labels):
        parts, _ = ndimage.label(labels == label)
        areas = np.bincount(parts.ravel())
        large = areas >= max(1.0, least_share * labels.size)
        large[0] = False
        numbers = np.where(large, count + np.cumsum(large), 0)
        found += numbers[parts].astype(np.int32)
        count += int(large.sum())
    return found
