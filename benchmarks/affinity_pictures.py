"""What CLIP-DINOiser's pooling mixes on the world: the affinity of one patch, and the names before and after.

python benchmarks/affinity_pictures.py [--kind multi] [--pictures 4] [--thresholds 0.2,0.95] --out affinity.jpg

A row is a held-out picture, the first ones there are: the picture with a patch marked (the middle of its largest
thing), how much every patch is mixed into that one above each threshold, and the names of things and stuff without
pooling (MaskCLIP) and with it, at each threshold.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import wordmask
import wordmask_world
from wordmask.files import atomic_write
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import colours_of
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.clip_dinoiser import ClipDinoiser
from wordmask_world import NAMES, draw_scene
from wordmask_world.benchmark import FIRST_SEED

SIZE, SHOWN, GAP = 128, 192, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", default="multi", choices=("single", "multi", "clutter", "pairs"))
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--thresholds", default="0.2,0.95")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    thresholds = [float(value) for value in asked.thresholds.split(",")]
    bare = wordmask.load("maskclip", preset="world", precision="fp32", residual=True)
    pooled = [
        wordmask.load("clip-dinoiser", preset="world", precision="fp32", affinity="dino", affinity_threshold=threshold)
        for threshold in thresholds
    ]
    rows = []
    for index in range(asked.pictures):
        scene = draw_scene(FIRST_SEED + index, SIZE, kind=asked.kind)
        patch = middle_patch(scene)
        rows.append(
            [
                marked(scene.image, patch),
                *(heat(scene.image, affinity(segmenter, scene.image, patch)) for segmenter in pooled),
                *(named(segmenter, scene.image) for segmenter in (bare, *pooled)),
            ]
        )
    sheet = Image.new("RGB", (len(rows[0]) * (SHOWN + GAP) - GAP, len(rows) * (SHOWN + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.paste(cell.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), (x * (SHOWN + GAP), y * (SHOWN + GAP)))
    with atomic_write(asked.out) as file:
        sheet.save(file, "JPEG", quality=88)
    of = [f"affinity above {threshold:g}" for threshold in thresholds]
    then = [f"pooled above {threshold:g}" for threshold in thresholds]
    print(f"{asked.out}, from left to right: {', '.join(['picture', *of, 'MaskCLIP', *then])}")


def middle_patch(scene: wordmask_world.Scene) -> tuple[int, int]:
    """Of the largest thing: the patch whose pixels it has most of, nearest to its middle."""
    largest = max(scene.objects, key=lambda thing: thing.pixels)
    ys, xs = np.nonzero(scene.labels == NAMES.index(largest.name))
    place = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    return int(ys[place]) // 8, int(xs[place]) // 8


@torch.inference_mode()
def affinity(segmenter: ClipDinoiser, image: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """(h, w): the weights of the patches that are pooled into this one."""
    windows = to_tensor(image)[None]
    guide = segmenter.guides(windows, segmenter.clip.dense(windows))[0]
    unit = torch.nn.functional.normalize(guide, dim=0)
    weights = torch.einsum("chw,c->hw", unit, unit[:, *patch])
    return (weights * (weights >= segmenter.settings.affinity_threshold)).numpy()


def marked(image: np.ndarray, patch: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(image)
    y, x = (8 * side for side in patch)
    ImageDraw.Draw(picture).rectangle((x, y, x + 7, y + 7), outline="red")
    return picture


def heat(image: np.ndarray, weights: np.ndarray) -> Image.Image:
    """The picture in grey, as bright as its patches count."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)
    counts = np.kron(weights.clip(0, 1), np.ones((8, 8)))
    return Image.fromarray((grey * (0.15 + 0.85 * counts)).astype(np.uint8)).convert("RGB")


def named(segmenter: wordmask.segmenters.base.Segmenter, image: np.ndarray) -> Image.Image:
    result = segmenter.segment(image, list(NAMES), fill=True)
    return draw_overlay(image, result.labels, result.names, colours_of(list(NAMES)), legend=False)


if __name__ == "__main__":
    main()
