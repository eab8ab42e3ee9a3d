"""What methods have in common that differ in how they read CLIP's last block, and in little else."""

from typing import ClassVar

from torch import Tensor

from wordmask.encoders.clip_dense import Reading
from wordmask.encoders.grid import DINO_POSITIONS, to_maps
from wordmask.segmenters.patch_cosines import PatchCosines


class LastBlock(PatchCosines):
    """A subclass names its `reading`. Positions are resized by DINO's rule, as in the published code of all of them."""

    reading: ClassVar[Reading]

    def features(self, windows: Tensor) -> Tensor:
        tokens = self.clip.run(windows, positions=DINO_POSITIONS)
        return to_maps(self.clip.vit.read(tokens, self.reading), tokens.grid)
