"""What becomes of names that leave nothing for the rest of a picture: filled with them, with room made, and with
concepts to race against.

Pictures of the built-in world from a collection that is neither trained on nor part of a benchmark. All 24 things are
asked for at once, then four of them, as somebody would who looks for a few, and then single ones: IoU-single, of
those that are there, and how much of a picture one takes that is not.

python benchmarks/room_for_background.py [--pictures 40] [--method clip-dinoiser]
"""

import argparse
from collections.abc import Sequence
from typing import Any

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
WAYS = {
    "filled": {"fill": True},
    "the word": {"fill": True},
    "room made": {"contrast": "none"},
    "auto": {"contrast": "auto"},
    "concepts": {"contrast": "concepts"},
}
FOUR = 4


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
            miou = 100 * together(seen, truths, THINGS, more, options)
            fours = [THINGS[start : start + FOUR] for start in range(0, len(THINGS), FOUR)]
            four = 100 * float(np.mean([together(seen, truths, own, more, options) for own in fours]))
            there, absent = alone(seen, truths, more, options)
            rows.append([method, way, miou, four, 100 * there, 100 * absent])
            print(rows[-1], flush=True)
    columns = ["method", "background", "mIoU, all things", "mIoU, four", "IoU-single", "% taken by one not there"]
    print(text_table(columns, rows))


def together(
    seen: list[Seen], truths: list[np.ndarray], things: Sequence[str], more: list[str], options: dict[str, Any]
) -> float:
    """mIoU of things and background, asked for at once. Things that are not asked for are background."""
    count = len(things)
    totals = Totals((*things, BACKGROUND), count)
    table = np.full(len(THINGS) + 1, count, np.uint8)
    table[[THINGS.index(name) for name in things]] = np.arange(count)
    for index, (view, truth) in enumerate(zip(seen, truths, strict=True)):
        answer = view.segment([*things, *more], **options).labels
        sample = Sample(view.image, table[truth], str(index), 0)
        totals.add(ImageScore.of(index, sample, answer, names=count + 1, ignore=IGNORE, boundary=False, seconds=0.0))
    return totals.confusion.miou


def alone(seen: list[Seen], truths: list[np.ndarray], more: list[str], options: dict[str, Any]) -> tuple[float, float]:
    """IoU-single (see `wordmask.benchmarks.single`), and how much of a picture a thing takes that is not there."""
    counts, absent = np.zeros((len(THINGS), 2)), []
    for index, (view, truth) in enumerate(zip(seen, truths, strict=True)):
        present = [label for label in np.unique(truth) if label < len(THINGS)]
        for label in present:
            mask = view.segment([THINGS[label], *more], **options).labels == 0
            counts[label] += ((mask & (truth == label)).sum(), (mask | (truth == label)).sum())
        other = next(
            label for label in range(index % len(THINGS), 2 * len(THINGS)) if label % len(THINGS) not in present
        )
        absent.append((view.segment([THINGS[other % len(THINGS)], *more], **options).labels == 0).mean())
    known = counts[counts[:, 1] > 0]
    return float(np.mean(known[:, 0] / known[:, 1])), float(np.mean(absent))


if __name__ == "__main__":
    main()
