"""PASCAL VOC 2012, with background and without, and PASCAL Context, likewise."""

from pathlib import Path

import numpy as np

from wordmask.benchmarks.datasets import IGNORE, MissingDataError
from wordmask.benchmarks.names import class_names
from wordmask.benchmarks.readers.base import (
    Item,
    Layout,
    Pictures,
    as_indices,
    checked_part,
    listed,
    read_truth,
    without_first,
)

VOC = Layout(
    "PASCAL VOC 2012",
    ("VOCdevkit/VOC2012", "VOC2012", "voc", ""),
    {
        "ImageSets/Segmentation/{split}.txt": "the split's list",
        "JPEGImages": "pictures, .jpg",
        "SegmentationClass": "masks, .png, 255 on borders",
    },
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar)",
)
CONTEXT = Layout(
    "PASCAL Context",
    ("VOCdevkit/VOC2010", "VOC2010", "context", ""),
    {
        "ImageSets/SegmentationContext/{split}.txt": "the split's list",
        "JPEGImages": "pictures, .jpg",
        "SegmentationClassContext": "masks, .png, 0 is background and 1 to 59 the classes",
    },
    "https://www.cs.stanford.edu/~roozbeh/pascal-context (as MMSegmentation converts it)",
)
SPLITS = ("val", "train", "trainval")


def voc(root: Path, split: str, pictures: int | None, *, background: bool) -> Pictures:
    """21 names with background; or the 20 without, where 0 does not count."""
    home = VOC.home(root, split)
    items = _items(home, "Segmentation", "SegmentationClass", split)
    return _pictures("voc" if background else "voc20", split, items, pictures, background, instances=True)


def context(root: Path, split: str, pictures: int | None, *, background: bool) -> Pictures:
    """60 names with background; or the 59 without, where 0 does not count."""
    home = CONTEXT.home(root, split)
    items = _items(home, "SegmentationContext", "SegmentationClassContext", split)
    return _pictures("context" if background else "context59", split, items, pictures, background, instances=False)


def count_instances(item: Item) -> int:
    """How many objects VOC marks one by one in a picture: the values of SegmentationObject, but for 0 and borders."""
    path = item.truth.parent.with_name("SegmentationObject") / item.truth.name
    if not path.exists():
        raise MissingDataError(f"PASCAL VOC 2012: {path} is missing: SegmentationObject tells one object from many")
    values = np.unique(as_indices(read_truth(path, None), path))
    return int(np.count_nonzero((values != 0) & (values != IGNORE)))


def _pictures(
    name: str, split: str, items: list[Item], pictures: int | None, background: bool, *, instances: bool
) -> Pictures:
    marked = instances and (items[0].truth.parent.with_name("SegmentationObject")).is_dir() if items else False
    return Pictures(
        name,
        split,
        class_names(name),
        items,
        lambda values, item: (as_indices if background else without_first)(values, item.truth),
        pictures=pictures,
        count_objects=count_instances if marked else None,
    )


def _items(home: Path, lists: str, masks: str, split: str) -> list[Item]:
    path = home / "ImageSets" / lists / f"{split}.txt"
    names = [checked_part(name, path) for name in listed(path)]
    return [Item(name, home / "JPEGImages" / f"{name}.jpg", home / masks / f"{name}.png") for name in names]
