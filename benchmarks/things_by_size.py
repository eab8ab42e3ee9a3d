"""How many of a student's things are found, and rightly named, by their size, on validation pictures of the world.

python benchmarks/things_by_size.py [--weights STUDENT] [--pictures N]

Found is the share of their pixels that bear any name, named right the share of those that bear the thing's. Without
weights it is the student that ships. Validation pictures are as in `students_on_world.py`.
"""

import argparse
from collections import Counter
from typing import Any

import numpy as np
from students_on_world import MEASURED, Validation

import wordmask
from wordmask.html_page import text_table
from wordmask.segmenters.base import Segmenter

SIZES = (0, 100, 300, 900, 128 * 128)
"""Pixels, of pictures of 128 x 128."""


def by_size(student: Segmenter, split: str, pictures: int) -> list[list[Any]]:
    """Return rows of split, size, things, found and named right, in percent."""
    things, there, found, right = (Counter[int]() for _ in range(4))
    data = Validation(split, pictures=pictures)
    for sample in data:
        said = student.segment(sample.image, data.vocabulary).labels
        for label in np.setdiff1d(np.unique(sample.labels), (0, data.ignore)):
            mask = sample.labels == label
            size = int(np.searchsorted(SIZES, mask.sum(), side="left"))
            things[size] += 1
            there[size] += int(mask.sum())
            found[size] += int((said[mask] > 0).sum())
            right[size] += int((said[mask] == label).sum())
    return [
        [
            split,
            f"{SIZES[size - 1] + 1} to {SIZES[size]} pixels",
            things[size],
            100 * found[size] / there[size],
            100 * right[size] / max(1, found[size]),
        ]
        for size in sorted(things)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a student's file")
    parser.add_argument("--pictures", type=int, default=60, help="validation pictures of each split (default: 60)")
    asked = parser.parse_args()
    load = {"weights": asked.weights} if asked.weights else {}
    student = wordmask.load("namedmask", preset="world", precision="fp32", **load)
    rows = [row for split in MEASURED for row in by_size(student, split, asked.pictures)]
    print(text_table(["pictures", "names of", "how many", "found", "named right"], rows))


if __name__ == "__main__":
    main()
