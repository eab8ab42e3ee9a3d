"""PASCAL VOC's segmentation layout: palette PNGs of classes and of objects."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wordmask.files import atomic_write
from wordmask.labelling.formats import LabelFormat, Labelled, put_beside
from wordmask.labelling.ledger import Row
from wordmask.labelling.settings import LabelError, LabelSettings
from wordmask.names.vocabulary import BACKGROUND
from wordmask.runs import marks

VOID = 255
"""VOC's "do not care". Here: parts that were left out as too small, of which nobody claims anything."""
MOST = 254
"""Classes, or objects in one picture, that a palette tells apart beside background and void."""


class Voc(LabelFormat):
    """`JPEGImages/NAME.jpg`, `SegmentationClass/NAME.png`, `SegmentationObject/NAME.png` and
    `ImageSets/Segmentation/train.txt`; `labels.txt` says which number is which name.

    Pictures are called .jpg whatever they are, as VOC's readers expect; they tell a picture by its content.
    Of a picture with more than 254 objects the largest are kept, and the others are void.
    """

    folders = ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets")

    def __init__(self, out: Path, names: Sequence[str], settings: LabelSettings):
        super().__init__(out, names, settings)
        if len(self.classes) > MOST:
            raise LabelError(f"{len(self.classes)} names, and VOC's palette holds {MOST}: choose coco or png")

    def write_picture(self, picture: Labelled) -> list[Any]:
        segmentation, name = picture.segmentation, picture.entry.name
        if name.splitlines() != [name] or name != name.strip():
            raise LabelError(
                "its name holds a line break, or ends in a space, and VOC lists pictures line by line: rename it"
            )
        number = {own: i for i, own in enumerate(self.classes, start=1)}
        is_background = np.array([own.casefold() == BACKGROUND for own in segmentation.names])
        classes = np.where(is_background[segmentation.labels], 0, VOID).astype(np.uint8)  # (H, W)
        objects = classes.copy()
        largest = sorted(picture.instances, key=lambda instance: -instance.area)[:MOST]
        kept = [instance for instance in picture.instances if instance in largest]
        for index, instance in enumerate(kept, start=1):
            instance.paste_into(classes, number[segmentation.names[instance.label]])
            instance.paste_into(objects, index)
        put_beside(self.out / "JPEGImages" / f"{name}.jpg", picture, self.settings.pictures)
        for kind, labels in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            image = Image.fromarray(labels)
            image.putpalette(voc_palette())
            with atomic_write(self.out / kind / f"{name}.png") as file:
                image.save(file, "PNG", pnginfo=marks.png_text(marks.MASKS))
        return super().write_picture(picture)

    def files_of(self, name: str) -> list[Path]:
        return [
            self.out / "JPEGImages" / f"{name}.jpg",
            self.out / "SegmentationClass" / f"{name}.png",
            self.out / "SegmentationObject" / f"{name}.png",
        ]

    def finish(self, rows: Callable[[], Iterator[Row]], folder: Path) -> None:
        with atomic_write(self.out / "ImageSets" / "Segmentation" / "train.txt") as file:
            for row in rows():
                file.write(f"{row.name}\n".encode(errors="surrogateescape"))
        with atomic_write(self.out / "labels.txt") as file:
            numbered = [(0, BACKGROUND), *enumerate(self.classes, start=1), (VOID, "void")]
            file.write("".join(f"{number} {name}\n" for number, name in numbered).encode())


def voc_palette() -> list[int]:
    """VOC's colours (VOCcolormap of its development kit): the bits of a number, spread over red, green and blue."""
    palette = []
    for number in range(256):
        for channel in range(3):
            palette.append(sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)))
    return palette
