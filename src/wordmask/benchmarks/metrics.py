"""Figures of merit, from one confusion matrix that is added to picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from wordmask.benchmarks.datasets import IGNORE


@dataclass
class ConfusionMatrix:
    """`counts[truth, answer]` pixels. Matrices of parts of a data set add up to that of the whole."""

    names: Sequence[str]
    ignore: int = IGNORE

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)

    def add(self, truth: np.ndarray, answer: np.ndarray) -> None:
        """Labels (H, W) both; pixels whose truth is `ignore` do not count."""
        self.add_pairs(label_pairs(truth, answer, len(self.names), self.ignore))

    def add_pairs(self, pairs: np.ndarray) -> None:
        """(p, 3): truth, answer, pixels."""
        np.add.at(self.counts, (pairs[:, 0], pairs[:, 1]), pairs[:, 2])

    def __iadd__(self, other: "ConfusionMatrix") -> Self:
        self.counts += other.counts
        return self

    @property
    def iou(self) -> np.ndarray:
        """(K,) intersection over union; NaN for names that neither the truth nor the answers ever bear."""
        intersection = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - intersection
        with np.errstate(invalid="ignore"):
            return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)

    @property
    def miou(self) -> float:
        """The mean over the names that occur; NaN if there was no pixel at all."""
        return mean_of_known(self.iou)

    @property
    def miou_of_true(self) -> float:
        """The mean over the names that the truth bears, whatever else was answered."""
        return mean_of_known(self.iou[self.counts.sum(axis=1) > 0])

    @property
    def pixel_accuracy(self) -> float:
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")


def label_pairs(truth: np.ndarray, answer: np.ndarray, names: int, ignore: int) -> np.ndarray:
    """Labels (H, W) both -> (p, 3) int64: truth, answer and how many pixels bear both, where there are any."""
    if truth.shape != answer.shape:
        raise ValueError(f"truth {truth.shape} and answer {answer.shape} differ in size")
    counted = truth != ignore
    truth, answer = truth[counted].astype(np.int64), answer[counted].astype(np.int64)
    if truth.size and (truth.max() >= names or answer.max() >= names):
        raise ValueError(f"label {max(truth.max(), answer.max())} found, but there are {names} names")
    counts = np.bincount(names * truth + answer, minlength=names * names)
    places = np.flatnonzero(counts)
    return np.stack([places // names, places % names, counts[places]], axis=1)


def mean_of_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
