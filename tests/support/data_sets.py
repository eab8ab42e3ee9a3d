"""The layouts of published data sets, with a few pictures."""

import numpy as np
from PIL import Image

SIZE = (6, 8)  # height, width


def photo(path, size=SIZE, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def mask(path, values, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    if palette:
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(path)


def grid(**places):
    """(6, 8) of zeros, with a value in the rows and columns that are named: r0c0=7."""
    values = np.zeros(SIZE, dtype=np.uint8)
    for place, value in places.items():
        row, column = place[1:].split("c")
        values[int(row), int(column)] = value
    return values


def voc_folder(root, names=("2007_000033", "2007_000042"), split="val"):
    home = root / "VOCdevkit" / "VOC2012"
    (home / "ImageSets" / "Segmentation").mkdir(parents=True)
    (home / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    values = grid(r0c0=255, r1c1=1, r2c2=20)
    for name in names:
        photo(home / "JPEGImages" / f"{name}.jpg")
        mask(home / "SegmentationClass" / f"{name}.png", values, palette=True)
        mask(home / "SegmentationObject" / f"{name}.png", grid(r0c0=255, r1c1=1, r2c2=2), palette=True)
    return values


def own_folder(root, names="dog\ncat\n"):
    photo(root / "images" / "a" / "x.jpg")
    mask(root / "masks" / "a" / "x.png", grid(r0c0=1, r1c1=255))
    (root / "names.txt").write_text(names)
