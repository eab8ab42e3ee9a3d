"""Masks voted for by spectral clusters (SelfMask): an object is what many clusterings agree upon.

The clustering is Shi and Malik's normalised one. The affinity of two patches is a cosine, moved and scaled to [0, 1],
so the matrix of all affinities is a product of the features with themselves and a constant; its eigenvectors come from
a matrix of the features' width, exactly, without the N x N matrix ever being there.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Annotated, Self

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.extras import need
from wordmask.pictures.images import to_tensor
from wordmask.refinement.clean_up import MOST_PIXELS
from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings, finite, size_for_patches
from wordmask.weights.addresses import Address

FINER = 2
"""The paper clusters features on a grid so many times as fine as the network's."""
LEAST_RANGE = 1e-6
"""Affinities that differ by less are all the same: there is nothing to cluster."""
ROWS_AT_ONCE = 1024
PIXELS_AT_ONCE = 1 << 20
K_MEANS_STARTS = 10


@dataclass(frozen=True)
class VotingSettings(SaliencySettings):
    """dinos: one or several `timm` names, or other addresses of whole networks, each of which clusters and votes.
    dino_weights: a catalogue name, a file or a URL for each; empty for their usual ones. clusters: into how many the
    features are parted, each number in a run of its own. seed: of the clustering's starts.

    most_points: of the features' grid when it is clustered. The paper's grid has four points a patch; where these are
    more, it is coarser: features are interpolated to the largest grid of the same shape that fits, and averaged where
    that is coarser than the patches. 4,096 points are all of a picture of 512 x 512 pixels under patches of 16.
    """

    dinos: tuple[Address, ...] = ("vit_small_patch16_224.dino",)
    dino_weights: tuple[Address, ...] = ()
    clusters: tuple[Annotated[int, Field(ge=2)], ...] = (2, 3, 4)
    most_points: Annotated[int, Field(ge=64)] = 4096
    seed: int = 0


PRESETS = {"paper": VotingSettings()}


class VotedMasks(Saliency):
    """Maps are 0 or 1. A picture without any structure, whose patches are all alike, has no foreground."""

    method = "spectral"
    Settings = VotingSettings
    presets = PRESETS

    def __init__(self, encoders: Sequence[DinoEncoder], settings: VotingSettings | None = None):
        need("sklearn")
        if not encoders:
            raise SaliencyError("spectral voting needs at least one encoder")
        self.encoders, self.precision = list(encoders), encoders[0].precision
        self.settings: VotingSettings = settings or VotingSettings()

    @classmethod
    def build(cls, settings: VotingSettings, compute: Compute) -> Self:
        need("sklearn")  # before a network is fetched
        weights = settings.dino_weights or [None] * len(settings.dinos)
        if len(weights) != len(settings.dinos):
            raise SaliencyError(f"{len(settings.dinos)} encoders need as many weights: give dino_weights, one for each")
        encoders: list[DinoEncoder] = []
        for dino, own in zip(settings.dinos, weights, strict=True):
            encoders.append(dino_at(dino, own, compute))
            compute = compute.like(encoders[0])
        return cls(encoders, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {f"dino.{number}": encoder.model for number, encoder in enumerate(self.encoders)}

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._vote(image) for image in images]

    def _vote(self, image: np.ndarray) -> np.ndarray:
        own = (image.shape[0], image.shape[1])
        size = size_for_patches(*own, 1, MOST_PIXELS)
        candidates = []
        for encoder in self.encoders:
            seen = size_for_patches(*own, encoder.patch_size, self.settings.most_patches, self.settings.zoom)
            tokens = finite(encoder(to_tensor(image, seen)[None]).tokens[0])  # (D, h, w)
            candidates.append(
                candidate_masks(
                    tokens,
                    (tokens.shape[1] * encoder.patch_size, tokens.shape[2] * encoder.patch_size),
                    seen,
                    size,
                    clusters=self.settings.clusters,
                    most_points=self.settings.most_points,
                    seed=self.settings.seed,
                )
            )
        chosen = vote(np.concatenate(candidates))
        rows, columns = (_nearest(few, few, few, many) for few, many in zip(size, own, strict=True))
        return chosen[rows[:, None], columns].astype(np.float32)


def candidate_masks(
    features: Tensor,
    padded: tuple[int, int],
    seen: tuple[int, int],
    size: tuple[int, int],
    *,
    clusters: Sequence[int] = (2, 3, 4),
    most_points: int = 4096,
    seed: int = 0,
) -> np.ndarray:
    """Features (D, h, w) of a padded picture -> every cluster of every run as a mask (n, H, W) bool.

    padded: the size in pixels that the features cover; seen: the part of it that is the picture; size: (H, W) of the
    masks. Clusters that lie in the padding alone are left out. No masks where all features are alike.
    """
    points, grid = clustering_grid(features, most_points)
    masks = []
    embedding = spectral_embedding(points, max(clusters))
    if embedding is None:
        return np.zeros((0, *size), dtype=bool)
    for count in clusters:
        labels = cluster(embedding[:, :count], count, seed).reshape(grid)
        rows, columns = (_nearest(*sides) for sides in zip(grid, padded, seen, size, strict=True))
        labels = labels[rows[:, None], columns]  # (H, W)
        masks += [labels == label for label in np.unique(labels)]
    return np.stack(masks)


