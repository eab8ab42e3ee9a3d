"""The pictures of Label Studio's tasks: from the task itself, a folder, or the one host that the settings name.

A task says where its picture is, and a task is anybody's text. No other address is ever asked, no redirect followed,
and no path leaves the folder.
"""

import base64
import os
import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from wordmask.serving.settings import RequestError, ServeError
from wordmask.text_files import shown

UPLOADS, LOCAL_FILES = "/data/upload/", "/data/local-files/"
PATHS = (UPLOADS, LOCAL_FILES)
"""What Label Studio serves pictures at; of its host nothing else is asked."""
SCHEMES = {"http": 80, "https": 443}
TOKEN = "LABEL_STUDIO_API_KEY"
"""The environment's variable; the name is Label Studio's own."""
SOCKET_SECONDS = 10.0
CHUNK = 2**16
QUERY = "=&%/+,.-_~"
"""What stands in a query as it is; % as well, of what is quoted already."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LabelStudio:
    """What the backend of Label Studio may open, and who answers it.

    host: Label Studio's own address, such as http://labels.example.org:8080; None asks nobody.
    files: a folder, in which /data/upload/... and /data/local-files/?d=... are looked for; None opens none.
    method: who answers; by default the service's first.
    """

    host: str | None = None
    files: Path | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.host is not None:
            parts = urlsplit(self.host)
            if parts.scheme not in SCHEMES or not parts.hostname or parts.path.strip("/") or parts.username:
                raise ServeError(f"Label Studio's host {shown(self.host)} is no address such as http://labels:8080")
        if self.files is not None and not self.files.is_dir():
            raise ServeError(f"Label Studio's files {self.files}: no such folder")


def picture_at(address: object, allowed: LabelStudio, most_bytes: int, deadline: float) -> bytes:
    """Return the bytes of a task's picture. For a thread: it may wait for a disk or for Label Studio."""
    if not isinstance(address, str) or not address:
        raise refused("the task names no picture")
    if address.startswith("data:"):
        return _from_data(address)
    parts = _split(address)
    path = unquote(parts.path)
    if allowed.host is not None and parts.netloc and _origin(parts) == _origin(urlsplit(allowed.host)):
        parts = parts._replace(scheme="", netloc="")
    if parts.scheme or parts.netloc:
        raise refused(f"{shown(address)} is not at the Label Studio that this service was started with")
    if not path.startswith(PATHS) or {".", ".."} & {*path.replace("\\", "/").split("/")}:
        raise refused(f"{shown(address)} is none of {' and '.join(PATHS)}, which Label Studio serves pictures at")
    if allowed.files is not None and (file := _in_folder(allowed.files, path, parts.query)) is not None:
        return _from_file(file, most_bytes)
    if allowed.host is not None:
        query = f"?{quote(parts.query, safe=QUERY)}" if parts.query else ""
        return _from_host(allowed.host.rstrip("/") + quote(path) + query, most_bytes, deadline)
    if allowed.files is not None:
        raise refused(f"{shown(address)} is no picture below the folder of this service")
    raise refused(f"{shown(address)}: this service was started without --label-studio-files or --label-studio-host")


def refused(reason: str) -> RequestError:
    return RequestError(400, "image", reason)


def _too_large(most_bytes: int) -> RequestError:
    return RequestError(413, "too_large", f"a picture's file may have {most_bytes} bytes, and this one has more")


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
        return parts
    except ValueError as error:
        raise refused(f"{shown(address)} is no address") from error


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or SCHEMES.get(parts.scheme)


def _from_data(address: str) -> bytes:
    head, comma, body = address.partition(",")
    if not comma or not head.endswith(";base64"):
        raise refused("the task's data: address is not base64")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise refused("the task's data: address is not base64") from error


def _in_folder(folder: Path, path: str, query: str) -> Path | None:
    """Return the file that is meant, if it is there. Links are followed, but not out of the folder."""
    below = parse_qs(query).get("d", [""])[0] if path.startswith(LOCAL_FILES) else path.removeprefix("/data/")
    root = folder.resolve()
    try:
        file = (root / below.lstrip("/")).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (OSError, ValueError):  # too long for a path, or a null byte in it
        return None


def _from_file(file: Path, most_bytes: int) -> bytes:
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as content:
            found = content.read(most_bytes + 1)
    except OSError as error:
        raise refused(f"{shown(file.name)} cannot be read ({str(error.strerror).lower()})") from error
    if len(found) > most_bytes:
        raise _too_large(most_bytes)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _from_host(address: str, most_bytes: int, deadline: float) -> bytes:
    """Without the environment's proxies: the host is the one that was named."""
    opener: Any = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    token = os.environ.get(TOKEN)
    request = urllib.request.Request(address, headers={"Authorization": f"Token {token}"} if token else {})
    found = bytearray()
    try:
        with opener.open(request, timeout=SOCKET_SECONDS) as answer:
            while chunk := answer.read(CHUNK):
                found += chunk
                if len(found) > most_bytes:
                    raise _too_large(most_bytes)
                if time.monotonic() > deadline:
                    raise RequestError(503, "late", "Label Studio did not send the picture in time", retry_after=1)
    except urllib.error.HTTPError as error:
        with error:
            raise refused(f"Label Studio answered {error.code} for the picture{_hint(error.code)}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise RequestError(
            503, "label_studio", f"Label Studio cannot be reached ({type(error).__name__})", retry_after=5
        ) from error
    return bytes(found)


def _hint(status: int) -> str:
    if status in (401, 403):
        return f": set {TOKEN} to a token of its"
    return ": it sends pictures from elsewhere, which are not fetched" if 300 <= status < 400 else ""
