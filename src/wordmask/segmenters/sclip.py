"""SCLIP (Wang, Mei and Yuille, "Rethinking Self-Attention for Dense Vision-Language Inference", ECCV 2024).

In CLIP's last block a patch attends to those that ask for the same, and to those that answer the same: the softmax of
queries with queries and that of keys with keys, added (correlative self-attention). The rest of the block stays.
"""

from typing import Any

from pydantic.dataclasses import dataclass

from wordmask.encoders.clip_dense import SCLIP
from wordmask.segmenters.last_block import LastBlock
from wordmask.segmenters.patch_cosines import PatchCosineSettings


@dataclass(frozen=True)
class SclipSettings(PatchCosineSettings):
    """The settings of `PatchCosineSettings`, whose defaults are the paper's."""


PRESETS = {"paper": SclipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"scale": 65.0, "background_threshold": 0.1, "area_threshold": 0.1},
    "context": {"scale": 50.0, "background_threshold": 0.1},
    "coco-object": {"scale": 50.0, "background_threshold": 0.1},
    "coco-stuff": {"shorter_side": 448},
    "cityscapes": {"shorter_side": 560},
}
"""What the authors set for single benchmarks, by their names."""


class Sclip(LastBlock):
    method = "sclip"
    Settings = SclipSettings
    presets = PRESETS
    reading = SCLIP
