"""Mean and deviation of the pictures that networks were trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, as `open_clip` has them."""


@dataclass(frozen=True)
class ImageStatistics:
    """Mean and deviation per channel, for values in [0, 1]."""

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def normalise(self, images: "Tensor") -> "Tensor":
        """Return pictures (B, 3, H, W) with these taken out of them."""
        mean = images.new_tensor(self.mean)[:, None, None]
        std = images.new_tensor(self.std)[:, None, None]
        return (images - mean) / std


IMAGENET = ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
