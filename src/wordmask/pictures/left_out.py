"""Files that are not read: what looks like a picture or a film, HEIC without its extra; and the list of them.

`left-out.txt` holds what was left out or passed over, a file a line: its path, a tab, the reason.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from wordmask.extras import is_installed
from wordmask.files import atomic_write

HEIC = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
"""Read where pillow-heif is installed."""
HAS_HEIC = is_installed("pillow_heif")
HEIC_EXTRA = "pip install 'wordmask[heic]'"

_FILMS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".ogv"}
)
_RAW = frozenset(
    {".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".x3f", ".3fr", ".iiq", ".erf", ".mrw", ".kdc", ".dcr", ".rwl", ".raw"}
)
_OTHERS = frozenset(
    {".psd", ".psb", ".svg", ".svgz", ".tga", ".eps", ".wmf", ".emf", ".jxl", ".jxr", ".xcf", ".ico", ".dds", ".exr"}
    | {".hdr", ".pcx", ".dcm", ".djvu", ".icns"}
)
_PICTURES_BEGIN = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"qoif")
_MOST_OF_A_START = 12


def why_not_read(path: Path, *, look_inside: bool = True) -> str | None:
    """Return why a file that looks like a picture or a film is not read; None for all other files.

    One without an ending is told by its first bytes (`look_inside`).
    """
    suffix = path.suffix.lower()
    if suffix in _FILMS:
        return "is a film, and only pictures are read"
    if suffix in _RAW:
        return "is a camera's raw file, which is not read; save it as JPEG, PNG or TIFF"
    if suffix in _OTHERS:
        return f"is a picture of a kind that is not read ({suffix}); save it as JPEG, PNG or TIFF"
    if suffix in HEIC and not HAS_HEIC:
        return f"is a HEIC picture, which needs pillow-heif: {HEIC_EXTRA}"
    if not suffix and look_inside and _begins_as_a_picture(path):
        return "is a picture without an ending; give it one, such as .jpg"
    return None


def passed_over(counts: Mapping[str, int]) -> str:
    """Say how many files of which endings were passed over: {".mp4": 1} -> "1 file that looks like a picture ..."."""
    total = sum(counts.values())
    looks = "files that look like pictures or films were" if total > 1 else "file that looks like a picture or film was"
    each = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = (f"{count} {suffix or 'without an ending'}{_remedy(suffix)}" for suffix, count in each)
    return f"{total} {looks} passed over: {', '.join(told)}"


def _remedy(suffix: str) -> str:
    """Return the way out, in brackets, for files with this ending; nothing where there is none."""
    return f" ({HEIC_EXTRA})" if suffix in HEIC and not HAS_HEIC else ""


def _begins_as_a_picture(path: Path) -> bool:
    try:
        with path.open("rb", buffering=0) as file:
            start = os.read(file.fileno(), _MOST_OF_A_START)
    except (OSError, ValueError):
        return False
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_avif_or_heic = start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return is_webp or is_avif_or_heic or start.startswith(_PICTURES_BEGIN)


_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF = frozenset({b"avif", b"avis"})
_ANY = frozenset({b"mif1", b"msf1", b"mif2", b"miaf"})
"""Brands of ISO/IEC 23008-12 that say what the box is, not how its pictures are coded."""


class MissingHeicError(Exception):
    """pillow-heif is not there."""


def is_heic(start: bytes) -> bool:
    """Tell by a file's first bytes, which hold the brands. An AVIF may call itself mif1 too, and names avif."""
    if start[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    return not brands & _AVIF and bool(brands & _HEVC or start[8:12] in _ANY)


def heic_reader() -> Callable[[IO[bytes], str | bytes], Any]:
    """Return pillow-heif's class for Pillow. It is not registered, so nobody else's `Image.open` changes."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingHeicError(f"is a HEIC picture, which needs pillow-heif: {HEIC_EXTRA}") from error
    return HeifImageFile


LEFT_OUT = "left-out.txt"
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def write_left_out(path: Path, lines: Iterable[tuple[str, str]]) -> None:
    r"""Write paths and reasons. A line break in a path is written \x0a, and a backslash twice: what
    `read_left_out` gives back is the path, to the last byte.
    """
    with atomic_write(path) as file:
        for name, reason in lines:
            file.write(os.fsencode(f"{_escape(name)}\t{_escape(reason)}\n"))


def keep_left_out(path: Path, lines: list[tuple[str, str]]) -> bool:
    """Write the list where there is something to list, and remove that of an earlier run where there is nothing.

    Returns whether that was done: a file of somebody else's that is called so stays as it is.
    """
    if path.exists() and not _is_list(path):
        return False
    if lines:
        write_left_out(path, lines)
    else:
        path.unlink(missing_ok=True)
    return True


def read_left_out(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the paths and reasons of such a file."""
    with path.open("rb") as file:
        for line in file:
            name, _, reason = os.fsdecode(line.removesuffix(b"\n")).partition("\t")
            yield _unescape(name), _unescape(reason)


def _is_list(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(line.endswith(b"\n") and line.count(b"\t") == 1 for line in file)


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _code(found.group()), text)


def _code(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else "\\", text)
