"""Students of slow methods on the built-in world: what they keep of their teachers, and what of names they never saw.

    python benchmarks/students_of_teachers.py --out FOLDER [--teachers clip-dinoiser,maskclip] [--pictures 600]
        [--steps 300] [--validation 100] [--set student.learning_rate=0.002] [--only closed,open,things]

Every teacher labels the same drawn pictures with things and stuff; a student learns from that, one for all names
(`closed`) and one whose vocabulary is open and whose teacher was asked for two thirds of the names alone (`open`). With
`things`, a student whose things come of archives, saliency and experts and whose stuff comes of the teacher. All are
measured on validation pictures, which are neither those that they learnt from nor the benchmark's: mIoU over all
things and stuff, over those that were held out, and over the others; and seconds of processor time a picture.

Killed and started again it goes on where it was. The defaults tell a direction; `--pictures 3000 --steps 2400
--validation 200` is for the record.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import wordmask
from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.evaluation import evaluate
from wordmask.console.progress import OnStderr
from wordmask.distillation.config import make_run, setting
from wordmask.files import atomic_write
from wordmask.segmenters.base import Segmenter
from wordmask_world.benchmark import World
from wordmask_world.drawing.names import NAMES, STUFF
from wordmask_world.drawing.scenes import draw_scene
from wordmask_world.files.writing import write_folder
from wordmask_world.tables.branches import Branch

COLLECTION_SEED = 21
"""Of the pictures that students learn from; none of those that anything is measured on."""
VALIDATION_SEED = 7_000_000
"""Of the first validation picture: in the world's collection 0, behind all that its models have learnt from."""
HELD_OUT = NAMES[2::3]
"""Every third name of the world's table, whatever it is."""
BY_TEACHER: dict[str, Any] = {"masks": {"pictures": "all", "fill": True, "least_confidence": 0.5}}
"""The world's pictures are full of things and stuff that have names, so that no room is made for background."""


class Validation(World):
    """`world-stuff` on other pictures."""

    def __init__(self, pictures: int):
        super().__init__("all", stuff=True, pictures=pictures)

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(VALIDATION_SEED + index, self.size)
        return Sample(scene.image, scene.labels, self.key(index), len(scene.objects))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self.pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="pictures, runs and figures")
    parser.add_argument("--teachers", default="clip-dinoiser,maskclip", help="methods, parted by commas")
    parser.add_argument("--pictures", type=int, default=600, help="that students learn from")
    parser.add_argument("--steps", type=int, default=300, help="of each student")
    parser.add_argument("--validation", type=int, default=100, help="validation pictures")
    parser.add_argument("--only", default="closed,open,things", help="which students")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with OnStderr().progress("drawing pictures") as report:
        write_folder(arguments.out / "pictures", arguments.pictures, seed=COLLECTION_SEED, progress=report)
    kinds = arguments.only.split(",")
    print(f"{'':34} {'all':>6} {'held out':>9} {'others':>7} {'s/picture':>10}")
    for teacher in arguments.teachers.split(","):
        show(arguments, teacher, partial(loaded, teacher, arguments.device))
        for kind, changed in students(teacher).items():
            if kind in kinds:
                show(arguments, f"{teacher}, {kind}", partial(learnt, arguments, f"{teacher}-{kind}", changed))


def students(teacher: str) -> dict[str, dict[str, Any]]:
    """What each kind of student is told beside what all are."""
    taught = {"masks": {**BY_TEACHER["masks"], "teacher": teacher}}
    seen = [name for name in NAMES if name not in HELD_OUT]
    things = {"masks": {"teacher": teacher, "fill": True, "least_confidence": 0.5, "race": True}, "stuff": list(STUFF)}
    return {
        "closed": {**taught, "names": list(NAMES)},
        "open": {**taught, "names": seen, "student": {"vocabulary": "open"}},
        "things": {**things, "names": list(NAMES)},
    }


def loaded(teacher: str, device: str) -> Segmenter:
    return wordmask.load(teacher, preset="world", device=device, precision="fp32")


def learnt(arguments: argparse.Namespace, name: str, changed: Mapping[str, Any]) -> Segmenter:
    told = {
        "preset": "world",
        "device": arguments.device,
        "images": arguments.out / "pictures" / "images",
        "out": arguments.out / f"{name}-{run_of(arguments)}",
        "student": {"steps": arguments.steps},
        "experts": {"steps": max(1, arguments.steps // 12)},
    }
    run = make_run(told, changed, *map(setting, arguments.set))
    lenders = sorted(path.parent for path in arguments.out.glob("*/stages"))
    student: Segmenter = Branch(run, OnStderr(), lenders=lenders).run_all()  # a teacher looks at pictures once
    return student


def run_of(arguments: argparse.Namespace) -> str:
    own = "".join(f"-{pair}" for pair in arguments.set).replace("/", "_")
    return f"{arguments.pictures}-{arguments.steps}{own}"


def show(arguments: argparse.Namespace, label: str, make: Callable[[], Segmenter]) -> None:
    """Print a row; its figures are kept beside the runs, and taken once."""
    run = run_of(arguments) if "," in label else "teacher"
    path = arguments.out / "figures" / f"{label.replace(', ', '-')}-{run}-{arguments.validation}.json"
    if not path.exists():
        segmenter, benchmark = make(), Validation(arguments.validation)
        start = time.process_time()
        report = evaluate(segmenter, benchmark, batch_size=1)
        seconds = (time.process_time() - start) / len(benchmark)
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps({"per_class": report.per_class, "seconds": seconds}).encode())
    told = json.loads(path.read_bytes())
    ious = {name: value for name, value in told["per_class"].items() if value is not None}
    groups = (list(ious), [n for n in ious if n in HELD_OUT], [n for n in ious if n not in HELD_OUT])
    means = [float(np.mean([ious[name] for name in group])) for group in groups]
    print(f"{label:34} {means[0]:6.1f} {means[1]:9.1f} {means[2]:7.1f} {told['seconds']:10.3f}", flush=True)


if __name__ == "__main__":
    main()
