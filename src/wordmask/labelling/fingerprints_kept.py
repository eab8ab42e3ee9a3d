"""Content hashes of pictures, read once as long as a picture's size and time of change stay."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wordmask.files import atomic_write
from wordmask.fingerprints import file_digest, stamp_of
from wordmask.labelling.settings import LabelError
from wordmask.text_files import read_json

MOST_BYTES = 2**28


class KeptFingerprints:
    """Of pictures of a folder, by their paths below it; `keep` writes those that were asked for."""

    def __init__(self, path: Path, folder: Path):
        self._path, self._folder = path, folder
        self._known = _read(path) if path.exists() else {}
        self._asked: dict[str, tuple[str, str]] = {}

    def of(self, picture: str) -> str | None:
        """Return the SHA-256 of a picture's file; None where it cannot be read."""
        file = self._folder / picture
        try:
            stamp = stamp_of(file.stat())
            known = self._known.get(picture)
            digest = known[1] if known is not None and known[0] == stamp else file_digest(file)
        except (OSError, ValueError):
            return None
        self._asked[picture] = (stamp, digest)
        return digest

    def keep(self) -> None:
        with atomic_write(self._path) as file:
            file.write(json.dumps(self._asked).encode())


def _read(path: Path) -> dict[str, tuple[str, str]]:
    try:
        return _KEPT.validate_python(read_json(path, most_bytes=MOST_BYTES))
    except ValidationError as error:
        raise LabelError(f"{path} is damaged: delete it, and it is made anew") from error


_KEPT = TypeAdapter(dict[str, tuple[str, str]])
