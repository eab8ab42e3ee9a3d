"""Shards of pictures that a network is asked about: masks by saliency, and what a teacher says.

The answers to a block of pictures are one shard, whole or not there, so a run that was killed goes on at the block
where it stopped; a picture whose answer is known already, by its content, is not looked at again.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from wordmask.collection.piles import Bad
from wordmask.collection.references import ImageRef
from wordmask.console.progress import Progress
from wordmask.distillation.known_masks import picture_digest
from wordmask.files import atomic_write
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.prefetch import ahead
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.shards import run_shards

PICTURES_PER_SHARD = 64
"""What a kill can lose: two minutes of a large network on a processor."""
READERS = 4
BAD_IMAGES = "bad_images.jsonl"

Network = TypeVar("Network")
Known = TypeVar("Known")
View = TypeVar("View")


class Tools(NamedTuple, Generic[Network, Known]):
    """What shards are made with. known: the answers that are there already."""

    network: Network
    known: Known


def load_tools(load: Callable[[], Any], find: Callable[..., Any], folders: Sequence[Path], say: Say) -> Tools[Any, Any]:
    return Tools(load(), find(folders, say=say))


@dataclass(frozen=True)
class PicturesTask(ABC):
    """A shard to be made. shard: its last file, beside which the others are. refs: its pictures."""

    shard: Path
    refs: tuple[ImageRef, ...]
    root: Path

    @property
    def name(self) -> str:
        return f"{self.shard.stem}, from {self.refs[0]}" if self.refs else self.shard.stem

    @property
    def weight(self) -> int:
        return len(self.refs)

    @property
    def bad(self) -> Path:
        return self.shard.with_suffix(".bad")

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return what has to be whole, for the shard to be."""

    @abstractmethod
    def make(self, tools: Any, progress: Progress) -> int:
        """Write the shard's files, `shard` last. Returns how many answers were there already."""

    def digests(self) -> dict[ImageRef, str | None]:
        """Return what the content of each picture is known by."""
        hashes = ahead(partial(picture_digest, root=self.root), self.refs, threads=READERS)
        return dict(zip(self.refs, hashes, strict=True))

    def write_bad(self, bad: Iterable[Bad]) -> None:
        """Write those that cannot be read."""
        with write_part(self.bad) as file:
            for each in bad:
                file.write(json.dumps(vars(each), ensure_ascii=False).encode() + b"\n")


def make_picture_shards(
    tasks: Iterable[PicturesTask],
    load: Callable[[], Any],
    find: Callable[..., Any],
    known: Sequence[Path],
    out: Path,
    *,
    total: int | None,
    progress: Progress | None = None,
    say: Say = warn,
    crew: Crew | None = None,
) -> int:
    """Make the shards that are missing, and `out/bad_images.jsonl` of all; return how many answers were known.

    load: what loads the network, once for each process. find: what finds the answers that are in the folders `known`.
    say: is told of shards that are damaged, and made anew. crew: who makes the shards; by default this process does.
    """
    parts, taken = Parts(say), 0

    def count(task: PicturesTask, known: int) -> None:
        nonlocal taken
        taken += known

    run_shards(
        tasks,
        partial(load_tools, load, find, tuple(known), warn if crew else say),
        is_made=lambda task: parts.whole(*task.files()),
        crew=crew,
        total=total,
        progress=progress,
        on_made=count,
        say=say,
    )
    with atomic_write(out / BAD_IMAGES) as file:
        for part in sorted(out.glob("*.bad")):
            file.write(part.read_bytes())
    return taken


def batches_of(
    refs: Sequence[ImageRef],
    look: Callable[[ImageRef], View],
    count: int,
    on_bad: Callable[[Bad], None],
) -> Iterator[list[tuple[ImageRef, View]]]:
    """Yield pictures as `look` returns them, `count` at a time, while the next are being read. Those that cannot be
    read go to `on_bad`.
    """

    def looked(ref: ImageRef) -> View | ImageReadError:
        try:
            return look(ref)
        except ImageReadError as error:
            return error

    batch: list[tuple[ImageRef, View]] = []
    for ref, seen in zip(refs, ahead(looked, refs, threads=READERS), strict=True):
        if isinstance(seen, ImageReadError):
            on_bad(Bad(seen.source, seen.reason))
        else:
            batch.append((ref, seen))
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch
