"""A verb of this package's own: `wordmask brightness photo.jpg`."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.pictures.images import read_image


def brightness(pictures: Annotated[list[Path], typer.Argument(help="Files of pictures.")]) -> None:
    """Say how bright pictures are, from 0 to 1."""
    from wordmask_brightness.brightness import LUMA

    for path in pictures:
        print(f"{path}: {(read_image(path) @ LUMA).mean() / 255:.2f}")
