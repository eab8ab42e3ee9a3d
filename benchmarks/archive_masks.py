"""How good a run's pseudo-masks are by the truth, before and after its experts, and where they are wrong, which only
the world can say.

    python benchmarks/archive_masks.py runs/namedmask-world/copy-paste-2 [--first 200] [--half odd]

For saliency's masks, for those that experts have redrawn, and for what either of the two holds: mean IoU over the first
pictures of each name's archive that do show it, and the pixels that are wrong, in percent of the thing's own: close to
its outline, missing further inside it, and added further outside it. Nothing that trains ever sees the truth. Choose on
one half of the pictures, by the numbers that their names are, and measure on the other.
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from wordmask.distillation.records import MaskTable
from wordmask_world.drawing.names import THINGS

CLOSE = 2
"""Pixels from the thing's outline."""
KINDS = ("masks", "redrawn", "either")
MEASURES = ("IoU", "outline", "missing", "added")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--half", choices=("even", "odd"), help="pictures whose numbers are")
    arguments = parser.parse_args()
    images = Path(yaml.safe_load((arguments.run / "config.yaml").read_text())["images"])
    before, after = MaskTable(arguments.run / "masks"), MaskTable(arguments.run / "refined")
    rows = []
    print(f"{'':14} {'pictures':>8} {'showing':>8}" + "".join(f" {kind:>8}" for kind in KINDS))
    for name in before.names:
        told = [
            measured(before[row].mask(), after[row].mask(), truth)
            for row in before.rows(name, usable=False)[: arguments.first].tolist()
            for truth in truths(before[row].image.path, images, name, arguments.half)
        ]
        shown = np.array([one for one in told if one is not None])  # (pictures, kinds, measures)
        rows.append(100 * shown.mean(axis=0))
        figures = "".join(f" {iou:8.1f}" for iou in rows[-1][:, 0])
        print(f"{name:14} {len(told):8} {len(shown):8}{figures}", flush=True)
    print("\nmeans over the names; the pixels that are wrong, in percent of the thing's")
    print(f"{'':14}" + "".join(f" {measure:>8}" for measure in MEASURES) + "   better than the masks for")
    for number, kind in enumerate(KINDS):
        better = sum(row[number, 0] > row[0, 0] for row in rows)
        figures = "".join(f" {figure:8.1f}" for figure in np.mean(rows, axis=0)[number])
        print(f"{kind:14}{figures}   {better} of {len(rows)} names")


def truths(picture: str, images: Path, name: str, half: str | None) -> list[np.ndarray]:
    """Where the thing is on a picture, (H, W) bool; nothing where the picture is of the other half."""
    stem = Path(picture).stem
    if half is not None and int(stem) % 2 != ("even", "odd").index(half):
        return []
    label = images.parent / "labels" / f"{stem}.png"
    return [np.asarray(Image.open(label)) == THINGS.index(name)]


def measured(mask: np.ndarray, redrawn: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """(kinds, measures), in [0, 1] the first of them; None where there is no such thing on the picture."""
    if not truth.any():
        return None
    outline = binary_dilation(truth, iterations=CLOSE) & ~binary_erosion(truth, iterations=CLOSE)
    wrong = [
        ((one & truth).sum() / (one | truth).sum(), *(part.sum() / truth.sum() for part in parts(one, truth, outline)))
        for one in (mask, redrawn, mask | redrawn)
    ]
    return np.array(wrong)


def parts(mask: np.ndarray, truth: np.ndarray, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (mask ^ truth) & outline, truth & ~mask & ~outline, mask & ~truth & ~outline


if __name__ == "__main__":
    main()
