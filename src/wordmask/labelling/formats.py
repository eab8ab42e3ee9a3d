"""The formats, each in a file of its own, behind one interface."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from wordmask.files import atomic_write, temporary_beside
from wordmask.image_files import opened, orientation
from wordmask.images import read_image
from wordmask.labelling.instances import Instance
from wordmask.labelling.ledger import Entry, Row
from wordmask.labelling.settings import LabelSettings
from wordmask.segmentation import Segmentation
from wordmask.vocabulary import BACKGROUND

JPEG_QUALITY = 95


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

    folders: ClassVar[tuple[str, ...]] = ()
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
        as `Part.more`."""
        return [None] * len(picture.instances)

    def files_of(self, name: str) -> list[Path]:
        """What `write_picture` writes for the picture whose results have this name."""
        return []

    def made_of(self, name: str, picture: Path) -> list[Path]:
        """What `write_picture` leaves there of a picture whose results have this name."""
        return self.files_of(name)

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> None:
        """Write what covers the whole folder. `rows` may be called several times; each walks them in order."""


def load_format(out: Path, names: Sequence[str], settings: LabelSettings) -> LabelFormat:
    module, name = _HOMES[settings.format]
    made: LabelFormat = getattr(import_module(f"wordmask.labelling.{module}"), name)(out, names, settings)
    return made


_HOMES = {
    "coco": ("coco", "Coco"),
    "yolo": ("yolo", "Yolo"),
    "voc": ("voc", "Voc"),
    "png": ("png", "Png"),
    "label-studio": ("label_studio", "LabelStudio"),
}


def put_beside(place: Path, picture: Labelled) -> None:
    """A picture for formats that want pictures and labels side by side: a link, so that nothing is copied.

    One that its EXIF turns is copied upright, as its labels are: many readers pass over EXIF.
    """
    source = picture.source
    with opened(source, str(source)) as image:
        kind, is_upright = image.format, orientation(image, str(source)) == 1
    if is_upright:
        _link(place, source.resolve())
        return
    upright = read_image(source, max_pixels=picture.segmentation.labels.size)
    with atomic_write(place) as file:
        Image.fromarray(upright).save(file, "JPEG" if kind in ("JPEG", "MPO") else "PNG", quality=JPEG_QUALITY)


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and place.readlink() == target:
        return
    temporary = temporary_beside(place)
    temporary.symlink_to(target)
    try:
        temporary.replace(place)
    except OSError:
        temporary.unlink()
        raise
