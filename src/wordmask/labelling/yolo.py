"""Ultralytics' YOLO format for segmentation: a text file a picture, one polygon a line."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from wordmask.files import atomic_write
from wordmask.fingerprints import file_digest
from wordmask.labelling.formats import LabelFormat, Labelled, put_beside
from wordmask.labelling.ledger import Row
from wordmask.labelling.polygons import in_one_ring, polygons_of
from wordmask.masks.instances import Instance
from wordmask.pictures.image_files import EXTENSIONS
from wordmask.pictures.left_out import HEIC

TRAINING, VALIDATION = "train", "val"
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Of pictures that every version of Ultralytics opens (IMG_FORMATS of its data/utils.py)."""
PHOTOGRAPHS = frozenset({".jpe", ".jfif", ".avif"})


class Yolo(LabelFormat):
    """`images/train/NAME.jpg`, `labels/train/NAME.txt`, the same below `val`, and `data.yaml`, ready for
    `yolo segment train data=data.yaml`. Without validation pictures all lie in `images` and `labels`.

    A line is "class x1 y1 x2 y2 ...", shares of the width and height. There is no place in it for a hole, so holes are
    joined to the outline by cuts of no width, nor for a confidence: that stands in masks.csv.
    """

    folders = ("images", "labels")

    def write_picture(self, picture: Labelled) -> list[Any]:
        name, size = self._below(self._side(picture.source), picture.entry.name), picture.segmentation.size
        number = [self._number(own) for own in picture.segmentation.names]
        image = self.out / "images" / f"{name}{_suffix(picture.source)}"
        put_beside(image, picture, self.settings.pictures)
        lines = [
            f"{number[instance.label]} {yolo_polygon(instance, size, self.settings.tolerance)}\n"
            for instance in picture.instances
        ]
        labels = self.out / "labels" / f"{name}.txt"
        with atomic_write(labels) as file:
            file.write("".join(lines).encode())
        for file_of_before in self.files_of(picture.entry.name):  # its content was another, and perhaps its side
            if file_of_before not in (image, labels):
                file_of_before.unlink(missing_ok=True)
        return super().write_picture(picture)

    def files_of(self, name: str) -> list[Path]:
        found = []
        for side in self._sides:
            below = self._below(side, name)
            images = (self.out / "images" / f"{below}{suffix}" for suffix in sorted(EXTENSIONS | HEIC))
            found += [self.out / "labels" / f"{below}.txt", *(path for path in images if os.path.lexists(path))]
        return found

    def made_of(self, name: str, picture: Path) -> list[list[Path]]:
        belows = [self._below(side, name) for side in self._sides]
        labels, images, suffix = self.out / "labels", self.out / "images", _suffix(picture)
        return [[labels / f"{below}.txt", images / f"{below}{suffix}"] for below in belows]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> str | None:
        # Without a "path" the reader takes the folder of data.yaml. It asks for "val:", which may be empty.
        missing = [side for side in self._sides if not any((self.out / "labels" / side).rglob("*.txt"))]
        train, val = ("images/train", "images/val") if self.settings.val else ("images", None)
        data = {"train": train, "val": None if VALIDATION in missing else val, "names": dict(enumerate(self.classes))}
        with atomic_write(self.out / "data.yaml") as file:
            file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
        if data["val"] is None:
            why = "none fell to it: there are few, or the share is small" if self.settings.val else "--val 0"
            return f"data.yaml names no pictures for validation ({why}); Ultralytics trains once val: names some"
        if TRAINING in missing:
            return "all pictures fell to validation, and none is left to train on: there are few, or the share is large"
        return None

    @property
    def _sides(self) -> tuple[str, ...]:
        return (TRAINING, VALIDATION) if self.settings.val else ("",)

    def _side(self, source: Path) -> str:
        """By the picture's content alone: whatever it is called, and whatever lies beside it, it stays where it is."""
        if not self.settings.val:
            return ""
        share = int(file_digest(source)[:16], 16) / 2**64
        return VALIDATION if share < self.settings.val else TRAINING

    def _below(self, side: str, name: str) -> str:
        return f"{side}/{name_in_yolo(name)}" if side else name_in_yolo(name)

    def _number(self, name: str) -> int | None:
        return self.classes.index(name) if name in self.classes else None


def _suffix(source: Path) -> str:
    """Return what Ultralytics, which goes by it, opens."""
    suffix = source.suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    return ".jpg" if suffix in HEIC | PHOTOGRAPHS else ".png"


def name_in_yolo(name: str) -> str:
    """Ultralytics finds a picture's labels by its path: of folders called images the last becomes labels. So those
    below our own are called images_ (and those called images_ get one more), and no two names become one.
    """
    *folders, last = name.split("/")
    return "/".join([*(f"{own}_" if re.fullmatch("images_*", own) else own for own in folders), last])


def yolo_polygon(instance: Instance, size: tuple[int, int], tolerance: float) -> str:
    ring = instance.corner + in_one_ring(polygons_of(instance.mask, tolerance))
    shares = ring / (size[1], size[0])
    return " ".join(f"{share:.6g}" for share in shares.ravel())
