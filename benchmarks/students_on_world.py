"""What students of every kind are worth on the built-in world, beside what taught them and the student that ships.

python benchmarks/students_on_world.py RUN [--out DIR] [--measured N] [--held-out] [--only WORD] [--set KEY=VALUE ...]

RUN is a run of `wordmask distill --preset world` (as `wordmask demo` leaves it), whose masks all of them learn from;
what each took is told in seconds of one core. They are measured on validation pictures, from the seed 5,000,000 on,
which nothing has learnt from and no table holds: by these, settings are chosen. With --held-out it is the benchmark's
own pictures. Started again with another --set, it makes others beside them; killed and started again, it goes on.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import wordmask
from wordmask.benchmarks.datasets import Sample
from wordmask.console.progress import OnStderr
from wordmask.distillation.config import make_run, setting
from wordmask.distillation.open_student import Texts, train_open_student
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import AnyStudentSettings, examples_of, train_student
from wordmask.files import atomic_write
from wordmask.fingerprints import short_digest_of
from wordmask.html_page import text_table
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.open_student import TextTower
from wordmask_world.benchmark import SPLITS, World
from wordmask_world.drawing.scenes import draw_scene
from wordmask_world.models import world_clip
from wordmask_world.training.data import VALIDATION_SEED

MEASURED = ("single", "multi", "all")
CONSOLE = OnStderr()
CLOSER = {"start": "world:kinds", "network": {"zoom": 2}, "learn_at": "cells", "crowds": 0.2, "crowd_sides": [2, 3]}
ROWS: dict[str, dict[str, Any]] = {
    "DeepLab, all of it learns": CLOSER,
    "DeepLab, frozen backbone": {**CLOSER, "backbone_rate": 0},
    "light head on world:clip and world:dino": {"kind": "head", "backbones": ["world:clip", "world:dino"]},
    "light head on world:kinds": {"kind": "head", "backbones": ["world:kinds"]},
    "open vocabulary": {**CLOSER, "vocabulary": "open"},
}
"""What each student is told beside the world's preset."""


class Validation(World):
    """The world's pictures as `World` has them, of other seeds."""

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(VALIDATION_SEED + index, self.size, kind=SPLITS[self.split])
        return Sample(scene.image, self._labels(scene.labels), self.key(index), len(scene.objects))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run of wordmask distill --preset world")
    parser.add_argument("--out", type=Path, default=Path("out/students"), help="the folder to write")
    parser.add_argument("--measured", type=int, default=60, help="pictures of each split (default: 60)")
    parser.add_argument("--held-out", action="store_true", help="the benchmark's pictures in place of validation's")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="rows whose title holds this")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of wordmask distill")
    asked = parser.parse_args()
    which = "held-out" if asked.held_out else "validation"
    heading = [f"mIoU on {asked.measured} {which} pictures", "seconds of one core", *MEASURED]
    rows: list[list[Any]] = []
    for title, seconds, load in students(asked):
        for refine, edges in {"none": "", "pamr": ", edges by PAMR"}.items() if seconds else [("solver", "")]:
            rows.append([title + edges, seconds, *figures(load(refine), asked.measured, asked.held_out)])
            CONSOLE.say(" ".join(map(str, rows[-1])))
    print(text_table(heading, rows))


def students(asked: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[str], Segmenter]]]:
    """Yield what each row is called, the seconds that it took to learn, and what loads it with a refinement."""
    masks = MaskTable(next(place for name in ("refined", "masks") if (place := asked.run / name).is_dir()))
    yield "SelfMask + CLIP", "", lambda refine: loaded("selfmask-clip", refine=refine)
    for title, told in ROWS.items():
        if not all(word in title for word in asked.only):
            continue
        given = {"names": list(masks.names), "images": masks.root, "out": asked.out, "preset": "world"}
        chosen = make_run(given, {"student": told}, *map(setting, asked.set)).config.student
        path, seconds = learnt(title, masks, chosen, asked.out / short_digest_of(repr(chosen)))
        yield title, f"{seconds:.0f}", partial(student_at, path)
    if not asked.only:
        yield "the student that ships", "-", lambda refine: loaded("namedmask", refine=refine)


def learnt(title: str, masks: MaskTable, settings: AnyStudentSettings, out: Path) -> tuple[Path, float]:
    """Return the file of a student, and what it took. That is told of one that was not stopped."""
    took = out / "seconds.json"
    start = time.process_time()
    with CONSOLE.progress(title) as report:
        how: dict[str, Any] = {"preset": "world", "progress": report, "say": CONSOLE.say}
        if settings.vocabulary == "open":
            embed = TextEmbedder(world_clip(), templates("photo"))
            how["texts"] = Texts(embed, TextTower("world", None, "photo", embed.encoder.text_fingerprint))
            path = train_open_student(examples_of(masks, masks.names), masks.names, settings, out, **how)
        else:
            path = train_student(masks, masks.names, settings, out, **how)
    if not took.exists():
        with atomic_write(took) as file:
            file.write(json.dumps(time.process_time() - start).encode())
    return path, json.loads(took.read_bytes())


def student_at(path: Path, refine: str) -> Segmenter:
    return wordmask.load("namedmask", weights=path, precision="fp32", refine=refine)


def loaded(method: str, **settings: Any) -> Segmenter:
    return wordmask.load(method, preset="world", precision="fp32", **settings)


def figures(segmenter: Segmenter, pictures: int, held_out: bool = False) -> list[float]:
    data = World if held_out else Validation
    return [wordmask.evaluate(segmenter, data(split, pictures=pictures)).miou for split in MEASURED]


if __name__ == "__main__":
    main()
