"""Talk2DINO (Barsellotti et al., "Talking to DINO: Bridging Self-Supervised Vision Backbones with Language for
Open-Vocabulary Segmentation", ICCV 2025).

DINOv2's patches stay as they are; CLIP's text embeddings are mapped among them by two small layers that learnt from
captions alone. A name's soft mask is the sigmoid of its cosine with every patch. Where background is looked for, what
the heads of CLS's last attention look at strengthens the names that they are about ("background cleaning").
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder, DinoFeatures
from wordmask.encoders.timm_building import dino_at
from wordmask.fingerprints import digest_of
from wordmask.names.prompts import Templates, templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.pictures.images import resize
from wordmask.refinement.pamr import pamr
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.open_vocabulary import Sliding
from wordmask.segmenters.text_aligned import Pixels, TextAligned
from wordmask.weights.addresses import Address, resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import fingerprint, read_state_dict

TINY = 1e-6
"""The least length by which a mapped embedding is divided: the published code's."""
REFINED_TOGETHER = 30
"""Names whose masks PAMR refines together, as in the published code; each is refined by itself."""


class TextMapper(nn.Module):
    """Psi of the paper: CLIP's text embeddings among DINO's patches. Parameter names are the published files'."""

    def __init__(self, text_width: int, patch_width: int):
        super().__init__()
        self.linear_layer = nn.Linear(text_width, patch_width)
        self.linear_layer2 = nn.Linear(patch_width, patch_width)

    def forward(self, text: Tensor) -> Tensor:
        """(n, text width) -> (n, patch width), of whatever length."""
        mapped: Tensor = self.linear_layer2(self.linear_layer(text).tanh())
        return mapped


WHOLE, LATER = "proj.", "hidden_layers.0."
"""Where the mapper lies in a file of the whole model, and what the authors' later code calls its second layer."""


def load_mapper(source: str | Path) -> TextMapper:
    """Return the mapper of a file: the published one's layout, {"linear_layer.weight", "linear_layer2.weight", ...}; a
    file of the whole model, with DINO and CLIP beside it; or one that `wordmask train-talk2dino` wrote.
    """
    state = read_state_dict(resolve(source, "mapper"), unwrap=("state_dict", "model"))
    if f"{WHOLE}linear_layer.weight" in state:
        state = {key.removeprefix(WHOLE): value for key, value in state.items() if key.startswith(WHOLE)}
    state = {key.replace(LATER, "linear_layer2."): value for key, value in state.items()}
    first = state.get("linear_layer.weight")
    if first is None or first.ndim != 2:
        raise SegmenterError(
            f"{source} holds no mapper of Talk2DINO: there is no linear_layer.weight of two sides, DINO's and CLIP's"
        )
    mapper = built_from(lambda: TextMapper(first.shape[1], first.shape[0]), state, what="the mapper of Talk2DINO")
    return mapper.eval().requires_grad_(False)


class MappedText:
    """CLIP's words among DINO's patches: a text tower for `TextEmbedder`."""

    def __init__(self, clip: ClipEncoder, mapper: TextMapper):
        if mapper.linear_layer.in_features != clip.embedding_size:
            raise SegmenterError(
                f"Talk2DINO's mapper is for text embeddings of {mapper.linear_layer.in_features} numbers, and "
                f"{clip.name} has {clip.embedding_size}: choose the CLIP that it was trained on"
            )
        self.clip, self.mapper = clip, mapper
        self.embedding_size = mapper.linear_layer2.out_features
        self.grounds, self.concepts = clip.grounds, clip.concepts

    @cached_property
    def text_fingerprint(self) -> str:
        return digest_of(f"{self.clip.text_fingerprint} mapped by {fingerprint(self.mapper)}")

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return self.mapped(self.clip.encode_text(prompts, unit=False))

    def mapped(self, text: Tensor) -> Tensor:
        """Text embeddings (n, D) as CLIP projects them -> (n, C), L2-normalised."""
        return F.normalize(self.mapper(text.to(self.mapper.linear_layer.weight)), dim=-1, eps=TINY)


@torch.inference_mode()
def embed_mapped(text: MappedText, phrases: Sequence[str], templates: Templates) -> Tensor:
    """(P, C): the mean of a phrase's prompts, none of them normalised, is mapped and normalised."""
    prompts = [prompt for phrase in phrases for prompt in templates.fill(phrase)]
    raw = text.clip.encode_text(prompts, unit=False)
    return text.mapped(raw.unflatten(0, (len(phrases), -1)).mean(dim=1))


@dataclass(frozen=True)
class Talk2DinoSettings(Sliding):
    """square: every window is resized to a square of so many pixels, whatever its shape.

    background_clean: the paper's lambda, how much the heads' maps count beside the masks; 0 leaves them out. Only where
    there is a background among the names: for VOC and COCO-Object, and not for Context, by the published settings.
    background_threshold: "background" is where no mask has as much. pamr: refine the masks of every window by PAMR, as
    the published figures do; `refine` would refine those of the whole picture.

    clip: whose words are mapped, an `open_clip` architecture and the tag of its weights, or another address of a whole
    CLIP. clip_weights: a file or URL for the architecture that `clip` names. templates: the prompts that a name is read
    in, a set of `names.prompts.TEMPLATE_SETS`. mapper: the address of the two trained layers.
    dino: a `timm` name, or another address of a whole network. dino_weights: those of a `timm` name, in place of its
    usual ones.
    """

    clip: Address = "ViT-B-16/openai"
    clip_weights: Address | None = None
    dino: Address = "vit_base_patch14_reg4_dinov2.lvd142m"
    dino_weights: Address | None = None
    mapper: Address = "talk2dino-vit-b"
    templates: str = "sub-imagenet-7"
    square: PositiveInt = 448
    background_clean: NonNegativeFloat = 0.2
    background_threshold: Annotated[float, Field(ge=0, le=1)] | None = 0.55
    pamr: bool = True


PRESETS = {"paper": Talk2DinoSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {"context": {"background_clean": 0.0}}
"""What the paper gives for single benchmarks. Those without a background are not cleaned anyway."""


class Talk2Dino(TextAligned):
    method = "talk2dino"
    Settings = Talk2DinoSettings
    presets = PRESETS
    has_weights = True

    def __init__(
        self, clip: ClipEncoder, dino: DinoEncoder, mapper: TextMapper, settings: Talk2DinoSettings | None = None
    ):
        settings = settings or Talk2DinoSettings()
        self.mapper = mapper.eval().requires_grad_(False).to(clip.device)
        text = MappedText(clip, self.mapper)
        if text.embedding_size != dino.width:
            raise SegmenterError(
                f"Talk2DINO's mapper is for patches of {text.embedding_size} numbers, and {dino.name} has "
                f"{dino.width}: choose the DINO that it was trained on"
            )
        if settings.square % dino.patch_size:
            raise SegmenterError(
                f"square={settings.square} is no multiple of {dino.name}'s patch of {dino.patch_size} pixels"
            )
        super().__init__(
            TextEmbedder(text, templates(settings.templates), embed=embed_mapped),
            settings,
            background_threshold=settings.background_threshold,
        )
        self.clip, self.dino, self.settings = clip, dino, settings
        self.patch_size = dino.patch_size
        self.precision = dino.precision

    @classmethod
    def build(cls, settings: Talk2DinoSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: of the mapper."""
        mapper = load_mapper(weights or settings.mapper)
        dino = dino_at(settings.dino, settings.dino_weights, compute)
        return cls(clip_at(settings.clip, settings.clip_weights, compute.like(dino)), dino, mapper, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"dino": self.dino.model, "clip": self.clip.model, "mapper": self.mapper, **self.refining_networks}

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Patch tokens (n, C, h, w), and what CLS's heads look at (n, heads, h, w) where it will be asked for."""
        features = self.dino(resize(windows, (self.settings.square, self.settings.square)))
        if not self.settings.background_clean:
            return (features.tokens,)
        return features.tokens, cls_logits(features).unflatten(-1, features.grid)

    def guide(self, picture: Tensor) -> Tensor | None:
        return picture if self.settings.pamr else None

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        masks = text.cosines(features[0]).sigmoid()  # (n, K, h, w)
        if not (self.settings.background_clean and text.has_background):
            return masks
        return cleaned(masks, features[0], features[1], text, self.settings.background_clean)

    def at_pixels(self, maps: Tensor, size: tuple[int, int], image: Tensor | None) -> Pixels:
        """Enlarge with the corners aligned, then refine within the window."""

        def pixels(which: Sequence[int]) -> Tensor:
            masks = F.interpolate(maps[list(which)][None], size, mode="bilinear", align_corners=True)[0]
            if image is None:
                return masks
            levels = image * 255  # the scale that the published code refines on
            return torch.cat([pamr(levels, part) for part in masks.split(REFINED_TOGETHER)])

        return pixels


def cls_logits(features: DinoFeatures) -> Tensor:
    """Return what CLS's heads look at in the last block, before the softmax and, as in the published code, before any
    rotary code: (B, heads, h*w).
    """
    scale = features.keys.shape[-1] ** -0.5
    return torch.einsum("bhd,bhnd->bhn", features.cls_query * scale, features.keys)


def cleaned(masks: Tensor, tokens: Tensor, logits: Tensor, text: TextEmbeddings, amount: float) -> Tensor:
    """Section 3.4: masks (n, K, h, w) of n windows, each strengthened by what CLS's heads look at for its name.

    tokens (n, C, h, w), logits (n, heads, h, w). The maps are laid between the least and the largest value of a
    window's masks; as in the published code they are divided by their largest value, not by their range.
    """
    per_head = torch.einsum("nhp,ncp->nch", logits.flatten(2), tokens.flatten(2))  # a sum: lengths play no part
    told = text.cosines(per_head[..., None])[..., 0]  # (n, K, heads)
    weights = told.softmax(dim=1)  # over the names
    maps = torch.einsum("nkh,nhp->nkp", weights, logits.flatten(2)) / weights.sum(dim=2, keepdim=True)
    maps = maps.softmax(dim=2)  # (n, K, h*w)
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    low, high = (edge(masks, dim=(1, 2, 3))[:, None, None] for edge in (torch.amin, torch.amax))
    laid = (maps - least) / torch.maximum(most, most - least) * (high - low) + low
    return (masks + amount * laid.view_as(masks)) / (1 + amount)
