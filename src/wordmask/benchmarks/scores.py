"""What one picture contributes to an evaluation, as a line of text; and what all pictures come to."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from wordmask.benchmarks.boundary import boundary_counts
from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.metrics import ConfusionMatrix, label_pairs, mean_of_known
from wordmask.benchmarks.single import SingleTotals
from wordmask.text_files import counted

SIZES = {"S": 5, "MS": 25, "ML": 50, "L": 100}
"""Gao et al. (ImageNet-S): the largest share of a picture, in percent rounded up, that a thing of each size takes."""


@dataclass(frozen=True)
class ImageScore:
    """Counts of one picture. All figures of an evaluation are made from these, so that it can be stopped and shared.

    pairs (p, 3): truth, answer, pixels. boundary (c, 3): name, intersection, union. objects: things marked in it.
    single (s, 5): names asked for alone, as `single.single_counts` has them.
    """

    index: int
    key: str
    pairs: np.ndarray
    boundary: np.ndarray | None = None
    objects: int | None = None
    seconds: float = 0.0
    single: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        index: int,
        sample: Sample,
        answer: np.ndarray,
        *,
        names: int,
        ignore: int,
        boundary: bool,
        seconds: float,
        single: np.ndarray | None = None,
    ) -> "ImageScore":
        pairs = label_pairs(sample.labels, answer, names, ignore)
        borders = boundary_counts(sample.labels, answer, ignore) if boundary else None
        return cls(index, sample.key, pairs, borders, sample.objects, seconds, single)

    @property
    def iou(self) -> float | None:
        """The mean over the names that the picture's truth bears; None if no pixel counts."""
        if not len(self.pairs):
            return None
        truth, answer, pixels = self.pairs.T
        ious = []
        for label in np.unique(truth):
            both = pixels[(truth == label) & (answer == label)].sum()
            ious.append(both / pixels[(truth == label) | (answer == label)].sum())
        return float(np.mean(ious))

    @property
    def accuracy(self) -> float | None:
        if not len(self.pairs):
            return None
        truth, answer, pixels = self.pairs.T
        return float(pixels[truth == answer].sum() / pixels.sum())

    def as_line(self) -> str:
        row: dict[str, Any] = {"index": self.index, "image": self.key}
        row |= {"miou": _percent(self.iou), "pixel_accuracy": _percent(self.accuracy)}
        row |= {"seconds": round(self.seconds, 4), "pairs": self.pairs.tolist()}
        if self.objects is not None:
            row["objects"] = self.objects
        if self.boundary is not None:
            row["boundary"] = self.boundary.tolist()
        if self.single is not None:
            row["single"] = self.single.tolist()
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "ImageScore":
        borders, single = row.get("boundary"), row.get("single")
        return cls(
            int(row["index"]),
            str(row["image"]),
            np.array(row["pairs"], dtype=np.int64).reshape(-1, 3),
            None if borders is None else np.array(borders, dtype=np.int64).reshape(-1, 3),
            row.get("objects"),
            float(row["seconds"]),
            None if single is None else np.array(single, dtype=np.int64).reshape(-1, 5),
        )


