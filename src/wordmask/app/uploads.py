"""The files that the web page's visitors upload: what may be read, and how much may lie there.

gradio checks paths only in an app that it has launched itself, which one that is mounted never is. So it would take any
path or URL that a client names, and fetch it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from wordmask.app.settings import RequestError

LEAST_BYTES = 4096
"""What a file counts at least, so that their number is bounded too."""


def among_uploads(path: str | Path) -> Path:
    """A path that a client names, if it leads to what was uploaded, links and dots followed."""
    try:
        real = Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null byte; RuntimeError: links in a circle
        raise _foreign() from error
    if not real.is_relative_to(Path(get_upload_folder()).resolve()):
        raise _foreign()
    return real


def _foreign() -> RequestError:
    return RequestError(403, "path", "a picture must be uploaded; no path and no URL is taken")


class Uploads:
    """Of one page. `most_bytes` of uploads are kept, the newest; what was there before them, the examples, stays."""

    def __init__(self, blocks: gr.Blocks, most_bytes: int):
        self._known: set[str] = blocks.upload_file_set
        self._most_bytes = most_bytes
        folder = Path(get_upload_folder())
        self._kept = {path.resolve() for path in folder.rglob("*")} if folder.is_dir() else set()
        for block in blocks.blocks.values():
            # Any input may hold what gradio takes for a file; without this it is copied or fetched before we see it.
            block.async_move_resource_to_block_cache = _stay

    def remove(self, path: str | Path) -> None:
        """One that has been read, unless it is an example."""
        self._known.discard(str(path))
        with contextlib.suppress(OSError, RequestError):  # gone already, the folder holds another, or no upload
            file = among_uploads(path)
            if file not in self._kept:
                file.unlink(missing_ok=True)
                file.parent.rmdir()

    def make_room(self, more: int) -> None:
        """The oldest go until so many bytes more may come."""
        sizes = sorted(self._sizes(), reverse=True)
        total = more
        for _, size, path in sizes:
            total += size
            if total > self._most_bytes:
                self.remove(path)

    def _sizes(self) -> Iterator[tuple[int, int, str]]:
        """(when it came, its bytes, its path)"""
        for path in list(self._known):
            try:
                status = Path(path).stat()
            except OSError:
                self._known.discard(path)
                continue
            if Path(path).resolve() not in self._kept:
                yield status.st_mtime_ns, max(status.st_size, LEAST_BYTES), path


async def _stay(path: Any) -> str:
    return str(among_uploads(path))
