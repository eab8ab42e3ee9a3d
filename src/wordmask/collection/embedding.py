"""Pictures through CLIP's image tower, once: a pile becomes a folder of embeddings that can be asked for names.

A shard is whole or not there. Killed and started again, the work goes on at the shard where it stopped; a shard whose
files have changed is made anew, and no other.
"""

import json
from collections.abc import Iterator, Sequence
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
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.text_files import read_json
from wordmask.weights.loading import fingerprint

if TYPE_CHECKING:
    from wordmask.encoders.clip import ClipEncoder


BAD_IMAGES = "bad_images.jsonl"
FINGERPRINT_KEY = b"wordmask:fingerprint"
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
) -> EmbeddingFolder:
    """Write `out` in clip-retrieval's layout, with `bad_images.jsonl` for what could not be read, and `left-out.txt`
    for that and for what was passed over.

    prune: drop the embeddings of pictures that are no longer there, at which it stops otherwise. say: is told of shards
    that are damaged, and made anew. Shards of a folder that was finished once may have any size, and are not read again
    for that.
    """
    settings = settings or EmbeddingSettings()
    survey = survey or pile.survey()
    if not prune:
        check_all_there(pile, out, survey)
    mark = clip_fingerprint(encoder)
    about = {"kind": pile.kind, "root": str(pile.root), "clip": encoder.name, "clip_fingerprint": mark}
    parts = None if _is_finished(out) else Parts(say)
    _write_json(out / ABOUT, {**about, "finished": False})
    done = number = 0
    for number, part in enumerate(pile.parts()):
        wanted = digest_of(f"{part.fingerprint} {mark} {PREPROCESSING} {settings.stored}")
        if _written(out, number, parts) != wanted:
            _embed_part(part, pile.root, encoder, out, number, wanted, settings, _within(progress, done, part, survey))
        done += part.weight
        if progress:
            progress(done, survey.weight)
    for stale in _beyond(out, number):
        stale.unlink()
    bad = _join_bad(out)
    write_left_out(out / LEFT_OUT, chain(_bad_ones(out), pile.passed_over))
    pictures = sum(pq.read_metadata(path).num_rows for path in (out / "metadata").glob("metadata_*.parquet"))
    if not pictures:
        raise CollectionError(f"none of the {bad} pictures of {pile.root} can be read: {out / BAD_IMAGES} says why")
    _write_json(
        out / ABOUT, {**about, "finished": True, "digest": survey.digest, "pictures": pictures, "bad_pictures": bad}
    )
    return EmbeddingFolder(out)


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
        what = "tars" if pile.kind == "tars" else "pictures"
        raise VanishedError(
            f"{gone} {what} of {pile.root} are no longer there, as {example}, and {out} has embeddings of them: bring "
            "them back (is their disk there?), or drop them with --prune"
        )


def _embedded(out: Path, kind: str) -> Iterator[list[str]]:
    """Yield the files that embeddings are of, shard by shard."""
    column = "tar" if kind == "tars" else "image_path"
    for path in sorted((out / "metadata").glob("metadata_*.parquet")):
        try:
            table = pq.read_table(path, columns=[column]) if column in pq.read_schema(path).names else None
        except (pa.ArrowException, OSError):
            continue  # it is made anew
        if table is not None:
            yield [name for name in pc.unique(table[column]).to_pylist() if name is not None]


def clip_fingerprint(encoder: "ClipEncoder") -> str:
    """Return what changes whenever an image's embedding may."""
    visual = {name: value for name, value in encoder.model.state_dict().items() if name.startswith("visual.")}
    told = f"{fingerprint(visual)} {encoder.model.visual!r} {encoder.statistics} {encoder.image_size} {encoder.dtype}"
    return digest_of(f"{told} int8" if encoder.precision == "int8" else told)


def _embed_part(
    part: Part,
    root: Path,
    encoder: "ClipEncoder",
    out: Path,
    number: int,
    wanted: str,
    settings: EmbeddingSettings,
    progress: Progress,
) -> None:
    pictures, bad = part.load()
    rows: list[dict[str, Any]] = []
    vectors: list[np.ndarray] = []
    for seen in _batches(pictures, root, encoder.image_size, settings, bad, progress):
        rows.extend(row for row, _ in seen)
        images = torch.stack([image for _, image in seen]).float().div_(255)  # (B, 3, H, W)
        vectors.append(encoder.encode_image(images).cpu().numpy().astype(settings.stored))
    matrix = np.concatenate(vectors) if vectors else np.zeros((0, encoder.embedding_size), settings.stored)
    with write_part(out / embedding_name(number)) as file:
        np.lib.format.write_array(file, matrix, allow_pickle=False)
    with write_part(_bad_file(out, number)) as file:
        for each in sorted(bad, key=lambda each: each.image):
            file.write(json.dumps({"image": each.image, "reason": each.reason}, ensure_ascii=False).encode() + b"\n")
    table = pa.Table.from_pylist(rows, schema=_schema(rows, wanted))
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
        told = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return None  # it is made anew
    return told.get(FINGERPRINT_KEY, b"").decode()


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


def _within(progress: Progress | None, done: int, part: Part, survey: Survey) -> Progress:
    def report(pictures: int, of: int | None) -> None:
        if progress:
            progress(done + part.weight * pictures // (of or 1), survey.weight)

    return report


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
