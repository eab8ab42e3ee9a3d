"""The downloader against a real HTTP server on this machine: everything a network, a server or a disk may do."""

import email.message
import errno
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wordmask.weights import cache, reach
from wordmask.weights import download as downloads
from wordmask.weights.download import DownloadError, UnreachableError, download

BODY = random.Random(0).randbytes(700_001)
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Answer:
    """How the server treats one path."""

    body: bytes = BODY
    etag: str | None = '"one"'
    last_modified: str | None = None
    ranges: bool = True
    respects_if_range: bool = True
    shift: int = 0  # how far the range sent is from the range asked for
    declares_length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes sent before the connection is cut, one per request
    failures: list[int] = field(default_factory=list)  # statuses answered first, one per request
    status: int = 200
    location: str | None = None
    encoding: str | None = None
    seconds_before: float = 0.0
    seconds_per_chunk: float = 0.0


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class Server:
    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def serve(self, path: str = "/weights.pt", **how: object) -> str:
        self.answers[path] = Answer(**how)  # type: ignore[arg-type]
        return self.url(path)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        answer = self.answers[handler.path]
        request = Request(handler.path, handler.headers["Range"], handler.headers["If-Range"])
        self.requests.append(request)
        time.sleep(answer.seconds_before)
        status = answer.failures.pop(0) if answer.failures else answer.status
        if status != 200:
            handler.send_response(status)
            if answer.location:
                handler.send_header("Location", answer.location)
            handler.end_headers()
            return
        start = 0
        validator = answer.etag or answer.last_modified
        if request.range and answer.ranges and (request.if_range == validator or not answer.respects_if_range):
            start = int(request.range.removeprefix("bytes=").removesuffix("-")) + answer.shift
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}")
        else:
            handler.send_response(200)
        if answer.etag:
            handler.send_header("ETag", answer.etag)
        if answer.last_modified:
            handler.send_header("Last-Modified", answer.last_modified)
        if answer.encoding:
            handler.send_header("Content-Encoding", answer.encoding)
        if answer.declares_length:
            handler.send_header("Content-Length", str(len(answer.body) - start))
        handler.end_headers()
        end = min(len(answer.body), start + answer.cuts.pop(0)) if answer.cuts else len(answer.body)
        while start < end:
            chunk = answer.body[start : min(end, start + 50_000)]
            request.sent += len(chunk)  # first: once it is written, the client may be done and ask
            try:
                handler.wfile.write(chunk)
            except OSError:  # the client went away
                request.sent -= len(chunk)
                return
            start += len(chunk)
            time.sleep(answer.seconds_per_chunk)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def no_waiting_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)


def leftovers(target: Path) -> list[str]:
    """What lies beside the target, but for the empty lock that a failed download leaves."""
    if not target.parent.exists():
        return []
    return sorted(path.name for path in target.parent.iterdir() if path.name != f".{target.name}.lock")


# What arrives


def test_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "weights.pt"
    assert download(server.serve(), target, sha256=DIGEST) == target
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["weights.pt"]


def test_file_already_here_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(BODY)
    assert download(server.serve(), target, sha256=DIGEST.upper()) == target
    assert server.requests == []


def test_redirect_is_followed_with_the_range(server: Server, tmp_path: Path) -> None:
    server.serve("/real.pt", cuts=[100_000])
    url = server.serve("/weights.pt", status=302, location="/real.pt")
    assert download(url, tmp_path / "weights.pt").read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/weights.pt", "/real.pt"] * 2
    assert server.requests[-1].range == "bytes=100000-"


def test_file_without_declared_length_arrives(server: Server, tmp_path: Path) -> None:
    url = server.serve(declares_length=False)
    assert download(url, tmp_path / "weights.pt").read_bytes() == BODY


def test_empty_file_is_a_file(server: Server, tmp_path: Path) -> None:
    assert download(server.serve(body=b""), tmp_path / "weights.pt").read_bytes() == b""
    assert leftovers(tmp_path / "weights.pt") == ["weights.pt"]


