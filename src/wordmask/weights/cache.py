"""Where fetched files live on this machine, and under which names. Read from the environment at every call."""

import os
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wordmask.fingerprints import digest_of

LONGEST_FILE_NAME = 100  # characters; far below the 255 bytes of common file systems, as suffixes are added


def cache_dir() -> Path:
    """Return the folder of everything fetched: `WORDMASK_CACHE`, else `XDG_CACHE_HOME/wordmask`, else
    `~/.cache/wordmask`.
    """
    if chosen := os.environ.get("WORDMASK_CACHE"):
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "wordmask"


_reasons: list[str] = []
"""Of those in this process that want nothing downloaded while they are at work."""


def is_offline() -> bool:
    """Return whether downloads are switched off."""
    return why_offline() is not None


def why_offline() -> str | None:
    """Return why nothing is downloaded, for messages: the user has said so, with `WORDMASK_OFFLINE=1` or the hub's
    `HF_HUB_OFFLINE=1`, or who is at work has, by `offline`. None where downloads are on.
    """
    if is_on("WORDMASK_OFFLINE") or is_on("HF_HUB_OFFLINE"):
        return "WORDMASK_OFFLINE or HF_HUB_OFFLINE is set"
    return _reasons[-1] if _reasons else None


@contextmanager
def offline(why: str) -> Iterator[None]:
    """Download nothing meanwhile in this process."""
    _reasons.append(why)
    try:
        yield
    finally:
        _reasons.pop()


def is_on(switch: str) -> bool:
    """Return whether the environment has a switch on."""
    return os.environ.get(switch, "").strip().lower() in {"1", "true", "yes", "on"}


def file_name(url: str) -> str:
    """Return the last part of the address as a plain file name: no folders, no hidden files, no odd characters."""
    last = urllib.parse.unquote(urllib.parse.urlsplit(url).path).replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".")[-LONGEST_FILE_NAME:].lstrip(".") or "file"


def address_mark(url: str) -> str:
    """Return a short mark that tells this address from every other one, for files whose names may coincide."""
    return digest_of(url)[:16]


def cached_path(url: str) -> Path:
    """Return where a file from an address outside the catalogue is kept."""
    return cache_dir() / "urls" / f"{address_mark(url)}-{file_name(url)}"
