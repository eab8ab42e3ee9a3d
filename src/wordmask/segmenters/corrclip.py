"""CorrCLIP (Zhang, Liu and Tang, ICCV 2025): patches listen to those of their own region.

CLIP's patches mix what is near and far alike. Here regions, found without names, say which patches may listen to each
other, and DINO says how much. Three readings of CLIP are summed: the values of the last block, those of lower blocks
brought through it, and a CLS of each region. Every region then takes the name that most of its pixels bear.

A bank of regions of other pictures may answer beside them (the second version): what looks like a region there, says
what it is in the space of CLIP.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.grid import DINO_POSITIONS, Grid, to_maps
from wordmask.encoders.timm_building import dino_at
from wordmask.encoders.upsampled import Upsampled
from wordmask.extras import need
from wordmask.methods import networks_behind
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings
from wordmask.pictures.images import to_tensor
from wordmask.pictures.reduced import Picture, pixels_of
from wordmask.pictures.windows import Patch, SlidingWindows, merge_maps
from wordmask.regions import DEFAULT_MAKER, maker_of
from wordmask.regions.bank import RegionBank, about
from wordmask.regions.base import RegionMaker, region_map
from wordmask.saliency.base import size_for_patches
from wordmask.segmenters.base import Seen, SegmenterError
from wordmask.segmenters.open_vocabulary import PictureScores, SeenThroughWindows
from wordmask.segmenters.patch_cosines import CompetingPhrases, PatchCosines, PatchCosineSettings
from wordmask.segmenters.proxyclip import whole_patches
from wordmask.segmenters.region_correlations import (
    MERGE_DISTANCE,
    SHARPNESS,
    listen,
    merge_regions,
    no_region,
    on_grid,
)
from wordmask.weights.addresses import Address
from wordmask.weights.loading import fingerprint

FINER = 2
"""Of a vision model's features, how many lie along a side of one of CLIP's patches."""
MOST_PATCHES = 16_384
"""A picture on more is looked at smaller by the vision model: 1792 x 1792 pixels under patches of 14."""
PADDING = 2**23
"""The number of the region that padding is: more than any region has, and a whole number in single precision."""
SPATIAL_BLOCKS = {12: 5, 24: 12, 32: 28}
"""How many of a transformer's blocks the spatial branch takes the mean of, by how many there are; of others all but
four. The last of them is the third from the end."""


def _merge_distance(settings: dict[str, Any]) -> float | None:
    """Of those settings that are known before it."""
    return None if settings.get("bank") else MERGE_DISTANCE


@dataclass(frozen=True)
class CorrClipSettings(PatchCosineSettings):
    """regions: what cuts pictures into regions: a maker of `wordmask.regions` by its name, or "module:function".
    regions_preset: of a named one, "paper" by default. The published tables took masks of SAM 2, which learnt from
    masks; "panoptic-cut" did not.
    map_correction: each region takes the name that most of its pixels bear.

    dino: a `timm` name, or another address of a whole network, which says how alike patches are. dino_weights: those of
    a `timm` name, in place of its usual ones. merge_distance: how much less alike than the most alike two regions may
    be to be one; None leaves them apart. sharpness: the paper's tau. spatial: the weight of the lower blocks' mean.
    semantic: the weight of the regions' own CLS.
    least_is_none: the least number in a window stands for no region, as published, also where every pixel has one:
    there a true region is looked at without bounds. False: 0 does, and nothing else.

    bank: a folder of `wordmask bank build`, whose regions answer beside the picture's own patches. neighbours: regions
    of it that answer for each of the picture's. own: the weight of the patches' cosines; the bank has the rest.
    index: "exact" compares with every region of the bank, "faiss" by an approximate index. vfm: as `dino`, the network
    that finds what looks alike in the bank; it must be the bank's. vfm_weights: as `dino_weights`. auxiliary: a second
    CLIP, as `clip`, that the bank's regions were read by too; both answer with equal weight.
    guides: which network says how alike patches are, `dino` or `vfm`. With a bank that is `vfm`, and regions that look
    alike are left apart (`merge_distance`), as published. bank_shorter_side: `shorter_side` while a bank is built.
    """

    bank: Path | None = None
    shorter_side: PositiveInt | None = 336
    window: PositiveInt | None = 336
    stride: PositiveInt = 112
    pad_multiple: PositiveInt | Literal["patch"] | None = 56
    clip: Address = "ViT-B-16-quickgelu/metaclip_fullcc"
    regions: str = DEFAULT_MAKER
    regions_preset: str | None = None
    map_correction: bool = True
    dino: Address = "vit_base_patch8_224.dino"
    dino_weights: Address | None = None
    guides: Literal["dino", "vfm"] = Field(default_factory=lambda told: "vfm" if told.get("bank") else "dino")
    merge_distance: Annotated[float, Field(ge=0, le=2)] | None = Field(default_factory=_merge_distance)
    sharpness: PositiveFloat = SHARPNESS
    spatial: Annotated[float, Field(ge=0)] = 1.0
    semantic: Annotated[float, Field(ge=0)] = 0.5
    least_is_none: bool = True
    vfm: Address = "vit_large_patch14_reg4_dinov2.lvd142m"
    vfm_weights: Address | None = None
    auxiliary: Address | None = None
    neighbours: PositiveInt = 20
    own: Annotated[float, Field(ge=0, le=1)] = 0.5
    index: Literal["exact", "faiss"] = "exact"
    bank_shorter_side: PositiveInt | None = 448

    @property
    def needs_vfm(self) -> bool:
        return self.bank is not None or self.guides == "vfm"


PRESETS = {"paper": CorrClipSettings()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "voc": {"background_threshold": 0.2},
    "context": {"background_threshold": 0.15},
    "coco-object": {"background_threshold": 0.25},
    "voc20": {},
    "context59": {},
    "coco-stuff": {},
    "cityscapes": {"shorter_side": 448, "window": 224, "stride": 112},
    "ade20k": {"shorter_side": 448},
}
"""Of each benchmark, the settings of the published tables that differ from the preset "paper"."""


class Recalled(NamedTuple):
    """What a bank says of a picture."""

    places: Tensor  # (h, w) each pixel's region
    answers: tuple[Tensor, ...]  # (R, D) of length 1, in the space of CLIP, and in that of the auxiliary one


class Window(NamedTuple):
    """A window as CLIP reads it, its borders included."""

    pixels: Tensor  # (1, 3, H, W) in [0, 1]
    regions: Tensor  # (H, W)
    unit: Tensor  # (N, C) what says how alike patches are
    grid: Grid  # that these lie on


class CorrClip(PatchCosines):
    method = "corrclip"
    Settings = CorrClipSettings
    presets = PRESETS
    settings: CorrClipSettings

    def __init__(
        self,
        clip: ClipEncoder,
        maker: RegionMaker,
        settings: CorrClipSettings | None = None,
        *,
        dino: DinoEncoder | None = None,
        vfm: DinoEncoder | None = None,
        auxiliary: ClipEncoder | None = None,
    ):
        """maker: see `wordmask.regions.base.RegionMaker`; any function from a picture to a map will do. dino, vfm and
        auxiliary are needed only where the settings ask for them.
        """
        super().__init__(clip, settings)
        settings = self.settings
        self.maker, self.dino, self.vfm, self.auxiliary = maker, dino, vfm, auxiliary
        self.correction = maker if settings.map_correction else None
        for name, is_needed in (("dino", settings.guides == "dino"), ("vfm", settings.needs_vfm)):
            if is_needed and getattr(self, name) is None:
                raise SegmenterError(f"these settings of CorrCLIP need a network that is not here: give {name}=...")
        if settings.bank is not None and settings.pamr:
            raise SegmenterError("a bank answers for whole regions, which PAMR cannot refine: leave out pamr or bank")
        self.bank = None if settings.bank is None else RegionBank(settings.bank)
        if self.bank is not None:
            second = {} if auxiliary is None else {"auxiliary": bank_mark(auxiliary)}
            self.bank.check({"clip": bank_mark(clip), "vfm": bank_mark(vfm), **second})
        self.embed_auxiliary = None if auxiliary is None else TextEmbedder(auxiliary, templates(settings.templates))

    @classmethod
    def build(cls, settings: CorrClipSettings, compute: Compute) -> Self:
        if settings.bank is not None:
            about(settings.bank)  # before networks are fetched
            if settings.index == "faiss":
                need("faiss")
        clip = clip_at(settings.clip, settings.clip_weights, compute)
        like = compute.like(clip)
        return cls(
            clip,
            maker_of(
                settings.regions, preset=settings.regions_preset, device=str(compute.device), precision=clip.precision
            ),
            settings,
            dino=dino_at(settings.dino, settings.dino_weights, like) if settings.guides == "dino" else None,
            vfm=dino_at(settings.vfm, settings.vfm_weights, like) if settings.needs_vfm else None,
            auxiliary=None if settings.auxiliary is None else clip_at(settings.auxiliary, None, like),
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        others = {"dino": self.dino, "vfm": self.vfm, "auxiliary": self.auxiliary}
        there = {name: network.model for name, network in others.items() if network is not None}
        return {**super().networks, **there, **networks_behind(self.maker, "regions")}

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Return None: regions are found in the picture itself."""
        return None

    @torch.inference_mode()
    def look_many(self, images: Sequence[Picture], sources: Sequence[str]) -> list[Seen]:
        """One picture after the other, one window after the other: each has regions of its own."""
        return [self._look(pixels_of(image), source) for image, source in zip(images, sources, strict=True)]

    def _look(self, image: np.ndarray, source: str) -> Seen:
        regions = region_map(self.maker, image)
        if self.settings.least_is_none:
            regions -= regions.min()
        plan = self.sliding.plan(image.shape[0], image.shape[1])
        picture = to_tensor(image, (plan.height, plan.width), antialias=self.sliding.antialias).to(self.device)
        own = on_grid(torch.from_numpy(regions).to(self.device), (plan.height, plan.width))
        looks = None if self.vfm is None else Upsampled(whole_picture(self.vfm, image), (plan.height, plan.width))
        features = F.normalize(self.window_features(plan, picture, own, looks).float(), dim=1)
        guide: Any = self.guide(picture)
        if self.bank is not None and looks is not None:
            guide = self._recall(self.bank, own, looks)
        seen = SeenThroughWindows(self, image, source, plan, (features,), guide, self._spreading(plan, picture))
        seen.regions = regions
        return seen

    def window_features(
        self, plan: SlidingWindows, picture: Tensor, regions: Tensor, looks: Upsampled | None = None
    ) -> Tensor:
        """Return what CLIP says of the windows of a picture (3, H, W) in [0, 1], (n, D, h, w), of any length.

        regions: (H, W). looks: what the vision model says of the picture's pixels, where that is what guides.
        """
        found = []
        for box in plan.boxes:
            place = (slice(box.top, box.bottom), slice(box.left, box.right))
            padding = left, top, right, bottom = self._padding(plan.window)
            pixels = self.padded(picture[None, :, *place])
            around = F.pad(regions[place], (left, right, top, bottom), value=PADDING)
            if self.settings.guides == "vfm" and looks is not None:
                patch = self.clip.vit.patch
                grid = (FINER * (pixels.shape[-2] // patch), FINER * (pixels.shape[-1] // patch))
                maps = looks.window(box.top, box.left, plan.window, padding, grid)
            else:
                maps, grid = self._of_dino(pixels)
            found.append(self.features_in(Window(pixels, around, maps.flatten(1).T, grid)))
        return torch.cat(found)

    def features(self, windows: Tensor) -> Tensor:
        """Read windows (n, 3, H, W) in [0, 1] as if there were no regions: (n, D, h, w)."""
        none = torch.zeros(windows.shape[-2:], dtype=torch.int64, device=windows.device)
        read = []
        for window in windows.split(1):
            maps, grid = self._of_dino(window)
            read.append(self.features_in(Window(window, none, maps.flatten(1).T, grid)))
        return torch.cat(read)

    def features_in(self, window: Window) -> Tensor:
        """Read a window in its regions: features (1, D, h, w) of any length, on the grid of what guides."""
        settings, vit, grid = self.settings, self.clip.vit, window.grid
        regions = on_grid(window.regions, grid)
        none = no_region(regions, least=settings.least_is_none)
        if settings.merge_distance is not None:
            regions = merge_regions(regions, window.unit, none, settings.merge_distance)
        weights = listen(window.unit, regions.flatten(), none, settings.sharpness)

        cells = (window.pixels.shape[-2] // vit.patch, window.pixels.shape[-1] // vit.patch)
        numbers, places = on_grid(regions, cells).unique(return_inverse=True)  # (R,), (gh, gw)
        members = places.flatten() == torch.arange(len(numbers), device=places.device)[:, None]  # (R, gh*gw)
        lower = spatial_blocks(len(vit.blocks))
        tokens, copies = self.clip.run_in_regions(window.pixels, members, keep=lower, positions=DINO_POSITIONS)

        def mixed(x: Tensor) -> Tensor:
            """Tokens (1, 1 + gh*gw, C) -> what their values say on the other grid, (1, N, D)."""
            values = to_maps(vit.values(vit.last.ln_1(x))[:, 1:], tokens.grid)
            values = F.interpolate(values.float(), size=grid, mode="bilinear")[0].flatten(1).T  # (N, C)
            return vit.to_text(vit.project((weights @ values)[None].to(x.dtype)))

        found = mixed(tokens.x)
        found = found + settings.spatial * mixed(torch.stack([tokens.kept[block] for block in lower]).mean(dim=0))
        painted = vit.to_text(copies[None])[:, on_grid(places, grid).flatten()]  # (1, N, D)
        return to_maps(found + settings.semantic * painted, grid)

    def _of_dino(self, window: Tensor) -> tuple[Tensor, Grid]:
        """Return queries and keys of DINO's last block, summed, of length 1, (C, h, w)."""
        assert self.dino is not None  # or the settings would be others
        seen = self.dino(whole_patches(window, self.dino.patch_size))
        return F.normalize(seen.query_maps()[0] + seen.key_maps()[0], dim=0), seen.grid

    def _recall(self, bank: RegionBank, regions: Tensor, looks: Upsampled) -> Recalled:
        """Return what the bank says of a picture's regions (H, W); the rest counts as one."""
        numbers, places = regions.unique(return_inverse=True)
        queries = looks.means(places, len(numbers)).cpu().numpy()
        rows = bank.nearest(queries, self.settings.neighbours, index=self.settings.index)
        stores = (False,) if self.auxiliary is None else (False, True)
        answers = [torch.from_numpy(bank.means(rows, auxiliary=store)) for store in stores]
        return Recalled(places, tuple(F.normalize(answer, dim=1).to(self.device) for answer in answers))

    def kept_guide(self, guide: Any) -> dict[str, Tensor]:
        if not isinstance(guide, Recalled):
            return super().kept_guide(guide)
        return {"places": guide.places, **{f"answers.{i}": own for i, own in enumerate(guide.answers)}}

    def guide_again(self, kept: Mapping[str, Tensor]) -> Any:
        if "places" not in kept:
            return super().guide_again(kept)
        count = sum(name.startswith("answers.") for name in kept)
        return Recalled(kept["places"], tuple(kept[f"answers.{i}"] for i in range(count)))

    def merge(
        self, plan: SlidingWindows, maps: Tensor, patch: Patch, text: TextEmbeddings, guide: Any
    ) -> PictureScores:
        if not isinstance(guide, Recalled):
            return super().merge(plan, maps, patch, text, guide)
        texts = [text.vectors]
        if self.embed_auxiliary is not None:
            texts.append(self.embed_auxiliary(text.vocabulary).vectors)
        support = torch.stack([own @ vectors.to(own).T for own, vectors in zip(guide.answers, texts, strict=True)])
        return WithBank(plan, maps, patch, text, self.settings, guide.places, support.mean(dim=0))


class WithBank(CompetingPhrases):
    """Probabilities of names from cosines of the picture's patches, and of what a bank says of its regions."""

    settings: CorrClipSettings

    def __init__(
        self,
        plan: SlidingWindows,
        maps: Tensor,
        patch: Patch,
        text: TextEmbeddings,
        settings: CorrClipSettings,
        places: Tensor,
        support: Tensor,
    ):
        super().__init__(plan, maps, patch, text, settings)
        self.places, self.support = places, support  # (h, w), (R, P)

    @property
    def in_parts(self) -> bool:
        return True

    def _cosines(self, phrases: Tensor, size: tuple[int, int]) -> Tensor:
        seen = (self.places.shape[0], self.places.shape[1])
        own = merge_maps(self.plan, self.maps[:, phrases], self.patch, seen)  # (k, h, w)
        recalled = self.support[:, phrases].T[:, self.places]
        both = self.settings.own * own + (1 - self.settings.own) * recalled
        return F.interpolate(both[None], size=size, mode="bilinear")[0]


def whole_picture(vfm: DinoEncoder, image: np.ndarray) -> Tensor:
    """Return what a vision model says of the patches of a whole picture (H, W, 3) uint8, (C, h, w): at its own size,
    rounded to whole patches.
    """
    patch = vfm.patch_size
    height, width = size_for_patches(image.shape[0], image.shape[1], patch, MOST_PATCHES)
    size = (max(1, round(height / patch)) * patch, max(1, round(width / patch)) * patch)
    return vfm(to_tensor(image, size, antialias=False)[None]).tokens[0]


def bank_mark(encoder: ClipEncoder | DinoEncoder | None) -> dict[str, str] | None:
    """Return what a network that a bank is made with is known by: the same in single and in half precision."""
    if encoder is None:
        return None
    state = (encoder.model.visual if isinstance(encoder, ClipEncoder) else encoder.model).state_dict()
    halves = {name: value.to(torch.bfloat16) for name, value in state.items() if value.is_floating_point()}
    return {"name": encoder.name, "fingerprint": fingerprint(halves)}


def spatial_blocks(count: int) -> range:
    """Return the blocks, from 0, whose outputs the spatial branch takes the mean of, in a transformer of so many."""
    many = max(1, SPATIAL_BLOCKS.get(count, count - 4))
    return range(count - 2 - many, count - 2)
