"""Ultralytics' YOLO format for segmentation: a text file a picture, one polygon a line."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from wordmask.files import atomic_write
from wordmask.labelling.formats import LabelFormat, Labelled, put_beside
from wordmask.labelling.instances import Instance
from wordmask.labelling.ledger import Row
from wordmask.labelling.polygons import in_one_ring, polygons_of


class Yolo(LabelFormat):
    """`images/NAME.jpg` (links), `labels/NAME.txt` and `data.yaml`, ready for `yolo segment train data=data.yaml`.

    A line is "class x1 y1 x2 y2 ...", shares of the width and height. There is no place in it for a hole, so holes are
    joined to the outline by cuts of no width, nor for a confidence: that stands in masks.csv.
    """

    folders = ("images", "labels")

    def write_picture(self, picture: Labelled) -> list[Any]:
        name, size = name_in_yolo(picture.entry.name), picture.segmentation.size
        number = [self._number(own) for own in picture.segmentation.names]
        put_beside(self.out / "images" / f"{name}{picture.source.suffix.lower()}", picture)
        lines = [
            f"{number[instance.label]} {yolo_polygon(instance, size, self.settings.tolerance)}\n"
            for instance in picture.instances
        ]
        with atomic_write(self.out / "labels" / f"{name}.txt") as file:
            file.write("".join(lines).encode())
        return super().write_picture(picture)

    def files_of(self, name: str) -> list[Path]:
        name = name_in_yolo(name)
        images = self.out / "images"
        beside = (images / name).parent
        links = [path for path in beside.iterdir() if path.stem == Path(name).name] if beside.is_dir() else []
        return [self.out / "labels" / f"{name}.txt", *links]

    def made_of(self, name: str, picture: Path) -> list[Path]:
        name = name_in_yolo(name)
        return [self.out / "labels" / f"{name}.txt", self.out / "images" / f"{name}{picture.suffix.lower()}"]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> None:
        # One split: who trains on labels that nobody checked chooses what to validate on.
        # Without a "path" the reader takes the folder of data.yaml.
        data = {"train": "images", "val": "images", "names": dict(enumerate(self.classes))}
        with atomic_write(self.out / "data.yaml") as file:
            file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())

    def _number(self, name: str) -> int | None:
        return self.classes.index(name) if name in self.classes else None


def name_in_yolo(name: str) -> str:
    """Ultralytics finds a picture's labels by its path: of folders called images the last becomes labels. So those
    below our own are called images_ (and those called images_ get one more), and no two names become one."""
    *folders, last = name.split("/")
    return "/".join([*(f"{own}_" if re.fullmatch("images_*", own) else own for own in folders), last])


def yolo_polygon(instance: Instance, size: tuple[int, int], tolerance: float) -> str:
    ring = instance.corner + in_one_ring(polygons_of(instance.mask, tolerance))
    shares = ring / (size[1], size[0])
    return " ".join(f"{share:.6g}" for share in shares.ravel())
