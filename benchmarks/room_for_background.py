"""What becomes of names that leave nothing for the rest of a picture: filled with them, and with room made.

Pictures of the built-in world from a collection that is neither trained on nor part of a benchmark. All 24 things are
asked for at once, and then single ones: a thing that is there, and one that is not.

python benchmarks/room_for_background.py [--pictures 40] [--method clip-dinoiser]
"""

import argparse

import numpy as np

import wordmask
from wordmask.benchmarks.datasets import IGNORE, Sample
from wordmask.benchmarks.scores import ImageScore, Totals
from wordmask.html_page import text_table
from wordmask.methods import methods_of
from wordmask.names.vocabulary import BACKGROUND
from wordmask.segmenters.base import Seen
from wordmask_world import THINGS, draw_scene

FIRST_SEED = 7_000_000_000
"""Of collection 7; trainings use collection 0, benchmarks collection 1,000,000."""
SIZE = 128
WAYS = {"filled": {"fill": True}, "the word": {"fill": True}, "room made": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--method", nargs="*", default=[name for name in methods_of("segmenter") if name != "reco"])
    arguments = parser.parse_args()
    rows = []
    for method in arguments.method:
        segmenter = wordmask.load(method, preset="world", device="cpu", precision="fp32")
        scenes = [draw_scene(FIRST_SEED + index, SIZE) for index in range(arguments.pictures)]
        seen = segmenter.look_many([scene.image for scene in scenes], [str(i) for i in range(len(scenes))])
        truths = [np.where(scene.labels < len(THINGS), scene.labels, len(THINGS)).astype(np.uint8) for scene in scenes]
        for way, options in WAYS.items():
            more = [BACKGROUND] if way == "the word" else []
            miou = 100 * together(seen, truths, [*THINGS, *more], options)
            there, absent = alone(seen, truths, more, options)
            rows.append([method, way, miou, 100 * there, 100 * absent])
            print(rows[-1], flush=True)
    columns = ["method", "background", "mIoU, all things", "IoU, a thing there", "% taken by one not there"]
    print(text_table(columns, rows))


def together(seen: list[Seen], truths: list[np.ndarray], names: list[str], options: dict[str, bool]) -> float:
    """mIoU of things and background, all asked for at once."""
    totals = Totals((*THINGS, BACKGROUND), len(THINGS))
    for index, (view, truth) in enumerate(zip(seen, truths, strict=True)):
        answer = view.segment(names, **options).labels
        sample = Sample(view.image, truth, str(index), 0)
        totals.add_all(
            [ImageScore.of(index, sample, answer, names=len(THINGS) + 1, ignore=IGNORE, boundary=False, seconds=0.0)]
        )
    return totals.confusion.miou


def alone(seen: list[Seen], truths: list[np.ndarray], more: list[str], options: dict[str, bool]) -> tuple[float, float]:
    """Each thing by itself: the mean IoU of those that are there, and how much of a picture one takes that is not."""
    there, absent = [], []
    for index, (view, truth) in enumerate(zip(seen, truths, strict=True)):
        present = [label for label in np.unique(truth) if label < len(THINGS)]
        for label in present:
            mask = view.segment([THINGS[label], *more], **options).labels == 0
            there.append((mask & (truth == label)).sum() / (mask | (truth == label)).sum())
        other = next(
            label for label in range(index % len(THINGS), 2 * len(THINGS)) if label % len(THINGS) not in present
        )
        absent.append((view.segment([THINGS[other % len(THINGS)], *more], **options).labels == 0).mean())
    return float(np.mean(there)), float(np.mean(absent))


if __name__ == "__main__":
    main()
