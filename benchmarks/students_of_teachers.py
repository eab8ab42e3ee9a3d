"""Students of other methods on the built-in world: what they keep of their teachers, and what of names they never saw.

    python benchmarks/students_of_teachers.py --out FOLDER [--teachers clip-dinoiser,lposs=300] [--pictures 1500]
        [--steps 600] [--only closed,open,things] [--set student.start=world-clip] [--measured 200] [--held-out]

Every teacher labels drawn pictures (`--pictures`, or as many as stand behind its name) with things and stuff; a student
learns from that, one for all names (`closed`) and one whose vocabulary is open and whose teacher was asked for two
thirds of the names alone (`open`). With `things`, a student whose things come of archives and saliency and whose stuff
comes of the teacher. All are asked for all things and stuff of `world-stuff`: mIoU over all names, over those that were
held out, and over the others; and how fast teacher and student are, which take turns on one thread.

Choices are made on validation pictures; `--held-out` takes the figures on those of the benchmark. Killed and started
again it goes on where it was; with another `--set`, the teachers' answers stay.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import wordmask
from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.evaluation import evaluate
from wordmask.console.progress import OnStderr
from wordmask.distillation.config import make_run, setting
from wordmask.files import atomic_write
from wordmask.fingerprints import short_digest_of
from wordmask.html_page import text_table
from wordmask.segmenters.base import Segmenter
from wordmask_world.benchmark import FIRST_SEED, World
from wordmask_world.drawing.names import NAMES, STUFF
from wordmask_world.files.writing import write_folder
from wordmask_world.tables.branches import Branch

COLLECTION_SEED = 21
"""Of the pictures that students learn from; none of those that anything is measured on."""
VALIDATION_SEED = 7_000_000
"""Of the first validation picture: in the world's collection 0, behind all that its models have learnt from."""
HELD_OUT = NAMES[2::3]
"""Every third name of the world's table, whatever it is."""
BY_TEACHER: dict[str, Any] = {"pictures": "all", "fill": True, "least_confidence": 0.5}
"""The world's pictures are full of things and stuff that have names, so that no room is made for background."""
FAST: dict[str, Any] = {"learn_at": "cells", "precision": "bf16"}
TIMED, ROUNDS = 4, 3
"""Pictures that speeds are taken on, and how often: the best round counts."""
CONSOLE = OnStderr()


class Drawn(World):
    """Pictures that many are measured on: drawn once."""

    def __init__(self, pictures: int, first_seed: int):
        super().__init__("all", stuff=True, pictures=pictures, first_seed=first_seed)
        self._drawn = cache(super().__getitem__)

    def __getitem__(self, index: int) -> Sample:
        return self._drawn(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="pictures, runs and figures")
    parser.add_argument("--teachers", default="clip-dinoiser,maskclip", help="METHOD or METHOD=PICTURES, by commas")
    parser.add_argument("--pictures", type=int, default=1500, help="that students learn from")
    parser.add_argument("--steps", type=int, default=600, help="of each student")
    parser.add_argument("--only", default="closed,open,things", help="which students")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all students")
    parser.add_argument("--measured", type=int, default=200, help="pictures that all are measured on")
    parser.add_argument("--held-out", action="store_true", help="of the benchmark, in place of validation pictures")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with CONSOLE.progress("drawing pictures") as report:
        write_folder(arguments.out / "pictures", arguments.pictures, seed=COLLECTION_SEED, progress=report)
    measured = Drawn(arguments.measured, FIRST_SEED if arguments.held_out else VALIDATION_SEED)
    figures, kept = [], []
    for told in arguments.teachers.split(","):
        teacher, _, pictures = told.partition("=")
        count = int(pictures or arguments.pictures)
        load = partial(loaded, teacher, arguments.device)
        own = figures_of(teacher, load, arguments, measured)
        figures.append([teacher, *means(own)])
        for kind, changed in students(teacher).items():
            if kind not in arguments.only.split(","):
                continue
            learn = partial(learnt, arguments, teacher, kind, count, changed)
            found = figures_of(f"{teacher}-{kind}-{run_of(arguments, count)}", learn, arguments, measured)
            figures.append([f"{teacher}, {kind}", *means(found)])
            if kind == "closed":
                one, other = means(own)[0], means(found)[0]
                slow, fast = side_by_side([load(), learn()], measured)
                kept.append([teacher, one, other, 100 * other / one, 1000 * slow, 1000 * fast, slow / fast])
    print(text_table([f"mIoU on {len(measured)} pictures", "all names", "held out", "others"], figures))
    if kept:
        columns = ("teacher", "its mIoU", "student's", "kept, %", "teacher's ms", "student's ms", "times as fast")
        print(f"\n{text_table(columns, kept)}")


