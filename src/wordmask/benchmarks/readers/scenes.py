"""Street scenes and rooms: Cityscapes, all its classes or its objects alone, and ADE20K."""

from pathlib import Path

from wordmask.benchmarks.datasets import IGNORE
from wordmask.benchmarks.names import cityscapes_objects, class_names
from wordmask.benchmarks.readers.base import Item, Layout, Pictures, table_of, translate, without_first

CITYSCAPES = Layout(
    "Cityscapes",
    ("cityscapes", "Cityscapes", ""),
    {
        "leftImg8bit/{split}": "pictures, CITY/*_leftImg8bit.png",
        "gtFine/{split}": "masks, CITY/*_gtFine_labelIds.png",
    },
    "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)",
)
ADE20K = Layout(
    "ADE20K",
    ("ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k", ""),
    {
        "images/{split}": "pictures, .jpg",
        "annotations/{split}": "masks, .png, 0 is other and 1 to 150 the classes",
    },
    "http://sceneparsing.csail.mit.edu (ADEChallengeData2016.zip)",
)
CITYSCAPES_SPLITS = ("val", "train")
ADE20K_SPLITS = ("validation", "training")

EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' ids of the 19 classes that its benchmark counts, in the order of their training ids."""


def cityscapes(root: Path, split: str, pictures: int | None, *, objects: bool) -> Pictures:
    """Return the 19 evaluated classes, where all else does not count; or the 14 objects, all else background."""
    home = CITYSCAPES.home(root, split)
    items = []
    for image in sorted((home / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        city = image.parent.name
        items.append(Item(f"{city}/{name}", image, home / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"))
    if objects:
        table = table_of(cityscapes_objects(), rest=0)
    else:
        table = table_of({value: label for label, value in enumerate(EVALUATED_IDS)}, rest=IGNORE)
    name = "cityscapes-object" if objects else "cityscapes"
    return Pictures(
        name,
        split,
        class_names(name),
        items,
        lambda values, item: translate(values, table, item.truth),
        pictures=pictures,
    )


def ade20k(root: Path, split: str, pictures: int | None) -> Pictures:
    """150 names; 0 does not count."""
    home = ADE20K.home(root, split)
    items = [
        Item(image.stem, image, home / "annotations" / split / f"{image.stem}.png")
        for image in sorted((home / "images" / split).glob("*.jpg"))
    ]
    return Pictures(
        "ade20k",
        split,
        class_names("ade20k"),
        items,
        lambda values, item: without_first(values, item.truth),
        pictures=pictures,
    )
