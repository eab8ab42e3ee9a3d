"""Slow senders, slow readers and idle connections over real sockets: they cost little, and shut nobody out."""

import io
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from support.live_service import (
    BOUNDARY,
    are_answered,
    body_of,
    head_of,
    live,
    png,
    request_of,
    rest_of,
    trickle,
    until,
)
from support.painted import Painted
from wordmask.serving import ServeSettings, reading, strict_http
from wordmask.serving.service import Service

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200"


def is_closed(line, seconds=5):
    line.settimeout(seconds)
    try:
        return rest_of(line) is not None
    except TimeoutError:
        return False


def test_what_is_small_is_sent_without_delay():
    with live() as service:
        assert service.line(HEALTHZ).recv(1000).startswith(OK)
        (connection,) = service.connections._open
        own = connection.transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_slow_bodies_shut_out_neither_others_nor_their_own_client():
    body = body_of(png())
    with live(in_flight=4, arriving=4, address_share=1) as service:
        slow = [service.line(head_of(body) + body[:10]) for _ in range(4)]
        until(lambda: len(service.service.arrivals) == 4)
        time.sleep(0.2)  # they lag now
        assert service.service.places.held == 0
        assert service.segment(png(), "127.0.0.2").startswith(OK)
        assert service.segment(png()).startswith(OK)
        assert any(b"others needed the room" in line.recv(1000) for line in slow[:2])


def test_bytes_of_slow_bodies_make_room_for_others():
    body = body_of(bytes(1000))
    with live(body_bytes=2500, max_bytes=2000) as service:
        slow = service.line(head_of(body) + body[:-1], "127.0.0.2")
        until(lambda: service.service.arrivals.bytes.held > 1000)
        time.sleep(0.2)
        answer = service.segment(png() + bytes(1800 - len(png())))  # with it more than there may be
        assert not answer.startswith(b"HTTP/1.1 503")
        assert b"others needed the room" in slow.recv(1000)
        slow.close()
        until(lambda: service.service.arrivals.bytes.held == 0)


