"""Fetch one file over HTTP(S): resumed when cut, checked before it counts, and fetched once however many ask.

Nothing appears under the final name until every check has passed. While a file is on its way it lives beside its
final place as `NAME.part`, with the server's mark of the version it belongs to in `NAME.part.json`. Both stay when
the connection is cut, so that the next run continues; both go when they are of no more use: the content was wrong,
the disk is full, or the server gave no mark to continue by.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EACCES, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import IO, Any, NoReturn

from filelock import FileLock, Timeout

from wordmask._version import __version__
from wordmask.console.progress import Progress
from wordmask.errors import WordmaskError
from wordmask.files import NO_ROOM
from wordmask.fingerprints import file_digest
from wordmask.weights.cache import why_offline
from wordmask.weights.reach import unreachable

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 5
BACKOFF_SECONDS = 1.0  # before the second attempt, doubled before each one after it
MAX_UNDECLARED_BYTES = 8 << 30  # twice the largest published file; a server that names no length gets no further
WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP answers that pass with time


logger = logging.getLogger(__name__)


class DownloadError(WordmaskError):
    """A file could not be fetched; the message says which, why, and how to get it otherwise."""


class UnreachableError(DownloadError):
    """There is no network, or none that leads to the server: another try would not help."""


class _Cut(Exception):
    """The transfer broke in a way that another attempt may mend."""


def download(
    url: str,
    target: str | Path,
    *,
    sha256: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Fetch `url` to the path `target` unless it is there already, and return `target`.

    `sha256` is the digest the file must have; an existing file is held against it too. `progress` shows a bar on
    stderr: None only when stderr is a terminal, True always, False never.
    """
    job = _Job(url, Path(target), sha256)
    if job.target.exists():
        return job.checked_existing()
    _check_address(job)
    if why := why_offline():
        job.fail(f"downloads are switched off ({why})")
    if trouble := unreachable([url]).get(url):
        job.fail(f"{trouble}; is there a network?", kind=UnreachableError)
    part = _Part(job.target)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(job):
            if job.target.exists():  # another process brought it while this one waited
                return job.checked_existing()
            try:
                with _bar(job.target.name, progress) as report:
                    _fetch(job, part, report)
            finally:
                part.discard_unless_resumable(url)
    except OSError as error:
        if error.errno in NO_ROOM:
            part.discard()
        _fail_on_disk(job, error)
    # A waiter that still holds the old lock file finds the target first, so removing it here is safe.
    with suppress(OSError):
        _lock_path(job.target).unlink()
    return job.target


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    sha256: str | None

    def fail(
        self, what: str, cause: BaseException | None = None, kind: type[DownloadError] = DownloadError
    ) -> NoReturn:
        raise kind(f"cannot fetch {self.url}: {what}; or get the file by hand and put it at {self.target}") from cause

    def checked_existing(self) -> Path:
        """Return the file that is already here, which someone may have put there by hand."""
        if not self.target.is_file():
            raise DownloadError(f"{self.target} is in the way of the file of {self.url}: move it elsewhere")
        if problem := self.problem_of(self.target):
            raise DownloadError(f"{self.target} is not the file of {self.url}: {problem}; delete it and run again")
        return self.target

    def problem_of(self, path: Path) -> str | None:
        """Return what is wrong with the content of a complete file, or None."""
        if self.sha256 is None:
            return None
        digest = file_digest(path)
        same = digest == self.sha256.lower()
        return None if same else f"its SHA-256 is {digest} where {self.sha256} was expected"


class _Part:
    """The bytes that already came, and the mark of the version of the file they belong to."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """Return the ETag or date under which the part was sent, None when it cannot be continued."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # a run killed while writing leaves half a note
            return None
        return note["validator"] if isinstance(note, dict) and note.get("url") == url else None

    def begin(self, url: str, validator: str | None) -> None:
        """Forget what came before; the note is written before the first byte it vouches for."""
        self.discard()
        self.path.touch()
        if validator:
            self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        for path in (self.note, self.path):
            if path.exists():
                path.unlink()

    def discard_unless_resumable(self, url: str) -> None:
        if self.size() == 0 or self.validator(url) is None:
            self.discard()


def _check_address(job: _Job) -> None:
    try:
        address = urllib.parse.urlsplit(job.url)
        address.port  # noqa: B018 - read for its check
    except ValueError as error:
        job.fail(f"this is no address ({error})", error)
    if address.scheme not in {"http", "https"} or not address.hostname:
        job.fail("only http and https addresses are fetched")
    if address.username or address.password:
        # The address would be shown in messages and logs, the password with it.
        raise DownloadError(f"the address at {address.hostname} carries a user name or password: leave them out")
    if not job.url.isascii() or not job.url.isprintable() or " " in job.url:
        job.fail("the address has characters that must be percent-encoded")


def _lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


@contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Hold the right to write this target, waiting for another process or thread that has it."""
    lock = FileLock(_lock_path(job.target))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that is fetching %s", job.target.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(job: _Job, part: _Part, report: Progress) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(job, part, report)
            break
        except _Cut as cut:
            if attempt == ATTEMPTS:
                kept = f", {part.size()} bytes are kept: run again to continue" if part.validator(job.url) else ""
                job.fail(f"{cut} ({ATTEMPTS} attempts{kept})", cut)
            logger.info("%s: %s; trying again", job.target.name, cut)
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
    if problem := job.problem_of(part.path):
        part.discard()
        job.fail(f"{problem}, so it was thrown away")
    part.path.replace(job.target)
    part.discard()


def _transfer(job: _Job, part: _Part, report: Progress) -> None:
    """One request, from where the part file ends if the server still has that very version."""
    validator = part.validator(job.url)
    asked_from = part.size() if validator else 0
    headers = {"User-Agent": f"wordmask/{__version__}", "Accept-Encoding": "identity"}
    if asked_from and validator:
        headers |= {"Range": f"bytes={asked_from}-", "If-Range": validator}
    with _open(job, part, headers) as response:
        start, total = _promised_range(job, response)
        if start and (start != asked_from or _validator_of(response) not in {validator, None}):
            part.discard()
            raise _Cut("the file changed at the server while it was being fetched")
        if not start:
            part.begin(job.url, _validator_of(response))
        if total is not None and shutil.disk_usage(part.path.parent).free < total - start:
            raise OSError(ENOSPC, f"{total - start} more bytes are needed")
        received = start
        with part.path.open("ab") as file:
            while chunk := _read(response, received):
                received += len(chunk)
                if received > (MAX_UNDECLARED_BYTES if total is None else total):
                    part.discard()
                    job.fail(f"the server sent more than {received - len(chunk)} bytes without naming a length")
                file.write(chunk)
                report(received, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and received < total:
        raise _Cut(f"the connection was cut after {received} of {total} bytes")


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows http(s) only, and never from https to http, where anyone on the way could change the file."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = {"https"} if req.type == "https" else {"http", "https"}
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise urllib.error.HTTPError(req.full_url, code, f"redirected to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(job: _Job, part: _Part, headers: dict[str, str]) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_CarefulRedirects)
    try:
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(job.url, headers=headers), timeout=TIMEOUT_SECONDS
        )
        return response
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"HTTP {error.code} {error.reason}".strip()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
            raise _Cut(answer) from error
        if error.code in WORTH_ANOTHER_TRY:
            raise _Cut(answer) from error
        meaning = {
            401: "it asks for a sign-in",
            403: "access is refused",
            404: "there is no such file any more",
        }
        if http.HTTPStatus.MULTIPLE_CHOICES <= error.code < http.HTTPStatus.BAD_REQUEST:
            job.fail(f"it leads to an address that is not followed ({answer})", error)
        job.fail(f"{meaning.get(error.code, 'the server refuses')} ({answer})", error)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, socket.gaierror):
            job.fail(f"the host {urllib.parse.urlsplit(job.url).hostname} is not found; is there a network?", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            job.fail(f"the server's certificate is not trusted ({reason.verify_message})", error)
        raise _Cut(_plain(reason)) from error


def _read(response: http.client.HTTPResponse, received: int) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection was cut after {received} bytes ({_plain(error)})") from error


def _promised_range(job: _Job, response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return the first byte this answer holds and the length of the whole file, where the server says it."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        job.fail(f"the server insists on sending it {response.headers['Content-Encoding']}-encoded")
    if response.status == http.HTTPStatus.OK:
        return 0, int(length) if (length := response.headers.get("Content-Length", "")).isdigit() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status != http.HTTPStatus.PARTIAL_CONTENT or span is None:
        job.fail(f"the server answers HTTP {response.status} without a file")
    return int(span[1]), int(span[2])


def _validator_of(response: http.client.HTTPResponse) -> str | None:
    """Return what If-Range may carry: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
    etag: str | None = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _plain(error: object) -> str:
    return str(error) or type(error).__name__


def _fail_on_disk(job: _Job, error: OSError) -> NoReturn:
    folder = job.target.parent
    if error.errno in NO_ROOM:
        what = f"the disk of {folder} is full ({_plain(error)}): make room, or set WORDMASK_CACHE to another folder"
    elif error.errno in {EACCES, EPERM, EROFS}:
        what = f"{folder} cannot be written to ({_plain(error)}): set WORDMASK_CACHE to a folder that can"
    else:
        what = f"writing to {folder} failed ({_plain(error)})"
    raise DownloadError(f"cannot keep the file of {job.url}: {what}") from error


@contextmanager
def _bar(name: str, wanted: bool | None) -> Iterator[Progress]:
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda received, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=None)
        yield lambda received, total: bars.update(task, completed=received, total=total)
