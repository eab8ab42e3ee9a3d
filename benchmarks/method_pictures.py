"""What each method makes of the same four held-out pictures of the world: the pictures of docs/methods.

python benchmarks/method_pictures.py [--only maskclip] --out docs/images/methods

The pictures are the first of each kind that no model has seen, not chosen. Segmenters are asked for the things that are
on any of the four, and for background; above are the pictures, beneath them what was found.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import wordmask
from wordmask import saliency
from wordmask.files import atomic_write
from wordmask.masks.segmentation import Segmentation
from wordmask_world import draw_scene, write_folder
from wordmask_world.benchmark import FIRST_SEED

SIZE, SCALE, GAP = 128, 2, 4
SHOWN = SIZE * SCALE
KINDS = ("single", "pairs", "multi", "clutter")
ARCHIVE, ARCHIVE_SEED = 1000, 7
"""Pictures that ReCo learns names from; their seeds are of no benchmark."""

Overlays = Callable[[Sequence[np.ndarray], Sequence[str]], list[Image.Image]]


def segmenter(method: str, **settings: object) -> Overlays:
    def overlays(images: Sequence[np.ndarray], names: Sequence[str]) -> list[Image.Image]:
        loaded = wordmask.load(method, preset="world", precision="fp32", **settings)
        found = [loaded.segment(image, [*names, "background"]) for image in images]
        return [drawn(image, result.labels, result.names) for image, result in zip(images, found, strict=True)]

    return overlays


def reco(images: Sequence[np.ndarray], names: Sequence[str]) -> list[Image.Image]:
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "archive", ARCHIVE, seed=ARCHIVE_SEED, image_format="png")
        return segmenter("reco", archive=Path(folder) / "archive" / "images")(images, names)


def foreground(method: str, **settings: object) -> Overlays:
    def overlays(images: Sequence[np.ndarray], names: Sequence[str]) -> list[Image.Image]:
        loaded = saliency.load(method, preset="world", precision="fp32", **settings)
        masks = [loaded.look(image).mask for image in images]
        return [
            drawn(image, mask.astype(int), ["background", "foreground"])
            for image, mask in zip(images, masks, strict=True)
        ]

    return overlays


def drawn(image: np.ndarray, labels: np.ndarray, names: list[str]) -> Image.Image:
    """Return an overlay whose legend can be read: drawn on the picture enlarged."""
    labels, image = (
        np.kron(array, np.ones((SCALE, SCALE) + (1,) * (array.ndim - 2), array.dtype)) for array in (labels, image)
    )
    return Segmentation(labels, names, image=image).overlay()


METHODS: dict[str, tuple[Overlays, ...]] = {
    "maskclip": (segmenter("maskclip"),),
    "clip-diy": (segmenter("clip-diy"),),
    "clip-dinoiser": (segmenter("clip-dinoiser"),),
    "reco": (reco,),
    "selfmask-clip": (segmenter("selfmask-clip"),),
    "namedmask": (segmenter("namedmask"),),
    "found": (foreground("found"),),
    "seed": (foreground("seed"),),
    "selfmask": (foreground("selfmask"),),
    "spectral": (foreground("spectral"),),
    "solver": (foreground("found"), foreground("found", refine="solver")),
    "pamr": (segmenter("namedmask"), segmenter("namedmask", refine="pamr")),
    "frontier": (
        segmenter("maskclip", residual=True),
        segmenter("sc-clip"),
        segmenter("clip-dinoiser"),
        segmenter("proxyclip"),
        segmenter("talk2dino"),
        segmenter("corrclip"),
    ),
}
"""Method -> the rows beneath the pictures; of a refinement, without it and with it; of the frontier, MaskCLIP's and
others' that come above it in the papers.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=METHODS, action="append", help="these methods alone")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    asked = parser.parse_args()
    scenes = [draw_scene(FIRST_SEED + index, SIZE, kind=kind) for index, kind in enumerate(KINDS)]
    images = [scene.image for scene in scenes]
    names = list(dict.fromkeys(thing for scene in scenes for thing in scene.things))
    asked.out.mkdir(parents=True, exist_ok=True)
    for method in asked.only or METHODS:
        rows = [[Image.fromarray(image) for image in images], *(row(images, names) for row in METHODS[method])]
        with atomic_write(asked.out / f"{method}.jpg") as file:
            sheet(rows).save(file, "JPEG", quality=85)
        print(asked.out / f"{method}.jpg")
    print(f"asked for: {', '.join(names)}")


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Put rows beneath each other, every cell as wide as the others; legends may make some taller."""
    rows = [[cell.resize((SHOWN, round(cell.height * SHOWN / cell.width)), Image.Resampling.BICUBIC) for cell in row]
            for row in rows]  # fmt: skip
    heights = [max(cell.height for cell in row) for row in rows]
    page = Image.new("RGB", (len(KINDS) * (SHOWN + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1)), "white")
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for x, cell in enumerate(row):
            page.paste(cell, (x * (SHOWN + GAP), y))
        y += height + GAP
    return page


if __name__ == "__main__":
    main()