# Cut connections


def test_cut_connection_continues_where_it_stopped(server: Server, tmp_path: Path) -> None:
    url = server.serve(cuts=[300_000, 150_000])
    assert download(url, tmp_path / "weights.pt", sha256=DIGEST).read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, "bytes=300000-", "bytes=450000-"]
    assert {request.if_range for request in server.requests[1:]} == {'"one"'}
    assert sum(request.sent for request in server.requests) == len(BODY)
    assert leftovers(tmp_path / "weights.pt") == ["weights.pt"]


def test_next_run_continues_where_the_last_gave_up(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    url = server.serve(cuts=[100_000] * downloads.ATTEMPTS)
    with pytest.raises(DownloadError, match="500000 bytes are kept: run again to continue"):
        download(url, target)
    assert leftovers(target) == ["weights.pt.part", "weights.pt.part.json"]
    assert len(server.requests) == downloads.ATTEMPTS
    download(url, target)
    assert target.read_bytes() == BODY
    assert server.requests[-1].sent == len(BODY) - 500_000
    assert leftovers(target) == ["weights.pt"]


def test_file_without_etag_continues_by_its_date(server: Server, tmp_path: Path) -> None:
    url = server.serve(etag=None, last_modified="Wed, 21 Oct 2015 07:28:00 GMT", cuts=[300_000])
    assert download(url, tmp_path / "weights.pt").read_bytes() == BODY
    assert server.requests[-1].sent == len(BODY) - 300_000


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_file_without_a_mark_starts_again_and_leaves_nothing(server: Server, tmp_path: Path, etag: str | None) -> None:
    target = tmp_path / "weights.pt"
    url = server.serve(etag=etag, cuts=[300_000])
    assert download(url, target).read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, None]
    target.unlink()
    server.serve(etag=etag, cuts=[300_000] * downloads.ATTEMPTS)
    with pytest.raises(DownloadError, match="cut after 300000 of 700001 bytes"):
        download(url, target)
    assert leftovers(target) == []


def test_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    url = server.serve(ranges=False, cuts=[300_000])
    assert download(url, tmp_path / "weights.pt", sha256=DIGEST).read_bytes() == BODY
    assert server.requests[-1].sent == len(BODY)


@pytest.mark.parametrize("respects_if_range", [True, False])
def test_file_changed_at_the_server_is_never_mixed(server: Server, tmp_path: Path, respects_if_range: bool) -> None:
    target = tmp_path / "weights.pt"
    url = server.serve(cuts=[100_000] * downloads.ATTEMPTS)
    with pytest.raises(DownloadError):
        download(url, target)
    other = bytes(reversed(BODY))
    server.serve(body=other, etag='"two"', respects_if_range=respects_if_range)
    assert download(url, target).read_bytes() == other


def test_range_that_was_not_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    url = server.serve(cuts=[300_000], shift=10)
    assert download(url, tmp_path / "weights.pt").read_bytes() == BODY


def test_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    with pytest.raises(DownloadError):
        download(server.serve("/one.pt", cuts=[1000] * downloads.ATTEMPTS), target)
    assert download(server.serve("/two.pt"), target).read_bytes() == BODY
    assert server.requests[-1].range is None


def test_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    url = server.serve(failures=[416])
    (tmp_path / "weights.pt.part").write_bytes(BODY + b"more")
    (tmp_path / "weights.pt.part.json").write_text(f'{{"url": "{url}", "validator": "\\"one\\""}}')
    assert download(url, target).read_bytes() == BODY
    assert server.requests[0].range == f"bytes={len(BODY) + 4}-"


def test_half_written_note_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(b"anything")
    (tmp_path / "weights.pt.part.json").write_text('{"url": "http')
    assert download(server.serve(), tmp_path / "weights.pt").read_bytes() == BODY
    assert server.requests[0].range is None


