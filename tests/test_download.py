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
from concurrent.futures import ThreadPoolExecutor
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
    def __init__(self):
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def serve(self, path="/weights.pt", **how):
        self.answers[path] = Answer(**how)
        return self.url(path)

    def answer(self, handler):
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
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def no_waiting_no_proxy(monkeypatch, tmp_path):
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    for switch in ("WORDMASK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights.pt"


def leftovers(target):
    """What lies beside the target, but for the empty lock that a failed download leaves."""
    return sorted(path.name for path in target.parent.iterdir() if path.name != f".{target.name}.lock")


def refused(url, target, says, error=DownloadError, **asked):
    """The whole of what is said."""
    with pytest.raises(error, match=says) as caught:
        download(url, target, **asked)
    return str(caught.value)


def give_up(server, target, path="/weights.pt", each=100_000, says=None, **how):
    """Ask for a file that is cut at every attempt."""
    url = server.serve(path, cuts=[each] * downloads.ATTEMPTS, **how)
    refused(url, target, says)
    return url


# What arrives

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
ARRIVALS = {  # how it is served: the ranges asked for, and how much the last answer sends
    "at once": ({}, [None], 700_001),
    "without a declared length": ({"declares_length": False}, [None], 700_001),
    "cut twice": ({"cuts": [300_000, 150_000]}, [None, "bytes=300000-", "bytes=450000-"], 250_001),
    "known by its date": (
        {"etag": None, "last_modified": DATE, "cuts": [300_000]}, [None, "bytes=300000-"], 400_001),
    "known by no mark": ({"etag": None, "cuts": [300_000]}, [None, None], 700_001),
    "known by a weak mark": ({"etag": 'W/"weak"', "cuts": [300_000]}, [None, None], 700_001),
    "without ranges": ({"ranges": False, "cuts": [300_000]}, [None, "bytes=300000-"], 700_001),
    "another range than was asked for": ({"shift": 10, "cuts": [300_000]}, [None, "bytes=300000-", None], 700_001),
    "busy": ({"failures": [503, 429]}, [None] * 3, 700_001),
}  # fmt: skip


@pytest.mark.parametrize(("how", "ranges", "last"), ARRIVALS.values(), ids=ARRIVALS)
def test_file_arrives_whole_and_alone_and_continues_where_it_stopped(server, tmp_path, how, ranges, last):
    target = tmp_path / "new" / "weights.pt"
    assert download(server.serve(**how), target, sha256=DIGEST) == target
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["weights.pt"]
    assert [request.range for request in server.requests] == ranges
    mark = how.get("last_modified", '"one"')
    assert all(request.if_range == mark for request in server.requests if request.range)
    assert server.requests[-1].sent == last


def test_file_already_here_is_not_asked_for(server, target):
    target.write_bytes(BODY)
    assert download(server.serve(), target, sha256=DIGEST.upper()) == target
    assert server.requests == []


def test_redirect_is_followed_with_the_range(server, target):
    server.serve("/real.pt", cuts=[100_000])
    assert download(server.serve(status=302, location="/real.pt"), target).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/weights.pt", "/real.pt"] * 2
    assert server.requests[-1].range == "bytes=100000-"


def test_empty_file_is_a_file(server, target):
    assert download(server.serve(body=b""), target).read_bytes() == b""
    assert leftovers(target) == ["weights.pt"]


# Cut connections


def test_next_run_continues_where_the_last_gave_up(server, target):
    url = give_up(server, target, says="500000 bytes are kept: run again to continue")
    assert leftovers(target) == ["weights.pt.part", "weights.pt.part.json"]
    assert len(server.requests) == downloads.ATTEMPTS
    assert download(url, target).read_bytes() == BODY
    assert server.requests[-1].sent == len(BODY) - 500_000
    assert leftovers(target) == ["weights.pt"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_file_without_a_mark_leaves_nothing(server, target, etag):
    give_up(server, target, each=300_000, etag=etag, says="cut after 300000 of 700001 bytes")
    assert leftovers(target) == []


@pytest.mark.parametrize("respects_if_range", [True, False])
def test_file_changed_at_the_server_is_never_mixed(server, target, respects_if_range):
    url = give_up(server, target)
    other = bytes(reversed(BODY))
    server.serve(body=other, etag='"two"', respects_if_range=respects_if_range)
    assert download(url, target).read_bytes() == other


def test_part_of_another_address_is_not_continued(server, target):
    give_up(server, target, "/one.pt", each=1000)
    assert download(server.serve("/two.pt"), target).read_bytes() == BODY
    assert server.requests[-1].range is None


@pytest.mark.parametrize(
    ("part", "note", "asked"),
    [(BODY + b"more", '{{"url": "{url}", "validator": "\\"one\\""}}', f"bytes={len(BODY) + 4}-"),
     (b"anything", '{{"url": "http', None)],
    ids=["longer than the file", "its note half written"],
)  # fmt: skip
def test_part_that_cannot_be_continued_starts_again(server, target, part, note, asked):
    url = server.serve(failures=[416] if asked else [])
    target.with_name("weights.pt.part").write_bytes(part)
    target.with_name("weights.pt.part.json").write_text(note.format(url=url))
    assert download(url, target).read_bytes() == BODY
    assert server.requests[0].range == asked


def test_broken_server_is_asked_a_few_times_only_and_waited_for_longer_each_time(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    refused(server.serve(status=500), target, "HTTP 500")
    assert len(server.requests) == downloads.ATTEMPTS
    assert [wait for wait in waits if wait] == [1.0, 2.0, 4.0, 8.0]
    assert leftovers(target) == []


def test_silent_server_is_left(server, target, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    refused(server.serve(seconds_before=0.4), target, "timed out")


def test_killed_process_is_continued(server, target):
    url = server.serve(seconds_per_chunk=0.05)
    process = subprocess.Popen([sys.executable, "-c", ASK, url, str(target)])
    part = target.with_name("weights.pt.part")
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

REFUSED = {
    "a compressed answer": ({"encoding": "gzip"}, "gzip-encoded"),
    "an answer without a file": ({"status": 204}, "HTTP 204 without a file"),
    "endless redirects": ({"status": 302, "location": "/weights.pt"}, "HTTP 302"),
    "a redirect to a file": ({"status": 302, "location": "file:///etc/hostname"}, "not followed"),
    "a redirect from the web": ({"status": 302, "location": "ftp://127.0.0.1/weights.pt"}, "not followed"),
    "more than may come undeclared": ({"declares_length": False}, "without naming a length"),
}


@pytest.mark.parametrize(("how", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_nothing(server, target, monkeypatch, how, reason):
    monkeypatch.setattr(downloads, "MAX_UNDECLARED_BYTES", 200_000)
    refused(server.serve(**how), target, reason)
    assert leftovers(target) == []


def test_wrong_hash_leaves_nothing(server, target):
    refused(server.serve(), target, f"SHA-256 is {DIGEST} where {'0' * 64} was expected", sha256="0" * 64)
    assert leftovers(target) == []


@pytest.mark.parametrize(
    ("status", "meaning"), [(404, "no such file"), (403, "access is refused"), (401, "a sign-in"), (410, "410")]
)
def test_refusal_names_the_address_the_reason_and_the_way_out(server, target, status, meaning):
    url = server.serve(status=status)
    said = refused(url, target, meaning)
    assert url in said
    assert f"put it at {target}" in said
    assert "\n" not in said
    assert len(server.requests) == 1
    assert leftovers(target) == []


def test_redirect_never_drops_encryption():
    asked = urllib.request.Request("https://example.org/weights.pt")
    headers = email.message.Message()
    with pytest.raises(urllib.error.HTTPError, match="redirected to http:"):
        downloads._CarefulRedirects().redirect_request(asked, None, 302, "", headers, "http://example.org/w.pt")


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
        ("https://me:secret@example.org/weights.pt", "user name or password"),
    ],
)
def test_odd_addresses_are_refused_and_passwords_not_repeated(target, url, reason):
    assert "secret" not in refused(url, target, reason)
    assert list(target.parent.iterdir()) == []


def test_unknown_host_is_named_and_asked_once(target, monkeypatch):
    asked = []

    def no_such_host(*arguments, **_):
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    refused("https://nowhere.example/weights.pt", target, "the host nowhere.example is not found")
    assert len(asked) == 1


@pytest.fixture
def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_refused_connection_is_told_at_once(tmp_path, monkeypatch, closed_port):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    target = tmp_path / "new" / "weights.pt"
    refused(f"http://127.0.0.1:{closed_port}/w.pt", target, "refused; is there a network", UnreachableError)
    assert waits == []
    assert not target.parent.exists()


def test_a_server_that_takes_no_connection_is_left_soon(target, monkeypatch):
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.3)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # the place in the queue, and one more, as Linux has it
            visitor = waiting.enter_context(socket.socket())
            visitor.setblocking(False)
            visitor.connect_ex(full.getsockname())
        start = time.monotonic()
        url = f"http://127.0.0.1:{full.getsockname()[1]}/weights.pt"
        refused(url, target, "does not answer within", UnreachableError)
    assert time.monotonic() - start < 5


def test_a_name_that_nobody_resolves_is_left_soon(target, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.2)

    def slow_resolver(*_, **__):
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow_resolver)
    start = time.monotonic()
    refused("https://nowhere.example/w.pt", target, r"nowhere\.example does not answer", UnreachableError)
    assert time.monotonic() - start < 5
    over.set()


def test_a_host_is_reached_by_whichever_address_leads_there(server, monkeypatch):
    usual = socket.getaddrinfo

    def two_kinds(host, port, *rest, **named):
        return [*usual("240.0.0.1", port, *rest, **named), *usual("127.0.0.1", port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", two_kinds)
    assert reach.unreachable([server.serve()]) == {}


def test_behind_a_proxy_the_proxy_is_tried(server, target, monkeypatch, closed_port):
    url = "http://nowhere.example/weights.pt"
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{closed_port}")
    refused(url, target, f"port {closed_port}: connection refused", UnreachableError)
    monkeypatch.setenv("http_proxy", server.serve())  # which need not know the host either: the proxy will
    assert reach.unreachable([url]) == {}


def test_a_server_lost_on_the_way_is_waited_for(server, target, monkeypatch):
    """Only the first connection must succeed at once."""
    looked = []
    usual = downloads.unreachable
    monkeypatch.setattr(downloads, "unreachable", lambda urls: looked.append(urls) or usual(urls))
    assert download(server.serve(cuts=[100_000]), target).read_bytes() == BODY
    assert len(looked) == 1


def test_who_switches_downloads_off_for_a_while_is_who_messages_name(server, target, monkeypatch):
    with cache.offline("for the outer"):
        with cache.offline("for the inner"):
            refused(server.serve(), target, "for the inner")
        refused(server.serve(), target, "for the outer")
        monkeypatch.setenv("WORDMASK_OFFLINE", "1")
        refused(server.serve(), target, "WORDMASK_OFFLINE or HF_HUB_OFFLINE is set")
    monkeypatch.delenv("WORDMASK_OFFLINE")
    assert not cache.is_offline()
    assert server.requests == []


@pytest.mark.parametrize("switch", ["WORDMASK_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody_and_uses_what_is_here(server, tmp_path, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    target, url = tmp_path / "new" / "weights.pt", server.serve()
    said = refused(url, target, "switched off")
    assert url in said
    assert str(target) in said
    assert server.requests == []
    assert not target.parent.exists()
    (tmp_path / "weights.pt").write_bytes(b"here")
    assert download(url, tmp_path / "weights.pt").read_bytes() == b"here"


def test_what_is_in_the_way_is_named_and_kept(server, target):
    target.write_bytes(b"something else")
    refused(server.serve(), target, "delete it and run again", sha256=DIGEST)
    assert target.read_bytes() == b"something else"
    target.unlink()
    target.mkdir()
    refused(server.serve(), target, "in the way")


# The disk


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_read_only_cache_names_the_way_out(server, target, monkeypatch, code):
    """Tests may run as root, whom no permission stops: the refusal is played at os.open."""
    real = os.open

    def refuse(path, flags, *rest, **options):
        if str(target.parent) in str(path) and flags & os.O_CREAT:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    refused(server.serve(), target, r"cannot be written to .* set WORDMASK_CACHE")
    assert list(target.parent.iterdir()) == []


class FullDisk:
    """A file on a disk with room for 200,000 bytes more."""

    def __init__(self, file):
        self.file, self.room = file, 200_000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, chunk):
        self.room -= self.file.write(chunk[: self.room])
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_that_fills_up_is_named_and_freed(server, target, monkeypatch):
    real = Path.open

    def opened(path, mode="r", **options):
        file = real(path, mode, **options)
        return FullDisk(file) if path.suffix == ".part" and "a" in mode else file

    monkeypatch.setattr(Path, "open", opened)
    refused(server.serve(), target, "is full")
    assert leftovers(target) == []


def test_disk_too_small_is_known_beforehand(server, target, monkeypatch):
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    refused(server.serve(), target, "700001 more bytes are needed")
    assert leftovers(target) == []


def test_failing_rename_leaves_no_file_under_the_final_name(server, target, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refuse)
    refused(server.serve(), target, "Input/output error")
    assert not target.exists()


# Many at once

ASK = "import sys; from wordmask.weights.download import download; download(sys.argv[1], sys.argv[2])"


def in_threads(url, target):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: download(url, target), range(6)))


def in_processes(url, target):
    processes = [subprocess.Popen([sys.executable, "-c", ASK, url, str(target)]) for _ in range(2)]
    assert [process.wait(20) for process in processes] == [0, 0]


@pytest.mark.parametrize(("ask", "pace"), [(in_threads, 0.01), (in_processes, 0.05)])
def test_many_asking_for_one_file_fetch_it_once(server, target, ask, pace):
    ask(server.serve(seconds_per_chunk=pace), target)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert leftovers(target) == ["weights.pt"]


# Names and places


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("a/b/weights.pt", "weights.pt"),
        ("weights.pt?token=a/b#part", "weights.pt"),
        ("", "file"),
        ("..", "file"),
        ("a/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("a/..%5C..%5Cboot.ini", "boot.ini"),
        (".bashrc", "bashrc"),
        ("a%00b%0Ac.pt", "a_b_c.pt"),
        ("Gewichte%20f%C3%BCr%20alle.pt", "Gewichte_f_r_alle.pt"),
    ],
)
def test_file_names_are_plain(url, name):
    assert cache.file_name(f"https://example.org/{url}") == name


def test_long_names_keep_their_suffix():
    name = cache.file_name(f"https://example.org/{'x' * 400}.safetensors")
    assert len(name) == cache.LONGEST_FILE_NAME
    assert name.endswith(".safetensors")


def test_distinct_addresses_never_share_a_place():
    at_one = ("a/weights.pt", "b/weights.pt", "a/weights.pt?version=2", "a/WEIGHTS.pt", "a/weights%2Ept")
    urls = [f"https://example.org/{path}" for path in at_one]
    urls += ["https://example.net/a/weights.pt", "http://example.org/a/weights.pt"]
    places = {str(cache.cached_path(url)).lower() for url in urls}
    assert len(places) == len(urls)
    assert all(Path(place).parent == Path(str(cache.cache_dir()).lower()) / "urls" for place in places)


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "mine"))
    assert cache.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("WORDMASK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for asked, place in ((str(tmp_path / "xdg"), "xdg"), ("relative", ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", asked)
        assert cache.cache_dir() == tmp_path / place / "wordmask"


def test_progress_goes_to_stderr_when_wanted_and_is_silent_without_a_terminal(server, target, capfd):
    download(server.serve(), target)
    assert capfd.readouterr() == ("", "")
    target.unlink()
    download(server.serve(), target, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "weights.pt" in shown.err
    assert "700.0/700.0 kB" in shown.err