def _nearest(cells: int, padded: int, seen: int, pixels: int) -> np.ndarray:
    """For each of `pixels` along a side of the picture, the grid's cell that its centre lies in."""
    centres = (np.arange(pixels) + 0.5) * (seen / pixels)  # in pixels of the padded picture
    return np.minimum((centres * (cells / padded)).astype(np.int64), cells - 1)


def clustering_grid(features: Tensor, most_points: int) -> tuple[np.ndarray, tuple[int, int]]:
    """(D, h, w) -> the points to cluster (N, D) float64, and the grid (rows, columns) that they lie on."""
    height, width = features.shape[-2:]
    scale = min(float(FINER), sqrt(most_points / (height * width)))
    grid = (max(1, int(height * scale)), max(1, int(width * scale)))
    if grid[0] * grid[1] > most_points:  # a strip one patch wide cannot get narrower
        grid = (min(grid[0], most_points // grid[1]), grid[1]) if height > width else (grid[0], most_points // grid[0])
    if scale < 1:
        resized = F.adaptive_avg_pool2d(features[None].float(), grid)
    else:
        resized = F.interpolate(features[None].float(), grid, mode="bilinear", align_corners=True)
    return resized[0].flatten(1).T.double().cpu().numpy(), grid


def spectral_embedding(points: np.ndarray, count: int) -> np.ndarray | None:
    """Points (N, D) -> (N, count): the smoothest eigenvectors of the normalised Laplacian of their affinities, each
    divided by the root of the degrees. None where all affinities are alike.

    The affinity is (cosine - a) / b. Scaled by the degrees it is G S G', where G are the points with a constant beside
    them and S is diagonal; with G = QR, its eigenvectors are Q times those of the small matrix R S R'.
    """
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(lengths > 0, lengths, 1)
    lowest, highest = cosine_range(unit)
    if highest - lowest < LEAST_RANGE:
        return None
    span = highest - lowest
    degrees = (unit @ unit.sum(axis=0) - lowest * len(unit)) / span  # (N,)
    roots = np.sqrt(np.maximum(degrees, LEAST_RANGE))
    beside = np.concatenate([unit, np.ones((len(unit), 1))], axis=1) / roots[:, None]  # G, (N, D + 1)
    signs = np.append(np.ones(unit.shape[1]), -lowest) / span  # S
    orthogonal, triangle = np.linalg.qr(beside)
    _, vectors = np.linalg.eigh((triangle * signs) @ triangle.T)  # ascending
    largest = orthogonal @ vectors[:, ::-1][:, :count]  # (N, count)
    return _signed(largest) / roots[:, None]


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Eigenvectors have no sign of their own: here the entry that is largest by magnitude is positive."""
    peaks = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(np.take_along_axis(vectors, peaks[None], axis=0) < 0, -1, 1)


def cosine_range(unit: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest cosine among all pairs of unit vectors (N, D), some rows at a time."""
    single = unit.astype(np.float32)
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(single), ROWS_AT_ONCE):
        block = single[start : start + ROWS_AT_ONCE] @ single.T
        lowest, highest = min(lowest, block.min()), max(highest, block.max())
    return float(lowest), float(highest)


def cluster(embedding: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(N, k) -> (N,) labels below `count`, by k-means from seeded starts: equal inputs give equal clusters."""
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(embedding, axis=0)))
    labels: np.ndarray = KMeans(count, n_init=K_MEANS_STARTS, random_state=seed).fit_predict(embedding)
    return labels


def spans(masks: np.ndarray) -> np.ndarray:
    """(n, H, W) -> (n,) bool: masks that reach from top to bottom or from side to side, as backgrounds do."""
    rows = np.asarray(masks.any(axis=2))  # (n, H)
    columns = np.asarray(masks.any(axis=1))  # (n, W)
    return (rows[:, 0] & rows[:, -1]) | (columns[:, 0] & columns[:, -1])


def pairwise_iou(masks: np.ndarray) -> np.ndarray:
    """(n, H, W) bool, none of them empty -> (n, n)."""
    flat = masks.reshape(len(masks), -1)
    shared = np.zeros((len(masks), len(masks)))
    for start in range(0, flat.shape[1], PIXELS_AT_ONCE):
        part = flat[:, start : start + PIXELS_AT_ONCE].astype(np.float32)  # counts below 2**24 are exact
        shared += part @ part.T
    areas = shared.diagonal()
    return shared / (areas[:, None] + areas - shared)


def vote(masks: np.ndarray) -> np.ndarray:
    """Candidates (n, H, W) bool -> the one with the largest summed IoU to the others, (H, W); the first of equals.

    Candidates that span the picture's height or width are dropped, unless all do: then all stay. Without any
    candidate nothing is foreground.
    """
    if not len(masks):
        return np.zeros(masks.shape[1:], dtype=bool)
    dropped = spans(masks)
    if not dropped.all():
        masks = masks[~dropped]
    chosen: np.ndarray = masks[pairwise_iou(masks).sum(axis=1).argmax()]
    return chosen
