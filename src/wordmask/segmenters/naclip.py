"""NACLIP (Hajimiri, Ben Ayed and Dolz, "Pay Attention to Your Neighbours", WACV 2025).

In CLIP's last block a patch attends to those with like keys, and to its neighbours: a Gaussian of the distance between
two patches is added to what their keys have in common. What enters the block beside the attention, and the MLP, are
left out. PAMR then lets the cosines follow the picture's edges.
"""

from typing import Any

from pydantic.dataclasses import dataclass

from wordmask.encoders.clip_dense import NACLIP
from wordmask.segmenters.last_block import LastBlock
from wordmask.segmenters.patch_cosines import PatchCosineSettings


@dataclass(frozen=True)
class NaClipSettings(PatchCosineSettings):
    """The settings of `PatchCosineSettings`, with PAMR, which the authors' code runs by default."""

    pamr: bool = True


PRESETS = {"paper": NaClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"window": None, "background_threshold": 0.1},
    "voc20": {"window": None},
    "context": {"background_threshold": 0.1},
    "coco-object": {"background_threshold": 0.1},
    "cityscapes": {"shorter_side": 560},
}
"""What the authors set for single benchmarks, by their names. VOC's pictures are looked at as a whole."""


class NaClip(LastBlock):
    method = "naclip"
    Settings = NaClipSettings
    presets = PRESETS
    reading = NACLIP
    hears_grounds = False
