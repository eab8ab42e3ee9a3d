"""The formats, each in a file of its own, behind one interface."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import chain, product
from pathlib import Path
from typing import Any

from PIL import Image

from wordmask.files import atomic_write, temporary_beside
from wordmask.labelling.ledger import Entry, Row
from wordmask.labelling.settings import LabelSettings
from wordmask.masks.instances import Instance
from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.image_files import opened, orientation
from wordmask.pictures.images import read_image

JPEG_QUALITY = 95
OPENED = ("JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP")
"""Kinds of pictures that those who train on labels can open, Ultralytics among them."""
LOSSY = ("JPEG", "MPO", "HEIF", "AVIF")
COPIED_AT_ONCE = 2**20
OF_A_NAME = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
"""What the system says of one file's name: too long with a suffix, or a folder is called so."""


@dataclass(frozen=True)
class Labelled:
    """A picture that has just been segmented."""

    entry: Entry
    source: Path
    segmentation: Segmentation
    instances: list[Instance]


class LabelFormat:
    """How labels become files. Workers call `write_picture`; once all is done, `finish` is called once.

    Both write every file anew and whole, so that either may be called again after a kill.
    """

    folders: tuple[str, ...] = ()
    """Below `out`, those of the pictures' own files."""

    def __init__(self, out: Path, names: Sequence[str], settings: LabelSettings):
        self.out = out
        self.names = list(names)
        self.settings = settings

    @property
    def classes(self) -> list[str]:
        """The names that label something."""
        return [name for name in self.names if name.casefold() != BACKGROUND]

    def write_picture(self, picture: Labelled) -> list[Any]:
        """Write the picture's own files, if the format has such. What is given back, one thing an instance, is kept
        as `Part.more`.
        """
        return [None] * len(picture.instances)

    def files_of(self, name: str) -> list[Path]:
        """Return what `write_picture` writes for the picture whose results have this name."""
        return []

    def made_of(self, name: str, picture: Path) -> list[list[Path]]:
        """Return what `write_picture` leaves there of a picture whose results have this name: all files of one of
        these.
        """
        return [self.files_of(name)]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> str | None:
        """Write what covers the whole folder. `rows` may be called several times; each walks them in order.

        Gives what is to be said of it, if anything.
        """
        return None


class Several(LabelFormat):
    """Several formats of one run, each in a folder of `out` that is called as it is."""

    def __init__(self, out: Path, names: Sequence[str], settings: LabelSettings):
        super().__init__(out, names, settings)
        self._parts = {own: _load(own, out / own, names, settings) for own in settings.formats}
        self.folders = tuple(f"{own}/{folder}" for own, part in self._parts.items() for folder in part.folders)

    def write_picture(self, picture: Labelled) -> list[Any]:
        kept = {own: part.write_picture(picture) for own, part in self._parts.items()}
        return [dict(zip(kept, of_instance, strict=True)) for of_instance in zip(*kept.values(), strict=True)]

    def files_of(self, name: str) -> list[Path]:
        return [file for part in self._parts.values() for file in part.files_of(name)]

    def made_of(self, name: str, picture: Path) -> list[list[Path]]:
        ways = product(*(part.made_of(name, picture) for part in self._parts.values()))
        return [list(chain.from_iterable(files)) for files in ways]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> str | None:
        def own_rows(own: str) -> Iterator[Row]:
            for row in rows():
                yield replace(row, parts=tuple(replace(part, more=part.more[own]) for part in row.parts))

        notes = [part.finish(partial(own_rows, own), folder) for own, part in self._parts.items()]
        return "; ".join(note for note in notes if note) or None


def load_format(out: Path, names: Sequence[str], settings: LabelSettings) -> LabelFormat:
    several = len(settings.formats) > 1
    return Several(out, names, settings) if several else _load(settings.format, out, names, settings)


def _load(own: str, out: Path, names: Sequence[str], settings: LabelSettings) -> LabelFormat:
    module, name = _HOMES[own]
    made: LabelFormat = getattr(import_module(f"wordmask.labelling.{module}"), name)(out, names, settings)
    return made


_HOMES = {
    "coco": ("coco", "Coco"),
    "yolo": ("yolo", "Yolo"),
    "voc": ("voc", "Voc"),
    "png": ("png", "Png"),
    "label-studio": ("label_studio", "LabelStudio"),
}


def put_beside(place: Path, picture: Labelled, how: str) -> None:
    """Place a picture for formats that want pictures and labels side by side: a copy, a relative link or a hard link.

    What most readers would see otherwise is written anew, as its labels see it: a picture that its EXIF turns, one of
    16 bits, one that lets the ground through or has further pages, and one of a kind that few tools open.
    """
    source = picture.source
    with opened(source, str(source)) as image:
        kind, is_upright = image.format, orientation(image, str(source)) == 1
        is_plain = kind in OPENED and not image.mode.startswith(("I", "F")) and not image.has_transparency_data
        is_single = kind == "MPO" or getattr(image, "n_frames", 1) == 1
    if is_upright and is_plain and is_single:
        _PLACERS[how](source.resolve(), place)
        return
    upright = read_image(source, max_pixels=picture.segmentation.labels.size)
    with atomic_write(place) as file:
        Image.fromarray(upright).save(file, "JPEG" if kind in LOSSY else "PNG", quality=JPEG_QUALITY)


def _copy(source: Path, place: Path) -> None:
    with source.open("rb") as content, atomic_write(place) as file:
        shutil.copyfileobj(content, file, COPIED_AT_ONCE)


def _link(source: Path, place: Path) -> None:
    """By a path from the one to the other, so that both may be moved together."""
    target = os.path.relpath(source, place.parent.resolve())
    _put(place, lambda temporary: temporary.symlink_to(target), "linked")


def _hardlink(source: Path, place: Path) -> None:
    _put(place, lambda temporary: temporary.hardlink_to(source), "hard-linked")


def _put(place: Path, make: Callable[[Path], None], done: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(place)
    try:
        make(temporary)
    except OSError as error:
        if error.errno in OF_A_NAME:
            raise
        raise OSError(f"{place}: pictures cannot be {done} there ({error.strerror}); choose --pictures copy") from error
    try:
        temporary.replace(place)
    except OSError:
        temporary.unlink()
        raise
    temporary.unlink(missing_ok=True)  # two hard links to one file: renaming one over the other does nothing


_PLACERS = {"copy": _copy, "link": _link, "hardlink": _hardlink}
