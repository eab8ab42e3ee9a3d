"""Files that look like pictures or films and are not read: known by their endings, or by their first bytes."""

import os
from collections.abc import Mapping
from pathlib import Path

from wordmask.extras import is_installed

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
