"""How good the world's CLIP is: naming, finding the picture of a caption, and MaskCLIP's masks.

All on held-out pictures, drawn for the purpose; masks appear here and nowhere else in this package.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.dino import DinoEncoder
from wordmask_world.drawing.names import NAMES, STUFF, THINGS
from wordmask_world.drawing.scenes import Kind, Scene, draw_scene
from wordmask_world.training.data import HELD_OUT_SEED

NAMED_PICTURES = 480
SOUGHT_PICTURES = 100
MASKED_PICTURES = 48
SIZE = 128
FOUND_SIMILARITY = 0.3
"""Of the keys: FOUND's threshold."""
CROWDED: tuple[Kind, ...] = ("multi", "clutter", "pairs")


class Embedder(Protocol):
    """Pictures and prompts in one space: a `ClipEncoder`, or a model in training."""

    def encode_image(self, images: Tensor, /) -> Tensor: ...

    def encode_text(self, prompts: list[str], /) -> Tensor: ...


@lru_cache(maxsize=8)
def scenes(count: int, kinds: tuple[Kind, ...], first_seed: int = HELD_OUT_SEED, size: int = SIZE) -> tuple[Scene, ...]:
    """Pictures with at least one visible thing, the kinds in turn."""
    found: list[Scene] = []
    seed = first_seed
    while len(found) < count:
        scene = draw_scene(seed, size, kind=kinds[seed % len(kinds)])
        seed += 1
        if scene.things:
            found.append(scene)
    return tuple(found)


