"""Reading a data set from the files it is published as, and saying what is missing where it is not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wordmask.benchmarks.datasets import IGNORE, BenchmarkError, MissingDataError, Sample, spread
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError, opened
from wordmask.pictures.images import read_image
from wordmask.text_files import counted, read_text

_EXIF_ORIENTATION, _UPRIGHT = 0x0112, 1


@dataclass(frozen=True)
class Layout:
    """The folders and files of a published data set.

    homes: what its folder may be called below `root`; "" is root itself. parts: what must be in it, by path, and what
    that is; {split} stands for the split. source: where to get it.
    """

    title: str
    homes: tuple[str, ...]
    parts: dict[str, str]
    source: str

    def home(self, root: Path, split: str) -> Path:
        """Return the data set's folder, with all its parts in it; else the error says which are missing and how it
        looks.
        """
        homes = [root / name for name in self.homes]
        missing = {home: self.missing(home, split) for home in homes}
        home = min(homes, key=lambda home: len(missing[home]))
        if not missing[home]:
            return home
        lacks = ", ".join(missing[home])
        where = home if len(missing[home]) < len(self.parts) else homes[0]
        raise MissingDataError(
            f"{self.title}: {where} has no {lacks}. It should hold {self.tree(split)}. Get it from {self.source}, "
            "and give the folder above it with --root"
        )

    def missing(self, home: Path, split: str) -> list[str]:
        return [path for path in self._paths(split) if not (home / path).exists()]

    def tree(self, split: str) -> str:
        return "; ".join(f"{path} ({what})" for path, what in zip(self._paths(split), self.parts.values(), strict=True))

    def _paths(self, split: str) -> list[str]:
        return [path.format(split=split) for path in self.parts]


@dataclass(frozen=True)
class Item:
    """A picture and where its truth is."""

    key: str
    image: Path
    truth: Path


Decode = Callable[[np.ndarray, Item], np.ndarray]
"""What the file of truth holds (H, W) or (H, W, C) -> labels (H, W), indices into the names or `ignore`."""


class Pictures:
    """A benchmark out of files, read one by one.

    count_objects: from an item, how many things are marked in it one by one. upright: turn pictures as their EXIF says;
    published masks fit the pictures as they are stored.
    """

    def __init__(
        self,
        name: str,
        split: str,
        vocabulary: Vocabulary,
        items: Sequence[Item],
        decode: Decode,
        *,
        ignore: int = IGNORE,
        pictures: int | None = None,
        count_objects: Callable[[Item], int] | None = None,
        upright: bool = False,
    ):
        if not items:
            raise MissingDataError(f"{name}: the split {split!r} has no pictures")
        self.name, self.split, self.vocabulary, self.ignore = name, split, vocabulary, ignore
        self.items = [items[index] for index in spread(len(items), pictures)]
        self._decode, self._count_objects, self._upright = decode, count_objects, upright

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def key(self, index: int) -> str:
        return self.items[index].key

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        image = read_image(item.image) if self._upright else read_as_stored(item.image)
        labels = self._decode(read_truth(item.truth, (image.shape[0], image.shape[1])), item)
        check_labels(labels, len(self.vocabulary), self.ignore, item.truth)
        objects = None if self._count_objects is None else self._count_objects(item)
        return Sample(image, labels, item.key, objects)


def read_as_stored(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, whatever its EXIF says of up and down."""
    with opened(path, str(path)) as image:
        try:
            Image.Image.getexif(image)[_EXIF_ORIENTATION] = _UPRIGHT
            return read_image(image)
        except ImageReadError as error:
            raise ImageReadError(str(path), error.reason) from error


def read_truth(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """Return the numbers that a mask's file holds, palette indices as they are: (H, W) or (H, W, C).

    size: of its picture (height, width), which it must share; so no more is decoded than the picture has.
    """
    with opened(path, str(path)) as image:
        if size is not None and (image.height, image.width) != size:
            raise BenchmarkError(
                f"{path}: the mask has {image.width} x {image.height} pixels and its picture {size[1]} x {size[0]}; "
                "they must be of one size"
            )
        try:
            return np.asarray(image)
        except Exception as error:  # a decoder on damaged data raises whatever it likes
            raise ImageReadError(str(path), f"is corrupt or cut short ({error})") from error


def check_labels(labels: np.ndarray, names: int, ignore: int, path: Path) -> None:
    wrong = labels[(labels >= names) & (labels != ignore)]
    if wrong.size:
        raise BenchmarkError(
            f"{path}: label {int(wrong.max())} found, but the list has {counted(names, 'name')} (0 to "
            f"{names - 1}) and {ignore} for pixels that do not count"
        )


def as_indices(values: np.ndarray, path: Path) -> np.ndarray:
    """Labels (H, W) as they stand in a grey or palette file."""
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise BenchmarkError(
            f"{path}: a mask must be a grey or palette picture, not one of {values.shape[2:]} channels"
        )
    return values


def table_of(mapping: dict[int, int], rest: int) -> np.ndarray:
    """(256,) values of a file -> labels."""
    table = np.full(256, rest, dtype=np.uint8)
    for value, label in mapping.items():
        table[value] = label
    return table


def translate(values: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Values (H, W) of a file with 8 bits a pixel -> labels, by a table of 256."""
    indices = as_indices(values, path)
    if indices.max(initial=0) >= len(table) or indices.min(initial=0) < 0:
        raise BenchmarkError(f"{path}: value {int(indices.max())} found in a mask of 8 bits a pixel")
    labels: np.ndarray = table[indices]
    return labels


def without_first(values: np.ndarray, path: Path) -> np.ndarray:
    """Value 0 is left out and the others move down by one; 255 stays what it is."""
    table = np.concatenate([[IGNORE], np.arange(255)]).astype(np.uint8)
    table[IGNORE] = IGNORE
    return translate(values, table, path)


def listed(path: Path) -> list[str]:
    """Return the names of pictures in a list such as ImageSets/Segmentation/val.txt: the first word of every line."""
    return [line.split()[0] for line in read_text(path).splitlines() if line.strip()]


def checked_part(text: str, path: Path) -> str:
    """Return a name out of a list, which must not lead out of its folder."""
    if text.startswith(("/", "\\")) or ".." in Path(text).parts or ":" in text:
        raise BenchmarkError(f"{path}: {text!r} is no name of a picture")
    return text
