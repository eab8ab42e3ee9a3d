"""Run lengths of label maps: what of a mask is where, without a mask.

A map of large parts has few runs of equal labels, and all that is asked of its names (COCO's run lengths, how many
pixels, how sure) is read from these, in one pass for all names.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

COLUMNS = 512
"""Looked at together: fewer than 16 bits can count, so that changes are put in order by counting."""
STRIP_PIXELS = 2**20
"""Looked at together along the rows."""
ROUGH = 1 / 16
"""Changes from row to row, of all pixels, from which on runs take more memory and time than masks do."""


class Runs(NamedTuple):
    """Runs of equal labels, one after the other: where each begins in the flattened map, how long it is, its label."""

    starts: np.ndarray  # (n,) int64
    lengths: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) as the map's


def count_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Count how many pixels of a map (H, W) bear each of `count` labels: (count,) int64."""
    pixels = np.zeros(count, np.int64)
    for strip in _strips(labels):
        runs = _runs(labels[strip].ravel())
        pixels += np.bincount(runs.labels, runs.lengths, minlength=count).astype(np.int64)
    return pixels


def mean_scores(labels: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Return the mean score of each label's pixels, (count,) float64; 0 of a label that is not there."""
    sums, pixels = np.zeros(count), np.zeros(count)
    for strip in _strips(labels):
        runs = _runs(labels[strip].ravel())
        of_runs = np.add.reduceat(scores[strip].ravel(), runs.starts) if len(runs.starts) else np.zeros(0)
        sums += np.bincount(runs.labels, of_runs, minlength=count)
        pixels += np.bincount(runs.labels, runs.lengths, minlength=count)
    return np.asarray(sums / np.maximum(1, pixels))


def encoded_labels(labels: np.ndarray) -> dict[int, dict[str, Any]]:
    """Encode every label that is there as COCO's compressed run lengths, {"size": [H, W], "counts": text}."""
    if sum(np.count_nonzero(labels[1:, s] != labels[:-1, s]) for s in _blocks(labels)) > ROUGH * labels.size:
        return {label: encoded_mask(labels == label) for label in np.unique(labels).tolist()}
    runs = _runs_down_columns(labels)
    order = np.argsort(runs.labels, kind="stable")
    own = runs.labels[order]
    found = {}
    for part in np.split(order, np.flatnonzero(own[1:] != own[:-1]) + 1):
        if len(part):
            label, size = int(runs.labels[part[0]]), (labels.shape[0], labels.shape[1])
            found[label] = _encoded(runs.starts[part], runs.lengths[part], size)
    return found


def encoded_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask (H, W) bool likewise."""
    from pycocotools import mask as coco_mask

    return _as_json(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))


def encoded_part(mask: np.ndarray, top: int, left: int, size: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask (h, w) bool that lies at a place of an otherwise empty picture (H, W) likewise."""
    height, width = size
    runs = _runs_down_columns(mask)
    columns, rows = np.divmod(runs.starts[runs.labels], max(1, len(mask)))
    return _encoded((left + columns) * height + top + rows, runs.lengths[runs.labels], (height, width))


def _encoded(starts: np.ndarray, lengths: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask that has these runs of pixels, column by column."""
    from pycocotools import mask as coco_mask

    height, width = size
    ends = starts + lengths
    apart = starts[1:] != ends[:-1]  # where not, it goes on from the foot of one column at the head of the next
    first, last = np.ones(len(starts), bool), np.ones(len(ends), bool)
    first[1:], last[:-1] = apart, apart
    starts, ends = starts[first], ends[last]
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    counts = np.diff(edges)
    if len(counts) > 1 and not counts[-1]:
        counts = counts[:-1]
    plain = {"size": [height, width], "counts": counts.astype(np.uint32)}
    return _as_json(coco_mask.frPyObjects(plain, height, width))


def _as_json(code: dict[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def _strips(labels: np.ndarray) -> Iterator[slice]:
    """Yield the rows of a map (H, W) that are looked at together."""
    rows = max(1, STRIP_PIXELS // max(1, labels.shape[1]))
    return (slice(top, top + rows) for top in range(0, len(labels), rows))


def _blocks(labels: np.ndarray) -> Iterator[slice]:
    """Yield the columns of a map (H, W) that are looked at together."""
    return (slice(left, left + COLUMNS) for left in range(0, labels.shape[1], COLUMNS))


def _runs(flat: np.ndarray) -> Runs:
    """Find those of labels (n,)."""
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([np.zeros(min(1, len(flat)), np.int64), changes])
    return Runs(starts, np.diff(np.append(starts, len(flat))), flat[starts])


def _runs_down_columns(labels: np.ndarray) -> Runs:
    """Find those of a map (H, W) in COCO's order: one column after the other, each with runs of its own."""
    starts = np.concatenate([np.zeros(0, np.int64), *_changes_down_columns(labels)])
    columns, rows = np.divmod(starts, max(1, len(labels)))
    return Runs(starts, np.diff(np.append(starts, labels.size)), labels[rows, columns])


def _changes_down_columns(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the places where a column begins or a pixel differs from the one above, some columns at a time."""
    if not len(labels):
        return
    for block in _blocks(labels):
        part = labels[:, block]
        heads = np.arange(part.shape[1])
        rows, columns = np.divmod(np.flatnonzero(part[1:] != part[:-1]), part.shape[1])
        columns, rows = np.concatenate([heads, columns]), np.concatenate([np.zeros_like(heads), rows + 1])
        order = np.argsort(columns.astype(np.uint16), kind="stable")
        yield (block.start + columns[order]) * len(labels) + rows[order]
