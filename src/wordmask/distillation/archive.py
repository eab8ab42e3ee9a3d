"""For every name, the pictures of a collection that look most like it (the paper's equation 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass as settings

from wordmask.collection.archive import Archive, Counts, write_archive
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.search import queries_of
from wordmask.console.progress import Progress
from wordmask.distillation.curation import Finder, curate
from wordmask.distillation.filters import Filter, FilterSettings, filters_of
from wordmask.distillation.records import DistillationError
from wordmask.distillation.shared_curation import SharedFinder, forget_parts
from wordmask.names.text_embeddings import TextEmbedder, embed_phrases
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.crew import Crew
from wordmask.runs.parts import Say, warn

PARTS = "parts"
"""The folder beside an archive that holds what a crew has found for it."""


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class ArchiveSettings:
    """size: pictures for a name. published: an archive that somebody has published (JSON, a name -> paths), to be taken
    in place of a search.
    """

    size: PositiveInt = 500
    filters: FilterSettings = FilterSettings()
    published: str | None = None


def build_archive(
    folder: EmbeddingFolder,
    vocabulary: Vocabulary,
    embedder: TextEmbedder,
    out: Path,
    chosen: ArchiveSettings | None = None,
    *,
    more: Sequence[Filter] = (),
    progress: Progress | None = None,
    crew: Crew | None = None,
    say: Say = warn,
) -> Archive:
    """Write `out` (archive.parquet) for every name of a vocabulary but "background".

    more: filters beside the chosen ones, each of pictures alone. crew: who searches, and looks at what was found; by
    default this process does. What a crew has begun is gone on with by shards.
    """
    chosen = chosen or ArchiveSettings()
    vocabulary = vocabulary.without_background()
    queries = queries_of(vocabulary, embedder, folder)
    filters = filters_of(
        chosen.filters, folder, lambda texts: embed_phrases(embedder.encoder, texts, embedder.templates).cpu().numpy()
    )
    parts, finder = out.parent / PARTS, Finder(folder, queries)
    if crew is not None or parts.exists():
        how: dict[str, Any] = {"more": more, "crew": crew, "progress": progress, "say": say}
        finder, progress = SharedFinder(folder, queries, parts, chosen.filters, **how), None
    found = list(curate(finder, vocabulary.names, [*more, *filters], chosen.size, progress))
    counts = {name: own for name, (_, own) in zip(vocabulary.names, found, strict=True)}
    _check_none_empty(counts, folder)
    archive = write_archive(
        out,
        [entry for entries, _ in found for entry in entries],
        counts,
        names=vocabulary.names,
        root=folder.root,
        size=chosen.size,
        pictures=len(folder),
    )
    forget_parts(parts)
    return archive


def _check_none_empty(counts: dict[str, Counts], folder: EmbeddingFolder) -> None:
    for name, count in counts.items():
        if not count.kept:
            why = ", ".join(f"{number} {label}" for label, number in count.dropped.items() if number)
            raise DistillationError(
                f"no picture of {folder.root} is left for {name!r}: of {count.looked_at} looked at, {why}. Leave the "
                "name out, say it otherwise (instead: ...), or loosen archive.filters"
            )
