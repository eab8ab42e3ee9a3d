"""What a teacher says: any segmenter labels every picture with all names at once, for a student that is to be as good
and fast.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.collection.archive import Archive
from wordmask.collection.piles import Bad, Pile
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.picture_shards import (
    BAD_IMAGES,
    PICTURES_PER_SHARD,
    PicturesTask,
    Tools,
    batches_of,
    make_picture_shards,
)
from wordmask.distillation.records import DistillationError
from wordmask.distillation.targets import Target, TargetTable, confidence_of, files_of, write_targets
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn
from wordmask.segmenters.base import Seen, Segmenter, asked, contrasted
from wordmask.text_files import counted

Block = tuple[Sequence[ImageRef], Sequence[Bad]]
"""Pictures of one shard, and those of them that are known to be bad before they are opened."""


@dataclass(frozen=True)
class Lesson:
    """What a teacher is asked. names: as the run has them. fill: every pixel bears one of the names, none is
    background. features: keep the teacher's own, for an open student. batch: pictures that it looks at together.
    """

    names: Vocabulary
    fill: bool = False
    features: bool = False
    batch: int = 4

    def ask(self, teacher: Segmenter, images: Sequence[np.ndarray], sources: Sequence[str]) -> list["Answer"]:
        names = self.names.without_background() if self.fill else self.names
        vocabulary = contrasted(asked(names, self.fill, 0.0, 0.0), "auto", teacher)
        return [
            (view.segment(vocabulary, fill=self.fill), features_of(view) if self.features else None)
            for view in teacher.see(images, sources)
        ]


Answer = tuple[Segmentation, np.ndarray | None]


def features_of(view: Seen) -> np.ndarray | None:
    """Return a teacher's features of a picture in the space of CLIP's texts, (D, h, w) float16; None where it has
    none there.
    """
    found = view.in_text_space()
    return None if found is None else found.cpu().numpy().astype(np.float16)


def pictures_of(archive: Archive) -> list[ImageRef]:
    """Return every picture of the archives once, in the order of names and ranks."""
    return list(dict.fromkeys(entry.image for name in archive.names for entry in archive.entries(name)))


def blocks_of_archive(archive: Archive) -> Iterator[Block]:
    pictures = pictures_of(archive)
    for start in range(0, len(pictures), PICTURES_PER_SHARD):
        yield pictures[start : start + PICTURES_PER_SHARD], ()


def blocks_of_pile(pile: Pile) -> Iterator[Block]:
    """Every picture of a pile, part by part; none of them is held longer than its part."""
    for part in pile.parts():
        pictures, bad = part.load()
        refs = (picture.ref for picture in pictures)
        first = True
        while (block := list(islice(refs, PICTURES_PER_SHARD))) or (first and bad):
            yield block, bad if first else ()
            first = False


def teach(
    blocks: Iterable[Block],
    root: Path,
    load: Callable[[], Segmenter],
    lesson: Lesson,
    out: Path,
    *,
    known: Sequence[Path] = (),
    total: int | None = None,
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
) -> TargetTable:
    """Write `out/taught_NNNNN.arrow` and what is beside it, and `bad_images.jsonl`.

    known: folders of answers to the same question, of which those to the same pictures are taken. load, total, say,
    crew: as `make_picture_shards` has them.
    """

    def tasks() -> Iterator[TeachTask]:
        first = 0
        for number, (block, early) in enumerate(blocks):
            yield TeachTask(out / f"taught_{number:05d}.arrow", tuple(block), root, first, tuple(early), lesson)
            first += len(block)

    how: dict[str, Any] = {"total": total, "progress": progress, "say": say, "crew": crew}
    if taken := make_picture_shards(tasks(), load, KnownTargets, known, out, **how):
        say(f"taught: the answers to {counted(taken, 'picture')} were there already")
    table = TargetTable(out)
    if not len(table):
        raise DistillationError(f"none of the pictures of {root} can be read: {out / BAD_IMAGES} says why")
    return table


@dataclass(frozen=True)
class TeachTask(PicturesTask):
    """A shard of answers to be made. first: the number of its first picture. early: what is known to be bad."""

    first: int
    early: tuple[Bad, ...]
    lesson: Lesson

    def files(self) -> Sequence[Path]:
        return *files_of(self.shard), self.bad

    def make(self, tools: "Tools[Segmenter, KnownTargets]", progress: Progress) -> int:
        known, digests = tools.known, self.digests()
        found = {ref: target for ref, digest in digests.items() if (target := known.of(ref, digest)) is not None}
        taken, bad, rest = len(found), list(self.early), [ref for ref in self.refs if ref not in found]
        for ref, target in _answers(rest, self.root, tools.network, self.lesson, bad):
            found[ref] = replace(target, digest=digests[ref])
        self.write_bad(bad)
        names = self.lesson.names.without_background().names
        targets = [found[ref] for ref in self.refs if ref in found]
        write_targets(self.shard, targets, first=self.first, root=self.root, names=names)
        return taken


def _answers(
    refs: Sequence[ImageRef], root: Path, teacher: Segmenter, lesson: Lesson, bad: list[Bad]
) -> Iterator[tuple[ImageRef, Target]]:
    """Yield what the teacher says of pictures; those that cannot be read go to `bad`."""
    names = lesson.names.without_background().names
    label_of = {name: label for label, name in enumerate(names, start=1)}
    for batch in batches_of(refs, lambda ref: ref.open(root), lesson.batch, bad.append):
        answers = lesson.ask(teacher, [image for _, image in batch], [str(ref) for ref, _ in batch])
        for (ref, image), (answer, features) in zip(batch, answers, strict=True):
            meaning = np.array([label_of.get(name, 0) for name in answer.names], label_type(len(names) + 1))
            size = (image.shape[0], image.shape[1])
            yield ref, Target(ref, meaning[answer.labels], confidence_of(answer.scores, size), features=features)


class KnownTargets:
    """Answers of some folders by the content of their pictures; what is damaged there is not used."""

    def __init__(self, folders: Iterable[Path], say: Say = warn):
        self._known: dict[str, tuple[TargetTable, int]] = {}
        parts = Parts(say)
        for folder in folders:
            shards = [path for path in sorted(folder.glob("*.arrow")) if parts.whole(*files_of(path))]
            if shards:
                table = TargetTable(folder, shards=shards)
                for index, digest in enumerate(table.digests()):
                    if digest is not None:
                        self._known.setdefault(digest, (table, index))

    def of(self, ref: ImageRef, digest: str | None) -> Target | None:
        if digest is None or digest not in self._known:
            return None
        table, index = self._known[digest]
        return replace(table[index], image=ref)
