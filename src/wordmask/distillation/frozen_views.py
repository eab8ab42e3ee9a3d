"""What frozen towers say of a fixed set of views: computed once, kept on disk, and read a few at a time.

Each example is the first in so many views, whatever is composed with it. View v of a run depends on the seed and its
number alone, and so do its features: a part that a kill has left out, or a disk has spoilt, is made anew as it was.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wordmask.console.progress import Progress
from wordmask.distillation.batches import Batch, Samples
from wordmask.distillation.records import DistillationError
from wordmask.encoders.towers import Tower
from wordmask.files import atomic_write
from wordmask.runs.parts import CHECKSUMS, Parts, Say, warn, write_part
from wordmask.text_files import counted
from wordmask.training.order import seen_at_one
from wordmask.training.team import Team

logger = logging.getLogger(__name__)

PER_PART = 64
"""Views that a kill can lose, and that are in memory together while they are made."""
TOGETHER = 16
"""Views that the towers look at together. On the processor it is part of what a feature is, to its last bit."""
SURVEYED = 256
"""Views over which channels have their mean and deviation; they are in no order of names."""
LEAST_DEVIATION = 1e-4
IDENTITY = "views.json"
PARTS = "views_*.npy"


class FrozenViews:
    """`views.at(places)`: what lies at these places of a training's order, with the towers' maps."""

    def __init__(self, folder: Path, samples: Samples, towers: Sequence[Tower], *, each: int, zoom: float):
        self.folder, self.samples, self.towers, self.zoom = folder, samples, towers, zoom
        self.seed, self.ignore = samples.seed, samples.ignore
        self.count = each * len(samples.examples)
        side = samples.augmentation.crop
        grids = [tower.cells(side, zoom) for tower in towers]
        self.dtype = np.dtype(
            [
                ("pixels", np.uint8, (3, side, side)),
                ("labels", np.int16, (side, side)),
                *(
                    (f"map{number}", np.float16, (tower.channels, grid, grid))
                    for number, (tower, grid) in enumerate(zip(towers, grids, strict=True))
                ),
            ]
        )
        self._starts: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def make(self, identity: str, team: Team, *, progress: Progress | None = None, say: Say = warn) -> None:
        """See that all parts are there; each process of several makes its share. identity: what they follow from."""
        told = self.folder / IDENTITY
        wanted = json.dumps({"views": identity}).encode()
        if team.is_first:
            if not told.exists() or told.read_bytes() != wanted:
                self.folder.mkdir(parents=True, exist_ok=True)
                for stale in (*self.folder.glob(PARTS), self.folder / CHECKSUMS):
                    stale.unlink(missing_ok=True)
                with atomic_write(told) as file:
                    file.write(wanted)
            self._announce(say)
        team.wait()
        parts, numbers = Parts(say), range(ceil(self.count / PER_PART))
        for number in numbers[team.place :: team.count]:
            if not parts.whole(self._path(number)):
                self._write(number)
            if progress is not None and team.is_first:
                progress(min(self.count, (number + 1) * PER_PART), self.count)
        team.wait()

    def _announce(self, say: Say) -> None:
        there = sum(path.stat().st_size for path in self.folder.glob(PARTS))
        if there >= self.bytes:
            return
        left = self.bytes - there
        begun = f", {_size(there)} of them there" if there else ""
        pictures = counted(len(self.samples.examples), "picture", style=",")
        say(
            f"features: {counted(self.count, 'view', style=',')} of {pictures}, "
            f"{_size(self.bytes)} on disk in {self.folder}{begun}"
        )
        free = shutil.disk_usage(self.folder).free
        if free < left:
            raise DistillationError(
                f"features need {_size(left)} in {self.folder}, where {_size(free)} are free: make room, or take fewer "
                "student.views, a smaller student.augmentation.crop or archives of fewer pictures (archive.size)"
            )

    def _write(self, number: int) -> None:
        first, last = number * PER_PART, min(self.count, (number + 1) * PER_PART)
        rows = np.zeros(last - first, self.dtype)
        for start in range(first, last, TOGETHER):
            places = range(start, min(start + TOGETHER, last))
            self._fill(rows[start - first : places.stop - first], self.samples.at(places))
        with write_part(self._path(number)) as file:
            np.lib.format.write_array(file, rows, allow_pickle=False)

    @torch.no_grad()
    def _fill(self, rows: np.ndarray, batch: Batch) -> None:
        pixels = (batch.images * 255).round().to(torch.uint8)
        rows["pixels"], rows["labels"] = pixels.numpy(), batch.labels.numpy()
        for number, tower in enumerate(self.towers):
            device = next(tower.parameters()).device
            said = tower.look(pixels.to(device).float() / 255, self.zoom).half().cpu()
            if not torch.isfinite(said).all():
                raise DistillationError(
                    f"{tower.address} gives features beyond what half precision holds: take another in its place in "
                    "student.backbones"
                )
            rows[f"map{number}"] = said.numpy()

    def statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Return the mean and the deviation of each tower's channels, (C,) each, over the first views."""
        number = min(self.count, SURVEYED)
        sums = [np.zeros((2, tower.channels)) for tower in self.towers]
        for view in range(number):
            row = self.read(view)[0]
            for tower, own in enumerate(sums):
                said = row[f"map{tower}"].astype(np.float64)
                own += np.stack([said.mean(axis=(1, 2)), (said**2).mean(axis=(1, 2))])
        found = []
        for own in sums:
            mean, square = own / number
            deviation = np.sqrt(np.maximum(square - mean**2, 0)) + LEAST_DEVIATION
            found.append((torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()))
        return found

    def _path(self, number: int) -> Path:
        return self.folder / f"views_{number:05d}.npy"

    def view(self, place: int) -> int:
        """Return the number of the view at a place: every view comes once an epoch."""
        return seen_at_one(place, self.count, self.seed)

    def one(self, place: int) -> np.ndarray:
        """Return a record of the view at a place."""
        return self.read(self.view(place))

    def read(self, view: int) -> np.ndarray:
        """Return a record of one, read from its part."""
        number, row = divmod(view, PER_PART)
        path = self._path(number)
        try:
            with path.open("rb") as file:
                if number not in self._starts:
                    self._starts[number] = self._start(file)
                file.seek(self._starts[number] + row * self.dtype.itemsize)
                data = file.read(self.dtype.itemsize)
        except OSError as error:
            raise DistillationError(f"{path} cannot be read ({error}): start the same command again") from error
        if len(data) < self.dtype.itemsize:
            raise DistillationError(f"{path} is shorter than it was: start the same command again")
        return np.frombuffer(data, self.dtype)

    def _start(self, file: object) -> int:
        """Return where a part's rows begin, behind the header."""
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(file)  # type: ignore[arg-type]
        if dtype != self.dtype:
            raise DistillationError(f"{self.folder} holds other features than these: delete it and start again")
        return int(file.tell())  # type: ignore[attr-defined]

    def at(self, places: range) -> Batch:
        return self.together([self.one(place) for place in places])

    def together(self, made: Sequence[np.ndarray]) -> Batch:
        rows = np.concatenate(made)
        images = torch.from_numpy(rows["pixels"]).float() / 255
        maps = tuple(_whole(rows[f"map{number}"]) for number in range(len(self.towers)))
        return Batch(images, torch.from_numpy(rows["labels"].copy()), maps=maps)


def _whole(said: np.ndarray) -> Tensor:
    return torch.from_numpy(said.astype(np.float32))


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
