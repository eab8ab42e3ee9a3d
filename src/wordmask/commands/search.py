"""`wordmask search`: phrases asked of a collection's embeddings."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wordmask.collection.embedding import VanishedError, embed
from wordmask.collection.embedding_folder import ABOUT, EmbeddingFolder, is_embedding_folder
from wordmask.collection.piles import open_pile
from wordmask.collection.references import ImageRef
from wordmask.collection.search import search
from wordmask.console import say, show
from wordmask.console.progress import progress_bar
from wordmask.distillation.archive import queries_of
from wordmask.distillation.config import PRESETS, ConfigError
from wordmask.distillation.report_page import RunPage, small
from wordmask.masks.palette import colours_of
from wordmask.methods import pick_device
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import ImageReadError
from wordmask.segmenters.maskclip import open_clip_encoder
from wordmask.text_files import read_json
from wordmask.weights.cache import cache_dir


def run(
    phrases: list[str],
    *,
    collection: Path,
    top: int,
    preset: str,
    clip: str | None,
    image_root: Path | None,
    sheet: Path | None,
    device: str,
    as_json: bool,
    prune: bool = False,
) -> None:
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    vocabulary = Vocabulary.of(phrases)
    page = RunPage("What was found", "search")
    if sheet is not None:
        page.check(sheet, option="--sheet")
    chosen = clip or PRESETS[preset].clip
    encoder = open_clip_encoder(chosen, None, pick_device(device), "fp32")
    folder = _embeddings(collection, encoder, chosen, image_root, prune=prune)
    embedder = TextEmbedder(encoder, templates(PRESETS[preset].templates))
    best = search(folder, queries_of(vocabulary, embedder, folder), top)
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


def _embeddings(
    collection: Path, encoder: Any, clip: str, root: Path | None, *, prune: bool = False
) -> EmbeddingFolder:
    """Those of the collection; or of its pictures, kept in the cache for the next question."""
    for folder in (collection, collection / "embeddings"):
        if is_embedding_folder(folder):
            return EmbeddingFolder(folder, root=root)
    pile = open_pile(collection, root=root)
    mark = hashlib.sha256(f"{collection.resolve()} {root} {clip}".encode()).hexdigest()[:16]
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
        say(f"{bad} pictures cannot be read; {made.folder / 'bad_images.jsonl'} lists them")
    return made


def _place(ref: ImageRef | None, row: dict[str, Any], root: Path) -> str:
    if ref is None:
        return str(row.get("image_path") or row.get("url") or "unknown")
    return str(root / ref.path) + ("" if ref.member is None else f"::{ref.member}")


def _print(phrase: str, similarity: float, place: str, as_json: bool) -> None:
    if as_json:
        show(json.dumps({"phrase": phrase, "similarity": round(similarity, 6), "image": place}))
    else:
        show(f"{similarity:.4f}  {place}")


def _show(page: RunPage, phrase: str, found: list[tuple[float, ImageRef | None, dict[str, Any]]], root: Path) -> None:
    page.subheading(phrase, colours_of([phrase])[0])
    pictures: list[Image.Image | None] = []
    for _, ref, _row in found:
        try:
            image: np.ndarray | None = ref.open(root) if ref is not None else None
        except ImageReadError:
            image = None
        pictures.append(None if image is None else small(Image.fromarray(image)))
    titles = [f"{_place(ref, row, root)}, similarity {similarity:.3f}" for similarity, ref, row in found]
    for start in range(0, len(pictures), 8):
        page.tiles([("", pictures[start : start + 8])], titles[start : start + 8])
