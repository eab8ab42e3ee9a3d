"""Class-wise IoU of masks that know no other class: NamedMask's tables 1 and 2.

For every class, over the pictures that have it, the mask against the pixels of the class.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from wordmask.benchmarks.datasets import Benchmark, Sample
from wordmask.benchmarks.evaluation import batches_of, read_batches
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.saliency import saliency_configuration
from wordmask.benchmarks.tables.errors import NotRunError
from wordmask.benchmarks.tables.run import Run
from wordmask.console.progress import Progress
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.images import resize, size_with_shorter_side, to_tensor
from wordmask.refinement.clean_up import THRESHOLD
from wordmask.segmenters.base import Segmenter

EXPERTS_ROW = "category experts"
EXPERT = "namedmask-expert-{}"
SPELT = {"tvmonitor": "tv monitor"}
"""The published experts' file names spell one class of VOC otherwise."""


class ClassIous:
    """Intersection and union of each class, added up over the pictures that have it."""

    def __init__(self, benchmark: Benchmark):
        self.names, self.ignore = benchmark.vocabulary.names, benchmark.ignore
        self.background = benchmark.vocabulary.background
        self._both: Counter[int] = Counter()
        self._either: Counter[int] = Counter()

    def classes(self, labels: np.ndarray) -> list[int]:
        """Those that a picture has."""
        return [int(label) for label in np.unique(labels) if label not in (self.ignore, self.background)]

    def add(self, labels: np.ndarray, mask: np.ndarray, classes: Iterable[int] | None = None) -> None:
        self.add_counts(self.counts(labels, mask, classes))

    def counts(self, labels: np.ndarray, mask: np.ndarray, classes: Iterable[int] | None = None) -> list[list[int]]:
        """Of one picture: (class, intersection, union) in pixels."""
        counted = labels != self.ignore
        chosen = self.classes(labels) if classes is None else classes
        truths = ((label, labels == label) for label in chosen)
        return [
            [label, int(np.count_nonzero(truth & mask)), int(np.count_nonzero((truth | mask) & counted))]
            for label, truth in truths
        ]

    def add_counts(self, counts: Iterable[Sequence[int]]) -> None:
        for label, both, either in counts:
            self._both[label] += both
            self._either[label] += either

    @property
    def seen(self) -> bool:
        """Return whether any class was on any picture."""
        return bool(self._either)

    def percent(self) -> dict[str, float]:
        """By name, and their mean."""
        ious = {self.names[label]: 100 * self._both[label] / either for label, either in self._either.items() if either}
        return ious | {"mean": float(np.mean(list(ious.values())))}


def saliency_ious(
    run: Run,
    column: str,
    *,
    benchmark: str,
    split: str,
    sides: tuple[int, int] | None = None,
    only_mean: bool = False,
) -> dict[str, float]:
    """SelfMask with the bilateral solver. sides: pictures are looked at with the shorter side so long, and the longer
    at most so long. A pass that was stopped goes on after its last batch.
    """
    opened = run.open(benchmark, split)
    found = ClassIous(opened)
    method = run.saliency("selfmask", refine="solver")
    plan = {**saliency_configuration(method, opened, run.batch_size, {"sides": sides}), "figure": "IoU of classes"}

    def masks_of(samples: Sequence[Sample]) -> list[np.ndarray]:
        maps = method.maps([_resized(sample.image, sides) for sample in samples])
        pairs = zip(samples, maps, strict=True)
        return [_at_size(soft, sample.labels.shape) > THRESHOLD for sample, soft in pairs]

    folder = ResultFolder(run.cell_folder / "masks", plan)
    with folder.claimed(), run.progress(run.describe(opened), len(opened)) as report:
        done = folder.done()
        missing = [batch for batch in batches_of(len(opened), run.batch_size) if not done.issuperset(batch)]
        for indices, samples in read_batches(opened, missing):
            pairs = zip(indices, samples, masks_of(samples), strict=True)
            rows = [{"index": index, "classes": found.counts(sample.labels, mask)} for index, sample, mask in pairs]
            folder.append(0, [json.dumps(row) for row in rows if row["index"] not in done])
            done.update(indices)
            if report is not None:
                report(len(done), len(opened))
        for row in folder.rows():
            found.add_counts(row["classes"])
    percent = found.percent()
    return {"mean": percent["mean"]} if only_mean else percent


def add_masks(
    found: ClassIous,
    samples: Iterable[Sample],
    masks_of: Callable[[Sequence[Sample]], Iterable[np.ndarray]],
    *,
    batch_size: int,
    report: Progress | None,
    total: int,
) -> None:
    """Masks (H, W) bool that know no names, against every class of their pictures."""
    done = 0
    for batch in _batches(samples, batch_size):
        for sample, mask in zip(batch, masks_of(batch), strict=True):
            found.add(sample.labels, mask)
        done += len(batch)
        if report is not None:
            report(done, total)


def experts_ious(run: Run, column: str) -> dict[str, float] | None:
    """Return the published expert of one class on the pictures that have it; the mean once all have been measured."""
    opened = run.open("voc", "train")
    if column == "mean":
        kept = [run.kept(EXPERTS_ROW, name) for name in opened.vocabulary.names if name != BACKGROUND]
        known = [iou for iou in kept if iou is not None]
        if len(known) < len(kept):
            raise NotRunError(f"only {len(known)} of {len(kept)} classes have been measured")
        return {"mean": float(np.mean(known))}
    own = ClassIous(opened)
    expert = run.segmenter("namedmask", weights=EXPERT.format(SPELT.get(column, column).replace(" ", "-")))
    with run.progress(f"{run.describe(opened)}, {column}", None) as report:
        seen = add_expert(own, opened, expert, [column], batch_size=run.batch_size, report=report)
    return {column: own.percent()[column]} if seen else None


def add_expert(
    found: ClassIous,
    samples: Iterable[Sample],
    expert: Segmenter,
    names: Iterable[str],
    *,
    batch_size: int,
    report: Progress | None = None,
) -> int:
    """Return what an expert draws against each of its own classes, over the pictures that have them; how many those
    are.
    """
    labels = {found.names.index(name) for name in names}
    own = (sample for sample in samples if labels.intersection(found.classes(sample.labels)))
    done = 0
    for batch in _batches(own, batch_size):
        for sample, mask in zip(batch, _foreground(expert, batch), strict=True):
            found.add(sample.labels, mask, labels.intersection(found.classes(sample.labels)))
        done += len(batch)
        if report is not None:
            report(done, None)
    return done


def _foreground(expert: Segmenter, samples: Sequence[Sample]) -> Iterator[np.ndarray]:
    vocabulary = expert.vocabulary  # type: ignore[attr-defined]  # a student knows its names: background and one more
    seen = expert.look_many([sample.image for sample in samples], [sample.key for sample in samples])
    return (view.segment(vocabulary, fill=True).labels != vocabulary.background for view in seen)


def _resized(image: np.ndarray, sides: tuple[int, int] | None) -> np.ndarray:
    if sides is None:
        return image
    size = size_with_shorter_side(image.shape[0], image.shape[1], *sides)
    return (255 * to_tensor(image, size)).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def _at_size(soft: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    if soft.shape == size:
        return soft
    there: np.ndarray = resize(torch.from_numpy(soft)[None].float(), (size[0], size[1]))[0].numpy()
    return there


def _batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    remaining = iter(samples)
    while batch := list(islice(remaining, size)):
        yield batch