def as_batches(drawn: Sequence[Scene], batch: int = 32) -> Iterator[Tensor]:
    """(n, 3, H, W) in [0, 1]."""
    for start in range(0, len(drawn), batch):
        images = np.stack([scene.image for scene in drawn[start : start + batch]])
        yield torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def clip_figures(clip: ClipEncoder, *, first_seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Percentages: naming and recall@1 are shares of pictures, the rest are mean IoUs (see `mask_figures`)."""
    return {
        "naming": naming(clip, first_seed=first_seed),
        "recall_at_1": recall_at_1(clip, first_seed=first_seed),
        **mask_figures(clip, first_seed=first_seed),
    }


def naming(clip: Embedder, *, first_seed: int = HELD_OUT_SEED) -> float:
    """The share of pictures of one thing whose nearest prompt, among those of all things, is the thing's."""
    drawn = scenes(NAMED_PICTURES, ("single",), first_seed)
    prompts = clip.encode_text([_prompt(name) for name in THINGS])
    found = torch.cat([clip.encode_image(images) @ prompts.T for images in as_batches(drawn)]).argmax(dim=1)
    return 100 * float(np.mean([THINGS[best] == scene.things[0] for best, scene in zip(found, drawn, strict=True)]))


def recall_at_1(clip: Embedder, *, first_seed: int = HELD_OUT_SEED) -> float:
    """The share of captions (each picture's longest) whose nearest picture is their own; all kinds of picture."""
    drawn = scenes(SOUGHT_PICTURES, ("single", *CROWDED), first_seed)
    images = torch.cat([clip.encode_image(batch) for batch in as_batches(drawn)])
    texts = clip.encode_text([max(scene.captions, key=len) for scene in drawn])
    nearest = (texts @ images.T).argmax(dim=1).cpu()
    return 100 * float((nearest == torch.arange(len(drawn))).float().mean())


def mask_figures(clip: ClipEncoder, *, first_seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """MaskCLIP on crowded pictures: mean IoU over all names (things and stuff), with and without the last residual,
    beside what filling every picture with its best name scores; and over things and background, stuff being
    background, beside what calling everything background scores.
    """
    from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings

    drawn = scenes(MASKED_PICTURES, CROWDED, first_seed)
    images, truth = [scene.image for scene in drawn], [scene.labels for scene in drawn]
    things = [np.where(labels < len(THINGS), labels, len(THINGS)) for labels in truth]
    figures: dict[str, float] = {}
    for residual in (True, False):
        settings = MaskClipSettings(templates="photo", residual=residual, shorter_side=None, window=None)
        masks = [result.labels for result in MaskClip(clip, settings).segment_many(images, list(NAMES), fill=True)]
        ending = "" if residual else "_value_path"
        figures[f"miou_all{ending}"] = mean_iou(masks, truth, len(NAMES))
        masks = [np.where(found < len(THINGS), found, len(THINGS)) for found in masks]
        figures[f"miou_things{ending}"] = mean_iou(masks, things, len(THINGS) + 1)
    prompts = clip.encode_text([_prompt(name) for name in NAMES])
    whole = torch.cat([clip.encode_image(batch) @ prompts.T for batch in as_batches(drawn)]).argmax(dim=1).tolist()
    filled = [np.full_like(labels, best) for best, labels in zip(whole, truth, strict=True)]
    figures["miou_all_filled"] = mean_iou(filled, truth, len(NAMES))
    background = [np.full_like(labels, len(THINGS)) for labels in things]
    figures["miou_things_none"] = mean_iou(background, things, len(THINGS) + 1)
    return figures


def neighbour_naming(embed: Callable[[Tensor], Tensor], *, first_seed: int = HELD_OUT_SEED) -> float:
    """The share of held-out pictures of one thing whose nearest other picture (cosine) shows the same thing."""
    drawn = scenes(NAMED_PICTURES, ("single",), first_seed)
    features = torch.cat([embed(images) for images in as_batches(drawn)]).float()
    features = F.normalize(features - features.mean(dim=0), dim=-1)
    nearest = (features @ features.T).fill_diagonal_(-1).argmax(dim=1).tolist()
    same = [drawn[other].things[0] == scene.things[0] for other, scene in zip(nearest, drawn, strict=True)]
    return 100 * float(np.mean(same))


@torch.no_grad()
def dino_figures(dino: DinoEncoder, *, first_seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Neighbours by CLS, and the foreground that FOUND's seed gives before any training: background is what has keys
    like the least attended patch. Mean IoU of things and background, on pictures of one thing.
    """
    drawn = scenes(MASKED_PICTURES, ("single",), first_seed)
    masks: list[np.ndarray] = []
    for images in as_batches(drawn):
        read = dino(images)
        seed = read.cls_attention.sum(dim=1).argmin(dim=-1)  # (B,)
        keys = F.normalize(read.key_maps().flatten(2), dim=1)  # (B, C, h*w)
        alike = torch.einsum("bc,bcn->bn", keys[torch.arange(len(keys)), :, seed], keys)
        found = (alike <= FOUND_SIMILARITY).float().unflatten(1, read.grid)
        found = F.interpolate(found[:, None], images.shape[-2:], mode="nearest")[:, 0]
        masks += list(found.cpu().numpy().astype(np.int64))
    truth = [(scene.labels < len(THINGS)).astype(np.int64) for scene in drawn]
    return {
        "neighbour_naming": neighbour_naming(lambda images: dino(images).cls, first_seed=first_seed),
        "miou_seed": mean_iou(masks, truth, 2),
        "miou_seed_none": mean_iou([np.zeros_like(true) for true in truth], truth, 2),
    }


def mean_iou(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray], classes: int) -> float:
    """In percent, over the classes that occur in either; counted over all pictures together."""
    confusion = np.zeros((classes, classes), dtype=np.int64)
    for found, true in zip(masks, truth, strict=True):
        pairs = true.astype(np.int64).ravel() * classes + found.ravel()
        confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    both, union = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return 100 * float((both[union > 0] / union[union > 0]).mean())


def _prompt(name: str) -> str:
    """Stuff takes no article."""
    article = "" if name in STUFF else "an " if name[0] in "aeiou" else "a "
    return f"a photo of {article}{name}"
