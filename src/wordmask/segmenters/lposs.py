"""LPOSS (Stojnić, Kalantidis, Matas and Tolias, "LPOSS: Label Propagation Over Patches and Pixels for Open-vocabulary
Semantic Segmentation", CVPR 2025), as it was published: CLIP-DINOiser's reading of CLIP, whose cosines are spread.

How they are spread is `wordmask.refinement.lposs`, an option of other methods too. Here it is raw cosines that spread,
phrase by phrase, and a name's score is the best of its phrases' on the pixels that were looked at.
"""

import torch
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.encoders.clip_dense import CLIP_DINOISER
from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.pictures.windows import Patch, SlidingWindows, merge_maps
from wordmask.refinement.by_name import NAMES_TOGETHER, PatchRefinement
from wordmask.segmenters.open_vocabulary import COSINE_SCALE, PictureScores
from wordmask.segmenters.patch_cosines import CompetingPhrases, PatchCosines, PatchCosineSettings
from wordmask.weights.addresses import Address


@dataclass(frozen=True)
class LpossSettings(PatchCosineSettings):
    """The settings of `PatchCosineSettings`, whose defaults are the paper's; `refine="lposs+"` is its LPOSS+.

    scale: of a name's probability alone; the best name is the same whatever it is.
    """

    clip: Address = "ViT-B-16/laion2b_s34b_b88k"
    shorter_side: PositiveInt | None = 448
    scale: PositiveFloat = COSINE_SCALE
    refine: PatchRefinement = "lposs"


PRESETS = {"paper": LpossSettings()}


class LpossSegmenter(PatchCosines):
    method = "lposs"
    Settings = LpossSettings
    presets = PRESETS

    def features(self, windows: Tensor) -> Tensor:
        return self.clip.dense(windows, reading=CLIP_DINOISER).values

    def merge(
        self, plan: SlidingWindows, maps: Tensor, patch: Patch, text: TextEmbeddings, guide: Tensor | None
    ) -> PictureScores:
        """Take the best phrase of every name where the picture was looked at, before anything is resized."""
        names = len(text.vocabulary)
        if len(text.owner) == names:
            return super().merge(plan, maps, patch, text, guide)
        size = (plan.height, plan.width)
        best = maps.new_full((names, *size), -torch.inf)
        for phrases in torch.arange(len(text.owner), device=maps.device).split(NAMES_TOGETHER):
            for phrase, fine in zip(phrases.tolist(), merge_maps(plan, maps[:, phrases], patch, size), strict=True):
                own = best[int(text.owner[phrase])]
                torch.maximum(own, fine, out=own)
        alone = TextEmbeddings(text.vocabulary, text.vectors, torch.arange(names))
        return CompetingPhrases(SlidingWindows.whole(size), best[None], 1, alone, self.settings, guide)
