"""SelfMask + CLIP, the baseline of NamedMask's table 3: one mask from a saliency network, one name from CLIP.

Whatever is salient bears the name that CLIP gives to the picture, everything else is background. So a picture has one
name at most; what it lacks beside NamedMask is what distillation brings.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask import saliency
from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.methods import networks_behind
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import centre_view, resize, to_tensor
from wordmask.pictures.reduced import Picture, Reduced
from wordmask.refinement.by_name import NameRefinement, refine_names
from wordmask.refinement.clean_up import THRESHOLD, Refinement
from wordmask.refinement.clean_up import refine as refine_saliency
from wordmask.segmenters.base import Seen, Segmenter
from wordmask.segmenters.open_vocabulary import COSINE_SCALE, Objectness
from wordmask.weights.addresses import Address

PICTURES_PER_PASS = 32
NamedBy = Literal["image", "crop", "masked"]
MARGIN = 0.1
SOFT: dict[str, Refinement] = {"none": "none", "solver": "solver"}
"""Refinements of the soft map itself; others choose between its two sides."""


@dataclass(frozen=True)
class SaliencyClipSettings:
    """clip: an `open_clip` architecture and the tag of its weights, or another address of a whole CLIP. clip_weights: a
    file or URL for the architecture that `clip` names. templates: the prompts that a name is read in, a set of
    `names.prompts.TEMPLATE_SETS`.

    saliency: which registered method tells what is salient. saliency_preset: which of its own presets, "paper" by
    default. saliency_weights: in place of its usual ones. refine: what becomes of its map; the paper has the bilateral
    solver.

    named_by: what CLIP looks at. image: all of it, as in the paper. crop: the box around the mask. masked: the same
    with all else in CLIP's mean colour. margin: what the box has to spare, as a share of its sides.
    """

    clip: Address = "ViT-L-14-336/openai"
    clip_weights: Address | None = None
    templates: str = "imagenet-85"
    saliency: str = "selfmask"
    saliency_weights: Address | None = None
    saliency_preset: str | None = None
    refine: NameRefinement = "solver"
    named_by: NamedBy = "image"
    margin: Annotated[float, Field(ge=0)] = MARGIN


PRESETS = {"paper": SaliencyClipSettings()}


class SeenSalient(Seen):
    """What is salient, and what CLIP makes of it."""

    def __init__(
        self,
        segmenter: "SaliencyClip",
        image: Picture,
        source: str,
        mask: np.ndarray,
        sure: np.ndarray,
        name: Tensor,
    ):
        super().__init__(image, source)
        self._segmenter = segmenter
        self._mask = mask  # (H, W) bool
        self._sure = sure  # (H, W) float32, of each pixel's being salient or not
        self._name = name  # (D,) CLIP's embedding

    def kept(self) -> dict[str, Tensor]:
        return {"mask": torch.from_numpy(self._mask), "sure": torch.from_numpy(self._sure), "name": self._name}

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        """Without "background" among the names there is but one answer for all pixels: the picture's best name."""
        background = vocabulary.background
        named = vocabulary.without_background()
        if not len(named):
            nowhere = np.where(self._mask, 1 - self._sure, self._sure)
            return self._answer(vocabulary, np.zeros(self._mask.shape, np.int64), nowhere)
        cosines = self._segmenter.embed(named).cosines(self._name[None, :, None, None])[0, :, 0, 0]  # (K,)
        probabilities = (COSINE_SCALE * cosines).softmax(dim=0)
        best, probability = int(probabilities.argmax()), float(probabilities.max())
        if background is None:
            return self._answer(vocabulary, np.full(self._mask.shape, best), np.full(self._mask.shape, probability))
        best += best >= background
        labels = np.where(self._mask, best, background)
        return self._answer(vocabulary, labels, self._sure * np.where(self._mask, probability, 1))

    def _answer(self, vocabulary: Vocabulary, labels: np.ndarray, scores: np.ndarray) -> Segmentation:
        return Segmentation(
            labels.astype(label_type(len(vocabulary))),
            list(vocabulary.names),
            scores.astype(np.float32),
            self._image,
            self.source,
        )


