"""For every name, the pictures of a collection that look most like it (the paper's equation 1)."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass as settings

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import ImageRef
from wordmask.collection.search import Queries
from wordmask.console.progress import Progress
from wordmask.distillation.curation import Counts, Entry, curate
from wordmask.distillation.filters import FilterSettings, filters_of
from wordmask.distillation.records import DistillationError
from wordmask.files import atomic_write
from wordmask.fingerprints import digest_of
from wordmask.names.text_embeddings import TextEmbedder, embed_phrases
from wordmask.names.vocabulary import Vocabulary

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("rank", pa.int32()),
        ("similarity", pa.float64()),
        ("path", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("row", pa.int64()),
        ("best_name", pa.string()),
    ]
)
ABOUT_KEY = b"wordmask:archive"


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class ArchiveSettings:
    """size: pictures for a name. published: an archive that somebody has published (JSON, a name -> paths), to be taken
    in place of a search."""

    size: PositiveInt = 500
    filters: FilterSettings = FilterSettings()
    published: str | None = None


class Archive:
    """The archives of all names, as `archive.parquet` has them."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            table = pq.read_table(self.path, schema=SCHEMA)
            about: dict[str, Any] = json.loads((pq.read_schema(self.path).metadata or {})[ABOUT_KEY])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DistillationError(f"{self.path} is no archive ({error}): delete it and run again") from error
        self._table = table
        self.names: tuple[str, ...] = tuple(about["names"])
        self.root = Path(about["root"])
        self.size: int = about["size"]
        self.pictures: int | None = about["pictures"]
        self.counts = {name: Counts(**counts) for name, counts in about["counts"].items()}

    def __len__(self) -> int:
        return len(self._table)

    def entries(self, name: str) -> list[Entry]:
        """A name's pictures, the most similar first."""
        if name not in self._places:
            raise DistillationError(f"{self.path} has no archive of {name!r}; it has {', '.join(self.names)}")
        start, count = self._places[name]
        return [_entry(row) for row in self._table.slice(start, count).to_pylist()]

    @cached_property
    def digest(self) -> str:
        """Changes whenever a picture of an archive does; not with the rest of the collection."""
        told = self._table.drop_columns(["row"]).to_pylist()
        return digest_of(json.dumps([self.names, str(self.root), told]))

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where a name's rows start, and how many they are."""
        counts = Counter(self._table["name"].to_pylist())
        places, start = {}, 0
        for name in self.names:
            places[name] = (start, counts[name])
            start += counts[name]
        return places


def write_archive(
    path: Path,
    entries: Sequence[Entry],
    counts: dict[str, Counts],
    *,
    names: Sequence[str],
    root: Path,
    size: int,
    pictures: int | None,
) -> Archive:
    """entries: name by name in the order of `names`, best first. pictures: how many the collection has."""
    rows = [
        {
            "name": entry.name,
            "rank": entry.rank,
            "similarity": entry.similarity,
            "path": entry.image.path,
            "member": entry.image.member,
            "offset": entry.image.offset,
            "length": entry.image.length,
            "height": entry.size[0],
            "width": entry.size[1],
            "row": entry.row,
            "best_name": entry.best_name,
        }
        for entry in entries
    ]
    told = {name: vars(count) for name, count in counts.items()}
    about = {"names": list(names), "root": str(root), "size": size, "pictures": pictures, "counts": told}
    schema = SCHEMA.with_metadata({ABOUT_KEY: json.dumps(about, ensure_ascii=False).encode()})
    with atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return Archive(path)


def build_archive(
    folder: EmbeddingFolder,
    vocabulary: Vocabulary,
    embedder: TextEmbedder,
    out: Path,
    chosen: ArchiveSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Archive:
    """Write `out` (archive.parquet) for every name of a vocabulary but "background"."""
    chosen = chosen or ArchiveSettings()
    vocabulary = vocabulary.without_background()
    queries = queries_of(vocabulary, embedder, folder)
    filters = filters_of(
        chosen.filters, folder, lambda texts: embed_phrases(embedder.encoder, texts, embedder.templates).cpu().numpy()
    )
    found = list(curate(folder, queries, vocabulary.names, filters, chosen.size, progress))
    counts = {name: own for name, (_, own) in zip(vocabulary.names, found, strict=True)}
    _check_none_empty(counts, folder)
    return write_archive(
        out,
        [entry for entries, _ in found for entry in entries],
        counts,
        names=vocabulary.names,
        root=folder.root,
        size=chosen.size,
        pictures=len(folder),
    )


def queries_of(vocabulary: Vocabulary, embedder: TextEmbedder, folder: EmbeddingFolder) -> Queries:
    """A vocabulary in the space of a collection's embeddings."""
    own = getattr(embedder.encoder, "name", None)
    if folder.clip is not None and own is not None and folder.clip != own:
        raise DistillationError(
            f"{folder.folder} holds embeddings of {folder.clip}, not of {own}: choose the CLIP that they were made with"
        )
    text = embedder(vocabulary)
    if text.vectors.shape[1] != folder.dimension:
        raise DistillationError(
            f"{folder.folder} holds embeddings of {folder.dimension} numbers, but this CLIP's have "
            f"{text.vectors.shape[1]}: choose the CLIP that they were made with"
        )
    return Queries.of(text.vectors.cpu().numpy(), text.owner.cpu().numpy())


def _check_none_empty(counts: dict[str, Counts], folder: EmbeddingFolder) -> None:
    for name, count in counts.items():
        if not count.kept:
            why = ", ".join(f"{number} {label}" for label, number in count.dropped.items() if number)
            raise DistillationError(
                f"no picture of {folder.root} is left for {name!r}: of {count.looked_at} looked at, {why}. Leave the "
                "name out, say it otherwise (instead: ...), or loosen archive.filters"
            )


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        name=row["name"],
        rank=row["rank"],
        image=ImageRef(row["path"], row["member"], row["offset"] or 0, row["length"] or 0),
        size=(row["height"], row["width"]),
        similarity=row["similarity"],
        row=row["row"],
        best_name=row["best_name"],
    )
