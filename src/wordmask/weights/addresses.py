"""Addresses: what a word for weights stands for, told in one place.

An address is a file or a folder, an http(s) URL, a name of the catalogue, `open_clip:ARCHITECTURE/TAG`, `timm:NAME`,
`hf-hub:org/repository[@revision][/file]`, or `scheme:name` of a plug-in (`Plugin.addresses`). A plug-in's scheme alone
stands for `scheme:ROLE`: whoever asks for a DINO says `dino`, and so on.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from wordmask.files import is_special
from wordmask.fingerprints import digest_of_files, known_digest
from wordmask.plugins import brought, named, where_from
from wordmask.weights import catalogue
from wordmask.weights.cache import cached_path
from wordmask.weights.catalogue import CatalogueError
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.download import download
from wordmask.weights.fetching import LIBRARIES, fetch


def _spelt(address: Any) -> Any:
    return os.fspath(address) if isinstance(address, os.PathLike) else address


SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+")

Address = Annotated[str, BeforeValidator(_spelt)]
"""The type of a setting that is one."""


class UnknownNameError(WeightsError):
    """A scheme has nothing of that name: what a plug-in raises for it, so that a scheme alone is explained."""


@dataclass(frozen=True)
class Found:
    """What an address stands for on this machine.

    name: what messages and files call the network; by default that of the file or folder. grounds: of a CLIP, the words
    for what lies behind things. known_by: the files that tell whether it has changed; by default its own. concepts: of
    a CLIP, what it has read that few names are held against, by name.
    """

    path: Path
    name: str | None = None
    grounds: tuple[str, ...] | None = None
    known_by: tuple[Path, ...] = ()
    concepts: Mapping[str, tuple[str, ...]] | None = None


Scheme = Callable[[str], Found]
"""What a plug-in registers: from the name behind `scheme:` to what it stands for, or an error with the way out."""


def full(address: str | Path, role: str) -> str:
    """Return an address with what a plug-in leaves unsaid: its aliases, and the role behind a scheme alone."""
    schemes = _schemes()
    aliases = brought("aliases", lambda word: word in schemes or _is_own(word))
    text = aliases.get(str(address), str(address))
    return f"{text}:{role}" if text in schemes else text


def is_brought(address: str | Path | None) -> bool:
    """Return whether a plug-in says what this stands for."""
    return address is not None and full(address, "").partition(":")[0] in _schemes()


def find(address: str | Path, role: str = "network", *, progress: bool | None = None) -> Found:
    """Return what an address stands for: the file or folder of a plug-in, a folder that is there, or a file, which is
    fetched on first use and checked where a checksum is known.

    A file of that path goes before a name of the catalogue, and a folder after it. `progress` as for `download`.
    """
    scheme, separator, name = full(address, role).partition(":")
    if separator and scheme in _schemes():
        read: Scheme = named(_schemes()[scheme])
        try:
            return read(name)
        except UnknownNameError as error:
            if str(address) != scheme:
                raise
            raise WeightsError(f"{scheme} has nothing for {role}; write {scheme}:NAME ({error})") from error
    if not str(address):
        raise WeightsError(
            "an address of weights is empty: give a file, a folder, a URL or a name of `wordmask models`"
        )
    if (folder := folder_at(address)) and not _is_catalogued(str(address)):
        return Found(folder)
    return Found(_file(str(address), progress))


def resolve(address: str | Path, role: str = "network", *, progress: bool | None = None) -> Path:
    """Return the file behind an address; see `find`."""
    found = find(address, role, progress=progress).path
    if found.is_dir() and is_brought(address):
        raise WeightsError(f"{str(address)!r} is a whole network in a folder, no file of weights for {role}")
    if found.is_dir():
        raise WeightsError(f"{str(address)!r} is a folder: name the weight file in it")
    return found


def folder_at(address: str | Path) -> Path | None:
    """Return the folder of this path, if it is one."""
    if catalogue.is_url(str(address)):
        return None
    return _existing(str(address), Path.is_dir)


def file_at(address: str | Path) -> Path | None:
    """Return the file of this path, if it is one."""
    if catalogue.is_url(str(address)):
        return None
    return _existing(str(address), Path.is_file)


def fingerprint_of(address: str | Path, role: str = "network") -> str:
    """Return what tells whether weights have changed under their address: a hash of the file, of all files of a folder,
    or of what a plug-in says; what is published is known by its name.
    """
    if is_brought(address):
        found = find(address, role)
        return digest_of_files(found.known_by or files_of(found.path))
    if path := folder_at(address):
        return digest_of_files(files_of(path))
    path = file_at(address)
    return str(address) if path is None else known_digest(path)


def check_scheme(address: str | Path) -> None:
    """Refuse `scheme:name` of a scheme that nobody has brought. A letter alone is a drive of Windows."""
    scheme, separator, _ = str(address).partition(":")
    known = [*LIBRARIES, *_schemes()]
    if separator and SCHEME.fullmatch(scheme) and not catalogue.is_url(str(address)) and scheme not in known:
        raise WeightsError(
            f"{str(address)!r} is no file on this machine, and no scheme is called {scheme!r}; choose one of "
            f"{', '.join(f'{each}:' for each in known)}, or an http(s) address{where_from(scheme)}"
        )


def files_of(path: Path) -> list[Path]:
    """Return a file, or all files of a folder in the order of their paths, less what Python keeps beside modules."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if "__pycache__" not in file.parts)
    return sorted(file for file in found if file.is_file())


def _schemes() -> dict[str, str]:
    return brought("addresses", _is_own)


def _is_own(word: str) -> bool:
    """Return whether a word is one of ours, or begins an address of ours: one letter is a drive."""
    return len(word) == 1 or word in ("http", "https", "file", *LIBRARIES) or _is_catalogued(word)


def _is_catalogued(name: str) -> bool:
    with suppress(CatalogueError):
        catalogue.find(name)
        return True
    return False


def _file(address: str, progress: bool | None) -> Path:
    if path := file_at(address):
        return path
    if entry := catalogue.at(address):
        return fetch(entry, first=address, progress=progress)
    if catalogue.is_url(address):
        return download(address, cached_path(address), progress=progress)
    library, separator, name = address.partition(":")
    if separator and library in LIBRARIES:
        return LIBRARIES[library](name)
    check_scheme(address)
    try:
        entry = catalogue.find(address)
    except CatalogueError as error:
        raise WeightsError(
            f"{address!r} {_what_is_there(Path(address))}; nor is it an http(s) address; {error}{where_from(address)}"
        ) from error
    return fetch(entry, first=entry.source, progress=progress)


def _existing(name: str, there: Callable[[Path], bool]) -> Path | None:
    if not name:  # which Python takes for the working folder
        return None
    try:
        path = Path(name).expanduser()
        return path if there(path) else None
    except (OSError, RuntimeError) as error:  # too long a name, a folder without access, no such user behind "~"
        raise WeightsError(f"{name!r} cannot be looked up as a file: {error}") from error


def _what_is_there(path: Path) -> str:
    return "is a pipe or a device, not a file" if is_special(path) else "is no file on this machine"