def test_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    url = server.serve(failures=[503, 429])
    assert download(url, tmp_path / "weights.pt").read_bytes() == BODY
    assert len(server.requests) == 3


def test_broken_server_is_asked_a_few_times_only(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 500"):
        download(server.serve(status=500), tmp_path / "weights.pt")
    assert len(server.requests) == downloads.ATTEMPTS
    assert leftovers(tmp_path / "weights.pt") == []


def test_waiting_doubles_between_attempts(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(DownloadError):
        download(server.serve(status=500), tmp_path / "weights.pt")
    assert [wait for wait in waits if wait] == [1.0, 2.0, 4.0, 8.0]


def test_silent_server_is_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    with pytest.raises(DownloadError, match="timed out"):
        download(server.serve(seconds_before=0.4), tmp_path / "weights.pt")


def test_killed_process_is_continued(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    url = server.serve(seconds_per_chunk=0.05)
    process = subprocess.Popen([sys.executable, "-c", ASK, url, str(target)])
    part = tmp_path / "weights.pt.part"
    deadline = time.monotonic() + 10
    while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    kept = part.stat().st_size
    assert kept >= 100_000
    download(url, target, sha256=DIGEST)
    assert server.requests[-1].range == f"bytes={kept}-"
    assert leftovers(target) == ["weights.pt"]


# What is refused


def test_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    with pytest.raises(DownloadError, match=f"SHA-256 is {DIGEST} where {'0' * 64} was expected"):
        download(server.serve(), target, sha256="0" * 64)
    assert leftovers(target) == []


def test_undeclared_length_is_bounded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_UNDECLARED_BYTES", 200_000)
    target = tmp_path / "weights.pt"
    with pytest.raises(DownloadError, match="without naming a length"):
        download(server.serve(declares_length=False), target)
    assert leftovers(target) == []


@pytest.mark.parametrize(
    ("status", "meaning"), [(404, "no such file"), (403, "access is refused"), (401, "a sign-in"), (410, "410")]
)
def test_refusal_names_the_address_the_reason_and_the_way_out(
    server: Server, tmp_path: Path, status: int, meaning: str
) -> None:
    url, target = server.serve(status=status), tmp_path / "weights.pt"
    with pytest.raises(DownloadError, match=meaning) as caught:
        download(url, target)
    assert url in str(caught.value)
    assert f"put it at {target}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1
    assert leftovers(target) == []


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/weights.pt"])
def test_redirect_leaves_the_web_for_nothing(server: Server, tmp_path: Path, location: str) -> None:
    with pytest.raises(DownloadError, match="not followed"):
        download(server.serve(status=302, location=location), tmp_path / "weights.pt")
    assert leftovers(tmp_path / "weights.pt") == []


def test_redirect_never_drops_encryption() -> None:
    asked = urllib.request.Request("https://example.org/weights.pt")
    headers = email.message.Message()
    with pytest.raises(urllib.error.HTTPError, match="redirected to http:"):
        downloads._CarefulRedirects().redirect_request(asked, None, 302, "", headers, "http://example.org/w.pt")


def test_endless_redirects_end(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 302"):
        download(server.serve(status=302, location="/weights.pt"), tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/hostname", "only http and https"),
        ("ftp://example.org/weights.pt", "only http and https"),
        ("http:///weights.pt", "only http and https"),
        ("http://[::1/weights.pt", "no address"),
        ("http://example.org:port/weights.pt", "no address"),
        ("http://example.org/two words.pt", "percent-encoded"),
        ("http://example.org/\nHost: elsewhere", "percent-encoded"),
    ],
)
def test_odd_addresses_are_refused(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(DownloadError, match=reason):
        download(url, tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == []


def test_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="user name or password") as caught:
        download("https://me:secret@example.org/weights.pt", tmp_path / "weights.pt")
    assert "secret" not in str(caught.value)


def test_compressed_answer_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="gzip-encoded"):
        download(server.serve(encoding="gzip"), tmp_path / "weights.pt")
    assert leftovers(tmp_path / "weights.pt") == []


def test_answer_without_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 204 without a file"):
        download(server.serve(status=204), tmp_path / "weights.pt")


def test_unknown_host_is_named_and_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_such_host(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with pytest.raises(DownloadError, match="the host nowhere.example is not found"):
        download("https://nowhere.example/weights.pt", tmp_path / "weights.pt")
    assert len(asked) == 1


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_refused_connection_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(UnreachableError, match="refused; is there a network"):
        download(f"http://127.0.0.1:{closed_port}/weights.pt", tmp_path / "new" / "weights.pt")
    assert waits == []
    assert not (tmp_path / "new").exists()


def test_a_server_that_takes_no_connection_is_left_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.3)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # the place in the queue, and one more, as Linux has it
            visitor = waiting.enter_context(socket.socket())
            visitor.setblocking(False)
            visitor.connect_ex(full.getsockname())
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer within"):
            download(f"http://127.0.0.1:{full.getsockname()[1]}/weights.pt", tmp_path / "weights.pt")
    assert time.monotonic() - start < 1.5


def test_a_name_that_nobody_resolves_is_left_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.2)

    def slow_resolver(*_: object, **__: object) -> None:
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow_resolver)
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"nowhere\.example does not answer"):
        download("https://nowhere.example/weights.pt", tmp_path / "weights.pt")
    assert time.monotonic() - start < 1.5
    over.set()


