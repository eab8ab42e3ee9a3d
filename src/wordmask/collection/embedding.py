"""Pictures through CLIP's image tower, once: a pile becomes a folder of embeddings that can be asked for names.

A shard is whole or not there. Killed and started again, the work goes on at the shard where it stopped; a shard whose
files have changed is made anew, and no other.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from wordmask.collection.arrow import pa, pc, pq
from wordmask.collection.embedding_folder import ABOUT, EmbeddingFolder, embedding_name, metadata_name
from wordmask.collection.piles import Bad, Part, Picture, Pile, Survey
from wordmask.collection.references import CollectionError
from wordmask.console.progress import Progress
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of, number_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import centre_crop
from wordmask.pictures.left_out import LEFT_OUT, write_left_out
from wordmask.pictures.prefetch import ahead
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.runs.shards import Share, run_shards
from wordmask.text_files import counted, read_json
from wordmask.weights.loading import fingerprint

if TYPE_CHECKING:
    from wordmask.encoders.clip import ClipEncoder


BAD_IMAGES = "bad_images.jsonl"
FINGERPRINT_KEY = b"wordmask:fingerprint"
PER_SHARD = "per_shard"
"""What a folder says of itself: how many pictures each of its shards was cut to."""
PREPROCESSING = "shorter side, bicubic, centre crop"
"""Part of every fingerprint: embeddings of pictures cut otherwise are others."""


class VanishedError(CollectionError):
    """There are embeddings of pictures that are no longer there."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EmbeddingSettings:
    """per_part: pictures of a folder that make a shard; a tar is always one. readers: threads that decode.

    stored: half floats are what LAION stores.
    """

    batch: PositiveInt = 32
    readers: Annotated[int, Field(ge=1, le=64)] = 4
    per_part: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    stored: Literal["float16", "float32"] = "float16"
    max_pixels: PositiveInt | None = None


def embed(
    pile: Pile,
    encoder: "ClipEncoder",
    out: Path,
    settings: EmbeddingSettings | None = None,
    *,
    survey: Survey | None = None,
    progress: Progress | None = None,
    prune: bool = False,
    say: Say = warn,
    crew: Crew | None = None,
    load: "Callable[[], ClipEncoder] | None" = None,
) -> EmbeddingFolder:
    """Write `out` in clip-retrieval's layout, with `bad_images.jsonl` for what could not be read, and `left-out.txt`
    for that and for what was passed over.

    prune: drop the embeddings of pictures that are no longer there, at which it stops otherwise. say: is told of shards
    that are damaged, and made anew. Shards of a folder that was finished once may have any size, and are not read again
    for that. crew: who makes the shards, each with a CLIP of its own from `load`; by default this process does.
    """
    work = Embedding(pile, encoder, out, settings, survey=survey, say=say)
    work.begin(prune=prune)
    work.make(progress=progress, crew=crew, load=load)
    work.finish()
    return EmbeddingFolder(out)


class Embedding:
    """The work of `embed` in its steps, which several may share: all begin, each makes its share, one finishes."""

    def __init__(
        self,
        pile: Pile,
        encoder: "ClipEncoder",
        out: Path,
        settings: EmbeddingSettings | None = None,
        *,
        survey: Survey | None = None,
        say: Say = warn,
    ):
        self.pile, self.encoder, self.out, self.say = pile, encoder, out, say
        self.settings = settings or EmbeddingSettings()
        self.survey = survey or pile.survey()
        self.mark = clip_fingerprint(encoder)
        self._about: dict[str, Any] = {
            "kind": pile.kind,
            "root": str(pile.root),
            "clip": encoder.name,
            "clip_fingerprint": self.mark,
        }
        self._about |= {PER_SHARD: pile.per_part} if pile.per_part else {}

    def begin(self, *, prune: bool = False, shared: bool = False) -> None:
        """Open the folder. shared: others make shards of it, too, which have to be cut alike."""
        check_begun(self.pile, self.out, self.survey, prune=prune, shared=shared)
        self._parts = None if _is_finished(self.out) else Parts(self.say)
        _write_json(self.out / ABOUT, {**self._about, "finished": False})

    def make(
        self,
        *,
        progress: Progress | None = None,
        crew: Crew | None = None,
        load: "Callable[[], ClipEncoder] | None" = None,
        share: Share | None = None,
    ) -> None:
        """Make the shards that are missing, or those of a share."""
        here, mark = self.encoder, self.mark
        run_shards(
            self.tasks(),
            partial(_checked, load, mark) if crew and load else lambda: here,
            is_made=lambda task: _written(self.out, task.number, self._parts) == task.wanted,
            crew=crew,
            share=share,
            total=self.survey.weight,
            progress=progress,
            say=self.say,
        )

    def tasks(self) -> "Iterator[EmbedTask]":
        for number, part in enumerate(self.pile.parts()):
            wanted = digest_of(f"{part.fingerprint} {self.mark} {PREPROCESSING} {self.settings.stored}")
            yield EmbedTask(part, self.pile.root, self.out, number, wanted, self.settings)

    def missing(self) -> list[str]:
        """Return which shards are not there. What is in those that are, is not read."""
        return [task.name for task in self.tasks() if _written(self.out, task.number, None) != task.wanted]

    def finish(self) -> dict[str, Any]:
        """Join what the shards say; what the folder says of itself then."""
        out, survey = self.out, self.survey
        for stale in _beyond(out, survey.parts - 1):
            stale.unlink(missing_ok=True)
        bad = _join_bad(out)
        write_left_out(out / LEFT_OUT, chain(_bad_ones(out), self.pile.passed_over))
        pictures = sum(map(_rows_of, (out / "metadata").glob("metadata_*.parquet")))
        if not pictures:
            raise CollectionError(
                f"no picture of {self.pile.root} can be read ({bad} tried): {out / BAD_IMAGES} says why"
            )
        about = {"finished": True, "digest": survey.digest, "pictures": pictures, "bad_pictures": bad}
        _write_json(out / ABOUT, {**self._about, **about})
        return about


