"""What a teacher says: any segmenter labels every picture with all names at once, for a student that is to be as good
and fast.

The answers to a block of pictures are one shard, whole or not there, so a run that was killed goes on at the block
where it stopped; a picture whose answer is known already, by its content, is not looked at again.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wordmask.collection.archive import Archive
from wordmask.collection.piles import Bad, Pile
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.known_masks import picture_digest
from wordmask.distillation.pseudo_masks import BAD_IMAGES, PICTURES_PER_SHARD, READERS
from wordmask.distillation.records import DistillationError
from wordmask.distillation.targets import Target, TargetTable, confidence_of, files_of, write_targets
from wordmask.files import atomic_write
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.prefetch import ahead
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.shards import run_shards
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

    load: what loads the teacher, once for each process. known: folders of answers to the same question, of which those
    to the same pictures are taken. crew: who makes the shards; by default this process does.
    """
    parts, taken = Parts(say), 0

    def tasks() -> Iterator[TeachTask]:
        first = 0
        for number, (block, early) in enumerate(blocks):
            yield TeachTask(out / f"taught_{number:05d}.arrow", first, tuple(block), tuple(early), root, lesson)
            first += len(block)

    def count(task: TeachTask, known: int) -> None:
        nonlocal taken
        taken += known

    run_shards(
        tasks(),
        LoadTeacher(load, tuple(known), warn if crew else say),
        is_made=lambda task: parts.whole(*files_of(task.shard), task.bad),
        crew=crew,
        total=total,
        progress=progress,
        on_made=count,
        say=say,
    )
    with atomic_write(out / BAD_IMAGES) as file:
        for part in sorted(out.glob("taught_*.bad")):
            file.write(part.read_bytes())
    if taken:
        say(f"taught: the answers to {counted(taken, 'picture')} were there already")
    table = TargetTable(out)
    if not len(table):
        raise DistillationError(f"none of the pictures of {root} can be read: {out / BAD_IMAGES} says why")
    return table


class Teacher(NamedTuple):
    """Who answers. known: answers that are there already."""

    segmenter: Segmenter
    known: "KnownTargets"


@dataclass(frozen=True)
class LoadTeacher:
    load: Callable[[], Segmenter]
    known: tuple[Path, ...]
    say: Say

    def __call__(self) -> Teacher:
        return Teacher(self.load(), KnownTargets(self.known, self.say))


@dataclass(frozen=True)
class TeachTask:
    """A shard of answers to be made. first: the number of its first picture. early: what is known to be bad."""

    shard: Path
    first: int
    pictures: tuple[ImageRef, ...]
    early: tuple[Bad, ...]
    root: Path
    lesson: Lesson

    @property
    def name(self) -> str:
        return f"{self.shard.stem}, from {self.pictures[0]}" if self.pictures else self.shard.stem

    @property
    def weight(self) -> int:
        return len(self.pictures)

    @property
    def bad(self) -> Path:
        return self.shard.with_suffix(".bad")

    def make(self, teacher: Teacher, progress: Progress) -> int:
        """Write the shard, the masks last. Returns how many answers were there already."""
        bad, before = list(self.early), teacher.known.taken
        targets = list(_answers(self.pictures, self.root, teacher.segmenter, self.lesson, teacher.known, bad))
        with write_part(self.bad) as file:
            for each in bad:
                file.write(json.dumps(vars(each), ensure_ascii=False).encode() + b"\n")
        names = self.lesson.names.without_background().names
        write_targets(self.shard, targets, first=self.first, root=self.root, names=names)
        return teacher.known.taken - before


def _answers(
    block: Sequence[ImageRef],
    root: Path,
    teacher: Segmenter,
    lesson: Lesson,
    known: "KnownTargets",
    bad: list[Bad],
) -> Iterator[Target]:
    """Yield the targets of a block in its order; pictures that cannot be read go to `bad`."""
    digests = dict(zip(block, ahead(partial(picture_digest, root=root), block, threads=READERS), strict=True))
    found = {ref: target for ref, digest in digests.items() if (target := known.of(ref, digest)) is not None}
    rest = [ref for ref in block if ref not in found]
    for ref, target in _look(rest, root, teacher, lesson, bad):
        found[ref] = replace(target, digest=digests[ref])
    return (found[ref] for ref in block if ref in found)


def _look(
    refs: Sequence[ImageRef], root: Path, teacher: Segmenter, lesson: Lesson, bad: list[Bad]
) -> Iterator[tuple[ImageRef, Target]]:
    batch: list[tuple[ImageRef, np.ndarray]] = []
    for ref, image in zip(refs, ahead(partial(_opened, root=root), refs, threads=READERS), strict=True):
        if isinstance(image, ImageReadError):
            bad.append(Bad(image.source, image.reason))
        else:
            batch.append((ref, image))
        if len(batch) == lesson.batch:
            yield from _look_at(batch, teacher, lesson)
            batch = []
    yield from _look_at(batch, teacher, lesson)


def _look_at(
    batch: Sequence[tuple[ImageRef, np.ndarray]], teacher: Segmenter, lesson: Lesson
) -> Iterator[tuple[ImageRef, Target]]:
    if not batch:
        return
    names = lesson.names.without_background().names
    answers = lesson.ask(teacher, [image for _, image in batch], [str(ref) for ref, _ in batch])
    for (ref, image), (answer, features) in zip(batch, answers, strict=True):
        label_of = {name: label for label, name in enumerate(names, start=1)}
        meaning = np.array([label_of.get(name, 0) for name in answer.names], label_type(len(names) + 1))
        size = (image.shape[0], image.shape[1])
        yield ref, Target(ref, meaning[answer.labels], confidence_of(answer.scores, size), features=features)


def _opened(ref: ImageRef, *, root: Path) -> np.ndarray | ImageReadError:
    try:
        return ref.open(root)
    except ImageReadError as error:
        return error


class KnownTargets:
    """Answers of some folders by the content of their pictures; what is damaged there is not used."""

    def __init__(self, folders: Iterable[Path], say: Say = warn):
        self.taken = 0
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
        self.taken += 1
        return replace(table[index], image=ref)
