"""Foreground without names: DUTS, DUT-OMRON and ECSSD. Label 1 is the foreground."""

from pathlib import Path

import numpy as np

from wordmask.benchmarks.readers.base import Item, Layout, Pictures
from wordmask.benchmarks.readers.objects import foreground
from wordmask.names.vocabulary import BACKGROUND, Vocabulary

FOREGROUND = "foreground"
DUTS = Layout(
    "DUTS",
    ("DUTS", "duts", ""),
    {"DUTS-{split}/DUTS-{split}-Image": "pictures, .jpg", "DUTS-{split}/DUTS-{split}-Mask": "masks, .png"},
    "http://saliencydetection.net/duts (DUTS-TR.zip, DUTS-TE.zip)",
)
DUT_OMRON = Layout(
    "DUT-OMRON",
    ("DUT-OMRON", "dut-omron", "DUT_OMRON", ""),
    {"DUT-OMRON-image": "pictures, .jpg", "pixelwiseGT-new-PNG": "masks, .png"},
    "http://saliencydetection.net/dut-omron",
)
ECSSD = Layout(
    "ECSSD",
    ("ECSSD", "ecssd", ""),
    {"images": "pictures, .jpg", "ground_truth_mask": "masks, .png"},
    "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
)
DUTS_SPLITS = ("TE", "TR")
SPLITS = ("test",)


def duts(root: Path, split: str, pictures: int | None) -> Pictures:
    return _pictures("duts", split, DUTS, root, pictures)


def dut_omron(root: Path, split: str, pictures: int | None) -> Pictures:
    return _pictures("dut-omron", split, DUT_OMRON, root, pictures)


def ecssd(root: Path, split: str, pictures: int | None) -> Pictures:
    return _pictures("ecssd", split, ECSSD, root, pictures)


def _pictures(name: str, split: str, layout: Layout, root: Path, pictures: int | None) -> Pictures:
    home = layout.home(root, split)
    images, masks = (home / path.format(split=split) for path in layout.parts)
    found = sorted(image for image in images.iterdir() if image.suffix == ".jpg")
    items = [Item(image.stem, image, masks / f"{image.stem}.png") for image in found]
    return Pictures(name, split, Vocabulary.of([BACKGROUND, FOREGROUND]), items, _decode, pictures=pictures)


def _decode(values: np.ndarray, item: Item) -> np.ndarray:
    return foreground(values).astype(np.uint8)
