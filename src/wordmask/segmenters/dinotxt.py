"""dino.txt (Jose et al., "DINOv2 Meets Text", CVPR 2025) as it is published for DINOv3 ViT-L/16.

Two blocks that were trained with a text tower bring DINO's patches among words. Each window is a softmax over the
names, of cosines as they are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.dinotxt import DinoText, VisionHead, dinotxt_at
from wordmask.encoders.timm_building import dino_at
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.segmenters.base import MissingWeightsError, SegmenterError
from wordmask.segmenters.open_vocabulary import Sliding
from wordmask.segmenters.text_aligned import TextAligned, stretched
from wordmask.weights.addresses import Address

FILE = "dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth"
WHERE = "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/"
"""Where the licence is accepted; the address of the file comes by mail."""


@dataclass(frozen=True)
class DinoTxtSettings(Sliding):
    """dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones. words: the file of the blocks and the text tower; there is no public address of it.
    templates: the prompts that a name is read in, a set of `names.prompts.TEMPLATE_SETS`.
    """

    shorter_side: PositiveInt | None = 512
    window: PositiveInt | None = 384
    stride: PositiveInt = 192
    dino: Address = "vit_large_patch16_dinov3.lvd1689m"
    dino_weights: Address | None = None
    words: Address | None = None
    templates: str = "imagenet-80"


PRESETS = {"paper": DinoTxtSettings()}


class DinoTxt(TextAligned):
    method = "dinotxt"
    Settings = DinoTxtSettings
    presets = PRESETS
    has_weights = True

    def __init__(self, dino: DinoEncoder, head: VisionHead, text: DinoText, settings: DinoTxtSettings | None = None):
        settings = settings or DinoTxtSettings()
        if text.embedding_size != dino.width:
            raise SegmenterError(
                f"{text.name} has words of {text.embedding_size} numbers, and {dino.name} patches of {dino.width}: "
                "choose the DINO that it was trained on"
            )
        super().__init__(TextEmbedder(text, templates(settings.templates)), settings)
        self.dino, self.head, self.text, self.settings = dino, head, text, settings
        self.patch_size = dino.patch_size
        self.precision = dino.precision

    @classmethod
    def build(cls, settings: DinoTxtSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: the file of the blocks and the text tower."""
        file = weights or settings.words
        if file is None:
            raise MissingWeightsError(
                f"dino.txt's words lie behind a licence: accept it at {WHERE}, fetch {FILE}, and give "
                "weights=FILE (--weights FILE)"
            )
        dino = dino_at(settings.dino, settings.dino_weights, compute)
        return cls(dino, *dinotxt_at(file, dino.width, compute), settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"dino": self.dino.model, "head": self.head, "text": self.text.model, **self.refining_networks}

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        return (self.head.patches(self.dino(stretched(windows, self.patch_size))),)
