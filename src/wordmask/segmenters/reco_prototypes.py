"""ReCo's prototypes: what the pictures of a name have in common, as one vector in the space of an image encoder.

The patch of each picture that has a good match in most of the others is its seed, unless CLIP doubts that it shows the
name (text attention) or it looks like what surrounds many things (context elimination). The seeds' mean is the
prototype.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.encoders.clip import ClipEncoder
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of, file_digest
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError, warn_left_out
from wordmask.pictures.images import centre_view, read_image
from wordmask.segmenters.base import SegmenterError
from wordmask.segmenters.reco_archive import Archive
from wordmask.weights.cache import cache_dir

ATTENTION_SCALE = 10.0
PICTURES_PER_PASS = 10
Weighed = Literal["patches", "matches"]


@dataclass(frozen=True)
class PatchEncoder:
    """Pictures (B, 3, H, W) in [0, 1] -> features (B, C, h, w) of patches of `patch_size` pixels.

    network: the one that `read` asks.
    """

    read: Callable[[Tensor], Tensor]
    patch_size: int
    fingerprint: str
    network: nn.Module | None = None


@dataclass(frozen=True)
class Recipe:
    """How prototypes are made; whatever changes one is part of its key.

    side: pictures of an archive are looked at in their middle square, of so many pixels.
    weighed: see `co_segment`.
    """

    pictures: int = 50
    side: int = 224
    context: tuple[str, ...] = ("tree", "sky", "building", "road", "person")
    text_attention: bool = True
    weighed: Weighed = "patches"


def co_segment(features: Tensor, weights: Tensor, weighed: Weighed = "patches") -> Tensor:
    """Return the prototype (C,) of pictures' features (n, C, h, w), each patch weighted (n, h, w); normalised.

    A patch's support is the mean over the pictures of its best match there. weighed: "patches" multiplies a patch's
    support by its own weight; "matches", the published code's way, every match by that of the patch matched.
    """
    unit = F.normalize(features, dim=1).flatten(2).transpose(1, 2)  # (n, h*w, C)
    flat_weights = weights.flatten(1)  # (n, h*w)
    seeds = []
    for own, own_unit, own_weights in zip(features.flatten(2), unit, flat_weights, strict=True):
        matches = torch.einsum("pc,nqc->pnq", own_unit, unit)  # one picture's patches against all others'
        if weighed == "matches":
            matches = matches * flat_weights
        support = matches.amax(dim=2).mean(dim=1)  # (h*w,)
        if weighed == "patches":
            support = support * own_weights
        seeds.append(own[:, support.argmax()])
    return F.normalize(torch.stack(seeds).mean(dim=0), dim=0)


def text_attention(cosines: Tensor) -> Tensor:
    return (ATTENTION_SCALE * cosines).sigmoid()


def on_grid(maps: Tensor, patch: int, grid: tuple[int, int], grid_patch: int) -> Tensor:
    """Read maps (n, K, h, w) on patches of one size at the centres of a grid of patches of another size."""
    if (maps.shape[-2], maps.shape[-1], patch) == (*grid, grid_patch):
        return maps
    centres = [(torch.arange(count, device=maps.device) + 0.5) * grid_patch / patch for count in grid]
    down, across = (2 * at / cells - 1 for at, cells in zip(centres, maps.shape[-2:], strict=True))
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)  # (h', w', 2)
    return F.grid_sample(maps, places.expand(len(maps), -1, -1, -1), padding_mode="border", align_corners=False)


class Prototypes:
    """Every name's prototype: computed once, then read from disk.

    The key holds the networks, the recipe, the name's phrases, and the contents of its pictures and of those of the
    context.
    """

    def __init__(
        self,
        archive: Archive,
        encoder: PatchEncoder,
        clip: ClipEncoder,
        embed: TextEmbedder,
        recipe: Recipe,
        *,
        cache: Path | None = None,
    ):
        self.archive, self.encoder, self.clip, self.embed, self.recipe = archive, encoder, clip, embed, recipe
        self.cache = cache or cache_dir() / "reco"
        self._known: dict[tuple[str, tuple[str, ...]], tuple[Tensor, str]] = {}

    def of(self, vocabulary: Vocabulary) -> Tensor:
        """(K, C), normalised."""
        return torch.stack(
            [self._of(name, own)[0] for name, own in zip(vocabulary.names, vocabulary.phrases, strict=True)]
        )

    def _of(self, name: str, phrases: tuple[str, ...]) -> tuple[Tensor, str]:
        """Return a prototype and its key. A name of the context, by whatever phrase, is not held against itself, nor
        against those after it.
        """
        if (name, phrases) not in self._known:
            context, called = self.recipe.context, {phrase.casefold() for phrase in (name, *phrases)}
            place = next((n for n, other in enumerate(context) if other.casefold() in called), len(context))
            others = [self._of(other, (other,)) for other in context[:place]]
            self._known[name, phrases] = self._read_or_make(name, phrases, others)
        return self._known[name, phrases]

    def _read_or_make(
        self, name: str, phrases: tuple[str, ...], context: Sequence[tuple[Tensor, str]]
    ) -> tuple[Tensor, str]:
        pictures = self.archive.best(name, phrases, self.recipe.pictures)
        key = self._key(phrases, pictures, [other for _, other in context])
        path = self.cache / f"{key}.npy"
        kept = _read(path)
        if kept is None:
            kept = self._make(name, phrases, pictures, [prototype for prototype, _ in context]).cpu()
            with atomic_write(path) as file:
                np.save(file, kept.numpy(), allow_pickle=False)
        return kept, key

    @torch.inference_mode()
    def _make(
        self, name: str, phrases: tuple[str, ...], pictures: Sequence[Path | bytes], context: Sequence[Tensor]
    ) -> Tensor:
        text = self.embed(Vocabulary((name,), (phrases,)))
        views = []
        for picture in pictures:
            try:
                views.append(centre_view(read_image(picture), (self.recipe.side, self.recipe.side)))
            except ImageReadError as error:
                warn_left_out(error)
        if not views:
            raise SegmenterError(f"the archive has no picture of {name!r} that can be read")
        read = [self._look(part, text, context) for part in torch.stack(views).split(PICTURES_PER_PASS)]
        features, weights = (torch.cat(parts) for parts in zip(*read, strict=True))
        return co_segment(features, weights, self.recipe.weighed)

    def _look(self, views: Tensor, text: TextEmbeddings, context: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) -> features (B, C, h, w) and how much each patch counts (B, h, w)."""
        features = self.encoder.read(views)
        grid = (features.shape[-2], features.shape[-1])
        weights = torch.ones_like(features[:, 0])
        if self.recipe.text_attention:
            attention = text_attention(text.cosines(self.clip.dense(views).values))  # (B, 1, h', w')
            weights = weights * on_grid(attention, self.clip.patch_size, grid, self.encoder.patch_size)[:, 0]
        unit = F.normalize(features, dim=1)
        for prototype in context:
            weights = weights * (1 - torch.einsum("bchw,c->bhw", unit, prototype.to(unit)).sigmoid())
        return features, weights

    def _key(self, phrases: Sequence[str], pictures: Sequence[Path | bytes], context: Sequence[str]) -> str:
        contents = [digest_of(own) if isinstance(own, bytes) else file_digest(own) for own in pictures]
        recipe = [self.recipe.side, self.recipe.text_attention, self.recipe.weighed]
        networks = [
            self.encoder.fingerprint,
            self.clip.image_fingerprint,
            self.embed.encoder.text_fingerprint,
            self.embed.templates.digest,
        ]
        everything = json.dumps([networks, recipe, list(phrases), contents, list(context)])
        return digest_of(everything)


def _read(path: Path) -> Tensor | None:
    """Return a kept prototype; None where there is none, or one that is damaged and will be made again."""
    try:
        kept = np.load(path, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    sound = kept.ndim == 1 and kept.dtype == np.float32 and abs(float(np.linalg.norm(kept)) - 1) < 1e-3
    return torch.from_numpy(kept) if sound else None
