"""For every name, the pictures of a collection that look most like it (the paper's equation 1)."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass as settings

from wordmask.collection.archive import Archive, Counts, write_archive
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.search import queries_of
from wordmask.console.progress import Progress
from wordmask.distillation.curation import curate
from wordmask.distillation.filters import Filter, FilterSettings, filters_of
from wordmask.distillation.records import DistillationError
from wordmask.names.text_embeddings import TextEmbedder, embed_phrases
from wordmask.names.vocabulary import Vocabulary


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
) -> Archive:
    """Write `out` (archive.parquet) for every name of a vocabulary but "background".

    more: filters beside the chosen ones.
    """
    chosen = chosen or ArchiveSettings()
    vocabulary = vocabulary.without_background()
    queries = queries_of(vocabulary, embedder, folder)
    filters = filters_of(
        chosen.filters, folder, lambda texts: embed_phrases(embedder.encoder, texts, embedder.templates).cpu().numpy()
    )
    found = list(curate(folder, queries, vocabulary.names, [*more, *filters], chosen.size, progress))
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


def _check_none_empty(counts: dict[str, Counts], folder: EmbeddingFolder) -> None:
    for name, count in counts.items():
        if not count.kept:
            why = ", ".join(f"{number} {label}" for label, number in count.dropped.items() if number)
            raise DistillationError(
                f"no picture of {folder.root} is left for {name!r}: of {count.looked_at} looked at, {why}. Leave the "
                "name out, say it otherwise (instead: ...), or loosen archive.filters"
            )
