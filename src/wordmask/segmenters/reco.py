"""ReCo (Shin, Xie and Albanie, "ReCo: Retrieve and Co-segment for Zero-shot Transfer", NeurIPS 2022).

A name becomes a prototype: CLIP finds pictures of it in an archive, and co-segmentation finds what they have in common
(`reco_prototypes.py`). A patch of a new picture scores by its likeness to the prototype, as an image encoder sees it,
times CLIP's opinion of the same patch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.timm_building import dino_at
from wordmask.names.contrast import Concepts, Contrast
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import Rivals, Vocabulary
from wordmask.segmenters.base import Segmenter, SegmenterError
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter, Sliding
from wordmask.segmenters.reco_archive import RUN_ARCHIVE, Archive, FolderArchive
from wordmask.segmenters.reco_prototypes import PatchEncoder, Prototypes, Recipe, Weighed, on_grid, text_attention
from wordmask.weights.addresses import Address

Features = Literal["tokens", "keys", "values"]
CLIP_ITSELF = "clip"


@dataclass(frozen=True)
class ReCoSettings(Sliding):
    """archive: a folder of pictures, or that of a run of `wordmask distill`. pictures: how many of them stand for a
    name. archive_clip, archive_clip_weights: what finds them, as clip and clip_weights.

    clip: the CLIP that text attention comes from, an `open_clip` architecture and the tag of its weights, or another
    address of a whole CLIP. clip_weights: a file or URL for the architecture that `clip` names. templates: the prompts
    that a name is read in, a set of `names.prompts.TEMPLATE_SETS`.
    encoder: what pictures are co-segmented with, the address of a DINO, or "clip" for that CLIP itself. features: what
    is read of its last block.
    archive_side: the archive's pictures are looked at in their middle square, of so many pixels. context: names whose
    prototypes others are held against. text_attention: whether CLIP's attention to the name counts. weighed: "patches"
    multiplies a patch's support by its own weight; "matches", the published code's way, every match by that of the
    patch matched. clip_at_inference: whether CLIP has a say in new pictures too.
    background_threshold: "background" is where the best name scores less than this. threshold_of: whether that is a
    share of the best score in the picture ("picture"), or a score as it is ("score"). No score is above 0.73, so that
    the 0.9 of the NamedMask paper can only be a share.
    """

    clip: Address = "RN50x16/openai"
    clip_weights: Address | None = None
    archive_clip: Address = "ViT-L-14-336/openai"
    archive_clip_weights: Address | None = None
    encoder: Address = "vit_small_patch16_224.dino"
    features: Features = "tokens"
    templates: str = "imagenet-85"
    archive: Path | None = None
    pictures: PositiveInt = 50
    archive_side: PositiveInt = 224
    context: tuple[str, ...] = Recipe.context
    text_attention: bool = True
    weighed: Weighed = "patches"
    clip_at_inference: bool = True
    background_threshold: Annotated[float, Field(ge=0, le=1)] | None = 0.9
    threshold_of: Literal["picture", "score"] = "picture"

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.pictures, self.archive_side, self.context, self.text_attention, self.weighed)


PRESETS = {"paper": ReCoSettings()}


class ReCo(OpenVocabularySegmenter):
    method = "reco"
    Settings = ReCoSettings
    presets = PRESETS

    def __init__(
        self, clip: ClipEncoder, encoder: PatchEncoder, archive: Archive, settings: ReCoSettings | None = None
    ):
        settings = settings or ReCoSettings()
        embed = TextEmbedder(clip, templates(settings.templates))
        super().__init__(embed, settings, background_threshold=settings.background_threshold)
        self.clip, self.encoder, self.settings = clip, encoder, settings
        self.prototypes = Prototypes(archive, encoder, clip, embed, settings.recipe)
        self.patch_size = encoder.patch_size
        self.precision = clip.precision

    @property
    def concepts(self) -> Concepts:
        """None by itself: each would be searched for in the archive, which takes long."""
        return Concepts({})

    def rivals(self, contrast: Contrast, vocabulary: Vocabulary) -> Rivals:
        return Segmenter.rivals(self, contrast, vocabulary)

    @classmethod
    def build(cls, settings: ReCoSettings, compute: Compute) -> Self:
        if settings.archive is None:
            raise SegmenterError(
                "ReCo learns names from pictures: give archive=FOLDER (`--set archive=FOLDER`), of pictures "
                "or of a run of `wordmask distill`"
            )
        own, finding = (settings.clip, settings.clip_weights), (settings.archive_clip, settings.archive_clip_weights)
        clip = clip_at(*own, compute)
        compute = compute.like(clip)
        finder = clip if finding == own else clip_at(*finding, compute)
        archive = open_archive(settings.archive, finder, TextEmbedder(finder, templates(settings.templates)))
        return cls(clip, patch_encoder(settings.encoder, settings.features, clip, compute), archive, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        finder = getattr(getattr(self.prototypes.archive, "embed", None), "encoder", None)
        found = {"archive_clip": finder.model} if isinstance(finder, ClipEncoder) else {}
        encoder = {} if self.encoder.network is None else {"encoder": self.encoder.network}
        return {"clip": self.clip.model, **encoder, **found, **self.refining_networks}

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        features = F.normalize(self.encoder.read(windows), dim=1)
        return (features, self.clip.dense(windows).values) if self.settings.clip_at_inference else (features,)

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        prototypes = self.prototypes.of(text.vocabulary)  # (K, C)
        likeness = torch.einsum("nchw,kc->nkhw", features[0], prototypes.to(features[0])).sigmoid()
        if len(features) == 1:
            return likeness
        grid = (likeness.shape[-2], likeness.shape[-1])
        attention = text_attention(text.cosines(features[1]))
        return likeness * on_grid(attention, self.clip.patch_size, grid, self.patch_size)

    def threshold_for(self, scores: np.ndarray, threshold: float) -> float:
        return threshold * float(scores.max()) if self.settings.threshold_of == "picture" else threshold


def open_archive(folder: Path, finder: ClipEncoder, embed: TextEmbedder) -> Archive:
    """Return the pictures of a folder, or those that a run of `wordmask distill` found in its collection."""
    if not (folder / RUN_ARCHIVE).is_file():
        return FolderArchive(folder, finder, embed)
    from wordmask.segmenters.reco_run import RunArchive  # pyarrow, which most have no use for

    return RunArchive(folder, embed)


def patch_encoder(encoder: str, features: Features, clip: ClipEncoder, compute: Compute) -> PatchEncoder:
    """Return what co-segments: the DINO at an address, or "clip"."""
    if encoder == CLIP_ITSELF:
        if features == "tokens":
            raise SegmenterError("encoder='clip' is read by its keys or values: give features='keys' or 'values'")
        fingerprint = f"{clip.image_fingerprint} {features}"
        return PatchEncoder(_reader_of_clip(clip, features), clip.patch_size, fingerprint, clip.model)
    dino = dino_at(encoder, None, compute)
    readers: dict[Features, Callable[[Tensor], Tensor]] = {
        "tokens": lambda windows: dino(windows).tokens,
        "keys": lambda windows: dino(windows).key_maps(),
        "values": lambda windows: dino(windows).value_maps(),
    }
    return PatchEncoder(readers[features], dino.patch_size, f"{dino.fingerprint} {features}", dino.model)


def _reader_of_clip(clip: ClipEncoder, features: Features) -> Any:
    def read(windows: Tensor) -> Tensor:
        dense = clip.dense(windows, keys=features == "keys")
        return dense.values if dense.keys is None else dense.keys

    return read
