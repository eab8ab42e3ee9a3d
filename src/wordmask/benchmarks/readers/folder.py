"""A folder of one's own: pictures, masks beside them, and a list of names."""

from pathlib import Path

import numpy as np

from wordmask.benchmarks.datasets import IGNORE, BenchmarkError, MissingDataError
from wordmask.benchmarks.readers.base import Item, Pictures, as_indices
from wordmask.names.lists import read_names
from wordmask.pictures.image_files import find_images

TREE = (
    "images/ (pictures, in folders if you like); labels/ or masks/ (grey or palette .png of the same names, whose "
    "values are places in the list of names, and 255 where pixels do not count, or 65535 beyond 255 names); "
    "names.txt (one name a line) or names.yaml"
)
SPLITS = ("all",)
WIDE_IGNORE = 65535
"""In masks of 16 bits a pixel, which more than 255 names need."""


def folder(root: Path, split: str, pictures: int | None) -> Pictures:
    """Open what most labelling tools write, and commands that draw pictures."""
    masks = next((root / name for name in ("labels", "masks") if (root / name).is_dir()), root / "labels")
    names = next((root / name for name in ("names.txt", "names.yaml", "names.yml") if (root / name).is_file()), None)
    images = root / "images"
    missing = [
        what
        for what, here in (("images", images.is_dir()), ("labels", masks.is_dir()), ("names.txt", names is not None))
        if not here
    ]
    if missing or names is None:
        raise MissingDataError(f"{root} has no {', '.join(missing)}. A benchmark of your own should hold {TREE}")
    vocabulary = read_names(names)
    wide = len(vocabulary) > IGNORE

    def decode(values: np.ndarray, item: Item) -> np.ndarray:
        return as_indices(values, item.truth)

    items = []
    for image in find_images(images):
        place = image.relative_to(images).with_suffix(".png")
        mask = masks / place
        if not mask.exists():
            raise BenchmarkError(f"{image} has no mask: {mask} is missing")
        items.append(Item(place.with_suffix("").as_posix(), image, mask))
    return Pictures(
        "folder",
        split,
        vocabulary,
        items,
        decode,
        ignore=WIDE_IGNORE if wide else IGNORE,
        pictures=pictures,
        upright=True,
    )
