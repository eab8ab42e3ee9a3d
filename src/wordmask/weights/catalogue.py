"""The catalogue: every published file the methods here can start from, as `data/weights.toml` lists them.

Nothing here touches the network or imports torch, so that listing the catalogue is instant.
"""

import difflib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from wordmask.errors import WordmaskError
from wordmask.weights.cache import address_mark, cache_dir, file_name

Kind = Literal["clip", "dino", "saliency", "segmenter", "heads", "text", "archive", "embeddings"]


class CatalogueError(WordmaskError):
    """No entry of that name; the message lists the nearest ones."""


@dataclass(frozen=True)
class Weight:
    """One published file.

    `source` and `mirrors` are addresses of the same tensors, though not always the same bytes: a URL,
    `open_clip:ARCHITECTURE/TAG` or `timm:NAME`. `bytes` is an estimate, or None where none is known. `sha256`, where
    its publisher gives one, is of the file behind the entry's only URL.
    """

    name: str
    kind: Kind
    source: str
    licence: str
    bytes: int | None = None
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    gated: bool = False  # the hub asks for a sign-in and a consent first
    note: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.source, *self.mirrors)


HUB_FILES = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "timm": ("model.safetensors", "pytorch_model.bin"),
}
"""What the two libraries call their files on the hub, the safe format first."""

_FILE = tomllib.loads(files("wordmask").joinpath("data/weights.toml").read_text(encoding="utf-8"))
OPEN_CLIP_REPOSITORIES: dict[str, str] = _FILE["open_clip_repositories"]
"""Where `open_clip` finds these tags: "ARCHITECTURE/TAG" -> the repository on the hub."""
CATALOGUE = tuple(Weight(**{**told, "mirrors": tuple(told.get("mirrors", ()))}) for told in _FILE["weights"])
_BY_NAME = {entry.name: entry for entry in CATALOGUE}
_BY_ADDRESS = {address: entry for entry in CATALOGUE for address in entry.addresses}


def find(name: str) -> Weight:
    """Return the entry of exactly this name."""
    if entry := _BY_NAME.get(name):
        return entry
    near = difflib.get_close_matches(name.lower(), _BY_NAME, n=5)
    hint = f"did you mean {', '.join(near)}?" if near else "`wordmask models` lists them all"
    raise CatalogueError(f"no weights in the catalogue are called {name!r}: {hint}")


def at(address: str) -> Weight | None:
    """Return the entry that has this source or mirror."""
    return _BY_ADDRESS.get(address)


def is_url(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def place(entry: Weight, url: str) -> Path:
    """Where the file of this URL is kept. Copies may share a name and differ in bytes, so each has its own place."""
    file = file_name(url) if url == entry.source else f"{address_mark(url)}-{file_name(url)}"
    return cache_dir() / entry.name / file


def hub_files(address: str) -> tuple[tuple[str, str], ...]:
    """Return the (repository, file) pairs on the hub that a catalogued `open_clip:` or `timm:` address may mean."""
    library, _, name = address.partition(":")
    repository = OPEN_CLIP_REPOSITORIES[name] if library == "open_clip" else f"timm/{name}"
    return tuple((repository, file) for file in HUB_FILES[library])


def local_copy(entry: Weight, address: str) -> Path | None:
    """Return the file of this one address, if this machine has it. Asks the disk alone."""
    if is_url(address):
        path = place(entry, address)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for repository, file in hub_files(address):
        if isinstance(found := try_to_load_from_cache(repository, file), str):
            return Path(found)
    return None


def local(entry: Weight) -> Path | None:
    """Return the entry's file, if this machine has a copy from any of its addresses. Asks the disk alone."""
    copies = (local_copy(entry, address) for address in entry.addresses)
    return next((path for path in copies if path), None)


def as_row(entry: Weight) -> dict[str, str | int | None]:
    """One line of `wordmask models --json`."""
    path = local(entry)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "source": entry.source,
        "licence": entry.licence,
        "bytes": entry.bytes,
        "local": str(path) if path else None,
    }