@pytest.mark.parametrize("sent", [0, 100])
def test_a_body_that_stands_still_or_trickles_is_sent_away(sent):
    body = body_of(png())
    with live(stall_seconds=0.3, slowest_rate=1000) as service:
        line = service.line(head_of(body) + body[:sent])
        if sent:
            trickle(line)
        assert line.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_body_that_keeps_pace_is_waited_for():
    sent = request_of(png(200, 200, noise=True))
    with live(stall_seconds=1, slowest_rate=1000) as service:
        line = service.line()
        for start in range(0, len(sent), len(sent) // 14):
            line.sendall(sent[start : start + len(sent) // 14])
            time.sleep(0.1)  # more than the stall in all
        assert line.recv(100).startswith(OK)


def test_idle_connections_and_half_sent_heads_are_closed():
    with live(idle_seconds=0.5, header_seconds=0.5) as service:
        idle, half, used = (service.line(sent) for sent in (b"", b"POST /v1/segment HTT", HEALTHZ + b"GET /heal"))
        trickle(half)
        assert all(is_closed(line) for line in (idle, half, used))
        assert sum(service.connections.ended.values()) == 3


def test_idle_connections_beyond_the_limit_make_room():
    with live(connections=20, address_share=0.5) as service:
        for i in range(60):
            service.line(address=f"127.0.0.{1 + i % 3}")
        assert service.segment(png()).startswith(OK)
        assert service.segment(png(), "127.0.0.9").startswith(OK)
        assert len(service.connections) <= 20


class Held(Painted):
    """Looks when it is let."""

    def __init__(self):
        super().__init__()
        self.entered, self.open, self.widths = threading.Event(), threading.Event(), []

    def look_many(self, images, sources):
        self.entered.set()
        assert self.open.wait(10)
        self.widths += [image.shape[1] for image in images]
        return super().look_many(images, sources)


def test_a_connection_in_use_makes_no_room_and_the_next_is_told():
    held = Held()
    with live(held, connections=2, address_share=1) as service:
        busy = [service.line(request_of(png())) for _ in range(2)]
        until(lambda: service.service.places.held == 2)
        assert service.ask(b"").startswith(b"HTTP/1.1 503")
        held.open.set()
        assert are_answered(busy)


def test_the_connections_of_a_named_proxy_are_not_counted_as_one_clients():
    with live(connections=20, address_share=0.1, trusted_proxies=("127.0.0.1",)) as service:
        for _ in range(10):
            service.line()
        until(lambda: len(service.connections) == 10)


SIDE = 1200
"""Of a picture of noise whose answer the system does not hold for a slow reader."""


def read_slowly(service):
    service.slow_reader(request_of(png(SIDE, SIDE, noise=True)))
    until(lambda: any(connection.sending for connection in service.connections._open))


def test_what_slow_readers_leave_is_counted_until_they_are_cut_off():
    with live(stall_seconds=1) as service:
        read_slowly(service)
        assert service.service.places.held == 0
        assert service.service.pictures.held > 2**19  # the answer, no more the picture
        until(lambda: service.connections.ended["slow_reader"] == 1)
        until(lambda: service.service.pictures.held == 0)


def test_the_slowest_reader_makes_room_for_who_waits(monkeypatch):
    monkeypatch.setattr("wordmask.serving.budget.IS_SHORT", 0.1)
    monkeypatch.setattr("wordmask.serving.connections.IS_SLOW", 0.1)
    with live(max_pixels=SIDE**2, picture_bytes=1, stall_seconds=60) as service:  # one at a time
        read_slowly(service)
        assert service.segment(png(SIDE, SIDE), "127.0.0.2").startswith(OK)
        assert service.connections.ended["slow_reader"] == 1


def test_what_is_no_http_amid_an_answer_leaves_no_traceback(caplog):
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with live() as service:
        for tail in (b"zz\r\n", b"5\r\nabcdefgh", b"ffffffffffffffffffffffff\r\n"):
            for first in (head, head.replace(b"POST", b"GET"), HEALTHZ):
                with service.line(first) as line:
                    time.sleep(0.05)
                    line.sendall(tail)
                    is_closed(line, 0.2)
        assert service.segment(png()).startswith(OK)
    assert [record for record in caplog.records if record.exc_info] == []


def test_clients_take_turns_before_the_network():
    held = Held()
    with live(held, batch_size=1, batch_wait=0, waiting=20) as service:
        lines = [service.line(request_of(png()))]
        assert held.entered.wait(10)
        lines += [service.line(request_of(png())) for _ in range(6)]
        until(lambda: service.service.batcher.length == 6)
        lines.append(service.line(request_of(png(width=41)), "127.0.0.2"))
        until(lambda: service.service.batcher.length == 7)
        held.open.set()
        assert are_answered(lines)
    assert held.widths.index(41) <= 2


class Laborious(Painted):
    """Looks at once, and takes its time over the pixels of a large picture."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()

    def look_many(self, images, sources):
        seen = super().look_many(images, sources)
        for own in seen:
            if own.image.shape[1] > 1000:
                own.answer = lambda names, answer=own.answer: self.open.wait(10) and answer(names)
        return seen


def test_small_pictures_do_not_wait_for_the_pixels_of_large_ones(monkeypatch):
    monkeypatch.setattr("wordmask.serving.service.LARGE", 1_000_000)
    laborious = Laborious()
    with live(laborious) as service:
        large = [service.line(request_of(png(800, 1200))) for _ in range(4)]
        until(lambda: len(laborious.looked) == 4)
        assert service.segment(png()).startswith(OK)
        laborious.open.set()
        assert are_answered(large)


def test_small_pictures_do_not_wait_for_the_decoding_of_large_ones(monkeypatch):
    monkeypatch.setattr("wordmask.serving.service.LARGE_PICTURE", 1_000_000)
    is_open, at_work, most = threading.Event(), set(), []

    def decoded(content, settings, pool, deadline, *, take_room, **_):
        image = np.array(Image.open(io.BytesIO(content)))
        take_room(*image.shape[:2])
        if image.shape[1] > 1000:
            at_work.add(threading.get_ident())
            most.append(len(at_work))
            assert is_open.wait(10)
            at_work.discard(threading.get_ident())
        return image

    monkeypatch.setattr("wordmask.serving.service.decode", decoded)
    with live(decoders=2) as service:
        large = [service.line(request_of(png(900, 1200)), f"127.0.0.{2 + i}") for i in range(3)]
        until(lambda: at_work and service.service.places.held == 3)
        assert service.segment(png()).startswith(OK)
        is_open.set()
        assert are_answered(large)
    assert most == [1, 1, 1]


@pytest.mark.parametrize(("decoders", "are_apart"), [(1, False), (2, True), (3, True)])
def test_large_pictures_have_decoders_of_their_own(decoders: int, are_apart: bool, monkeypatch):
    monkeypatch.setattr("wordmask.serving.service.LARGE_PICTURE", 1_000_000)
    used = []
    monkeypatch.setattr(
        "wordmask.serving.service.decode",
        lambda *told, **options: (used.append((told[2], len(told[0]))), reading.decode(*told, **options))[1],
    )
    small, large = png(), png(900, 1200)
    with live(decoders=decoders) as service:
        for picture in (small, large):
            assert service.segment(picture).startswith(OK)
        own = service.service
        assert (own.large_pool is not own.pool) == are_apart
        assert used == [(own.pool, len(small)), (own.pool, len(large)), (own.large_pool, len(large))]


def test_answers_beyond_the_budget_are_refused():
    held = {"max_bytes": 10 * 2**20, "max_pixels": 2**20, "picture_bytes": 24 * 2**20, "address_share": 1}
    with live(page=True, stall_seconds=60, **held) as service:
        files = {"files": ("a.png", png() + bytes(9 * 2**20))}
        upload = httpx.post(f"http://127.0.0.1:{service.port}/gradio_api/upload", files=files, timeout=30)
        ask = f"GET /gradio_api/file={upload.json()[0]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        for _ in range(4):
            service.slow_reader(ask)
        until(lambda: service.service.pictures.held > 17 * 2**20)
        assert service.service.pictures.held <= 24 * 2**20
        assert service.ask(ask).startswith(b"HTTP/1.1 503")


def test_who_leaves_is_not_worked_for():
    held = Held()
    with live(held, batch_size=1, batch_wait=0) as service:
        first = service.line(request_of(png()))
        assert held.entered.wait(10)
        gone = [service.line(request_of(png())) for _ in range(5)]
        until(lambda: service.service.batcher.length == 5)
        for line in gone:
            line.close()
        until(lambda: service.service.places.held == 1)
        held.open.set()
        assert are_answered([first])
    assert len(held.looked) == 1


def test_a_clients_large_pictures_do_not_take_all_its_places(monkeypatch):
    monkeypatch.setattr("wordmask.serving.service.MOST_WAITING", 2)
    held, large = Held(), request_of(png(1000, 1000))
    limits = {"max_pixels": 1_000_000, "picture_bytes": 9_000_000, "address_share": 1, "in_flight": 4}  # one and a bit
    with live(held, **limits) as service:
        lines = [service.line(large)]
        assert held.entered.wait(10)
        lines += [service.line(large) for _ in range(2)]
        until(lambda: service.service.pictures.waiting_of("127.0.0.1") == 2)
        assert b"too many of one client" in service.ask(large)
        lines.append(service.line(request_of(png())))
        until(lambda: service.service.batcher.length == 1)
        held.open.set()
        assert are_answered(lines)


def test_what_is_decoded_after_its_time_leaves_nothing_behind():
    service = Service({"painted": Painted()}, ServeSettings())
    with service.visit("a") as visit:
        pass
    assert not visit.picture.take(10)
    assert service.pictures.held == 0
    service.close()


def chunked(*chunks):
    head = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + sent + b"0\r\n\r\n"


def test_a_body_in_very_many_small_chunks_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(strict_http, "FREE_CHUNKS", 10)
    body = body_of(png(60, 60, noise=True))
    with live() as service:
        few = [body[start : start + 150] for start in range(0, len(body), 150)]  # more than are free, and long enough
        assert len(few) > 10
        assert service.ask(chunked(*few)).startswith(OK)
        assert service.ask(chunked(*(bytes([own]) for own in body))).startswith(b"HTTP/1.1 400")
        assert service.segment(png()).startswith(OK)


def test_a_head_of_very_many_lines_is_refused():
    start = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    body = b"\n" * 1000  # no lines of the head
    whole = start + b"Content-Length: 1000\r\n\r\n" + body
    many = start + b"A: b\r\n" * 200
    with live() as service:
        for cut in (0, 20, whole.index(b"\r\n\r\n") + 1, whole.index(b"\r\n\r\n") + 3):
            with service.line(whole[:cut]) as line:
                time.sleep(0.05)
                line.sendall(whole[cut:])
                assert rest_of(line).startswith(b"HTTP/1.1 415")
        assert service.ask(many).startswith(b"HTTP/1.1 400")  # before it has ended
        assert service.ask(many + b"\r\n").startswith(b"HTTP/1.1 400")
        behind = service.ask(HEALTHZ + many + b"\r\n")
        assert behind.startswith(OK)
        assert behind.count(b"HTTP/1.1 400") == 1
        trailers = start + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 200 + b"\r\n"
        assert b"HTTP/1.1 200" not in service.ask(trailers)


def test_a_body_that_says_it_is_too_large_is_not_kept_and_a_huge_one_not_waited_for():
    with live(max_bytes=1000) as service:
        line = service.line(head_of(bytes(3000)) + bytes(900))
        until(lambda: len(service.service.arrivals) == 1)
        time.sleep(0.05)
        assert service.service.arrivals.bytes.held == 0
        line.sendall(bytes(2100))
        assert line.recv(1000).startswith(b"HTTP/1.1 413")
        assert service.line(head_of(bytes(5000))).recv(1000).startswith(b"HTTP/1.1 413")


def test_what_is_short_needs_no_thread_and_what_is_hard_to_read_gets_one(monkeypatch):
    turns, turn = [], Service.in_thread

    async def noted(self, work, *arguments, **options):
        turns.append(getattr(work, "func", work).__name__)
        return await turn(self, work, *arguments, **options)

    monkeypatch.setattr(Service, "in_thread", noted)
    with live() as service:
        assert service.segment(png()).startswith(OK)
        assert turns == ["written"]
        turns.clear()
        field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="names"\r\n\r\nred\r\n'.encode()
        body = field * 30 + body_of(png())
        assert not service.ask(head_of(body, "Connection: close") + body).startswith(b"HTTP/1.1 5")
        assert turns[0] == "parse"
