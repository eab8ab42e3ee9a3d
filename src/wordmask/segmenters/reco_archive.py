"""Where ReCo finds pictures of a name: an archive, and the plainest one, a folder searched with CLIP."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder
from wordmask.fingerprints import stamp_of
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.image_files import find_images
from wordmask.pictures.images import centre_view
from wordmask.pictures.streaming import read_ahead
from wordmask.segmenters.base import SegmenterError
from wordmask.weights.cache import cache_dir

PICTURES_PER_PASS = 16
"""Embedded between two writes: what a kill can lose."""
ROWS_TOGETHER = 4096
LOCK_SECONDS = 30.0


RUN_ARCHIVE = Path("archive", "archive.parquet")
"""What a run of `wordmask distill` calls its archive."""


class Archive(Protocol):
    """Anything that knows which pictures look most like a name."""

    def best(self, name: str, phrases: Sequence[str], count: int) -> Sequence[Path | bytes]:
        """At most `count` pictures, as paths or encoded bytes, the most similar first."""
        ...


class FolderArchive:
    """The pictures of a folder, ranked by the cosine of CLIP's embeddings (of a name's best phrase).

    Embeddings are kept on disk: a search reads them row by row, and a start after a kill goes on where it was. A file
    that changed is embedded anew.
    """

    def __init__(self, folder: str | Path, clip: ClipEncoder, embed: TextEmbedder, *, cache: Path | None = None):
        self.folder, self.clip, self.embed = Path(folder), clip, embed
        self.cache = cache or cache_dir() / "pictures.sqlite"
        self._ready = False
        self._gone: frozenset[bytes] = frozenset()
        if not self.folder.is_dir():
            raise SegmenterError(f"archive={folder} is no folder: give one that holds pictures of the names")

    @torch.inference_mode()
    def best(self, name: str, phrases: Sequence[str], count: int) -> list[Path]:
        text = self.embed(Vocabulary((name,), (tuple(phrases),))).vectors  # (P, D)
        try:
            with closing(self._open()) as db:
                if not self._ready:
                    self._embed_folder(db)
                    self._ready = True
                top: list[tuple[float, bytes]] = []
                for rows in self._rows(db):
                    scores = (torch.stack([vector for _, vector in rows]) @ text.T.cpu()).amax(dim=1).tolist()
                    found = [(score, path) for score, (path, _) in zip(scores, rows, strict=True)]
                    top = sorted(top + found, key=lambda entry: (-entry[0], entry[1]))[:count]
        except sqlite3.Error as error:
            raise self._unkept(error) from error
        if not top:
            raise SegmenterError(f"archive={self.folder} holds no pictures that can be read")
        return [self.folder / os.fsdecode(path) for _, path in top]

    def _rows(self, db: sqlite3.Connection) -> Iterator[list[tuple[bytes, Tensor]]]:
        """(path below the folder, (D,)) of every picture that is there, some at a time."""
        rows = db.execute("SELECT path, vector FROM pictures WHERE space = ? AND folder = ?", self._shelf)
        while some := rows.fetchmany(ROWS_TOGETHER):
            there = [(path, vector) for path, vector in some if path not in self._gone]
            if there:
                yield [(path, torch.from_numpy(np.frombuffer(vector, "<f4").copy())) for path, vector in there]

    def _embed_folder(self, db: sqlite3.Connection) -> None:
        """Every picture that is there has a row of its own. Those of others are kept: their disk may come back."""
        kept = db.execute("SELECT path FROM pictures WHERE space = ? AND folder = ?", self._shelf)
        self._gone = frozenset(
            path
            for (path,) in kept
            if not os.path.isfile(self.folder / os.fsdecode(path))  # noqa: PTH113, quiet
        )
        missing = (path for path in find_images(self.folder) if self._stamp_of(db, path) != stamp_of(path.stat()))
        for batch in read_ahead(missing, PICTURES_PER_PASS):
            views = torch.stack([centre_view(read.image, self.clip.image_size) for read in batch])
            vectors = self.clip.encode_image(views).cpu().numpy().astype("<f4")
            rows = [
                (*self._shelf, self._key(Path(read.source)), stamp_of(Path(read.source).stat()), vector.tobytes())
                for read, vector in zip(batch, vectors, strict=True)
            ]
            with db:
                db.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?)", rows)

    def _stamp_of(self, db: sqlite3.Connection, path: Path) -> str | None:
        row = db.execute(
            "SELECT stamp FROM pictures WHERE space = ? AND folder = ? AND path = ?", (*self._shelf, self._key(path))
        ).fetchone()
        return None if row is None else str(row[0])

    def _key(self, path: Path) -> bytes:
        return os.fsencode(path.relative_to(self.folder))

    @property
    def _shelf(self) -> tuple[str, bytes]:
        return self.clip.image_fingerprint, os.fsencode(self.folder.resolve())

    def _open(self) -> sqlite3.Connection:
        try:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.cache, timeout=LOCK_SECONDS)
            db.execute(
                "CREATE TABLE IF NOT EXISTS pictures (space TEXT, folder BLOB, path BLOB, stamp TEXT, vector BLOB, "
                "PRIMARY KEY (space, folder, path))"
            )
        except (sqlite3.Error, OSError) as error:
            raise self._unkept(error) from error
        return db

    def _unkept(self, error: Exception) -> SegmenterError:
        return SegmenterError(
            f"{self.cache}: embeddings of {self.folder} cannot be kept there ({error}); set WORDMASK_CACHE to a "
            "folder that can be written, or remove the file if it is damaged"
        )
