"""Which methods gain when one name alone races against concepts: what `contrast="auto"` is chosen by.

    python benchmarks/concepts_alone.py [--pictures 60] [--only naclip] [--split multi]

Every name of a picture is asked for by itself: with the room that the method makes, with grounds to race against, with
concepts, and as "auto" does. IoU-single (see `wordmask.benchmarks.single`), percent. The best way is the one with the
highest; "sure" is how often it stays so when pictures are drawn anew with replacement. Where "auto" is not the best
way, the method's `races_alone` or `hears_grounds` is to be changed. Pictures are the world's, from seeds that no
training and no table has.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import wordmask
from wordmask.benchmarks.metrics import mean_of_known
from wordmask.html_page import text_table
from wordmask.segmenters.base import Segmenter
from wordmask_world.benchmark import World
from wordmask_world.presets import WORLD
from wordmask_world.tables.frontier import TABLES

VALIDATION_SEED = 7_500_000
"""Trainings have seen seeds from 0 on, what they are chosen by lies at 5,000,000, students' pictures at 7,000,000."""
RESAMPLES = 2000
OWN, GROUNDS, CONCEPTS, AUTO = "own room", "grounds", "concepts", "auto"
ENOUGH = 1e-9
"""Ways whose figures differ by no more are the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--split", default="multi", help="a split of the world; the table's is multi")
    parser.add_argument("--only", action="append", help="the row of this label, or those that hold it")
    asked = parser.parse_args()
    pictures = World(asked.split, pictures=asked.pictures, first_seed=VALIDATION_SEED)
    samples = list(pictures)
    rows = []
    for row in TABLES["frontier-world-alone"].only(asked.only or []).rows:
        settings: dict[str, Any] = dict(row.measure.keywords)
        segmenter = wordmask.load(settings.pop("method"), preset=WORLD, device="cpu", precision="fp32", **settings)
        ways = ways_of(segmenter)
        counts = np.array([list(counted(segmenter, sample, pictures, ways)) for sample in samples])  # (P, W, N, 2)
        rows.append([row.label, *verdict(dict(zip(ways, np.moveaxis(counts, 1, 0), strict=True)))])
        print(text_table(COLUMNS, rows[-1:]).splitlines()[1], flush=True)
    print(f"\n{asked.pictures} pictures of {asked.split}, seeds from {VALIDATION_SEED} on")
    print(text_table(COLUMNS, rows))


COLUMNS = ["method", OWN, GROUNDS, CONCEPTS, AUTO, "best", "sure, %", "auto has it"]


def ways_of(segmenter: Segmenter) -> Mapping[str, Any]:
    """Return what `contrast` is in each way. Who sees objects has no use for grounds."""
    ways: dict[str, Any] = {OWN: "none", CONCEPTS: "concepts", AUTO: "auto"}
    embed = getattr(segmenter, "embed", None)
    return ways if embed is None or segmenter.sees_objects else {**ways, GROUNDS: list(embed.encoder.grounds)}


def counted(segmenter: Segmenter, sample: Any, pictures: World, ways: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Yield for each way the intersections and unions of the names in a picture, (N, 2)."""
    seen = segmenter.look(sample.image)
    background = pictures.vocabulary.background
    there = [label for label in np.unique(sample.labels).tolist() if label not in (background, pictures.ignore)]
    for contrast in ways.values():
        counts = np.zeros((len(pictures.vocabulary), 2), np.int64)
        for label in there:
            truth = sample.labels == label
            mask = seen.segment([pictures.vocabulary.names[label]], contrast=contrast).labels == 0
            counts[label] = (mask & truth).sum(), (mask | truth).sum()
        yield counts


def verdict(counts: Mapping[str, np.ndarray]) -> list[object]:
    """Return a row: the figure of each way, the best of those that can be chosen, how sure that is, and whether "auto"
    is as good.
    """
    found = {way: 100 * iou_single(own.sum(axis=0)) for way, own in counts.items()}
    choices = [way for way in (OWN, GROUNDS, CONCEPTS) if way in found]
    best = max(choices, key=lambda way: found[way])
    others = [way for way in choices if abs(found[way] - found[best]) > ENOUGH]
    random = np.random.default_rng(0)
    total = len(counts[best])
    wins = 0
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(total, size=total), minlength=total)
        again = {way: iou_single(np.tensordot(drawn, counts[way], axes=1)) for way in (best, *others)}
        wins += all(again[best] > again[way] for way in others)
    has_it = "yes" if found[AUTO] >= found[best] - ENOUGH else "no"
    return [*(found.get(way, "-") for way in COLUMNS[1:5]), best, 100 * wins / RESAMPLES, has_it]


def iou_single(counts: np.ndarray) -> float:
    """Return the mean over names of intersection over union, (N, 2)."""
    both, either = counts.T
    return mean_of_known(np.where(either > 0, both / np.maximum(either, 1), np.nan))


if __name__ == "__main__":
    main()
