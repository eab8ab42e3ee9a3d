"""Webdataset tars that nobody vouches for: where their pictures lie, found without extracting anything.

A picture is remembered as a stretch of its tar, so that it can be read again without walking through the tar.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from wordmask.collection.references import MOST_PICTURE_BYTES, CollectionError, ImageRef
from wordmask.pictures.image_files import EXTENSIONS

MOST_HEADER_BYTES = 2**20
"""Of a member's long name and attributes, which `tarfile` reads whole: a path has 4,096 bytes at most."""
MOST_MEMBERS = 2_000_000
"""Of one tar: img2dataset writes 30,000."""
MOST_JSON_BYTES = 2**20
TOLD = {"caption": str, "url": str, "NSFW": str, "punsafe": float, "pwatermark": float}
"""What is kept of a sample's JSON: LAION's columns, by the names that img2dataset passes on."""


class TarError(CollectionError):
    """A tar that cannot be walked through to its end."""


@dataclass
class TarPicture:
    """A picture in a tar, or why it cannot be taken; what the sample's JSON tells of it, or else its text."""

    ref: ImageRef
    trouble: str | None = None
    told: dict[str, Any] = field(default_factory=dict)


def pictures_in(tar: Path, path: str) -> Iterator[TarPicture]:
    """Every picture in the tar's own order. path: what references call the tar.

    A sample is a run of members with one name up to the first dot, as webdataset has it. Damage is told after the
    pictures that lie before it.
    """
    for pictures, told in _samples(tar, path):
        yield from _with(told, pictures)


def captions_in(tar: Path) -> Iterator[str]:
    """Yield the caption of every sample that has one, as `pictures_in` tells it. No picture is read."""
    for _, told in _samples(tar, tar.name):
        if caption := str(told.get("caption", "")):
            yield caption


def _samples(tar: Path, path: str) -> Iterator[tuple[list[TarPicture], dict[str, Any]]]:
    """Yield each sample's pictures, and what is told of it."""
    sample: list[TarPicture] = []
    told: dict[str, Any] = {}
    text = ""
    key: str | None = None
    damage: TarError | None = None
    try:
        for member, content in _members(tar):
            if _key(member.name) != key:
                yield sample, _captioned(told, text)
                key, sample, told, text = _key(member.name), [], {}, ""
            suffix, name = PurePosixPath(member.name).suffix.lower(), PurePosixPath(member.name).name
            if suffix in EXTENSIONS and not name.startswith("."):
                ref = ImageRef(path, member.name, member.offset_data, member.size)
                sample.append(TarPicture(ref, _trouble(member)))
            elif suffix == ".json" and member.isreg() and member.size <= MOST_JSON_BYTES:
                told = told | _told(content.read_member(member))
            elif suffix == ".txt" and member.isreg() and member.size <= MOST_JSON_BYTES:
                text = content.read_member(member).decode(errors="replace")
    except TarError as error:
        damage = error
    yield sample, _captioned(told, text)
    if damage is not None:
        raise damage


def _captioned(told: dict[str, Any], text: str) -> dict[str, Any]:
    """Return what is told of a sample, with the caption of its JSON or, where that is empty, its .txt file."""
    said = told.get("caption")
    caption = ("" if said is None else str(said)).strip() or text.strip()
    return told | {"caption": caption} if caption or "caption" in told else told


def _with(told: dict[str, Any], sample: list[TarPicture]) -> Iterator[TarPicture]:
    """Beside `000001.jpg`, `000001.labels.png` is no picture of the pile but something about that one."""
    plain = [picture for picture in sample if str(picture.ref.member).rpartition("/")[2].count(".") == 1]
    for picture in plain or sample:
        picture.told = told
        yield picture


def _members(tar: Path) -> Iterator[tuple[tarfile.TarInfo, "_Guarded"]]:
    try:
        with tar.open("rb") as file:
            guarded = _Guarded(file)
            archive = tarfile.open(fileobj=cast(IO[bytes], guarded), mode="r:")  # noqa: SIM115 (closing it writes nothing; `file` is closed)
            for count, member in enumerate(archive):
                if count >= MOST_MEMBERS:
                    raise TarError(f"{tar} has more than {MOST_MEMBERS} members; cut it into smaller shards")
                yield member, guarded
                archive.members = []  # type: ignore[attr-defined]  # it would remember every one of them
            _check_end(tar, file, archive.offset)
    except tarfile.TarError as error:
        raise TarError(f"{tar} is no plain tar, or is damaged ({error})") from error
    except OSError as error:
        raise TarError(f"{tar} cannot be read ({error.strerror or error})") from error


def _check_end(tar: Path, file: IO[bytes], offset: int) -> None:
    """`tarfile` takes damage after the first member for the end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise TarError(f"{tar} ends without its end mark: it may be cut short")
    if block.strip(b"\0"):
        raise TarError(f"{tar} is damaged at byte {offset}: what lies behind it is lost")


class _Guarded:
    """A file for `tarfile` that refuses to read headers of absurd sizes into memory."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def read_member(self, member: tarfile.TarInfo) -> bytes:
        place = self._file.tell()
        self._file.seek(member.offset_data)
        content = self._file.read(member.size)
        self._file.seek(place)
        return content


def _key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _trouble(member: tarfile.TarInfo) -> str | None:
    if not member.isreg() or member.issparse():
        return "is no plain file in its tar"
    if member.size > MOST_PICTURE_BYTES:
        return f"has {member.size} bytes, above the limit of {MOST_PICTURE_BYTES}"
    return None


def _told(content: bytes) -> dict[str, Any]:
    """Return what is known of a sample: nothing where its JSON is damaged, which the picture does not mind."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    told: dict[str, Any] = {}
    for name, kind in TOLD.items():
        value = data.get(name)
        if isinstance(value, str) and kind is str:
            told[name] = value
        elif isinstance(value, int | float) and kind is float:
            told[name] = float(value)
    return told
