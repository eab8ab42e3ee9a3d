"""Masks that were made before, of the very same pictures and in the same way, need not be made again.

Beside every shard of masks stands what its pictures were: a hash of each one's content. A picture that has changed
since, whatever its name, is looked at anew.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wordmask.collection.references import ImageRef
from wordmask.distillation.records import MaskRecord, MaskTable
from wordmask.fingerprints import digest_of, file_digest
from wordmask.pictures.image_files import ImageReadError
from wordmask.runs.parts import Parts, Say, warn, write_part
from wordmask.text_files import read_json

SEEN = ".seen"
"""The suffix of the file beside a shard: a JSON list of a place and a hash for every picture."""


def picture_digest(ref: ImageRef, root: Path) -> str | None:
    """None where it cannot be read."""
    try:
        content = ref.bytes_of(root)
        return file_digest(content) if isinstance(content, Path) else digest_of(content)
    except (OSError, ImageReadError):
        return None


def write_seen(path: Path, digests: Mapping[ImageRef, str | None]) -> None:
    told = [[ref.path, ref.member, ref.offset, ref.length, digest] for ref, digest in digests.items()]
    with write_part(path) as file:
        file.write(json.dumps(told, ensure_ascii=False).encode())


class KnownMasks:
    """Those of some folders, in order of preference; a folder that is not finished or is damaged serves as far as it
    goes.
    """

    def __init__(self, folders: Iterable[Path] = (), *, say: Say = warn):
        self._known: dict[str, tuple[MaskTable, int]] = {}
        parts = Parts(say)
        for folder in folders:
            shards = [path for path in sorted(folder.glob("*.arrow")) if parts.whole(path, path.with_suffix(SEEN))]
            if not shards:
                continue
            table, digests = MaskTable(folder, shards=shards), _seen(shards)
            for row, ref in enumerate(table.images()):
                digest = digests.get(ref)
                if digest is not None:
                    self._known.setdefault(digest, (table, row))

    def __len__(self) -> int:
        return len(self._known)

    def of(self, digests: Mapping[ImageRef, str | None]) -> dict[ImageRef, MaskRecord]:
        """Of those pictures that are known, a record that holds the mask."""
        found = {}
        for ref, digest in digests.items():
            if digest is not None and (place := self._known.get(digest)) is not None:
                table, row = place
                found[ref] = table[row]
        return found


def _seen(shards: Iterable[Path]) -> dict[ImageRef, str | None]:
    told: list[Sequence[object]] = []
    for path in shards:
        told.extend(read_json(path.with_suffix(SEEN)))
    return {ImageRef(*place): digest for *place, digest in told}  # type: ignore[arg-type, misc]
