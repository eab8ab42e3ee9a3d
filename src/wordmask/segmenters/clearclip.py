"""ClearCLIP (Lan et al., "Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024).

What makes CLIP's patches noisy is what enters its last block beside the attention, and the MLP on top: both are left
out. A patch attends to those that ask for the same, queries with queries.
"""

from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from wordmask.encoders.clip_dense import CLEARCLIP
from wordmask.segmenters.last_block import LastBlock
from wordmask.segmenters.patch_cosines import PatchCosineSettings


@dataclass(frozen=True)
class ClearClipSettings(PatchCosineSettings):
    """The settings of `PatchCosineSettings`, with ClearCLIP's windows, scale and padding."""

    shorter_side: PositiveInt | None = 448
    window: PositiveInt | None = 448
    stride: PositiveInt = 224
    scale: PositiveFloat = 50.0
    pad_multiple: PositiveInt | Literal["patch"] | None = "patch"


PRESETS = {"paper": ClearClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"background_threshold": 0.5},
    "context": {"background_threshold": 0.15},
    "coco-object": {"background_threshold": 0.4},
    "cityscapes": {"window": 224},
}
"""What the authors set for single benchmarks, by their names."""


class ClearClip(LastBlock):
    method = "clearclip"
    Settings = ClearClipSettings
    presets = PRESETS
    reading = CLEARCLIP
    hears_grounds = False
