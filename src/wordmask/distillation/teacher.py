"""What a teacher says: any segmenter labels every picture with all names at once, for a student that is to be as good
and fast.

The answers to a block of pictures are one shard, whole or not there, so a run that was killed goes on at the block
where it stopped; a picture whose answer is known already, by its content, is not looked at again.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

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
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.segmenters.base import Seen, Segmenter, asked, contrasted

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
    teacher: Segmenter,
    lesson: Lesson,
    out: Path,
    *,
    known: Sequence[Path] = (),
    total: int | None = None,
    progress: Progress | None = None,
    say: Say = warn,
) -> TargetTable:
    """Write `out/taught_NNNNN.arrow` and what is beside it, and `bad_images.jsonl`.

    known: folders of answers to the same question, of which those to the same pictures are taken.
    """
    names = lesson.names.without_background().names
    parts, answers, first = Parts(say), KnownTargets(known, say), 0
    for number, (block, early) in enumerate(blocks):
        shard = out / f"taught_{number:05d}.arrow"
        if not parts.whole(*files_of(shard), shard.with_suffix(".bad")):
            bad = list(early)
            targets = list(_answers(block, root, teacher, lesson, answers, bad))
            with write_part(shard.with_suffix(".bad")) as file:
                for each in bad:
                    file.write(json.dumps(vars(each), ensure_ascii=False).encode() + b"\n")
            write_targets(shard, targets, first=first, root=root, names=names)
        first += len(block)
        if progress:
            progress(first, total)
    with atomic_write(out / BAD_IMAGES) as file:
        for part in sorted(out.glob("taught_*.bad")):
            file.write(part.read_bytes())
    if answers.taken:
        say(f"taught: the answers to {answers.taken} pictures were there already")
    table = TargetTable(out)
    if not len(table):
        raise DistillationError(f"none of the pictures of {root} can be read: {out / BAD_IMAGES} says why")
    return table


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