class SaliencyClip(Segmenter):
    method = "selfmask-clip"
    Settings = SaliencyClipSettings
    presets = PRESETS

    def __init__(self, clip: ClipEncoder, salient: Objectness, settings: SaliencyClipSettings | None = None):
        """salient: pictures (H, W, 3) uint8 -> maps (H, W) in [0, 1], not refined."""
        self.clip, self.salient = clip, salient
        self.precision = clip.precision
        self.settings = settings or SaliencyClipSettings()
        self.embed = TextEmbedder(clip, templates(self.settings.templates))

    @property
    def sees_objects(self) -> bool:
        return True

    @property
    def races_alone(self) -> bool:
        """A picture has one name here, and of several things in it a concept may win."""
        return False

    @classmethod
    def build(cls, settings: SaliencyClipSettings, compute: Compute) -> Self:
        clip = clip_at(settings.clip, settings.clip_weights, compute)
        objects = saliency.load_within(settings, compute.like(clip))
        return cls(clip, objects.maps, settings)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"clip": self.clip.model, **networks_behind(self.salient, "saliency")}

    @torch.inference_mode()
    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        found = [self._mask(image, soft) for image, soft in zip(images, self.salient(images), strict=True)]
        seen_by = (self.clip, self.settings.named_by, self.settings.margin)
        views = [view_of(image, mask, *seen_by) for image, (mask, _) in zip(images, found, strict=True)]
        passes = torch.stack(views).split(PICTURES_PER_PASS)
        embeddings = torch.cat([self.clip.encode_image(part) for part in passes])
        return [
            SeenSalient(self, image, source, mask, sure, embedding)
            for image, source, (mask, sure), embedding in zip(images, sources, found, embeddings, strict=True)
        ]

    @torch.inference_mode()
    def see_again(self, kept: Mapping[str, Tensor], size: tuple[int, int], source: str) -> Seen:
        mask, sure, name = kept["mask"].numpy(), kept["sure"].numpy(), kept["name"].to(self.clip.device)
        return SeenSalient(self, Reduced.gone(size), source, mask, sure, name)

    def _mask(self, image: np.ndarray, soft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refine a map: what is salient, (H, W) bool, and how sure that is, (H, W)."""
        if self.settings.refine not in SOFT:
            both = torch.from_numpy(np.stack([1 - soft, soft]))  # (2, H, W)
            before = (soft > THRESHOLD).astype(np.int64)
            labels, sure = refine_names(
                image, before, lambda which, size: resize(both[list(which)], size), self.settings.refine
            )
            return labels.astype(bool), sure
        refined = refine_saliency(image, soft, SOFT[self.settings.refine])
        mask = refined > THRESHOLD
        return mask, np.where(mask, refined, 1 - refined)


def view_of(
    image: np.ndarray, mask: np.ndarray, clip: ClipEncoder, named_by: NamedBy, margin: float = MARGIN
) -> Tensor:
    """Return what CLIP looks at to name a mask (H, W) of a picture: (3, h, w) in [0, 1], of the size that it was
    trained on.
    """
    box = _box_around(mask, margin)
    if named_by == "image" or box is None:
        return centre_view(image, clip.image_size)
    rows, columns = box
    if named_by == "masked":
        grey = np.rint(255 * np.array(clip.statistics.mean)).astype(np.uint8)
        image = np.where(mask[..., None], image, grey)
    return to_tensor(image[rows, columns], clip.image_size, mode="bicubic")


def _box_around(mask: np.ndarray, margin: float) -> tuple[slice, slice] | None:
    """Rows and columns that hold the whole mask (H, W), with some room; None where it is empty."""
    sides = []
    for axis in (1, 0):
        there = np.flatnonzero(mask.any(axis=axis))
        if not len(there):
            return None
        first, last = int(there[0]), int(there[-1]) + 1
        room = round(margin * (last - first))
        sides.append(slice(max(0, first - room), last + room))
    return sides[0], sides[1]
