"""Regions by SAM 2 or SAM 3, through `transformers`. **Trained on masks**: what it cuts out was learnt from masks that
people and engines drew, so a result that uses it is not free of annotations. It is never chosen by itself.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from wordmask.compute import Compute
from wordmask.extras import need
from wordmask.regions.base import RegionError, Regions, in_order


@dataclass(frozen=True)
class SamSettings:
    """model: a repository of Hugging Face's, or a folder, of a network that `transformers` generates masks with.

    points: along each side of the grid of prompts. points_together: of these, that go through the network at once.
    least_quality: of a mask, by the network's own estimate. least_stability: of a mask, when its threshold changes.
    8, 0.4 and 0.4 are CorrCLIP's faster setting; its tables' masks come of 32 points.
    """

    model: str = "facebook/sam2-hiera-large"
    points: PositiveInt = 8
    least_quality: Annotated[float, Field(ge=0, le=1)] = 0.4
    least_stability: Annotated[float, Field(ge=0, le=1)] = 0.4
    points_together: PositiveInt = 64


PRESETS = {"paper": SamSettings()}


class SamRegions(Regions):
    method = "sam"
    Settings = SamSettings
    presets = PRESETS

    def __init__(self, generate: Any, settings: SamSettings | None = None):
        """generate: a pipeline "mask-generation" of `transformers`."""
        self.generate, self.settings = generate, settings or SamSettings()

    @classmethod
    def build(cls, settings: SamSettings, compute: Compute) -> Self:
        need("transformers")
        from transformers import pipeline

        try:
            generate = pipeline("mask-generation", model=settings.model, device=str(compute.device))
        except (OSError, ValueError, KeyError) as error:
            first = next(iter(str(error).splitlines()), "")
            raise RegionError(
                f"{settings.model!r} cannot be loaded as a network that generates masks: {first}"
            ) from error
        return cls(generate, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"sam": self.generate.model}

    def __call__(self, image: np.ndarray, /) -> np.ndarray:
        settings = self.settings
        found = self.generate(
            Image.fromarray(image),
            points_per_crop=settings.points,
            points_per_batch=settings.points_together,
            pred_iou_thresh=settings.least_quality,
            stability_score_thresh=settings.least_stability,
        )
        masks = [np.asarray(mask).astype(bool) for mask in found["masks"]]
        # As CorrCLIP paints them: from the smallest to the largest, whole things over their parts.
        return in_order(sorted(masks, key=np.count_nonzero), image.shape[:2])