def test_a_host_is_reached_by_whichever_address_leads_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = socket.getaddrinfo

    def two_kinds(host: str, port: int, *rest: int, **named: int) -> list[tuple[object, ...]]:
        return [*usual("240.0.0.1", port, *rest, **named), *usual("127.0.0.1", port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", two_kinds)
    assert reach.unreachable([server.serve()]) == {}


def test_behind_a_proxy_the_proxy_is_tried(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{closed_port}")
    with pytest.raises(UnreachableError, match=f"port {closed_port}: connection refused"):
        download("http://nowhere.example/weights.pt", tmp_path / "weights.pt")
    monkeypatch.setenv("http_proxy", server.serve())  # which need not know the host either: the proxy will
    assert reach.unreachable(["http://nowhere.example/weights.pt"]) == {}


def test_a_server_lost_on_the_way_is_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first connection must succeed at once."""
    looked = []
    usual = downloads.unreachable
    monkeypatch.setattr(downloads, "unreachable", lambda urls: looked.append(urls) or usual(urls))
    assert download(server.serve(cuts=[100_000]), tmp_path / "weights.pt").read_bytes() == BODY
    assert len(looked) == 1


@pytest.mark.parametrize("switch", ["WORDMASK_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "1")
    target = tmp_path / "new" / "weights.pt"
    url = server.serve()
    with pytest.raises(DownloadError, match="switched off") as caught:
        download(url, target)
    assert url in str(caught.value)
    assert str(target) in str(caught.value)
    assert server.requests == []
    assert not target.parent.exists()


def test_offline_still_uses_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMASK_OFFLINE", "1")
    (tmp_path / "weights.pt").write_bytes(b"here")
    assert download("https://example.org/weights.pt", tmp_path / "weights.pt").read_bytes() == b"here"


def test_wrong_file_put_there_by_hand_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="delete it and run again"):
        download(server.serve(), target, sha256=DIGEST)
    assert target.read_bytes() == b"something else"


def test_folder_in_the_way_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").mkdir()
    with pytest.raises(DownloadError, match="in the way"):
        download(server.serve(), tmp_path / "weights.pt")


# The disk


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_read_only_cache_names_the_way_out(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Tests may run as root, whom no permission stops: the refusal is played at os.open."""
    real = os.open

    def refuse(path: str | bytes | os.PathLike[str], flags: int, *rest: int, **options: int) -> int:
        if str(tmp_path) in str(path) and flags & os.O_CREAT:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DownloadError, match=r"cannot be written to .* set WORDMASK_CACHE"):
        download(server.serve(), tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_is_named_and_freed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Full:
        """A file on a disk with room for 200,000 bytes more."""

        def __init__(self, path: Path, mode: str) -> None:
            self.file, self.room = real(path, mode), 200_000

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, chunk: bytes) -> None:
            self.room -= self.file.write(chunk[: self.room])
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path: Path, mode: str = "r", **options: object) -> object:
        return Full(path, mode) if path.suffix == ".part" and "a" in mode else real(path, mode, **options)

    target = tmp_path / "weights.pt"
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DownloadError, match="is full"):
        download(server.serve(), target)
    assert leftovers(target) == []


