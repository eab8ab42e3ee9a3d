"""Masks nobody drew: what is salient in every picture of the archives.

A picture that sits in several archives is looked at once; `picture_shards.py` says how a run goes on.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass

from wordmask.collection.archive import Archive, Entry
from wordmask.collection.piles import Bad
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.known_masks import SEEN, KnownMasks, write_seen
from wordmask.distillation.picture_shards import (
    PICTURES_PER_SHARD,
    PicturesTask,
    Tools,
    batches_of,
    make_picture_shards,
)
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.pictures.images import resize, size_with_shorter_side
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.clean_up import THRESHOLD, found_mask, intersection_over_union
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say, warn
from wordmask.saliency.base import Saliency, size_for_patches
from wordmask.text_files import counted

MOST_PATCHES, PATCH = 16_384, 8
"""1024 x 1024 pixels in patches of 8: what bounds the memory that a picture of an extreme shape takes."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MaskSettings:
    """saliency: any registered method, with its `settings` and `weights`. side: what a picture's shorter side is
    resized to first (512 in the paper).

    refine: "solver", the bilateral solver's output as the paper takes it; "found", FOUND's clean-up of it; "none".
    least_area, most_area: shares of the picture; a mask outside is set aside, as are empty and full ones always.
    least_score: a mask's score is how sure the map is inside it, times how little refining has changed it.

    teacher: any segmenter, with `teacher_settings` and `teacher_weights`, that labels whole pictures with all names.
    Without names that are `stuff` it makes all that the student learns from, and there are no experts; with such it
    makes what is said of stuff. pictures: which it looks at, those of the archives or all there are. fill: whether
    every pixel bears one of the names; else some is background. race: whether all names race within archives' masks,
    by the teacher, or by MaskCLIP where there is none.
    least_confidence: less sure pixels of the teacher's teach nothing. ignore_share: nor do so many of a picture's, the
    least sure ones.
    """

    saliency: str = "selfmask"
    weights: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    side: Annotated[int, Field(ge=8, le=4096)] = 512
    refine: Literal["solver", "found", "none"] = "solver"
    least_area: Annotated[float, Field(ge=0, lt=1)] = 0.0
    most_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    batch: PositiveInt = 4
    teacher: str | None = None
    teacher_weights: str | None = None
    teacher_settings: dict[str, Any] = Field(default_factory=dict)
    pictures: Literal["archives", "all"] = "archives"
    fill: bool = False
    race: bool = False
    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    ignore_share: Annotated[float, Field(ge=0, lt=1)] = 0.0


OF_TEACHERS = frozenset(
    f"masks.{key}"
    for key in (
        *("teacher", "teacher_weights", "teacher_settings", "pictures", "fill", "race"),
        *("least_confidence", "ignore_share"),
    )
)
"""Settings by which saliency's masks do not change, by their dotted names."""


def make_masks(
    archive: Archive,
    load: Callable[[], Saliency],
    out: Path,
    settings: MaskSettings | None = None,
    *,
    known: Sequence[Path] = (),
    stuff: Collection[str] = (),
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
) -> MaskTable:
    """Write `out/masks_NNNNN.arrow`, a record for every picture of every archive, and `bad_images.jsonl`.

    known: folders of masks that were made in the same way, which stand in the same shards as if they were made now.
    stuff: names that saliency cannot find, which are left out. load, say, crew: as `make_picture_shards` has them.
    """
    settings = settings or MaskSettings()
    names = tuple(name for name in archive.names if name not in stuff)
    owners = _owners(archive, names)
    pictures = list(owners)

    def tasks() -> Iterator[MaskTask]:
        for number, start in enumerate(range(0, len(pictures), PICTURES_PER_SHARD)):
            block = tuple(pictures[start : start + PICTURES_PER_SHARD])
            places = tuple(tuple(owners[ref]) for ref in block)
            yield MaskTask(out / f"masks_{number:05d}.arrow", block, archive.root, places, names, settings)

    how: dict[str, Any] = {"total": len(pictures), "progress": progress, "say": say, "crew": crew}
    if taken := make_picture_shards(tasks(), load, KnownMasks, known, out, **how):
        say(f"masks: those of {counted(taken, 'picture')} were there already")
    table = MaskTable(out)
    check_none_empty(table, "loosen masks.least_area, most_area and least_score")
    return table


