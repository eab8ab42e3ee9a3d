"""Map correction (CorrCLIP): every region takes the name that most of its pixels bear."""

from dataclasses import replace

import numpy as np

from wordmask.masks.segmentation import Segmentation


def correct(result: Segmentation, regions: np.ndarray) -> Segmentation:
    """Return a segmentation in which every region of a map (H, W) bears one name; of equals the first. Where there is
    no region (0), pixels stay as they are.

    A pixel whose name changes takes the mean score of those of its region that bore the new one.
    """
    there, labels = _present(result.labels)
    width, count = len(there), int(regions.max(initial=0)) + 1
    pairs = regions.astype(np.int64).ravel() * width + labels.ravel()
    votes = np.bincount(pairs, minlength=count * width).reshape(count, width)
    winners = votes.argmax(axis=1)  # (regions,)
    changed = (regions > 0) & (winners[regions] != labels)
    scores = result.scores
    if scores is not None:
        sums = np.bincount(pairs, weights=scores.ravel(), minlength=count * width).reshape(count, width)
        won = votes.max(axis=1)
        means = sums[np.arange(count), winners] / np.maximum(won, 1)
        scores = np.where(changed, means[regions], scores).astype(scores.dtype)
    found = np.where(changed, there[winners[regions]], result.labels).astype(result.labels.dtype)
    return replace(result, labels=found, scores=scores)


def _present(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that are there, in order, and each pixel's place among them."""
    is_there = np.bincount(labels.ravel()) > 0
    return np.flatnonzero(is_there), (np.cumsum(is_there) - 1)[labels]