class Totals:
    """Scores added up. Memory does not grow with the number of pictures; the order in which they come is of no matter.

    background: the label that sizes of things are told against, if there is one.
    """

    def __init__(self, names: Sequence[str], background: int | None):
        self.names, self.background = names, background
        self.images = 0
        self.seconds = 0.0
        self.confusion = ConfusionMatrix(names)
        self.by_size = {size: ConfusionMatrix(names) for size in SIZES} if background is not None else {}
        self.by_objects = {"single": ConfusionMatrix(names), "multi": ConfusionMatrix(names)}
        self._counted_objects = False
        self._borders: np.ndarray | None = None  # (K, 2) intersection, union
        self._single: SingleTotals | None = None

    def add(self, score: ImageScore) -> None:
        self.images += 1
        self.seconds += score.seconds
        self.confusion.add_pairs(score.pairs)
        self._add_sizes(score.pairs)
        if score.objects is not None and score.objects > 0:
            self._counted_objects = True
            self.by_objects["single" if score.objects == 1 else "multi"].add_pairs(score.pairs)
        if score.boundary is not None:
            if self._borders is None:
                self._borders = np.zeros((len(self.names), 2), dtype=np.int64)
            np.add.at(self._borders, score.boundary[:, 0], score.boundary[:, 1:])
        if score.single is not None:
            self._single = self._single or SingleTotals(len(self.names))
            self._single.add(score.single, int(score.pairs[:, 2].sum()))

    def add_all(self, scores: Iterable[ImageScore]) -> "Totals":
        for score in scores:
            self.add(score)
        return self

    def _add_sizes(self, pairs: np.ndarray) -> None:
        """Things of each size are counted with the background, in pictures that have any of that size."""
        if not self.by_size:
            return
        truth, pixels = pairs[:, 0], pairs[:, 2]
        is_background = truth == self.background
        total = int(pixels.sum())
        least = 0
        for size, most in SIZES.items():
            own = [
                label
                for label in np.unique(truth[~is_background])
                if least < math.ceil(100 * int(pixels[truth == label].sum()) / total) <= most
            ]
            least = most
            if own:
                self.by_size[size].add_pairs(pairs[is_background | np.isin(truth, own)])

    @property
    def boundary_iou(self) -> np.ndarray | None:
        """(K,) with NaN for names without a border; None if borders were not measured."""
        if self._borders is None:
            return None
        both, either = self._borders.T
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)

    def figures(self) -> dict[str, float]:
        """Return what can be told beside mIoU and accuracy, as shares; nothing that has no pixel to tell it by."""
        found: dict[str, float] = {}
        if self._counted_objects:
            found |= {f"miou_{kind}": matrix.miou for kind, matrix in self.by_objects.items()}
        found |= {f"miou_{size}": matrix.miou_of_true for size, matrix in self.by_size.items()}
        if self.boundary_iou is not None:
            found["boundary_iou"] = mean_of_known(self.boundary_iou)
        if self._single is not None:
            found |= self._single.figures()
        return {name: value for name, value in found.items() if not math.isnan(value)}


@dataclass(frozen=True)
class Report:
    """One row of a table. IoUs and accuracy are in percent; a name that never occurs has none.

    more: mIoU by the size of things (miou_S, miou_MS, miou_ML, miou_L), of pictures of one thing and of several
    (miou_single, miou_multi), boundary IoU, IoU-single (iou_single_auto and so on, see `single.py`); each where it can
    be told. protocol, vocabulary: how pictures were looked at, and by which words names were asked for. note: what
    whoever reads them must know of the segmenter.
    """

    method: str
    preset: str
    benchmark: str
    split: str
    images: int
    miou: float
    pixel_accuracy: float
    per_class: dict[str, float | None]
    seconds: float
    more: dict[str, float] = field(default_factory=dict)
    protocol: str = "own"
    vocabulary: str = "plain"
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "note" or value is not None}

    def table(self) -> str:
        """For people: the mean, then every name, the best first."""
        lines = [
            f"{self.method} ({self.preset}) on {self.benchmark}, {self.split}: {counted(self.images, 'picture')}, "
            f"{self.seconds:.1f} s",
            f"  protocol {self.protocol}, vocabulary {self.vocabulary}",
            *([] if self.note is None else [f"  {self.note}"]),
            f"  mIoU                   {self.miou:5.1f}",
            f"  pixel accuracy         {self.pixel_accuracy:5.1f}",
        ]
        lines += [f"  {name:21}  {value:5.1f}" for name, value in self.more.items()]
        width = max(len(name) for name in self.per_class)
        for name, iou in sorted(self.per_class.items(), key=lambda item: -1 if item[1] is None else item[1])[::-1]:
            lines.append(f"  {name:{width}}  {'-' if iou is None else f'{iou:5.1f}':>5}")
        return "\n".join(lines)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
