"""Draw pictures, segment them by the words, and look: no download, no accelerator, under a minute.

python examples/segment_drawn_scenes.py [--out DIR]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import wordmask
import wordmask_world
from wordmask.files import atomic_write
from wordmask.html_page import text_table
from wordmask_world import draw_scene
from wordmask_world.benchmark import FIRST_SEED

SIZE = 256
KINDS = ("single", "pairs", "multi", "clutter")
"""One picture of each; the first that no model has seen, not the best."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder to write (default: out)")
    out = parser.parse_args().out

    segmenter = wordmask.load("maskclip", preset="world")
    columns = []
    for index, kind in enumerate(KINDS):
        scene = draw_scene(FIRST_SEED + index, SIZE, kind=kind)
        names = [*scene.things, *scene.stuff]
        result = segmenter.segment(scene.image, names, fill=True)  # the names leave nothing over
        print(f"{kind}: {scene.captions[0]!r}")
        rows = [
            [name, 100 * result.pixels[name] / scene.labels.size, 100 * agreement(result.mask(name), scene, name)]
            for name in names
        ]
        print(text_table(["  name", "% of the picture", "IoU with the truth"], [[f"  {r[0]}", *r[1:]] for r in rows]))
        columns.append(stacked(Image.fromarray(scene.image), result.overlay()))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "scenes.jpg") as file:
        side_by_side(columns).save(file, "JPEG", quality=90)
    print(f"\nLook at {out / 'demo.jpg'}: the pictures above, what was found in them below.")


def agreement(mask: np.ndarray, scene: wordmask_world.Scene, name: str) -> float:
    """Intersection over union with the true mask."""
    truth = scene.labels == wordmask_world.NAMES.index(name)
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def stacked(above: Image.Image, below: Image.Image) -> Image.Image:
    page = Image.new("RGB", (above.width, above.height + below.height + 4), "white")
    page.paste(above, (0, 0))
    page.paste(below, (0, above.height + 4))
    return page


def side_by_side(columns: list[Image.Image]) -> Image.Image:
    page = Image.new("RGB", (sum(c.width + 4 for c in columns) - 4, max(c.height for c in columns)), "white")
    x = 0
    for column in columns:
        page.paste(column, (x, 0))
        x += column.width + 4
    return page


if __name__ == "__main__":
    main()
