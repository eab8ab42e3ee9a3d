"""Regions of a pile of pictures into a bank: what each looks like, and what CorrCLIP says that it is.

Work is cut into parts of some pictures, each whole on the disk or not there. Killed and started again, it goes on with
the part where it stopped. Pictures that are in the bank already are left alone, new ones come in new parts, and what a
bank holds of pictures that are gone stays.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.collection.piles import Bad, Picture, Pile
from wordmask.compute import Compute
from wordmask.console.progress import Progress
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at
from wordmask.encoders.upsampled import Upsampled
from wordmask.files import atomic_write
from wordmask.methods import settings_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import to_tensor
from wordmask.pictures.prefetch import ahead
from wordmask.pictures.windows import Patch, SlidingWindows, merge_maps
from wordmask.regions.bank import ABOUT, FORMAT, MANIFEST, BankError, lines_of, manifests, tables_of
from wordmask.regions.base import described, region_map
from wordmask.runs.claim import claimed
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.records import check_settings, plain
from wordmask.runs.shards import run_shards
from wordmask.segmenters.corrclip import CorrClip, CorrClipSettings, bank_mark, whole_picture
from wordmask.segmenters.region_correlations import on_grid
from wordmask.text_files import read_json

VERB = "bank build"
PER_PART = 64
"""Pictures that are finished together: what a kill can lose."""
READERS = 2
CHANNELS_TOGETHER = 16
"""Of CLIP's features, whose maps at a picture's own size are made together."""
SETTINGS = (
    *("shorter_side", "longest_side", "window", "stride", "antialias", "pad_multiple"),
    *("sharpness", "spatial", "semantic", "merge_distance", "least_is_none"),
)
"""Of CorrCLIP, on which a bank's values hang."""


@dataclass(frozen=True)
class Built:
    """What a bank holds now."""

    pictures: int
    regions: int
    unreadable: int


def build_bank(
    pile: Pile,
    readers: "BankReaders",
    out: Path,
    *,
    per_part: int = PER_PART,
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
    load: "Callable[[], BankReaders] | None" = None,
) -> Built:
    """Add a pile's pictures to the bank `out`, which is made where there is none. crew: who makes its parts, each with
    networks of its own from `load`; by default this process does.
    """
    with claimed(out, VERB, error=BankError):
        told = {"format": FORMAT, **readers.about}
        _check_about(out / ABOUT, told)
        pile.survey()  # refuses a pile without pictures
        _write_json(out / ABOUT, {**told, "finished": False})
        parts = Parts(say)
        _drop_damaged(out, parts, with_auxiliary=readers.has_auxiliary)
        known = {line["image"] for manifest in manifests(out) for line in lines_of(manifest)}
        new = [picture for picture in _pictures(pile, say) if _name(picture, pile.root) not in known]
        starts = range(0, len(new), per_part)
        numbers = zip(starts, _free_numbers(out), strict=False)
        run_shards(
            [BankTask(out, number, pile.root, tuple(new[start : start + per_part])) for start, number in numbers],
            partial(_checked, load, readers.about) if crew and load else lambda: readers,
            is_made=lambda task: False,  # pictures that are in the bank are not among the new ones
            crew=crew,
            total=len(new),
            progress=progress,
            say=say,
        )
        lines = [line for manifest in manifests(out) for line in lines_of(manifest)]
        built = Built(
            sum("trouble" not in line for line in lines),
            sum(line["regions"] for line in lines),
            sum("trouble" in line for line in lines),
        )
        if not built.regions:
            raise BankError(f"no picture of {pile.root} has a region that can be read ({len(lines)} tried)")
        _write_json(out / ABOUT, {**told, "finished": True, **asdict(built)})
    return built


class BankReaders:
    """The networks that a bank's keys and values are made with: CorrCLIP's, once for every CLIP."""

    def __init__(self, main: CorrClip, vfm: DinoEncoder, auxiliary: CorrClip | None = None):
        self.main, self.vfm, self.auxiliary = main, vfm, auxiliary

    @property
    def has_auxiliary(self) -> bool:
        return self.auxiliary is not None

    @property
    def about(self) -> dict[str, Any]:
        """All that the bank's features hang on."""
        main = self.main
        networks = {
            "clip": bank_mark(main.clip),
            "vfm": bank_mark(self.vfm),
            "dino": bank_mark(main.dino),
            "auxiliary": None if self.auxiliary is None else bank_mark(self.auxiliary.clip),
        }
        settings = {name: getattr(main.settings, name) for name in SETTINGS}
        told: dict[str, Any] = plain({"networks": networks, "maker": described(main.maker), "settings": settings})
        return told

    @torch.inference_mode()
    def read(self, image: np.ndarray) -> list[np.ndarray]:
        """Return a picture's keys (R, C), values (R, D), and those of the auxiliary CLIP: half floats of length 1."""
        regions = torch.from_numpy(region_map(self.main.maker, image)).to(self.main.device)
        kept = int(regions.max())
        places = torch.where(regions > 0, regions - 1, kept).long()  # what is of no region comes last, and is dropped
        looks = Upsampled(whole_picture(self.vfm, image), (image.shape[0], image.shape[1]))
        found = [looks.means(places, kept + 1)]
        for reader in (self.main, self.auxiliary):
            if reader is not None:
                found.append(values_of(reader, image, regions, places, kept + 1))
        return [features[:kept].cpu().numpy().astype(np.float16) for features in found]


