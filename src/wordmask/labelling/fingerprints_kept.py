"""Content hashes of pictures, read once as long as a picture's size and time of change stay."""

import json
from pathlib import Path

from wordmask.files import atomic_write
from wordmask.fingerprints import file_digest, stamp_of
from wordmask.text_files import read_json

MOST_BYTES = 2**28


class KeptFingerprints:
    """Of pictures of a folder, by their paths below it; `keep` writes those that were asked for."""

    def __init__(self, path: Path, folder: Path):
        self._path, self._folder = path, folder
        self._known: dict[str, list[str]] = read_json(path, most_bytes=MOST_BYTES) if path.exists() else {}
        self._asked: dict[str, list[str]] = {}

    def of(self, picture: str) -> str | None:
        """Return the SHA-256 of a picture's file; None where it cannot be read."""
        file = self._folder / picture
        try:
            stamp = stamp_of(file.stat())
            known = self._known.get(picture)
            digest = known[1] if known is not None and known[0] == stamp else file_digest(file)
        except (OSError, ValueError):
            return None
        self._asked[picture] = [stamp, digest]
        return digest

    def keep(self) -> None:
        with atomic_write(self._path) as file:
            file.write(json.dumps(self._asked).encode())
