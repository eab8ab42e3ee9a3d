"""Samples a second that a student learns from: made where it learns, by threads beside it, and by processes.

    python benchmarks/samples_speed.py RUN [--workers N] [--batch 16] [--batches 40]

RUN is a run of `wordmask distill --preset world` (as `wordmask demo` leaves it). Samples are those of its students,
with crowds. Beside an accelerator, which waits for nothing else, processes make them.
"""

import argparse
import os
import time
from pathlib import Path

from wordmask.distillation.batches import stream
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import StudentSettings, examples_of, sampler_of
from wordmask.distillation.training import IGNORE
from wordmask.html_page import text_table
from wordmask_world.demo import LEARNING
from wordmask_world.distilling import SMALL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=40)
    told = parser.parse_args()
    masks = MaskTable(told.run / "masks")
    settings = StudentSettings(**SMALL | {key: LEARNING[key] for key in ("crowds", "crowd_sides")})
    examples = examples_of(masks, masks.names)
    samples = sampler_of(settings)(
        examples, settings.augmentation, most_pasted=settings.most_pasted, seed=0, ignore=IGNORE
    )
    for index in range(len(examples)):
        examples.read(index)  # pictures are decoded once, and that is not what is measured
    ways = {"where it learns": (0, False), "threads": (told.workers, False), "processes": (told.workers, True)}
    best = dict.fromkeys(ways, 0.0)
    places = [range(start, start + told.batch) for start in range(0, told.batch * told.batches, told.batch)]
    for _ in range(2):
        for way, (workers, processes) in ways.items():
            start = time.perf_counter()
            for _ in stream(samples, places, workers, processes=processes):
                pass
            best[way] = max(best[way], told.batch * told.batches / (time.perf_counter() - start))
    print(text_table([f"{told.workers} workers", "samples a second"], [[way, rate] for way, rate in best.items()]))


if __name__ == "__main__":
    main()
