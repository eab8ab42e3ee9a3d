"""`wordmask search`: the pictures of a collection that are most like a phrase."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.cli import crews, options
from wordmask.console import say, show
from wordmask.console.progress import progress_bar
from wordmask.fingerprints import digest_of
from wordmask.text_files import counted, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wordmask.collection.embedding_folder import EmbeddingFolder
    from wordmask.collection.piles import Pile
    from wordmask.collection.references import ImageRef
    from wordmask.collection.search import Best
    from wordmask.collection.search_shards import Searched
    from wordmask.console.progress import Progress
    from wordmask.distillation.filters import FilterSettings
    from wordmask.distillation.report_page import RunPage
    from wordmask.names.text_embeddings import TextEmbedder
    from wordmask.runs.crew import Crew
    from wordmask.runs.shards import Share

    Found = tuple[float, ImageRef | None, dict[str, Any]]
    """Of a picture: similarity, where it is, its metadata."""

VERB = "search"


def search(
    collection: Annotated[
        Path,
        typer.Option(help="A folder of embeddings, a run of `distill`, or pictures, which are embedded first."),
    ],
    phrases: Annotated[
        list[str] | None, typer.Argument(help="What to look for, each in words of its own.", show_default=False)
    ] = None,
    names: options.Names = None,
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many pictures for each.")] = 10,
    preset: options.Preset = "paper",
    clip: Annotated[
        str | None, typer.Option(help="ARCHITECTURE/TAG of an open_clip model, in place of the preset's.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Where the pictures are, if the collection does not say.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also write the pictures on one page (.html).")] = None,
    device: options.Device = "auto",
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget pictures that were embedded before and are no longer there.")
    ] = False,
    parts: Annotated[
        Path | None,
        typer.Option(help="Where --shards, --cluster and --workers put the best of each shard, which are joined then."),
    ] = None,
    workers: crews.Workers = None,
    cluster: crews.Cluster = None,
    shards: crews.Shards = None,
    merge: crews.Merge = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="KEY=VALUE, what to leave out, as archive.filters has it: duplicates=0.94, unsafe=true, faces=FILE; "
            "may be repeated.",
            callback=options.once,
        ),
    ] = None,
    time_limit: crews.TimeLimit = None,
    as_json: options.JsonLines = False,
) -> None:
    """Find the pictures that are most like a phrase, by CLIP.

    Example: `wordmask search "a red bus" --collection pictures --top 20`

    Without near-duplicates: `wordmask search "a red bus" --collection pictures --filter duplicates=0.94`
    """
    crews.check(workers, cluster, shards, time_limit, merge=merge)
    share = crews.share(shards)
    if parts is None and (workers or cluster or shards or merge):
        raise typer.BadParameter("--parts is missing: where the best of each shard are put")
    if bool(phrases) == (names is not None):
        raise typer.BadParameter("give either phrases to look for, or --names")
    from wordmask.names.vocabulary import Vocabulary

    vocabulary = options.names(names) if names is not None else Vocabulary.of(phrases or ())
    from wordmask.collection.piles import Pile
    from wordmask.collection.references import CollectionError
    from wordmask.collection.search import queries_of
    from wordmask.collection.search import search as find_best
    from wordmask.collection.search_shards import Searched, joined_parts, missing_parts, search_by_shards
    from wordmask.compute import Compute
    from wordmask.distillation.config import find_preset
    from wordmask.distillation.report_page import RunPage
    from wordmask.encoders.clip_building import clip_at
    from wordmask.names.prompts import templates
    from wordmask.names.text_embeddings import TextEmbedder
    from wordmask.runs.claim import claimed, joined

    settings = find_preset(preset)
    chosen = _filters(filters)
    page = RunPage("What was found", "search")
    if sheet is not None:
        page.check(sheet, option="--sheet")
    crew = crews.crew(workers, cluster, time_limit, "cpu")
    model = clip or settings.clip
    pile = _opened(collection, image_root)  # what is not there is said before a network is fetched
    encoder = clip_at(model, None, Compute(device, "fp32"))
    folder = _embedded(pile, collection, encoder, model, image_root, prune=prune) if isinstance(pile, Pile) else pile
    embedder = TextEmbedder(encoder, templates(settings.templates))
    searched = Searched(folder, queries_of(vocabulary, embedder, folder), top)
    if chosen is not None:
        from wordmask.distillation.shared_curation import UnfinishedError

        try:
            best = _curated(searched, vocabulary.names, embedder, chosen, parts, crew, share, makes=not merge)
        except UnfinishedError as error:
            assert parts is not None
            assert share is not None
            crews.tell_of_share(parts, share, error.missing, as_json=as_json)
            say("when all shares are made, the same commands go on with the pictures that were found")
            return
    elif parts is None:
        best = find_best(folder, searched.queries, top)
    else:
        with (joined if share else claimed)(parts, VERB, error=CollectionError):
            if not merge:
                with progress_bar("search", None, counts=False) as report:
                    search_by_shards(searched, parts, crew=crew, share=share, progress=report, say=say)
            if share is not None and (missing := missing_parts(searched, parts)):
                crews.tell_of_share(parts, share, len(missing), as_json=as_json)
                return
            best = joined_parts(searched, parts)
    for number, phrase in enumerate(vocabulary.names):
        told = folder.told(best.rows[number])
        refs = folder.references(told)
        found = list(zip(best.similarities[number].tolist(), refs, told, strict=True))
        for similarity, ref, row in found:
            _print(phrase, similarity, _place(ref, row, folder.root), as_json)
        if sheet is not None:
            _show(page, phrase, found, folder.root)
    if sheet is not None:
        page.save(sheet)
        say(f"page: {sheet}")


def _filters(told: list[str] | None) -> "FilterSettings | None":
    """Return what is to be left out; None for nothing."""
    if not told:
        return None
    from wordmask.distillation.config import make_filters

    return make_filters(told)


def _curated(
    searched: "Searched",
    names: "Sequence[str]",
    embedder: "TextEmbedder",
    chosen: "FilterSettings",
    parts: Path | None,
    crew: "Crew | None",
    share: "Share | None",
    *,
    makes: bool,
) -> "Best":
    """Return the best that no filter drops, and say how many each has dropped."""
    import numpy as np

    from wordmask.collection.references import CollectionError
    from wordmask.collection.search import Best
    from wordmask.distillation.curation import Finder, curate
    from wordmask.distillation.filters import filters_of
    from wordmask.distillation.shared_curation import SharedFinder
    from wordmask.names.text_embeddings import embed_phrases
    from wordmask.runs.claim import claimed, joined

    folder, queries = searched.folder, searched.queries

    def embed(texts: "Sequence[str]") -> Any:
        return embed_phrases(embedder.encoder, texts, embedder.templates).cpu().numpy()

    with ExitStack() as held:
        report = held.enter_context(progress_bar("search", None, counts=False))
        finder = Finder(folder, queries)
        walked: Progress | None = report
        if parts is not None:
            held.enter_context((joined if share else claimed)(parts, VERB, error=CollectionError))
            how: dict[str, Any] = {"crew": crew, "share": share, "makes": makes, "progress": report, "say": say}
            finder, walked = SharedFinder(folder, queries, parts, chosen, **how), None
        found = list(curate(finder, names, filters_of(chosen, folder, embed), searched.most, walked))
    for name, (_, counts) in zip(names, found, strict=True):
        if dropped := {label: number for label, number in counts.dropped.items() if number}:
            why = ", ".join(f"{number} {label}" for label, number in dropped.items())
            say(f"{name}: of {counts.looked_at} looked at, {sum(dropped.values())} left out: {why}")
    rows = tuple(np.array([entry.row for entry in entries], np.int64) for entries, _ in found)
    return Best(searched.most, rows, tuple(np.array([entry.similarity for entry in entries]) for entries, _ in found))


def _opened(collection: Path, root: Path | None) -> "EmbeddingFolder | Pile":
    """Return the embeddings of a collection, or its pictures where it has none."""
    from wordmask.collection.embedding_folder import EmbeddingFolder, is_embedding_folder
    from wordmask.collection.piles import open_pile

    for folder in (collection, collection / "embeddings"):
        if is_embedding_folder(folder):
            return EmbeddingFolder(folder, root=root)
    return open_pile(collection, root=root)


def _embedded(
    pile: "Pile", collection: Path, encoder: Any, clip: str, root: Path | None, *, prune: bool
) -> "EmbeddingFolder":
    """Return the embeddings of pictures, kept in the cache for the next question."""
    from wordmask.collection.embedding import VanishedError, embed
    from wordmask.collection.embedding_folder import ABOUT, EmbeddingFolder
    from wordmask.weights.cache import cache_dir

    mark = digest_of(f"{collection.resolve()} {root} {clip}")[:16]
    kept = cache_dir() / "collections" / mark
    try:
        with progress_bar("embeddings", None, counts=False) as report:
            made = embed(pile, encoder, kept, progress=report, prune=prune)
    except VanishedError as error:
        if not read_json(kept / ABOUT).get("finished"):
            raise
        say(f"searched as it was embedded before: {error}")
        return EmbeddingFolder(kept)
    if bad := made.about["bad_pictures"]:
        say(f"{counted(bad, 'picture')} cannot be read: see {made.folder / 'bad_images.jsonl'}")
    return made


def _place(ref: "ImageRef | None", row: dict[str, Any], root: Path) -> str:
    if ref is None:
        return str(row.get("image_path") or row.get("url") or "unknown")
    return str(root / ref.path) + ("" if ref.member is None else f"::{ref.member}")


def _print(phrase: str, similarity: float, place: str, as_json: bool) -> None:
    if as_json:
        show(json.dumps({"phrase": phrase, "similarity": round(similarity, 6), "image": place}))
    else:
        show(f"{similarity:.4f}  {place}")


def _show(page: "RunPage", phrase: str, found: "list[Found]", root: Path) -> None:
    from PIL import Image

    from wordmask.distillation.report_page import small
    from wordmask.masks.palette import colours_of
    from wordmask.pictures.image_files import ImageReadError

    page.subheading(phrase, colours_of([phrase])[0])
    pictures: list[Image.Image | None] = []
    for _, ref, _row in found:
        try:
            image = ref.open(root) if ref is not None else None
        except ImageReadError:
            image = None
        pictures.append(None if image is None else small(Image.fromarray(image)))
    titles = [f"{_place(ref, row, root)}, similarity {similarity:.3f}" for similarity, ref, row in found]
    for start in range(0, len(pictures), 8):
        page.tiles([("", pictures[start : start + 8])], titles[start : start + 8])
