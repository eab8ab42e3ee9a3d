"""IoU-single: every name asked for alone, in the pictures where it is.

Wysoczańska et al. (TMLR 2025) judge "each concept's segmentation alone"; their code for it is not public, so this is a
reading of it: for every picture and every name that its truth bears, the picture is segmented by that one name; the
intersections and unions of the masks are added up over the pictures, name by name, and the IoUs are averaged over the
names. A name that is not in the picture is asked for as well, one a picture: how much of it such a name takes.

Five ways of asking: "filled" has nothing but the name, "background" names background beside it, "none" leaves room for
it in the method's own way, "auto" is the default, and "concepts" lets the name race against those known for it, also
where the default does not.
"""

from collections.abc import Callable, Mapping

import numpy as np

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.metrics import mean_of_known
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.segmenters.base import Seen

Way = Callable[[Seen, Vocabulary], np.ndarray]
"""Segments by one name, which is label 0 of the answer."""

WAYS: Mapping[str, Way] = {
    "filled": lambda seen, name: seen.segment(name, fill=True).labels,
    "background": lambda seen, name: seen.segment(_beside_background(name), fill=True).labels,
    "none": lambda seen, name: seen.segment(name, contrast="none").labels,
    "auto": lambda seen, name: seen.segment(name).labels,
    "concepts": lambda seen, name: seen.segment(name, contrast="concepts").labels,
}


def _beside_background(name: Vocabulary) -> Vocabulary:
    return Vocabulary((*name.names, BACKGROUND), (*name.phrases, (BACKGROUND,)))


def single_counts(seen: Seen, sample: Sample, index: int, vocabulary: Vocabulary, ignore: int) -> np.ndarray:
    """(s, 5): way, label, intersection, union, pixels of the truth; 0 of the last for the name that is not there.

    index: of the picture; which name that is not there is asked for goes by it.
    """
    counted = sample.labels != ignore
    asked = [label for label in range(len(vocabulary)) if label != vocabulary.background]
    there = [label for label in np.unique(sample.labels[counted]).tolist() if label in asked]
    absent = [label for label in asked if label not in there]
    rows = []
    for label in [*there, *([absent[index % len(absent)]] if absent else [])]:
        truth = (sample.labels == label) & counted
        for number, way in enumerate(WAYS.values()):
            mask = (way(seen, vocabulary.only([label])) == 0) & counted
            rows.append((number, label, (mask & truth).sum(), (mask | truth).sum(), truth.sum()))
    return np.array(rows, np.int64).reshape(-1, 5)


class SingleTotals:
    """Counts of all pictures added up."""

    def __init__(self, names: int):
        self._counts = np.zeros((len(WAYS), names, 2), np.int64)  # intersection, union
        self._taken = np.zeros((len(WAYS), 2))  # the sum of the shares that absent names took, and how many those were

    def add(self, rows: np.ndarray, pixels: int) -> None:
        """rows: of `single_counts`. pixels: of the picture that count."""
        there = rows[rows[:, 4] > 0]
        np.add.at(self._counts, (there[:, 0], there[:, 1]), there[:, 2:4])
        for way, _, _, taken, _ in rows[rows[:, 4] == 0]:
            self._taken[way] += (taken / max(1, pixels), 1)

    def figures(self) -> dict[str, float]:
        """IoU-single of each way, and the share of a picture that a name takes which is not there."""
        found = {}
        for number, way in enumerate(WAYS):
            both, either = self._counts[number].T
            found[f"iou_single_{way}"] = mean_of_known(np.where(either > 0, both / np.maximum(either, 1), np.nan))
            taken, count = self._taken[number]
            found[f"absent_{way}"] = taken / count if count else float("nan")
        return found
