"""The access log: a line of JSON for each answer, whole, bounded, and never waited for."""

import json
import os
import threading
import time

import pytest
from fastapi.testclient import TestClient

from support.live_service import live, png, request_of, until
from support.painted import NAMES, Painted
from support.served_client import form
from wordmask.serving import ServeSettings, build_app
from wordmask.serving import access_log as module
from wordmask.serving.access_log import AccessLog, shown_path
from wordmask.serving.settings import ServeError

FIELDS = ["time", "address", "verb", "path", "status", "seconds", "bytes", "method", "pictures"]


@pytest.fixture
def log(tmp_path):
    log = AccessLog(str(tmp_path / "access.log"))
    yield log
    log.close()


def served(log, **settings):
    app = build_app({"painted": Painted()}, ServeSettings(**settings), page=False, access_log=log)
    return TestClient(app, raise_server_exceptions=False)


def lines_of(log):
    log.close()
    return [json.loads(line) for line in log._path.read_text().splitlines()]


def test_each_answer_is_a_line_with_what_it_was(log):
    with served(log) as client:
        answer = client.post("/v1/segment?key=secret", **form(png()))
        client.post("/v1/segment_many", files=[("image", png())] * 3, data={"names": NAMES})
        client.post("/v1/segment", **form(b"hello"))
        client.get("/v1/models")
        client.get("/v1/nothing")
    one, many, bad, models, nothing = lines_of(log)
    assert list(one) == FIELDS
    assert (one["verb"], one["path"], one["status"], one["method"]) == ("POST", "/v1/segment", 200, "painted")
    assert one["bytes"] == len(answer.content)
    assert 0 < one["seconds"] < 10
    assert (one["pictures"], many["pictures"], bad["pictures"], models["pictures"]) == (1, 3, 0, 0)
    assert (bad["status"], models["method"], nothing["status"]) == (400, None, 404)
    assert "secret" not in log._path.read_text()


def test_the_address_is_who_trusted_proxies_say(tmp_path):
    for trusted, address in (((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.9")):
        file = tmp_path / f"{len(trusted)}.log"
        log = AccessLog(str(file))
        with live(trusted_proxies=trusted) as service:
            service.service.access_log = log
            head, _, body = request_of(png()).partition(b"\r\n")
            service.ask(head + b"\r\nX-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n" + body)
        assert lines_of(log)[0]["address"] == address


def test_what_a_client_writes_stays_within_its_line(log):
    with live() as service:
        service.service.access_log = log
        path = "/a%0A%1B%5B31m%22%E2%80%AE" + "%FF" * 2000
        service.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    log.close()
    written = log._path.read_bytes()
    assert written.count(b"\n") == 1
    assert not {*written} & {*range(32), *range(127, 256)} - {ord("\n")}
    assert len(written) < 2000
    assert json.loads(written)["path"].startswith('/a\n\x1b[31m"\u202e')


def test_an_address_that_opens_what_a_visitor_was_shown_is_hidden():
    assert shown_path("/page/4xQ2abcdefghijk_lmno-w/coco.json") == "/page/***/coco.json"
    assert shown_path("/gradio_api/file=4xQ2abcdefghijk_lmno-w/photo.png") == "/gradio_api/file=***/photo.png"
    assert shown_path("/assets/index-BQDbSp5cabcdefghijkl.js") == "/assets/index-BQDbSp5cabcdefghijkl.js"
    assert len(shown_path("/a" * 1000)) == module.LONGEST_PATH


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be moved")
def test_a_file_that_was_moved_away_is_begun_anew(log, tmp_path):
    log.write(number=1)
    until(lambda: log._path.stat().st_size)
    log._path.rename(tmp_path / "access.log.1")
    log.write(number=2)
    until(log._path.exists)
    log.reopen()
    log.write(number=3)
    assert [line["number"] for line in lines_of(log)] == [2, 3]
    assert json.loads((tmp_path / "access.log.1").read_text())["number"] == 1
    again = AccessLog(str(log._path))  # and a new service goes on where the last one ended
    again.write(number=4)
    assert len(lines_of(again)) == 3


def test_nobody_waits_for_a_slow_disk_and_what_is_lost_is_counted(log, monkeypatch):
    held = threading.Event()
    append = log._append
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    monkeypatch.setattr(log, "_append", lambda lines: held.wait(10) and append(lines))
    log.write(number=0)
    until(lambda: not log._lines)
    start = time.perf_counter()
    for number in range(1, 9):
        log.write(number=number)
    assert time.perf_counter() - start < 1
    assert log.lost == {"full": 3}
    held.set()
    assert [line["number"] for line in lines_of(log)] == list(range(6))


def test_a_full_disk_costs_lines_and_no_answers(log, monkeypatch, caplog):
    def full(file, data):
        raise OSError(28, "No space left on device")

    with served(log) as client:
        with monkeypatch.context() as patched:
            patched.setattr(module.os, "write", full)
            for _ in range(3):
                assert client.get("/v1/models").status_code == 200
                until(lambda: not log._lines)
            until(lambda: log.lost["unwritable"] == 3)
        assert [record.message for record in caplog.records if "access log" in record.message] == [
            "the access log cannot be written: [Errno 28] No space left on device"
        ]
        assert 'wordmask_access_log_lost_total{why="unwritable"} 3' in client.get("/metrics").text
    assert len(lines_of(log)) == 1


@pytest.mark.parametrize("place", ["nowhere/access.log", ".", "/dev/null"])
def test_a_log_that_cannot_be_written_is_refused_before_anything_is_loaded(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServeError, match="--access-log"):
        AccessLog(place)


def test_standard_output_takes_it_too(capfd):
    log = AccessLog("-")
    log.write(number=1)
    log.reopen()
    log.close()
    assert json.loads(capfd.readouterr().out)["number"] == 1
