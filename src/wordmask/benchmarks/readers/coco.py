"""COCO 2017: its 80 things with background, from the instance annotations, and COCO-Stuff's 171 classes."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wordmask.benchmarks.datasets import IGNORE, BenchmarkError
from wordmask.benchmarks.names import class_names
from wordmask.benchmarks.readers.base import Item, Layout, Pictures, as_indices, table_of, translate
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of
from wordmask.pictures.image_files import image_size
from wordmask.text_files import read_small
from wordmask.weights.cache import cache_dir

OBJECT = Layout(
    "COCO-Object",
    ("coco", "COCO", "coco2017", ""),
    {"{split}2017": "pictures, .jpg", "annotations/instances_{split}2017.json": "what is where"},
    "https://cocodataset.org (val2017.zip, annotations_trainval2017.zip)",
)
STUFF = Layout(
    "COCO-Stuff 164k",
    ("coco", "COCO", "coco2017", "coco_stuff164k", ""),
    {
        "{split}2017": "pictures, .jpg",
        "stuffthingmaps/{split}2017": "masks, .png, ids less one as published, 255 unlabelled",
    },
    "https://github.com/nightrome/cocostuff (stuffthingmaps_trainval2017.zip)",
)
SPLITS = ("val", "train")
MOST_ANNOTATIONS = 2 * 2**30
"""Bytes; the largest published file, of train, has 0.45 GB."""

STUFF_IDS = 182
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Of COCO's ids, those of things that never were annotated."""
THING_IDS = tuple(i for i in range(1, 91) if i not in UNUSED_IDS)


def coco_object(root: Path, split: str, pictures: int | None) -> Pictures:
    """81 names. Masks are made from the annotations of the pictures that are asked for, once, and kept in the cache."""
    home = OBJECT.home(root, split)
    annotations = home / "annotations" / f"instances_{split}2017.json"
    masks = masks_folder(annotations)
    items = [
        Item(path.stem, path, masks / f"{path.stem}.png") for path in sorted((home / f"{split}2017").glob("*.jpg"))
    ]
    benchmark = Pictures(
        "coco-object",
        split,
        class_names("coco-object"),
        items,
        lambda values, item: as_indices(values, item.truth),
        pictures=pictures,
    )
    make_masks(annotations, benchmark.items)
    return benchmark


def coco_stuff(root: Path, split: str, pictures: int | None) -> Pictures:
    """171 names; what nobody labelled does not count."""
    home = STUFF.home(root, split)
    masks = home / "stuffthingmaps" / f"{split}2017"
    used = [i for i in range(1, STUFF_IDS + 1) if i not in UNUSED_IDS]
    table = table_of({i - 1: label for label, i in enumerate(used)}, rest=STUFF_IDS)  # an unused id is an error
    table[IGNORE] = IGNORE
    items = [
        Item(path.stem, path, masks / f"{path.stem}.png") for path in sorted((home / f"{split}2017").glob("*.jpg"))
    ]
    return Pictures(
        "coco-stuff",
        split,
        class_names("coco-stuff"),
        items,
        lambda values, item: translate(values, table, item.truth),
        pictures=pictures,
    )


def masks_folder(annotations: Path) -> Path:
    """Return where the masks of one file of annotations are kept; a changed file has another place."""
    status = annotations.stat()
    mark = f"{annotations.resolve()} {status.st_size} {status.st_mtime_ns}"
    return cache_dir() / "benchmarks" / "coco-object" / digest_of(mark)[:16]


def make_masks(annotations: Path, items: list[Item]) -> None:
    """Write the masks that are not there yet. The annotations are read only if there are any."""
    wanted = {item.key: item for item in items if not item.truth.exists()}
    if not wanted:
        return
    try:
        read = json.loads(read_small(annotations, most_bytes=MOST_ANNOTATIONS))
        keys = {int(image["id"]): Path(image["file_name"]).stem for image in read["images"]}
        of_picture: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for annotation in read["annotations"]:
            key = keys[int(annotation["image_id"])]
            if key in wanted:
                of_picture[key].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"{annotations}: not COCO's instance annotations ({type(error).__name__}: {error})"
        ) from error
    del read
    unknown = sorted(set(wanted) - set(keys.values()))
    if unknown:
        raise BenchmarkError(f"{annotations} does not list the picture {unknown[0]}.jpg, nor {len(unknown) - 1} others")
    for key, item in wanted.items():
        labels = paint(of_picture[key], image_size(item.image), annotations)
        with atomic_write(item.truth) as file:
            Image.fromarray(labels).save(file, "PNG")


def paint(annotations: list[dict[str, Any]], size: tuple[int, int], path: Path) -> np.ndarray:
    """(H, W) labels. Large things are painted first, so that what lies on them shows; crowds bear their name too."""
    labels = np.zeros(size, dtype=np.uint8)
    order = {category: label for label, category in enumerate(THING_IDS, start=1)}
    masks = []
    for annotation in annotations:
        if annotation["category_id"] not in order:
            raise BenchmarkError(f"{path}: category {annotation['category_id']} is none of COCO's 80")
        mask = decode(annotation["segmentation"], size, path)
        masks.append((int(mask.sum()), annotation["id"], order[annotation["category_id"]], mask))
    for _, _, label, mask in sorted(masks, key=lambda entry: (-entry[0], entry[1])):
        labels[mask] = label
    return labels


def decode(segmentation: Any, size: tuple[int, int], path: Path) -> np.ndarray:
    """(H, W) bool from polygons, run lengths, or compressed run lengths."""
    from pycocotools import mask as coco_mask

    if not segmentation:
        return np.zeros(size, dtype=bool)
    if isinstance(segmentation, list):
        code = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        code = coco_mask.frPyObjects(segmentation, *segmentation["size"])
    else:
        code = segmentation
    if tuple(code["size"]) != tuple(size):
        raise BenchmarkError(f"{path}: a mask of {code['size']} for a picture of {list(size)} (height, width)")
    mask: np.ndarray = coco_mask.decode(code).astype(bool)
    return mask