def students(teacher: str) -> dict[str, dict[str, Any]]:
    """What each kind of student is told beside what all are."""
    taught = {**BY_TEACHER, "teacher": teacher}
    merged = {"teacher": teacher, "fill": True, "least_confidence": 0.5, "race": True}
    return {
        "closed": {"names": list(NAMES), "masks": taught},
        "open": {
            "names": [name for name in NAMES if name not in HELD_OUT],
            "masks": taught,
            "student": {"vocabulary": "open", "most_pasted": 1},  # what is pasted over has no features of the teacher's
        },
        "things": {
            "names": list(NAMES),
            "masks": merged,
            "stuff": list(STUFF),
            "experts": None,
            "student": {"crowds": 0.4},
        },
    }


def loaded(teacher: str, device: str) -> Segmenter:
    return wordmask.load(teacher, preset="world", device=device, precision="fp32")


def learnt(arguments: argparse.Namespace, teacher: str, kind: str, count: int, changed: Mapping[str, Any]) -> Segmenter:
    told = {
        "preset": "world",
        "device": arguments.device,
        "images": first_pictures(arguments.out / "pictures", count),
        "out": arguments.out / f"{teacher}-{kind}-{run_of(arguments, count)}",
        "student": {"steps": arguments.steps, **FAST},
    }
    run = make_run(told, changed, *map(setting, arguments.set))
    lenders = sorted(path.parent for path in arguments.out.glob("*/stages"))
    student: Segmenter = Branch(run, CONSOLE, lenders=lenders).run_all()  # a teacher looks at pictures once
    return student


def first_pictures(folder: Path, count: int) -> Path:
    """Return a list of the first of a folder's pictures."""
    path = folder / f"first-{count}.txt"
    with atomic_write(path) as file:
        file.write("".join(f"images/{index:06d}.jpg\n" for index in range(count)).encode())
    return path


def run_of(arguments: argparse.Namespace, count: int) -> str:
    own = f"-{short_digest_of(repr(arguments.set))}" if arguments.set else ""
    return f"{count}-{arguments.steps}{own}"


def figures_of(
    name: str, make: Callable[[], Segmenter], arguments: argparse.Namespace, measured: Drawn
) -> Mapping[str, float]:
    """IoU of every name in percent; kept beside the runs, and taken once."""
    path = arguments.out / "figures" / f"{name}-{len(measured)}-{measured.first_seed}.json"
    if not path.exists():
        with CONSOLE.progress(f"measuring {name}") as report:
            found = evaluate(make(), measured, batch_size=1, on_progress=report).per_class
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps({name: iou for name, iou in found.items() if iou is not None}).encode())
    kept: dict[str, float] = json.loads(path.read_bytes())
    return kept


def means(ious: Mapping[str, float]) -> list[float]:
    """mIoU over all names, those that were held out, and the others."""
    groups = (list(ious), [n for n in ious if n in HELD_OUT], [n for n in ious if n not in HELD_OUT])
    return [float(np.mean([ious[name] for name in group])) for group in groups]


def side_by_side(segmenters: list[Segmenter], measured: Drawn) -> list[float]:
    """Seconds of the processor that a picture takes each; they take turns."""
    best = [float("inf")] * len(segmenters)
    for _ in range(1 + ROUNDS):  # the first of them reads the names
        for place, segmenter in enumerate(segmenters):
            start = time.process_time()
            for index in range(TIMED):
                segmenter.segment(measured[index].image, list(NAMES))
            best[place] = min(best[place], (time.process_time() - start) / TIMED)
    return best


if __name__ == "__main__":
    main()
