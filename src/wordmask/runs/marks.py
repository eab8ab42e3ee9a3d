"""Files that say of themselves that this package wrote them: as what, and of which picture.

A PNG says it in a text chunk, a JPEG in a comment, a page in its head; all of it lies in the file's first kilobytes.
"""

import json
import os
import struct
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from wordmask.errors import WordmaskError
from wordmask.text_files import TextFileError, read_small

KEY = "wordmask:made"
"""The PNG text chunk, and what a JPEG's comment begins with."""
MASKS_KEY = b"wordmask:names"
"""The text chunk of masks, which were written without the other one before."""
GENERATOR = '<meta name="generator" content="wordmask {kind}">'
HEAD_BYTES = 4096
MOST_BYTES_OF_JSON = 2**30
TAIL_BYTES = 2**17
"""In which an ONNX file tells its metadata, which come last."""
PAGES_BEFORE = b":root { color-scheme: light dark; --ink: #222; --faint: #777;"
"""How the style of pages begins, which said nothing of themselves before."""
_UNBLOCKED = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# ValueError is JSON's and Unicode's, LookupError, TypeError and AttributeError are of JSON of another shape.
UNLIKE_OURS = (
    OSError,
    TextFileError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
)
"""What reading a file may end in that is none of ours."""
VECTORS = {"names.npy", "vectors.npy", "owner.npy"}

MASKS, OVERLAY, COMPARISON, SALIENCY = "masks", "overlay", "comparison", "saliency"
NETWORK, WORDS = "network", "words"
PAGE_BEFORE = "page"


class OutputError(WordmaskError):
    """This file is not ours to write over."""


@dataclass(frozen=True)
class Source:
    """The picture of a result. place: the way there from the result's folder, which outlasts a move of both."""

    place: str
    bytes: int


@dataclass(frozen=True)
class Made:
    """of: the picture; None where the file does not say."""

    kind: str
    of: Source | None = None


def source_of(picture: Path, file: Path) -> Source:
    """Return what a result says of its picture."""
    there, here = os.path.realpath(picture), os.path.realpath(file.parent)
    try:
        place = Path(os.path.relpath(there, here)).as_posix()
    except ValueError:  # on another drive
        place = there
    try:
        return Source(place, picture.stat().st_size)
    except (OSError, ValueError):
        return Source(place, -1)


def is_same(found: Source, picture: Source, file: Path) -> bool:
    """Whether a result at `file` that says `found` is of this picture: the same place; or a place where nothing is any
    more, as one of the two was moved, and a file of the same name and size.
    """
    if found.place == picture.place:
        return True
    alike = (Path(found.place).name, found.bytes) == (Path(picture.place).name, picture.bytes)
    return alike and not os.path.lexists(file.parent / found.place)


def png_text(kind: str, of: Source | None = None) -> PngImagePlugin.PngInfo:
    """For `pnginfo` as Pillow saves; other chunks may be added."""
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, _told(kind, of))
    return text


def jpeg_comment(kind: str, of: Source | None = None) -> bytes:
    """For `comment` as Pillow saves."""
    return f"{KEY} {_told(kind, of)}".encode()


def _told(kind: str, of: Source | None) -> str:
    return json.dumps({"kind": kind} if of is None else {"kind": kind, "of": asdict(of)})  # in ASCII


def made(path: Path) -> Made | None:
    """Return what a file says of itself; None, if it is not one of ours. A picture's header is read, and no more."""
    try:
        if path.suffix.lower() == ".json":
            return _in_json(path)
        # A pipe is not waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | _UNBLOCKED), "rb", buffering=0) as file:
            head = file.read(HEAD_BYTES) or b""
            if head.startswith(b"\x89PNG\r\n\x1a\n"):
                return _in_png(head)
            if head.startswith(b"\xff\xd8"):
                return _in_jpeg(head)
            if head[:15].lower() == b"<!doctype html>":
                return _in_page(head)
            if path.suffix.lower() == ".onnx":
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                return Made(NETWORK) if b"wordmask" in head or b"\nwordmask" in file.read() else None
            if head.startswith(b"PK"):
                with zipfile.ZipFile(path) as parts:
                    return Made(WORDS) if set(parts.namelist()) == VECTORS else None
    except UNLIKE_OURS:
        return None  # whatever it is, it does not say that it is ours
    return None


def check_output(path: Path, kind: str, *, option: str = "--out") -> None:
    """Raise, if writing here would cost somebody a file: one that is there, and was not written as such a thing."""
    if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
        return
    found = made(path) if path.is_file() else None
    if found is None or found.kind not in (kind, PAGE_BEFORE):
        what = "was not written by this command" if found is None else f"is {found.kind}, not {kind}"
        raise OutputError(f"{path} is there already, and {what}: choose another {option}")


def _from(told: Any) -> Made:
    return Made(str(told["kind"]), _source(told.get("of")))


def _source(told: Any) -> Source | None:
    return None if told is None else Source(str(told["place"]), int(told["bytes"]))


def _in_png(head: bytes) -> Made | None:
    place, found = 8, None
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind == b"IDAT":
            break
        keyword, _, text = head[place + 8 : place + 8 + length].partition(b"\0")
        if kind == b"tEXt" and keyword == KEY.encode():
            return _from(json.loads(text))
        if kind == b"iTXt" and keyword == MASKS_KEY:
            found = Made(MASKS)
        place += 12 + length
    return found


def _in_jpeg(head: bytes) -> Made | None:
    place = 2
    while place + 4 <= len(head):
        mark, kind, length = struct.unpack_from(">BBH", head, place)
        if mark != 0xFF or kind == 0xDA:
            break
        if kind == 0xFE:
            key, _, text = head[place + 4 : place + 2 + length].partition(b" ")
            if key == KEY.encode():
                return _from(json.loads(text))
        place += 2 + length
    return None


def _in_page(head: bytes) -> Made | None:
    before, _, after = head.partition(b'<meta name="generator" content="wordmask ')
    if after:
        return Made(after.partition(b'"')[0].decode())
    return Made(PAGE_BEFORE) if PAGES_BEFORE in before else None


def _in_json(path: Path) -> Made | None:
    data = json.loads(read_small(path, most_bytes=MOST_BYTES_OF_JSON))
    if not isinstance(data, dict) or not {"image", "size", "names", "masks"} <= data.keys():
        return None
    return Made(MASKS, _source(data.get("of")))
