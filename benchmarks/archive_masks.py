"""How good a run's pseudo-masks are by the truth, before and after its experts: the world alone can say that.

    python benchmarks/archive_masks.py runs/namedmask-world/copy-paste-2 [--first 200]

Mean IoU over the first pictures of each name's archive that do show it. Nothing that trains ever sees the truth.
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from wordmask.distillation.records import MaskTable
from wordmask_world.drawing.names import THINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--first", type=int, default=200)
    arguments = parser.parse_args()
    images = Path(yaml.safe_load((arguments.run / "config.yaml").read_text())["images"])
    before, after = MaskTable(arguments.run / "masks"), MaskTable(arguments.run / "refined")
    rows = []
    print(f"{'':14} {'masks':>8} {'redrawn':>8}")
    for name in before.names:
        rows.append((mean_iou(before, name, images, arguments.first), mean_iou(after, name, images, arguments.first)))
        print(f"{name:14} {rows[-1][0]:8.1f} {rows[-1][1]:8.1f}", flush=True)
    better = sum(redrawn > mask for mask, redrawn in rows)
    print(f"{'mean':14} {np.mean(rows, axis=0)[0]:8.1f} {np.mean(rows, axis=0)[1]:8.1f}")
    print(f"better for {better} of {len(rows)} names")


def mean_iou(masks: MaskTable, name: str, images: Path, first: int) -> float:
    """In percent; those set aside count as well."""
    records = sorted((masks[row] for row in masks.rows(name, usable=False)), key=lambda record: record.rank)[:first]
    found = []
    for record in records:
        label = images.parent / "labels" / f"{Path(record.image.path).stem}.png"
        truth = np.asarray(Image.open(label)) == THINGS.index(name)
        if truth.any():
            mask = record.mask()
            found.append((mask & truth).sum() / (mask | truth).sum())
    return 100 * float(np.mean(found))


if __name__ == "__main__":
    main()