def _checked(load: "Callable[[], ClipEncoder]", mark: str) -> "ClipEncoder":
    """Load the CLIP of a worker, which may be on another machine: it has to be the same one."""
    encoder = load()
    if clip_fingerprint(encoder) != mark:
        raise CollectionError(f"{encoder.name} is another one there than where the work was begun: use the same files")
    return encoder


def check_begun(pile: Pile, out: Path, survey: Survey, *, prune: bool = False, shared: bool = False) -> None:
    """Raise, if a folder that was begun cannot be gone on with so; nothing is loaded for that."""
    if shared:
        _check_cut_alike(pile, out)
    if not prune:
        check_all_there(pile, out, survey)


def _check_cut_alike(pile: Pile, out: Path) -> None:
    about = out / ABOUT
    told = read_json(about) if about.exists() else {}
    own, theirs = pile.per_part, told.get(PER_SHARD) if isinstance(told, dict) else None
    if own and theirs is not None and own != theirs:
        raise CollectionError(
            f"{out} was begun with shards of {theirs}, not {own}: say --per-shard {theirs} to go on so, or choose "
            "another folder"
        )


def check_all_there(pile: Pile, out: Path, survey: Survey) -> None:
    """Raise, if there are embeddings of pictures that the pile no longer has: a disk may be away."""
    about = out / ABOUT
    if not about.exists():
        return
    told = read_json(about, way_out="delete that folder to have all pictures embedded anew")
    if not isinstance(told, dict) or (told.get("kind"), told.get("root")) != (pile.kind, str(pile.root)):
        return
    if told.get("digest") == survey.digest:
        return
    there = np.sort(np.fromiter(map(number_of, pile.sources()), np.uint64))
    gone, example = 0, ""
    for names in _embedded(out, pile.kind):
        marks = np.fromiter(map(number_of, names), np.uint64)
        found = np.searchsorted(there, marks, "left") < np.searchsorted(there, marks, "right")
        if not found.all():
            gone, example = gone + int((~found).sum()), example or names[int(np.argmin(found))]
    if gone:
        what = "tar" if pile.kind == "tars" else "picture"
        raise VanishedError(
            f"no longer in {pile.root}: {counted(gone, what)}, as {example}; {out} has embeddings of what is gone: "
            "bring it back (is its disk there?), or drop it with --prune"
        )


def _embedded(out: Path, kind: str) -> Iterator[list[str]]:
    """Yield the files that embeddings are of, shard by shard."""
    column = "tar" if kind == "tars" else "image_path"
    for path in sorted((out / "metadata").glob("metadata_*.parquet")):
        try:
            with path.open("rb") as file:
                table = pq.read_table(file, columns=[column]) if column in pq.read_schema(file).names else None
        except (pa.ArrowException, OSError):
            continue  # it is made anew
        if table is not None:
            yield [name for name in pc.unique(table[column]).to_pylist() if name is not None]


def clip_fingerprint(encoder: "ClipEncoder") -> str:
    """Return what changes whenever an image's embedding may."""
    visual = {name: value for name, value in encoder.model.state_dict().items() if name.startswith("visual.")}
    told = f"{fingerprint(visual)} {encoder.model.visual!r} {encoder.statistics} {encoder.image_size} {encoder.dtype}"
    return digest_of(f"{told} int8" if encoder.precision == "int8" else told)


