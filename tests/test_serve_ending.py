"""`wordmask serve` as a process: what becomes of it when it is told to end."""

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.live_service import body_of, head_of, live, png, rest_of, until

CODE = """
import sys, time
sys.path.insert(0, TESTS)
from support.painted import Painted
from wordmask import cli, segmenters
class Slow(Painted):
    def look_many(self, images, sources):
        time.sleep(SECONDS)
        return super().look_many(images, sources)
segmenters.load = lambda **options: Slow()
sys.argv = ["wordmask", "serve", "--method", "maskclip", "--port", "0", *OPTIONS]
cli.main()
"""


@contextmanager
def served(*options, seconds=0.0):
    """(the process, its port)"""
    code = CODE.replace("TESTS", repr(str(Path(__file__).parent)))
    code = code.replace("OPTIONS", repr(options)).replace("SECONDS", str(seconds))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        yield process, int(re.search(r"http://127.0.0.1:(\d+)", line)[1])
    finally:
        process.kill()
        process.communicate()


def ends(process, seconds=15):
    """How long it took to end, and well."""
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=seconds)[1]
    assert process.returncode == 0
    assert "Traceback" not in said
    return time.monotonic() - start


def ask(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(sent)
        return rest_of(line)


@contextmanager
def asked(port, count):
    """The answers that so many clients will have got behind the block, in which all are waiting."""
    answers = []
    with ThreadPoolExecutor(count) as clients:
        waiting = [clients.submit(ask, port, head_of(PICTURE) + PICTURE) for _ in range(count)]
        until(lambda: f"wordmask_in_flight {count}".encode() in ask(port, METRICS))
        yield answers
        answers += [client.result() for client in waiting]


PICTURE = body_of(png())
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_what_was_accepted_is_answered_before_the_service_ends():
    with (
        served("--no-page", "--batch-size", "1", seconds=0.2) as (process, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as half,
        asked(port, 10) as answers,
    ):
        half.sendall(head_of(PICTURE) + PICTURE[:20])
        assert ends(process) < 8
        assert b"503" in rest_of(half)[:20]
    assert [answer[9:12] for answer in answers] == [b"200"] * 10


def test_what_takes_too_long_is_refused_and_the_service_ends_all_the_same():
    with (
        served("--no-page", "--stop-seconds", "1", seconds=60) as (process, port),
        asked(port, 3) as answers,
    ):
        assert ends(process) < 6
    assert [answer[9:12] for answer in answers] == [b"503"] * 3
    assert all(b"being stopped" in answer for answer in answers)


def read_until(line, end):
    received = b""
    while end not in received:
        received += line.recv(1)


def test_open_pages_do_not_keep_the_service_from_ending():
    with live(page=True) as service:
        pages = [service.line(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(8)]
        for page in pages:
            read_until(page, b"</html>")
        start = time.monotonic()
        service.server.should_exit = True
        for page in pages:
            rest_of(page)
    assert time.monotonic() - start < 3


def test_a_request_on_its_way_when_the_service_stops_is_answered():
    """On a connection that was idle when the service was told."""
    with live() as service:
        line = service.line(HEALTHZ)
        read_until(line, b"ok")
        read_until(line, b"}")
        service.server.should_exit = True
        until(lambda: service.connections.is_stopping)
        line.sendall(HEALTHZ)
        answer = rest_of(line)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_what_visitors_upload_is_in_no_file_and_the_folder_of_the_page_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with served() as (process, port):
        (folder,) = tmp_path.glob("wordmask-*")
        picture, url = png(), f"http://127.0.0.1:{port}/gradio_api/upload"
        assert httpx.post(url, files={"files": ("a.png", picture)}, timeout=60).status_code == 200
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == picture]
        ends(process, 60)
    assert not folder.exists()