def test_disk_too_small_is_known_beforehand(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="700001 more bytes are needed"):
        download(server.serve(), tmp_path / "weights.pt")
    assert leftovers(tmp_path / "weights.pt") == []


def test_failing_rename_leaves_no_file_under_the_final_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(DownloadError, match="Input/output error"):
        download(server.serve(), tmp_path / "weights.pt")
    assert not (tmp_path / "weights.pt").exists()


# Many at once

ASK = "import sys; from wordmask.weights.download import download; download(sys.argv[1], sys.argv[2])"


def test_threads_asking_for_one_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    url, target = server.serve(seconds_per_chunk=0.01), tmp_path / "weights.pt"
    threads = [threading.Thread(target=download, args=(url, target)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert leftovers(target) == ["weights.pt"]


def test_processes_asking_for_one_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    url, target = server.serve(seconds_per_chunk=0.05), tmp_path / "weights.pt"
    processes = [subprocess.Popen([sys.executable, "-c", ASK, url, str(target)]) for _ in range(2)]
    assert [process.wait(20) for process in processes] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1


# Names and places


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/b/weights.pt", "weights.pt"),
        ("https://example.org/weights.pt?token=a/b#part", "weights.pt"),
        ("https://example.org/", "file"),
        ("https://example.org/..", "file"),
        ("https://example.org/a/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("https://example.org/a/..%5C..%5Cboot.ini", "boot.ini"),
        ("https://example.org/.bashrc", "bashrc"),
        ("https://example.org/a%00b%0Ac.pt", "a_b_c.pt"),
        ("https://example.org/Gewichte%20f%C3%BCr%20alle.pt", "Gewichte_f_r_alle.pt"),
    ],
)
def test_file_names_are_plain(url: str, name: str) -> None:
    assert cache.file_name(url) == name


def test_long_names_keep_their_suffix() -> None:
    name = cache.file_name(f"https://example.org/{'x' * 400}.safetensors")
    assert len(name) == cache.LONGEST_FILE_NAME
    assert name.endswith(".safetensors")


def test_distinct_addresses_never_share_a_place() -> None:
    urls = [
        "https://example.org/a/weights.pt",
        "https://example.org/b/weights.pt",
        "https://example.net/a/weights.pt",
        "http://example.org/a/weights.pt",
        "https://example.org/a/weights.pt?version=2",
        "https://example.org/a/WEIGHTS.pt",
        "https://example.org/a/weights%2Ept",
    ]
    places = {str(cache.cached_path(url)).lower() for url in urls}
    assert len(places) == len(urls)
    assert all(Path(place).parent == Path(str(cache.cache_dir()).lower()) / "urls" for place in places)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "mine"))
    assert cache.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("WORDMASK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg" / "wordmask"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "wordmask"


# What is shown


def test_progress_is_silent_without_a_terminal(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    download(server.serve(), tmp_path / "weights.pt")
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr_when_wanted(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(server.serve(), tmp_path / "weights.pt", progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "weights.pt" in shown.err
    assert "700.0/700.0 kB" in shown.err