@dataclasses.dataclass(frozen=True)
class EmbedTask:
    """A shard of embeddings to be made. wanted: its fingerprint."""

    part: Part
    root: Path
    out: Path
    number: int
    wanted: str
    settings: EmbeddingSettings

    @property
    def name(self) -> str:
        return f"shard {self.number}, from {self.part.begins}"

    @property
    def weight(self) -> int:
        return self.part.weight

    def make(self, encoder: "ClipEncoder", progress: Progress) -> None:
        out, number, settings = self.out, self.number, self.settings
        rows: list[dict[str, Any]] = []
        vectors: list[np.ndarray] = []
        with self.part.at_hand(self.root) as (root, pictures, bad):
            for seen in _batches(pictures, root, encoder.image_size, settings, bad, progress):
                rows.extend(row for row, _ in seen)
                images = torch.stack([image for _, image in seen]).float().div_(255)  # (B, 3, H, W)
                vectors.append(encoder.encode_image(images).cpu().numpy().astype(settings.stored))
        matrix = np.concatenate(vectors) if vectors else np.zeros((0, encoder.embedding_size), settings.stored)
        with write_part(out / embedding_name(number)) as file:
            np.lib.format.write_array(file, matrix, allow_pickle=False)
        with write_part(_bad_file(out, number)) as file:
            for each in sorted(bad, key=lambda each: each.image):
                line = {"image": each.image, "reason": each.reason}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        table = pa.Table.from_pylist(rows, schema=_schema(rows, self.wanted))
        with write_part(out / metadata_name(number)) as file:  # last: it says that the shard is whole
            pq.write_table(table, file)


def _batches(
    pictures: Sequence[Picture],
    root: Path,
    size: tuple[int, int],
    settings: EmbeddingSettings,
    bad: list[Bad],
    progress: Progress,
) -> Iterator[list[tuple[dict[str, Any], Tensor]]]:
    batch: list[tuple[dict[str, Any], Tensor]] = []
    look = partial(_look, root=root, size=size, max_pixels=settings.max_pixels)
    for done, seen in enumerate(ahead(look, pictures, threads=settings.readers), start=1):
        if isinstance(seen, Bad):
            bad.append(seen)
        else:
            batch.append(seen)
        if len(batch) == settings.batch:
            yield batch
            batch = []
            progress(done, len(pictures))
    if batch:
        yield batch


def _look(
    picture: Picture, *, root: Path, size: tuple[int, int], max_pixels: int | None
) -> "tuple[dict[str, Any], Tensor] | Bad":
    """Return a picture's row of metadata, and what CLIP sees of it: its middle, (3, H, W) uint8."""
    ref = picture.ref
    try:
        image = ref.open(root, max_pixels)
    except ImageReadError as error:
        return Bad(str(ref), error.reason)
    row: dict[str, Any] = {"image_path": ref.member or ref.path, "width": image.shape[1], "height": image.shape[0]}
    if ref.member is not None:
        row |= {"tar": ref.path, "offset": ref.offset, "length": ref.length}
    return row | picture.told, centre_crop(image, size)


def _schema(rows: Sequence[dict[str, Any]], wanted: str) -> pa.Schema:
    kinds = {"image_path": pa.string(), "width": pa.int32(), "height": pa.int32()}
    later = {"tar": pa.string(), "offset": pa.int64(), "length": pa.int64(), "caption": pa.string(), "url": pa.string()}
    later |= {"NSFW": pa.string(), "punsafe": pa.float64(), "pwatermark": pa.float64()}
    present = {key for row in rows for key in row}
    fields = [*kinds.items(), *((name, kind) for name, kind in later.items() if name in present)]
    return pa.schema(fields, metadata={FINGERPRINT_KEY: wanted.encode()})


def is_ours(out: Path) -> bool:
    """Return whether a folder without a marker is one of embeddings that were made here."""
    try:
        return "clip_fingerprint" in json.loads((out / ABOUT).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _is_finished(out: Path) -> bool:
    try:
        return bool(json.loads((out / ABOUT).read_bytes())["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _written(out: Path, number: int, parts: Parts | None) -> str | None:
    """Return the fingerprint of a shard that is whole."""
    path = out / metadata_name(number)
    files = (path, out / embedding_name(number), _bad_file(out, number))
    if not all(file.exists() for file in files) or not (parts is None or parts.whole(*files)):
        return None
    try:
        with path.open("rb") as file:
            told = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError):
        return None  # it is made anew
    return told.get(FINGERPRINT_KEY, b"").decode()


def _rows_of(metadata: Path) -> int:
    with metadata.open("rb") as file:
        return int(pq.read_metadata(file).num_rows)


def _bad_file(out: Path, number: int) -> Path:
    return out / "bad" / f"bad_{number:05d}.jsonl"


def _join_bad(out: Path) -> int:
    count = 0
    with atomic_write(out / BAD_IMAGES) as file:
        for part in sorted((out / "bad").glob("bad_*.jsonl")):
            content = part.read_bytes()
            count += content.count(b"\n")
            file.write(content)
    return count


def _bad_ones(out: Path) -> Iterator[tuple[str, str]]:
    with (out / BAD_IMAGES).open(encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            yield told["image"], told["reason"]


def _beyond(out: Path, last: int) -> list[Path]:
    """Shards of pictures that are gone."""
    found = [*out.glob("img_emb/*.npy"), *out.glob("metadata/*.parquet"), *out.glob("bad/*.jsonl")]
    return [path for path in found if int(path.stem.rpartition("_")[2]) > last]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
