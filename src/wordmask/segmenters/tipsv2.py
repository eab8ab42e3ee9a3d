"""TIPSv2 (google-deepmind/tips): an image tower whose patches were trained to lie among words.

A patch is read by its value alone in the last block, as MaskCLIP reads CLIP, with the residual and the MLP. Each window
is a softmax over the names, of cosines as they are.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.encoders.tips_text import TipsText, tips_text_at
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.open_vocabulary import Sliding
from wordmask.segmenters.text_aligned import TextAligned, stretched
from wordmask.weights.addresses import Address


@dataclass(frozen=True)
class TipsV2Settings(Sliding):
    """vision: a `timm` name, or another address of a whole network. vision_weights: those of a `timm` name, in place of
    its usual ones. text: the address of its words' tower, of the same size. tokenizer: the address of SentencePiece's
    file. templates: the prompts that a name is read in, a set of `names.prompts.TEMPLATE_SETS`.
    """

    stride: PositiveInt = 336
    vision: Address = "vit_large_patch14_reg1_tipsv2.webli"
    vision_weights: Address | None = None
    text: Address = "tipsv2-l-14-text"
    tokenizer: Address = "tips-tokenizer"
    templates: str = "sub-imagenet-9"


PRESETS = {"paper": TipsV2Settings()}


class TipsV2(TextAligned):
    method = "tipsv2"
    Settings = TipsV2Settings
    presets = PRESETS

    def __init__(self, vision: DinoEncoder, text: TipsText, settings: TipsV2Settings | None = None):
        settings = settings or TipsV2Settings()
        if text.embedding_size != vision.width:
            raise SegmenterError(
                f"{text.name} has words of {text.embedding_size} numbers, and {vision.name} patches of {vision.width}: "
                "choose towers of one size"
            )
        super().__init__(TextEmbedder(text, templates(settings.templates)), settings)
        self.vision, self.text, self.settings = vision, text, settings
        self.patch_size = vision.patch_size
        self.precision = vision.precision

    @classmethod
    def build(cls, settings: TipsV2Settings, compute: Compute) -> Self:
        text = tips_text_at(settings.text, settings.tokenizer, compute)
        return cls(dino_at(settings.vision, settings.vision_weights, compute), text, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"vision": self.vision.model, "text": self.text.model, **self.refining_networks}

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        return (self.vision.read_values(stretched(windows, self.patch_size)),)