def values_of(reader: CorrClip, image: np.ndarray, regions: Tensor, places: Tensor, count: int) -> Tensor:
    """Return what CLIP says of regions, (count, D) of length 1: its features averaged over windows, brought to the
    picture's own size, and averaged over each region.
    """
    plan = reader.sliding.plan(image.shape[0], image.shape[1])
    size = (plan.height, plan.width)
    picture = to_tensor(image, size, antialias=reader.sliding.antialias).to(reader.device)
    features = reader.window_features(plan, picture, on_grid(regions, size)).float()  # (n, D, h, w)
    summed = [
        features.new_zeros(count, len(maps)).index_add_(0, places.flatten(), maps.flatten(1).T)
        for maps in _own_size(plan, features, reader.lie(plan), (image.shape[0], image.shape[1]))
    ]
    return F.normalize(torch.cat(summed, dim=1), dim=1)


def _own_size(plan: SlidingWindows, features: Tensor, patch: Patch, size: tuple[int, int]) -> Iterator[Tensor]:
    for channels in torch.arange(features.shape[1], device=features.device).split(CHANNELS_TOGETHER):
        yield merge_maps(plan, features[:, channels], patch, size)


@dataclass(frozen=True)
class BankTask:
    """A part of a bank to be made, of pictures that are in none."""

    out: Path
    number: int
    root: Path
    pictures: tuple[Picture, ...]

    @property
    def name(self) -> str:
        return f"part {self.number}, from {self.pictures[0].ref}"

    @property
    def weight(self) -> int:
        return len(self.pictures)

    def make(self, readers: BankReaders, progress: Progress) -> None:
        """Write the part; the manifest last, which says that it is whole."""
        lines: list[dict[str, Any]] = []
        found: list[list[np.ndarray]] = []
        opened = ahead(partial(_open, root=self.root), self.pictures, threads=READERS)
        for done, (picture, image) in enumerate(zip(self.pictures, opened, strict=True)):
            progress(done, len(self.pictures))
            if isinstance(image, Bad):
                lines.append({"image": _name(picture, self.root), "regions": 0, "trouble": image.reason})
                continue
            features = readers.read(image)
            found.append(features)
            lines.append({"image": _name(picture, self.root), "regions": len(features[0])})
        manifest = self.out / MANIFEST / f"{self.number:06}.jsonl"
        for place, path in enumerate(tables_of(manifest, with_auxiliary=readers.has_auxiliary).values()):
            rows = [features[place] for features in found]
            table = np.concatenate(rows) if rows else np.zeros((0, 1), np.float16)
            with write_part(path) as file:
                np.lib.format.write_array(file, table, allow_pickle=False)
        with write_part(manifest) as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def _checked(load: Callable[[], BankReaders], about: dict[str, Any]) -> BankReaders:
    """Load the networks of a worker, which may be on another machine: they have to be the same ones."""
    readers = load()
    if readers.about != about:
        raise BankError("a worker has other networks than those that the bank is begun with: use the same files")
    return readers


def _name(picture: Picture, root: Path) -> str:
    """Return what a bank knows a picture by: piles of several folders may be in one bank."""
    return str(root / str(picture.ref))


def _open(picture: Picture, *, root: Path) -> np.ndarray | Bad:
    try:
        return picture.ref.open(root)
    except ImageReadError as error:
        return Bad(str(picture.ref), error.reason)


def _pictures(pile: Pile, say: Say) -> Iterator[Picture]:
    for part in pile.parts():
        pictures, bad = part.load()
        for each in bad:
            say(f"{each.image} is left out: {each.reason}")
        yield from pictures


def _free_numbers(out: Path) -> Iterator[int]:
    taken = {int(manifest.stem) for manifest in manifests(out)}
    return (number for number in count() if number not in taken)


def _drop_damaged(out: Path, parts: Parts, *, with_auxiliary: bool) -> None:
    """Remove the manifests of parts that are not whole: their pictures are read again."""
    for manifest in manifests(out):
        if not parts.whole(manifest, *tables_of(manifest, with_auxiliary=with_auxiliary).values()):
            manifest.unlink()


def _check_about(path: Path, told: dict[str, Any]) -> None:
    """Refuse to go on with a bank that was made otherwise."""
    if path.exists():
        found = read_json(path, way_out="choose another --out")
        if not isinstance(found, dict):
            raise BankError(f"{path}: is damaged, it says nothing of its bank; choose another --out")
        own = {key: found.get(key) for key in told}
        check_settings(own, told, holds=f"{path.parent} holds regions", error=BankError)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def load_readers(preset: str, compute: Compute, **changes: Any) -> BankReaders:
    """Return the networks that build a bank, as a preset of CorrCLIP names them, with single settings changed."""
    told: CorrClipSettings = settings_of("segmenter", "corrclip", preset, **changes)
    if told.bank is not None:
        raise BankError("a bank is built without one: leave out bank=...")
    settings = replace(told, shorter_side=told.bank_shorter_side, guides="dino", map_correction=False, auxiliary=None)
    main = CorrClip.build(settings, compute)
    vfm = dino_at(told.vfm, told.vfm_weights, compute.like(main.clip))
    if told.auxiliary is None:
        return BankReaders(main, vfm)
    second = clip_at(told.auxiliary, None, compute.like(main.clip))
    return BankReaders(main, vfm, CorrClip(second, main.maker, settings, dino=main.dino))
