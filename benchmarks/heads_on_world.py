"""What light heads on frozen encoders are worth on the built-in world, beside their teacher and the shipped student.

python benchmarks/heads_on_world.py RUN [--out DIR] [--measured N] [--set KEY=VALUE ...]

RUN is a run of `wordmask distill --preset world` (as `wordmask demo` leaves it), whose masks all heads learn from.
They are measured on validation pictures, from the seed 5,000,000 on, which nothing has learnt from and no table holds.
Started again with another --set, it makes another head beside the others: that is how the world's settings were chosen.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import wordmask
from wordmask.benchmarks.datasets import Sample
from wordmask.console.progress import OnStderr
from wordmask.distillation.config import make_run, setting
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import train_student
from wordmask.fingerprints import short_digest_of
from wordmask.html_page import text_table
from wordmask.segmenters.base import Segmenter
from wordmask_world.benchmark import SPLITS, World
from wordmask_world.drawing.scenes import draw_scene
from wordmask_world.training.data import VALIDATION_SEED

BACKBONES = (("world:clip",), ("world:dino",), ("world:clip", "world:dino"))
MEASURED = ("single", "multi", "all")
CONSOLE = OnStderr()


class Validation(World):
    """The world's pictures as `World` has them, of other seeds."""

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(VALIDATION_SEED + index, self.size, kind=SPLITS[self.split])
        return Sample(scene.image, self._labels(scene.labels), self.key(index), len(scene.objects))


def figures(segmenter: Segmenter, pictures: int) -> list[float]:
    return [wordmask.evaluate(segmenter, Validation(split, pictures=pictures)).miou for split in MEASURED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run of wordmask distill --preset world")
    parser.add_argument("--out", type=Path, default=Path("out/heads"), help="the folder to write (default: out/heads)")
    parser.add_argument("--measured", type=int, default=60, help="validation pictures of each split (default: 60)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of wordmask distill")
    asked = parser.parse_args()
    masks = MaskTable(next(place for name in ("refined", "masks") if (place := asked.run / name).is_dir()))
    rows: list[list[Any]] = []
    for method in ("selfmask-clip", "namedmask"):
        rows.append([method, "", *figures(wordmask.load(method, preset="world", precision="fp32"), asked.measured)])
    for backbones in BACKBONES:
        told = {"kind": "head", "backbones": list(backbones)}
        given = {"names": list(masks.names), "images": masks.root, "out": asked.out, "preset": "world"}
        chosen = make_run(given, {"student": told}, *map(setting, asked.set)).config.student
        out = asked.out / short_digest_of(repr(chosen))
        start = time.process_time()
        with CONSOLE.progress(f"a head on {' and '.join(backbones)}") as report:
            path = train_student(masks, masks.names, chosen, out, preset="world", progress=report, say=CONSOLE.say)
        spent = time.process_time() - start
        student = wordmask.load("namedmask", weights=path, precision="fp32")
        rows.append([f"head on {' and '.join(backbones)}", f"{spent:.0f}", *figures(student, asked.measured)])
    print(text_table(["mIoU on validation pictures", "seconds of one core", *MEASURED], rows))


if __name__ == "__main__":
    main()
