"""Label maps as `wordmask segment` writes them: palette PNGs with the names inside, every pixel labelled."""

from pathlib import Path
from typing import Any

from wordmask.labelling.formats import LabelFormat, Labelled


class Png(LabelFormat):
    """`masks/NAME.png`."""

    folders = ("masks",)

    def write_picture(self, picture: Labelled) -> list[Any]:
        for file in self.files_of(picture.entry.name):
            picture.segmentation.save(file)
        return super().write_picture(picture)

    def files_of(self, name: str) -> list[Path]:
        return [self.out / "masks" / f"{name}.png"]
