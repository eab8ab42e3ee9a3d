"""Masks nobody drew: what is salient in every picture of the archives.

A picture that sits in several archives is looked at once. The masks of a block of pictures are one file, whole or not
there, so a run that was killed goes on at the block where it stopped.
"""

import dataclasses
import json
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
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.known_masks import SEEN, KnownMasks, picture_digest, write_seen
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, encode_mask, write_masks
from wordmask.files import atomic_write
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import resize, size_with_shorter_side
from wordmask.pictures.prefetch import ahead
from wordmask.refinement.bilateral_solver import BilateralGrid
from wordmask.refinement.clean_up import THRESHOLD, found_mask, intersection_over_union
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.shards import run_shards
from wordmask.saliency.base import Saliency, size_for_patches
from wordmask.text_files import counted

PICTURES_PER_SHARD = 64
"""What a kill can lose: two minutes of a large network on a processor."""
READERS = 4
MOST_PATCHES, PATCH = 16_384, 8
"""1024 x 1024 pixels in patches of 8: what bounds the memory that a picture of an extreme shape takes."""
BAD_IMAGES = "bad_images.jsonl"


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

    load: what loads the saliency, once for each process. known: folders of masks that were made in the same way, which
    stand in the same shards as if they were made now. stuff: names that saliency cannot find, which are left out. say:
    is told of shards that are damaged, and made anew. crew: who makes the shards; by default this process does.
    """
    settings = settings or MaskSettings()
    names = tuple(name for name in archive.names if name not in stuff)
    owners = _owners(archive, names)
    pictures = list(owners)
    parts, taken = Parts(say), 0

    def tasks() -> Iterator[MaskTask]:
        for number, start in enumerate(range(0, len(pictures), PICTURES_PER_SHARD)):
            block = pictures[start : start + PICTURES_PER_SHARD]
            places = tuple((ref, tuple(owners[ref])) for ref in block)
            yield MaskTask(out / f"masks_{number:05d}.arrow", places, archive.root, names, settings)

    def count(task: MaskTask, known: int) -> None:
        nonlocal taken
        taken += known

    run_shards(
        tasks(),
        LoadMaskTools(load, tuple(known), warn if crew else say),
        is_made=lambda task: parts.whole(task.shard, *(path for path in (task.bad, task.seen) if path.exists())),
        crew=crew,
        total=len(pictures),
        progress=progress,
        on_made=count,
        say=say,
    )
    with atomic_write(out / BAD_IMAGES) as file:
        for part in sorted(out.glob("masks_*.bad")):
            file.write(part.read_bytes())
    if taken:
        say(f"masks: those of {counted(taken, 'picture')} were there already")
    table = MaskTable(out)
    check_none_empty(table, "loosen masks.least_area, most_area and least_score")
    return table


class MaskTools(NamedTuple):
    """What masks are made with. known: those that are there already."""

    saliency: Saliency
    known: KnownMasks


@dataclasses.dataclass(frozen=True)
class LoadMaskTools:
    load: Callable[[], Saliency]
    known: tuple[Path, ...]
    say: Say

    def __call__(self) -> MaskTools:
        return MaskTools(self.load(), KnownMasks(self.known, say=self.say))


@dataclasses.dataclass(frozen=True)
class MaskTask:
    """A shard of masks to be made, of pictures with their places in archives. names: all that are in the table."""

    shard: Path
    pictures: tuple[tuple[ImageRef, tuple[Entry, ...]], ...]
    root: Path
    names: tuple[str, ...]
    settings: MaskSettings

    @property
    def name(self) -> str:
        return f"{self.shard.stem}, from {self.pictures[0][0]}"

    @property
    def weight(self) -> int:
        return len(self.pictures)

    @property
    def bad(self) -> Path:
        return self.shard.with_suffix(".bad")

    @property
    def seen(self) -> Path:
        return self.shard.with_suffix(SEEN)

    def make(self, tools: MaskTools, progress: Progress) -> int:
        """Write the shard, the masks last. Returns how many pictures' masks were there already."""
        refs = [ref for ref, _ in self.pictures]
        hashes = ahead(partial(picture_digest, root=self.root), refs, threads=READERS)
        digests = dict(zip(refs, hashes, strict=True))
        masks = {ref: _Mask(one.rle, one.score, one.trouble) for ref, one in tools.known.of(digests).items()}
        bad: list[ImageReadError] = []
        taken, rest = len(masks), [ref for ref in refs if ref not in masks]
        for ref, mask, score in masks_of(rest, self.root, tools.saliency, self.settings, bad.append):
            masks[ref] = _Mask(encode_mask(mask), score, _trouble(mask, score, self.settings))
            progress(len(masks), len(refs))
        records = [_record(entry, masks[ref]) for ref, owners in self.pictures if ref in masks for entry in owners]
        with write_part(self.bad) as file:
            for each in bad:
                line = json.dumps({"image": each.source, "reason": each.reason}, ensure_ascii=False)
                file.write(line.encode() + b"\n")
        write_seen(self.seen, digests)
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
    on_bad: Callable[[ImageReadError], None],
) -> Iterator[tuple[ImageRef, np.ndarray, float]]:
    """Every picture's mask (H, W) bool at its own size, and its score. Those that cannot be read go to `on_bad`."""
    batch: list[tuple[ImageRef, np.ndarray, tuple[int, int]]] = []
    for ref, seen in zip(
        pictures, ahead(partial(_look, root=root, side=settings.side), pictures, threads=READERS), strict=True
    ):
        if isinstance(seen, ImageReadError):
            on_bad(seen)
        else:
            batch.append((ref, *seen))
        if len(batch) == settings.batch:
            yield from _masks_of_batch(batch, saliency, settings)
            batch = []
    yield from _masks_of_batch(batch, saliency, settings)


def _look(ref: ImageRef, *, root: Path, side: int) -> tuple[np.ndarray, tuple[int, int]] | ImageReadError:
    """Return the picture as saliency sees it, (h, w, 3), and its own size."""
    try:
        image = ref.open(root)
    except ImageReadError as error:
        return error
    height, width = image.shape[:2]
    size = size_for_patches(*size_with_shorter_side(height, width, side), PATCH, MOST_PATCHES)
    small = resize(torch.from_numpy(image).permute(2, 0, 1), size)
    return small.permute(1, 2, 0).contiguous().numpy(), (height, width)


def _masks_of_batch(
    batch: Sequence[tuple[ImageRef, np.ndarray, tuple[int, int]]], saliency: Saliency, settings: MaskSettings
) -> Iterator[tuple[ImageRef, np.ndarray, float]]:
    if not batch:
        return
    maps = saliency.raw_maps([image for _, image, _ in batch])
    for (ref, image, size), soft in zip(batch, maps, strict=True):
        mask, score = mask_and_score(image, soft, settings.refine)
        large = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="nearest-exact")[0, 0]
        yield ref, large.numpy() > THRESHOLD, score


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