@dataclasses.dataclass(frozen=True)
class MaskTask(PicturesTask):
    """A shard of masks to be made. owners: of each picture its places in archives. names: all that are in the table."""

    owners: tuple[tuple[Entry, ...], ...]
    names: tuple[str, ...]
    settings: MaskSettings

    @property
    def seen(self) -> Path:
        return self.shard.with_suffix(SEEN)

    def files(self) -> Sequence[Path]:
        return self.shard, *(path for path in (self.bad, self.seen) if path.exists())

    def make(self, tools: Tools[Saliency, KnownMasks], progress: Progress) -> int:
        digests = self.digests()
        masks = {ref: _Mask(one.rle, one.score, one.trouble) for ref, one in tools.known.of(digests).items()}
        bad: list[Bad] = []
        taken, rest = len(masks), [ref for ref in self.refs if ref not in masks]
        for ref, mask, score in masks_of(rest, self.root, tools.network, self.settings, bad.append):
            masks[ref] = _Mask(encode_mask(mask), score, _trouble(mask, score, self.settings))
            progress(len(masks), len(self.refs))
        self.write_bad(bad)
        write_seen(self.seen, digests)
        owned = [(entry, ref) for ref, own in zip(self.refs, self.owners, strict=True) for entry in own]
        records = [_record(entry, masks[ref]) for entry, ref in owned if ref in masks]
        write_masks(self.shard, records, root=self.root, names=self.names)
        return taken


def check_none_empty(table: MaskTable, way_out: str) -> None:
    for name in table.names:
        if not len(table.rows(name)):
            troubles = sorted({table[row].trouble for row in table.rows(name, usable=False).tolist()})
            raise DistillationError(
                f"no mask of {name!r} is usable ({', '.join(troubles) or 'its pictures cannot be read'}): look at the "
                f"pictures in its archive, leave the name out, or {way_out}"
            )


def masks_of(
    pictures: Sequence[ImageRef],
    root: Path,
    saliency: Saliency,
    settings: MaskSettings,
    on_bad: Callable[[Bad], None],
) -> Iterator[tuple[ImageRef, np.ndarray, float]]:
    """Every picture's mask (H, W) bool at its own size, and its score. Those that cannot be read go to `on_bad`."""
    look = partial(_look, root=root, side=settings.side)
    for batch in batches_of(pictures, look, settings.batch, on_bad):
        maps = saliency.raw_maps([image for _, (image, _) in batch])
        for (ref, (image, size)), soft in zip(batch, maps, strict=True):
            mask, score = mask_and_score(image, soft, settings.refine)
            large = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="nearest-exact")[0, 0]
            yield ref, large.numpy() > THRESHOLD, score


def _look(ref: ImageRef, *, root: Path, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the picture as saliency sees it, (h, w, 3), and its own size."""
    image = ref.open(root)
    height, width = image.shape[:2]
    size = size_for_patches(*size_with_shorter_side(height, width, side), PATCH, MOST_PATCHES)
    small = resize(torch.from_numpy(image).permute(2, 0, 1), size)
    return small.permute(1, 2, 0).contiguous().numpy(), (height, width)


def mask_and_score(image: np.ndarray, soft: np.ndarray, refine: str) -> tuple[np.ndarray, float]:
    """Turn a soft map (h, w) of a picture (h, w, 3) into its mask (h, w) bool, and say how good that seems, in [0, 1].

    The score is the mean of the map inside its own mask (how sure the saliency is) times the IoU of that mask with the
    refined one: where edges of the picture bear the mask out, refining changes little.
    """
    mask = soft > THRESHOLD
    if refine == "none":
        refined = mask
    else:
        solved = BilateralGrid(image).solve(mask.astype(np.float64))
        refined = found_mask(solved, mask) if refine == "found" else solved > THRESHOLD
    sure = float(soft[mask].mean(dtype=np.float64)) if mask.any() else 0.0
    return refined, sure * intersection_over_union(mask, refined)


def _trouble(mask: np.ndarray, score: float, settings: MaskSettings) -> str:
    area = np.count_nonzero(mask) / mask.size
    if area == 0:
        return "empty"
    if area == 1:
        return "full"
    if area < settings.least_area:
        return "too small"
    if area > settings.most_area:
        return "too large"
    return "unsure" if score < settings.least_score else ""


def _owners(archive: Archive, names: Sequence[str]) -> dict[ImageRef, list[Entry]]:
    """Every picture once, in the order of names and ranks, with the places that it has in archives."""
    owners: dict[ImageRef, list[Entry]] = {}
    for name in names:
        for entry in archive.entries(name):
            owners.setdefault(entry.image, []).append(entry)
    return owners


class _Mask(NamedTuple):
    rle: dict[str, Any]
    score: float
    trouble: str


def _record(entry: Entry, mask: _Mask) -> MaskRecord:
    similarity = float("nan") if entry.similarity is None else entry.similarity
    return MaskRecord(
        entry.name, entry.rank, entry.image, mask.rle, mask.score, similarity, not mask.trouble, mask.trouble
    )
