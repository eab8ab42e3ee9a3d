"""SC-CLIP (Bai et al., "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation", 2024).

A few patches of CLIP's last blocks are anomalies, which hold something of the whole picture and draw the others'
attention. They are found by how sparse their surroundings are, and replaced by their neighbours. What belongs together
is read from a block in the middle, where it is clearer than at the end; it guides the last attention, and patches are
averaged by it before and after. Features of several blocks are read through the last one and added.
"""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_dense import DenseViT
from wordmask.encoders.grid import DINO_POSITIONS, Grid, to_maps
from wordmask.encoders.heads import merge_heads
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.patch_cosines import PatchCosines, PatchCosineSettings

TINY = 1e-6
"""Added to the sums by which averages are divided; the published code's."""
SHARPNESS = 3.0
"""What similarities above their mean are multiplied by before the softmax; the published code's."""


@dataclass(frozen=True)
class ScClipSettings(PatchCosineSettings):
    """neighbours: how many of a patch's nearest say how sparse its surroundings are. anomalies: the share of the
    patches of a window that is replaced. similarity: patches that are less alike do not count in averages.
    middle_block: what belongs together in it guides the attention, and the average before. low_block: the same for the
    average after. levels: the first block whose output is read through the last one, and the first that no longer is.
    Blocks count from 0; the figures are the paper's for 12 blocks. cls_share: how much of CLS is added to each patch.
    """

    neighbours: PositiveInt = 30
    anomalies: Annotated[float, Field(ge=0, le=1)] = 0.05
    similarity: Annotated[float, Field(ge=-1, le=1)] = 0.4
    middle_block: NonNegativeInt = 8
    low_block: NonNegativeInt = 3
    levels: tuple[NonNegativeInt, NonNegativeInt] = (3, 10)
    cls_share: float = 0.3


PRESETS = {"paper": ScClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"scale": 50.0, "background_threshold": 0.15, "area_threshold": 0.1},
    "context": {"background_threshold": 0.15},
    "coco-object": {"scale": 55.0, "background_threshold": 0.35},
    "cityscapes": {"shorter_side": 560},
}
"""What the authors set for single benchmarks, by their names."""


class ScClip(PatchCosines):
    method = "sc-clip"
    Settings = ScClipSettings
    presets = PRESETS
    settings: ScClipSettings

    def __init__(self, clip: ClipEncoder, settings: ScClipSettings | None = None):
        super().__init__(clip, settings)
        settings = self.settings
        read, last = (settings.middle_block, settings.low_block, settings.levels[1] - 1), len(clip.vit.blocks) - 1
        if max(read) >= last or settings.levels[0] >= settings.levels[1]:
            raise SegmenterError(
                f"{clip.name} has {last + 1} blocks, and SC-CLIP reads those before the last: middle_block "
                f"{settings.middle_block}, low_block {settings.low_block}, levels {settings.levels} do not all fit"
            )

    def features(self, windows: Tensor) -> Tensor:
        settings, vit = self.settings, self.clip.vit
        levels = range(*settings.levels)
        tokens = self.clip.run(
            windows, keep={settings.middle_block, settings.low_block, *levels}, positions=DINO_POSITIONS
        )
        read = [  # each window alone, so that none depends on what else is looked at
            self._calibrated(vit, tokens.x[i], {block: kept[i] for block, kept in tokens.kept.items()}, tokens.grid)
            for i in range(len(windows))
        ]
        return to_maps(vit.to_text(torch.stack(read)), tokens.grid)

    def _calibrated(self, vit: DenseViT, x: Tensor, kept: dict[int, Tensor], grid: Grid) -> Tensor:
        """One window's tokens (1 + N, C), and those of earlier blocks -> what leaves the last block (N, C)."""
        settings = self.settings
        cls, patches = x[:1], x[1:]
        anomalous = anomalies_of(patches.float(), settings.neighbours, settings.anomalies)
        patches = repaired(patches, anomalous, grid)
        middle = cosines_of(repaired(kept[settings.middle_block][1:], anomalous, grid))
        low = cosines_of(kept[settings.low_block][1:])
        patches = averaged(patches, middle, settings.similarity)
        guide = guide_of(middle)
        own = self._last(vit, patches, guide) + settings.cls_share * cls
        levels = torch.stack([kept[block] for block in range(*settings.levels)]).sum(dim=0)
        others = self._last(vit, levels[1:], guide) + settings.cls_share * levels[:1]
        return averaged(own, low, settings.similarity) + averaged(others, low, settings.similarity)

    def _last(self, vit: DenseViT, patches: Tensor, guide: Tensor) -> Tensor:
        """Patches (N, C) through the last attention, beside what guides it (N, N): (N, C)."""
        normed = vit.last.ln_1(patches)[None]
        values, keys = vit.values(normed), vit.split_heads(vit.keys(normed))
        by_keys = merge_heads(F.scaled_dot_product_attention(keys, keys, vit.split_heads(values)))
        return vit.project((guide.to(values.dtype) @ values + by_keys) / 2)[0]


def guide_of(similarity: Tensor) -> Tensor:
    """Return how much patches attend to others by their similarity (N, N): only to what is more alike than the mean."""
    guide = (similarity - similarity.mean()) * SHARPNESS
    return guide.masked_fill(guide < 0, -torch.inf).softmax(dim=-1)


def anomalies_of(patches: Tensor, neighbours: int, share: float) -> Tensor:
    """Return which of the patches (N, C) lie in the sparsest surroundings, (N,) bool.

    Their score is a local outlier factor, how much farther away a patch's k-th neighbour is than those of its
    neighbours. As in the published code, how far a neighbour can be reached goes by the patch's own distance to the
    k-th one, in place of the neighbour's: it is the same for all k, and no distance to a single neighbour counts.
    """
    count = min(neighbours, len(patches) - 1)
    if count < 1:
        return torch.zeros(len(patches), dtype=torch.bool, device=patches.device)
    squares = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist").square()  # (N, N)
    near, which = squares.topk(count + 1, largest=False)
    reach = near[:, -1]  # (N,)
    scores = reach * reach.reciprocal()[which[:, 1:]].mean(dim=1)
    return scores > scores.quantile(1 - share)


def repaired(patches: Tensor, anomalous: Tensor, grid: Grid) -> Tensor:
    """Return patches (N, C) with the mean of their sound neighbours, of eight, in place of anomalies that have any."""
    sound = (~anomalous).to(patches.dtype).view(1, 1, *grid)
    around = patches.new_ones(1, 1, 3, 3)
    around[..., 1, 1] = 0
    maps = patches.T.reshape(-1, 1, *grid)  # (C, 1, h, w)
    sums = F.conv2d(maps * sound, around, padding=1).flatten(1).T  # (N, C)
    counts = F.conv2d(sound, around, padding=1).flatten()[:, None]  # (N, 1)
    return torch.where(anomalous[:, None] & (counts > 0), sums / counts.clamp(min=1), patches)


def cosines_of(patches: Tensor) -> Tensor:
    """(N, C) -> (N, N) float32"""
    unit = F.normalize(patches.float(), dim=1)
    return unit @ unit.T


def averaged(patches: Tensor, similarity: Tensor, least: float) -> Tensor:
    """Return patches (N, C) averaged over those that are alike, by how much (N, N)."""
    weights = similarity.masked_fill(similarity < least, 0)
    weights = weights / (weights.sum(dim=1, keepdim=True) + TINY)
    return weights.to(patches.dtype) @ patches
