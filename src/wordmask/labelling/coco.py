"""COCO's instances JSON, as pycocotools and most other tools open it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from wordmask.files import atomic_write
from wordmask.labelling.formats import LabelFormat, Labelled
from wordmask.labelling.ledger import Row
from wordmask.labelling.polygons import in_one_ring, polygons_of
from wordmask.masks.instances import Instance, coco_annotation


class Coco(LabelFormat):
    """`annotations.json`, written a picture at a time: it may be larger than memory.

    Masks are run lengths, which are exact, or polygons. COCO's polygons of a part are a union, which cannot say that
    there is a hole, so holes are joined to the outline by cuts of no width.
    """

    def write_picture(self, picture: Labelled) -> list[Any]:
        if self.settings.coco_masks == "rle":
            return super().write_picture(picture)
        return [[coco_polygon(instance, self.settings.tolerance)] for instance in picture.instances]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> None:
        with atomic_write(self.out / "annotations.json") as file:
            head = {"info": {"description": f"wordmask labels of {folder.name}"}, "licenses": []}
            file.write(json.dumps(head)[:-1].encode())
            categories = [{"id": i, "name": name} for i, name in enumerate(self.classes, start=1)]
            file.write(f', "categories": {json.dumps(categories)}'.encode())
            _write_list(file, "images", (coco_image(i, row) for i, row in enumerate(rows(), start=1)))
            _write_list(file, "annotations", self._annotations(rows()))
            file.write(b"}\n")

    def _annotations(self, rows: Iterator[Row]) -> Iterator[dict[str, Any]]:
        category = {name: i for i, name in enumerate(self.classes, start=1)}
        number = 0
        for image, row in enumerate(rows, start=1):
            for part in row.parts:
                number += 1
                yield coco_annotation(number, image, category[part.name], row.size, part)


def coco_image(number: int, row: Row) -> dict[str, Any]:
    return {"id": number, "file_name": row.picture, "height": row.size[0], "width": row.size[1]}


def coco_polygon(instance: Instance, tolerance: float) -> list[int]:
    """[x1, y1, x2, y2, ...] in pixels of the whole picture."""
    ring = instance.corner + in_one_ring(polygons_of(instance.mask, tolerance))
    flat: list[int] = ring.ravel().tolist()
    return flat


def _write_list(file: IO[bytes], key: str, items: Iterator[dict[str, Any]]) -> None:
    file.write(f', "{key}": ['.encode())
    for index, item in enumerate(items):
        file.write((b",\n" if index else b"\n") + json.dumps(item).encode())
    file.write(b"\n]")
