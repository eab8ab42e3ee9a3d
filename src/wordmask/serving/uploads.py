"""The pictures that visitors of the web page upload, in memory and only until they are looked at."""

import secrets
from collections import Counter
from dataclasses import dataclass

from wordmask.serving.settings import ServeSettings

LEAST_BYTES = 4096
"""What an upload counts at least, so that their number is bounded too."""


@dataclass(frozen=True)
class Upload:
    content: bytes
    name: str
    owner: str

    @property
    def nbytes(self) -> int:
        return max(len(self.content), LEAST_BYTES)


class Uploads:
    """By tokens that nobody can guess. Used by the event loop alone.

    So many bytes are kept of all visitors and so many uploads of one. Who has most of them lying there gives way first,
    the oldest before the newer, so that one visitor does not push out the others' pictures.
    """

    def __init__(self, settings: ServeSettings):
        self._settings = settings
        self._kept: dict[str, Upload] = {}  # the oldest first
        self._held: Counter[str] = Counter()  # bytes by owner

    def add(self, upload: Upload) -> str:
        token = secrets.token_urlsafe(16)
        self._kept[token] = upload
        self._held[upload.owner] += upload.nbytes
        own = [token for token, kept in self._kept.items() if kept.owner == upload.owner]
        for old in own[: -self._settings.uploads_each]:
            self.take(old)
        while self.nbytes > self._settings.upload_bytes and len(self._kept) > 1:
            greatest = self._held.most_common(1)[0][0]
            self.take(next(token for token, kept in self._kept.items() if kept.owner == greatest))
        return token

    def get(self, token: str) -> Upload | None:
        return self._kept.get(token)

    def take(self, token: str) -> Upload | None:
        """Hand it out, and keep it no longer."""
        upload = self._kept.pop(token, None)
        if upload is not None:
            self._held[upload.owner] -= upload.nbytes
            if not self._held[upload.owner]:
                del self._held[upload.owner]
        return upload

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        return self._held.total()
