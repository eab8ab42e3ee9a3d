"""Pictures of one named thing each: CoCA and ImageNet-S."""

from pathlib import Path

import numpy as np

from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.names import class_names, imagenet_names
from wordmask.benchmarks.readers.base import Item, Layout, Pictures

COCA = Layout(
    "CoCA",
    ("CoCA", "coca", ""),
    {"image": "pictures, CLASS/*.jpg", "binary": "masks, CLASS/*.png, 255 where the thing is"},
    "http://zhaozhang.net/coca.html",
)
COCA_SPLITS = ("test",)
WHITE = 128
"""From this value on a mask of black and white is white; some are stored as JPEG were, with greys at the border."""

IMAGENET_S_SPLITS = ("validation", "test", "train-semi")
IMAGENET_S_IGNORE = 1000


def coca(root: Path, split: str, pictures: int | None) -> Pictures:
    """81 names; what is no thing of the picture's own class is background."""
    home = COCA.home(root, split)
    vocabulary = class_names("coca")
    label_of = {name: label for label, name in enumerate(vocabulary.names)}
    items = []
    for image in sorted((home / "image").glob("*/*.jpg")):
        name = image.parent.name
        if name not in label_of:
            raise BenchmarkError(f"{image.parent}: {name!r} is no class of CoCA")
        items.append(Item(f"{name}/{image.stem}", image, home / "binary" / name / f"{image.stem}.png"))

    def decode(values: np.ndarray, item: Item) -> np.ndarray:
        return np.where(foreground(values), label_of[item.truth.parent.name], 0).astype(np.uint8)

    return Pictures("coca", split, vocabulary, items, decode, pictures=pictures)


def imagenet_s_layout(classes: int) -> Layout:
    return Layout(
        f"ImageNet-S {classes}",
        (f"ImageNetS{classes}", f"imagenet-s/ImageNetS{classes}", f"ImageNet-S/ImageNetS{classes}"),
        {
            "{split}": "pictures, n01443537/*.JPEG",
            "{split}-segmentation": "masks, n01443537/*.png, whose class is R + 256 G; the test's are not given out",
        },
        "https://github.com/LUSSeg/ImageNet-S",
    )


def imagenet_s(root: Path, split: str, pictures: int | None, *, classes: int) -> Pictures:
    """Background and 50, 300 or 919 names, which the folders' names tell; 1000 does not count."""
    home = imagenet_s_layout(classes).home(root, split)
    folders = sorted(folder.name for folder in (home / split).iterdir() if folder.is_dir())
    if len(folders) != classes:
        raise BenchmarkError(
            f"{home / split} has {len(folders)} folders of classes, not {classes}: labels are places among the sorted "
            "folders"
        )
    items = [
        Item(f"{folder}/{image.stem}", image, home / f"{split}-segmentation" / folder / f"{image.stem}.png")
        for folder in folders
        for image in sorted((home / split / folder).glob("*.JPEG"))
    ]
    return Pictures(
        f"imagenet-s{classes}",
        split,
        imagenet_names(folders),
        items,
        decode_imagenet_s,
        ignore=IMAGENET_S_IGNORE,
        pictures=pictures,
    )


def decode_imagenet_s(values: np.ndarray, item: Item) -> np.ndarray:
    """(H, W, 3) -> (H, W) uint16: red is the low byte, green the high one."""
    if values.ndim != 3 or values.shape[2] < 3 or values.dtype != np.uint8:
        raise BenchmarkError(f"{item.truth}: a mask of ImageNet-S is an RGB picture, whose class is R + 256 G")
    return values[..., 0] + values[..., 1].astype(np.uint16) * 256


def foreground(values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of a black and white mask -> (H, W) bool."""
    if values.dtype == bool:
        return values
    grey = values if values.ndim == 2 else values[..., :3].max(axis=-1)
    found: np.ndarray = grey >= WHITE
    return found
