"""Files that are not taken for pictures: what this package made, what looks like a picture or a film and is not read,
HEIC without its extra; and the list of what was left out.

`left-out.txt` holds what was left out or passed over, a file a line: its path, a tab, the reason.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wordmask.extras import is_installed
from wordmask.files import atomic_write
from wordmask.plugins import PluginFolder, installed, named
from wordmask.runs.claim import STATE, Marker, read_marker
from wordmask.runs.marks import made

OVERLAY_ENDING = ".overlay"
"""Stands before the suffix of what is drawn over a picture, beside its masks."""
JPEG = (".jpg", ".jpeg")
HEIC = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
"""Read where pillow-heif is installed."""
HAS_HEIC = is_installed("pillow_heif")
HEIC_EXTRA = "pip install 'wordmask[heic]'"

FILMS = frozenset(
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
_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF = frozenset({b"avif", b"avis"})
_ANY = frozenset({b"mif1", b"msf1", b"mif2", b"miaf"})
"""Brands of ISO/IEC 23008-12 that say what the box is, not how its pictures are coded."""
LEFT_OUT = "left-out.txt"
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def without_ours(folder: Path, entries: Sequence[os.DirEntry[str]], *, at_root: bool) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that may be, or hold, pictures of a person's; hidden ones are left out.

    A folder that is marked as ours is not entered, unless it is the one that was asked for (`at_root`); where its
    marker names the folders below it that hold pictures, those are entered, and nothing else. A PNG's header says
    whether it is ours. A JPEG's is read only where one of ours is to be expected: if it is called as overlays are, or
    in a folder with a marker.
    """
    marker = _marker(folder, {entry.name for entry in entries})
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    if marker is not None and marker.pictures:
        return [entry for entry in shown if entry.name in marker.pictures]
    if marker is not None and not marker.among_others and not at_root:
        return []
    return [entry for entry in shown if not _is_ours(folder, entry.name, expected=marker is not None)]


def _marker(folder: Path, names: set[str]) -> Marker | None:
    if STATE in names and (marker := read_marker(folder)) is not None:
        return marker
    for known in _known_folders():
        if names >= {known.settings, *known.holds} and named(known.is_its)(folder / known.settings):
            return Marker(known.verb, known.pictures)
    return None


def is_drawn(settings: Path) -> bool:
    """Return whether a file is what a plug-in says of the pictures that it draws."""
    return any(named(known.is_its)(settings) for known in _known_folders())


def _known_folders() -> list[PluginFolder]:
    """Those that packages wrote before there were markers."""
    return [folder for plugin in installed() for folder in plugin.folders]


def _is_ours(folder: Path, name: str, *, expected: bool) -> bool:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122, a path for each of a million names takes too long
    suffix = suffix.lower()
    drawn_over = suffix in JPEG and stem.endswith(OVERLAY_ENDING)
    if suffix == ".png" or drawn_over or (suffix in JPEG and expected):
        if made(folder / name) is not None:
            return True
        # Overlays said nothing of themselves before: they lay beside masks that did.
        beside = stem.removesuffix(OVERLAY_ENDING)
        return drawn_over and any(made(folder / f"{beside}{kind}") is not None for kind in (".png", ".json"))
    return False


def why_not_read(path: Path, *, look_inside: bool = True) -> str | None:
    """Return why a file that looks like a picture or a film is not read; None for all other files.

    One without an ending is told by its first bytes (`look_inside`).
    """
    suffix = path.suffix.lower()
    if suffix in FILMS:
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
