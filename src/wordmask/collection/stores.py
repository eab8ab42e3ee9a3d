"""Object stores: paths of s3://, gs:// and the like, which answer as paths of this machine do, and https:// to read.

`fsspec` brings them, with a package for each kind of store (s3fs, gcsfs, aiohttp). An object is there when all of it
has arrived, so that a shard whose last file is there is whole, without a rename.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.files import naming_a_full_disk
from wordmask.fingerprints import number_of

READ_ONLY = ("http://", "https://")
STATE_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated")
"""By which stores tell one content of an object from another, the surest first."""


class StoreError(WordmaskError):
    """A store does not answer, or does not have what was there: says which, so that the shard is made another time."""


def is_in_store(path: str | Path) -> bool:
    return "://" in str(path)


def place_at(path: str | Path) -> Path:
    """Return a path of this machine, or one of a store that answers as such."""
    if not is_in_store(path):
        return Path(path)
    need("upath")
    from upath import UPath

    with answering(path):
        # What others have written since is to be seen.
        return cast(Path, UPath(str(path), use_listings_cache=False))


def place_to_write(path: str | Path) -> Path:
    if str(path).startswith(READ_ONLY):
        raise StoreError(f"{path} can only be read: write to a folder, or to s3:// or gs://")
    return place_at(path)


@contextmanager
def answering(path: object) -> Iterator[None]:
    """Say in one line what a store's own library says in many ways."""
    try:
        yield
    except WordmaskError:
        raise
    except Exception as error:  # each store's library has errors of its own, few of which are OSErrors
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StoreError(f"{path}: {said}") from error


def size_and_state(path: Any) -> tuple[int, int]:
    """Return an object's size, and what changes when its content does."""
    with answering(path):
        try:
            found = path.fs.info(path.path)
        except FileNotFoundError:
            return -1, -1
        tag = next((found[key] for key in STATE_KEYS if found.get(key)), "")
        return int(found["size"] or 0), number_of(str(tag))


def content_of(path: Any, *, most_bytes: int) -> bytes:
    """Return an object's content. One that is not there is a FileNotFoundError, as of a file."""
    with _missing_is_missing(path):
        content: bytes = path.fs.cat_file(path.path, start=0, end=most_bytes + 1)
    return content


def stretch_of(path: Any, offset: int, length: int) -> bytes:
    with _missing_is_missing(path):
        content: bytes = path.fs.cat_file(path.path, start=offset, end=offset + length)
    return content


@contextmanager
def copied(path: Any) -> Iterator[Path]:
    """Yield a copy on this machine, in a folder of its own that is deleted afterwards: read in one go, then at will."""
    with TemporaryDirectory(prefix="wordmask-") as folder:
        copy = Path(folder) / path.name
        with naming_a_full_disk(copy):
            _fetch(path, copy)
        yield copy


def _fetch(path: Any, copy: Path) -> None:
    try:
        path.fs.get_file(path.path, str(copy))
    except OSError as error:
        if error.errno is not None and not isinstance(error, FileNotFoundError):
            raise  # of this machine's disk
        raise StoreError(f"{path}: {str(error) or type(error).__name__}") from error
    except Exception as error:  # as above
        raise StoreError(f"{path}: {str(error).strip() or type(error).__name__}") from error


@contextmanager
def _missing_is_missing(path: object) -> Iterator[None]:
    try:
        with answering(path):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise
