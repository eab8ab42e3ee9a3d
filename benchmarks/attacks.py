"""Kinds of hostile requests, each a function that makes one and says how it was answered.

They go to the address of the service that `attack_service.py` has started, and nowhere else.
"""

import base64
import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import attack_pictures as pictures

SEGMENT = "/v1/segment"
BOUNDARY = "----frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
MANY = 1 << 20
NO_ANSWER = [0]
"""The connection was closed, or nothing came in time."""
HOLD = 12.0
"""Seconds that those who hold connections or bodies stay, unless they are sent away before."""


@dataclass
class Target:
    """The service, and the address of this machine that a request comes from."""

    port: int
    address: str
    dice: random.Random
    is_over: Callable[[], bool] = lambda: False

    def line(self, receive_bytes: int | None = None) -> socket.socket:
        line = socket.socket()
        if receive_bytes is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        line.settimeout(15)
        with suppress(OSError):  # not all systems have all of 127.0.0.0/8
            line.bind((self.address, 0))
        line.connect(("127.0.0.1", self.port))
        return line

    def raw(self, *parts: bytes, seconds: float = 15, answers: int = 1) -> list[int]:
        """Every status that comes back for what is sent."""
        with self.line() as line:
            line.settimeout(seconds)
            with suppress(OSError):  # sent away before all was said
                for part in parts:
                    line.sendall(part)
            return statuses(line, answers)

    def send(self, verb: str, path: str, body: bytes = b"", kind: str = "", **headers: str) -> list[int]:
        return self.raw(head(verb, path, len(body), kind, **headers) + body)

    def segment(self, body: bytes, kind: str = JSON) -> list[int]:
        return self.send("POST", SEGMENT, body, kind)

    def hold(self, lines: list[socket.socket], drip: bytes = b"") -> list[int]:
        """Stay on lines, with a byte a second on each, until the service ends them or the time is over."""
        end = time.monotonic() + HOLD
        open_lines = list(lines)
        found: list[int] = []
        while open_lines and time.monotonic() < end and not self.is_over():
            time.sleep(1)
            for line in list(open_lines):
                line.settimeout(0)
                try:
                    if drip:
                        line.send(drip)
                    received = line.recv(4096)
                except BlockingIOError:
                    continue
                except OSError:
                    received = b""
                found += [int(code) for code in STATUS.findall(received)]
                if not received:
                    open_lines.remove(line)
        return found or NO_ANSWER


def head(verb: str, path: str, length: int | None = None, kind: str = "", **headers: str) -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Content-Length: {length}"] if length else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")


def statuses(line: socket.socket, answers: int = 1) -> list[int]:
    received, found = b"", 0
    with suppress(OSError):
        while found < answers and (part := line.recv(65536)):
            received = (received + part)[-(1 << 22) :]
            found = len(STATUS.findall(received))
    return [int(code) for code in STATUS.findall(received)] or NO_ANSWER


def form(
    picture: bytes | None, names: str = "dog, grass", field: str = "image", name: str = "a.png", **more: str
) -> bytes:
    fields = "".join(_field(key, value) for key, value in {"names": names, **more}.items())
    body = fields.encode("utf-8", "surrogatepass")
    if picture is not None:
        start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        body += start.encode("utf-8", "surrogatepass") + picture + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def _field(key: str, value: str) -> str:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'


def as_json(picture: bytes = b"x", names: object = ("dog", "grass"), **more: object) -> bytes:
    return json.dumps({"image": base64.b64encode(picture).decode(), "names": names, **more}).encode()


Kind = Callable[[Target], list[int]]
KINDS: dict[str, Kind] = {}
HOLDERS: dict[str, Kind] = {}
"""Those that stay for a while; they get workers of their own."""


def kind(own: Kind) -> Kind:
    KINDS[own.__name__.replace("_", " ")] = own
    return own


def holder(own: Kind) -> Kind:
    HOLDERS[own.__name__.replace("_", " ")] = own
    return own


def bodies(**made: Callable[[Target], tuple[bytes, str]]) -> None:
    """A kind for each, of what is sent to be segmented."""
    for name, make in made.items():
        KINDS[name.replace("_", " ")] = partial(_segmented, make)


def _segmented(make: Callable[[Target], tuple[bytes, str]], target: Target) -> list[int]:
    return target.segment(*make(target))


bodies(
    empty_body=lambda t: (b"", JSON),
    not_json=lambda t: (t.dice.choice([b"{", b"nul", b"\xff\xfe", b'{"image"']), JSON),
    deep_json=lambda t: (b"[" * 200_000, JSON),
    json_of_many_lists=lambda t: (b'{"names": [' + b"[]," * 1_000_000 + b"[]]}", JSON),
    json_of_wrong_types=lambda t: (t.dice.choice([b"[1]", b'{"image": 1}', b'{"names": {}}', b"3", b'"a"']), JSON),
    json_of_a_long_number=lambda t: (b'{"image": ' + b"9" * 200_000 + b"}", JSON),
    json_of_one_key_often=lambda t: (b"{" + b'"image": "AAAA",' * 200_000 + b'"names": ["a"]}', JSON),
    base64_of_nothing=lambda t: (b'{"image": "' + b"!" * 1_000_000 + b'", "names": ["a"]}', JSON),
    pickle=lambda t: (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "application/octet-stream"),
    text_as_a_form=lambda t: (b"names=dog&image=/etc/passwd", "application/x-www-form-urlencoded"),
    xml_entities=lambda t: (b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><a>&d;</a>', "application/xml"),
    form_without_boundary=lambda t: (form(b"x"), "multipart/form-data"),
    form_of_a_long_boundary=lambda t: (form(b"x"), "multipart/form-data; boundary=" + "b" * 20_000),
    form_cut_short=lambda t: (form(pictures.photograph())[:-60], FORM),
    form_of_many_parts=lambda t: ((_field("a", "b") * 100_000).encode(), FORM),
    form_of_long_headers=lambda t: (f"--{BOUNDARY}\r\nX: {'x' * MANY}\r\n\r\n\r\n".encode(), FORM),
    form_of_line_ends=lambda t: (form(b"\r" * 4 * MANY), FORM),
    form_of_two_pictures=lambda t: (form(b"x")[: -len(BOUNDARY) - 6] + form(b"x"), FORM),
    form_of_other_fields=lambda t: (form(b"x", image_url="http://127.0.0.1/", weights="/etc/passwd"), FORM),
    polygons_and_run_lengths=lambda t: (as_json(masks=[{"counts": "0" * 1000, "size": [1 << 30] * 2}]), JSON),
    file_name_that_climbs=lambda t: (form(b"x", name="../../../../etc/passwd\0"), FORM),
    too_large=lambda t: (form(bytes(21 * MANY)), FORM),
    many_names=lambda t: (as_json(names=[f"n{i}" for i in range(100_000)]), JSON),
    long_names=lambda t: (as_json(names=["n" * MANY] * 4), JSON),
    half_characters=lambda t: (b'{"image": "AAAA", "names": ["\\ud800", "\\udfff"]}', JSON),
    names_that_write_to_terminals=lambda t: (as_json(names=["\x1b[2J\x1b]0;x\x07", "\u202e", "a\0b"]), JSON),
    names_as_yaml=lambda t: (form(pictures.photograph(), "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b,*b]"), FORM),
    new_names_each_time=lambda t: (
        form(pictures.photograph(), ", ".join(f"thing {t.dice.getrandbits(60):x}" for _ in range(100))),
        FORM,
    ),
    path_as_a_picture=lambda t: (b'{"image": "/etc/passwd", "names": ["a"]}', JSON),
    address_as_a_picture=lambda t: (b'{"image": "http://127.0.0.1/a.png", "names": ["a"]}', JSON),
    wrong_method_and_format=lambda t: (form(pictures.photograph(), method="../x" * 20, format="exe"), FORM),
    **{bomb.__name__: lambda t, bomb=bomb: (form(bomb(), "dog, grass"), FORM) for bomb in pictures.BOMBS},
)


@kind
def garbage(target: Target) -> list[int]:
    start = target.dice.choice(
        [b"\x16\x03\x01\x02\0\x01\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 50, b"SSH-2.0\r\n"]
    )
    return target.raw(start + target.dice.randbytes(500) + b"\r\n\r\n", seconds=3)


@kind
def cut_anywhere(target: Target) -> list[int]:
    whole = head("POST", SEGMENT, 1000, FORM) + form(pictures.photograph())
    with target.line() as line:
        line.sendall(whole[: target.dice.randrange(1, len(whole))])
    return NO_ANSWER


@kind
def one_byte_flipped(target: Target) -> list[int]:
    body = bytearray(form(pictures.photograph()))
    body[target.dice.randrange(len(body))] ^= 1 << target.dice.randrange(8)
    return target.segment(bytes(body), FORM)


@kind
def huge_headers(target: Target) -> list[int]:
    return target.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * MANY + b"\r\n\r\n")


@kind
def very_many_headers(target: Target) -> list[int]:
    return target.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 9_000 + b"\r\n")


@kind
def wrong_verbs(target: Target) -> list[int]:
    verb = target.dice.choice(["PUT", "DELETE", "TRACE", "CONNECT", "PATCH", "OPTIONS", "FOO", "HEAD", "PROPFIND"])
    return target.send(verb, target.dice.choice([SEGMENT, "/", "/healthz", "/page/ask", "/config", "*"]))


@kind
def paths_that_climb(target: Target) -> list[int]:
    steps = target.dice.choice(["..", "%2e%2e", "..%2f..", "%c0%ae%c0%ae", "....//", "..\\", "%00"])
    start = target.dice.choice(["/", "/static/", "/assets/", "/page/", "/gradio_api/file=", "/v1/"])
    return target.send("GET", start + "/".join([steps] * 6) + "/etc/passwd")


@kind
def paths_of_all_sorts(target: Target) -> list[int]:
    path = target.dice.choice(
        ["/" + "a" * 30_000, "/%ff%fe", "//evil.example/", "/?" + "&".join(["a=b"] * 5000), "/\t"]
    )
    return target.send("GET", path)


@kind
def wrong_lengths(target: Target) -> list[int]:
    length = target.dice.choice(["-1", "1e9", "99999999999999999999", "0x10", "5, 6", "", "1000000000"])
    return target.raw(head("POST", SEGMENT, None, JSON, Content_Length=length) + b"{}", seconds=3)


@kind
def two_lengths(target: Target) -> list[int]:
    return target.raw(
        b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}GET / HTTP/1.1\r\n",
        seconds=3,
    )


@kind
def smuggled(target: Target) -> list[int]:
    encoding = target.dice.choice(["chunked", "identity, chunked", "x, chunked", "chunked\r\nTransfer-Encoding: x"])
    start = f"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: {encoding}\r\n\r\n"
    return target.raw(start.encode() + b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", seconds=3)


@kind
def wrong_chunks(target: Target) -> list[int]:
    chunks = target.dice.choice(
        [b"zz\r\n", b"-5\r\n", b"f" * 40 + b"\r\n", b"5\r\nabcdefgh\r\n", b"1;" + b"x" * 100_000]
    )
    return target.raw(head("POST", SEGMENT, None, JSON, Transfer_Encoding="chunked"), chunks, seconds=3)


@kind
def many_small_chunks(target: Target) -> list[int]:
    return target.raw(
        head("POST", SEGMENT, None, JSON, Transfer_Encoding="chunked"), b"1\r\n[\r\n" * 50_000 + b"0\r\n\r\n"
    )


@kind
def wrong_chunks_amid_an_answer(target: Target) -> list[int]:
    return target.raw(head("GET", "/healthz", None, "", Transfer_Encoding="chunked") + b"zz\r\nxx", seconds=2)


@kind
def old_http(target: Target) -> list[int]:
    return target.raw(
        target.dice.choice([b"GET /\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"]),
        seconds=3,
    )


@kind
def upgrades(target: Target) -> list[int]:
    to = target.dice.choice(["websocket", "h2c", "TLS/1.3"])
    return target.send("GET", "/gradio_api/queue/data", Upgrade=to, Connection="Upgrade", Sec_WebSocket_Key="AAAA")


@kind
def bodies_where_none_belongs(target: Target) -> list[int]:
    return target.send("GET", "/healthz", bytes(MANY))


@kind
def forwarded_headers(target: Target) -> list[int]:
    evil = {
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_For": "1.2.3.4",
        "X_Forwarded_Proto": "file",
        "Forwarded": "host=x",
    }
    return target.send("GET", target.dice.choice(["/", "/config", "/gradio_api/info"]), **evil)


@kind
def wrong_hosts(target: Target) -> list[int]:
    return target.raw(
        b"GET / HTTP/1.1\r\nHost: "
        + target.dice.choice([b"a b", b"\xff", b"a@b", b"[::1", b"a\r\nHost: b"])
        + b"\r\n\r\n"
    )


@kind
def wrong_keys(target: Target) -> list[int]:
    return target.send("POST", "/login", b"username=a&password=" + b"x" * 9000, "application/x-www-form-urlencoded")


@kind
def pipelined_small(target: Target) -> list[int]:
    return target.raw(head("GET", "/healthz") * 300, answers=300)


@kind
def pipelined_pictures(target: Target) -> list[int]:
    body = form(pictures.photograph())
    return target.raw((head("POST", SEGMENT, len(body), FORM) + body) * 10, answers=10)


@kind
def cancelled(target: Target) -> list[int]:
    """Whole requests whose senders do not wait for the answer."""
    body = form(target.dice.choice([pictures.photograph(), pictures.png_of_one_colour()]))
    for _ in range(10):
        with target.line() as line:
            line.sendall(head("POST", SEGMENT, len(body), FORM) + body)
    return NO_ANSWER


@kind
def half_closed(target: Target) -> list[int]:
    body = form(pictures.photograph())
    with target.line() as line:
        line.sendall(head("POST", SEGMENT, len(body), FORM) + body)
        line.shutdown(socket.SHUT_WR)
        return statuses(line)


@kind
def metrics_flood(target: Target) -> list[int]:
    return target.raw(head("GET", "/metrics") * 50, answers=50)


@kind
def gradio_junk(target: Target) -> list[int]:
    path = target.dice.choice(
        [
            "run/predict",
            "run/x",
            "queue/join",
            "queue/data?session_hash=x",
            "call/x",
            "reset",
            "cancel",
            "component_server",
            "api/predict",
            "stream/a/b/c/playlist.m3u8",
            "proxy=http://127.0.0.1/",
            "upload_progress?upload_id=x",
            "vibe-edit",
        ]
    )
    data = [
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "is_stream": True}],
        None,
        -1,
        {},
        "x" * 10_000,
    ]
    asked = {
        "data": target.dice.choice(data),
        "fn_index": target.dice.choice([-1, 10**9, None, "x", 0, 1.5]),
        "session_hash": target.dice.choice([None, "", "../..", 5, "s" * 100_000]),
        "event_data": target.dice.choice([None, 1, {"a": {}}]),
        "trigger_id": target.dice.choice([None, -1, "x"]),
    }
    return target.send("POST", f"/gradio_api/{path}", json.dumps(asked).encode(), JSON)


@kind
def files_of_others(target: Target) -> list[int]:
    path = target.dice.choice(
        ["/etc/passwd", "http://127.0.0.1/", "//host/a", "../../x", "x/../../y", "%2fetc%2fpasswd"]
    )
    return target.send("GET", f"/gradio_api/file={path}")


@kind
def page_questions_of_junk(target: Target) -> list[int]:
    asked = target.dice.choice(
        [
            {},
            [],
            5,
            {"picture": "x", "names": 3},
            {"picture": "example-0-" + "x" * 20, "names": ["a"] * 500, "method": "maskclip"},
            {"picture": "p" * 10000, "names": [], "method": "x"},
            {"picture": "example-9-" + "x" * 20, "names": [], "method": ""},
        ]
    )
    return target.send("POST", "/page/ask", json.dumps(asked).encode(), JSON)


@kind
def page_tokens_of_junk(target: Target) -> list[int]:
    token = target.dice.choice(["x", "a" * 5000, "%2e%2e", "example-0-abc"])
    return target.send("GET", f"/page/{token}/coco.json?panel={target.dice.choice(['-1', 'x', '9' * 50, '0'])}")


@kind
def uploads_of_junk(target: Target) -> list[int]:
    name = target.dice.choice(["../../x", "a\0b", "", "x" * 5000, ".", "\udcff", "CON"])
    return target.send("POST", "/gradio_api/upload", form(target.dice.randbytes(1000), field="files", name=name), FORM)


@kind
def upload_flood(target: Target) -> list[int]:
    return [code for _ in range(4) for code in upload(target, target.dice.randbytes(MANY))[0]]


@kind
def bomb_on_the_page(target: Target) -> list[int]:
    """The same small file of 24 megapixels, and questions about it."""
    found, token = upload(target, pictures.png_of_one_colour())
    asked = {"picture": token, "names": ["dog"], "method": "maskclip"}
    return found + target.send("POST", "/page/ask", json.dumps(asked).encode(), JSON)


def upload(target: Target, picture: bytes) -> tuple[list[int], str]:
    """(how it was answered, the picture's token)"""
    body = form(picture, field="files")[len(_field("names", "dog, grass")) :]
    with target.line() as line:
        line.sendall(head("POST", "/gradio_api/upload", len(body), FORM, Connection="close") + body)
        received = b"".join(_received(line))
    token = re.search(rb'\["([\w-]+)/', received)
    return [int(code) for code in STATUS.findall(received)] or NO_ANSWER, token[1].decode() if token else "x"


def _received(line: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):
        while part := line.recv(65536):
            yield part


def holding(
    target: Target, number: int, *, sent: bytes = b"", drip: bytes = b"", receive_bytes: int | None = None
) -> list[int]:
    """So many connections at once, the same said on each."""
    with ExitStack() as stack:
        lines = []
        for _ in range(number):
            with suppress(OSError):  # sent away at once
                lines.append(stack.enter_context(target.line(receive_bytes)))
                lines[-1].sendall(sent)
        return target.hold(lines, drip)


@holder
def idle_connections(target: Target) -> list[int]:
    return holding(target, 300)


@holder
def half_sent_heads(target: Target) -> list[int]:
    return holding(target, 150, sent=b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nX-A: ", drip=b"a")


@holder
def slow_bodies(target: Target) -> list[int]:
    return holding(target, 64, sent=head("POST", SEGMENT, 10_000, JSON) + b"{", drip=b" ")


@holder
def bodies_that_stand_still(target: Target) -> list[int]:
    return holding(target, 6, sent=head("POST", SEGMENT, 19 * MANY, FORM) + bytes(18 * MANY))


@holder
def slow_readers(target: Target) -> list[int]:
    """Of a large upload, which the page gives back."""
    codes, token = upload(target, pictures.noise())
    get = head("GET", f"/gradio_api/file={token}/a.png")
    return codes + holding(target, 150, sent=get, receive_bytes=4096)


@holder
def slow_readers_of_masks(target: Target) -> list[int]:
    body = form(pictures.png_of_one_colour(), ", ".join(f"n{i}" for i in range(50)))
    return holding(target, 20, sent=head("POST", SEGMENT, len(body), FORM) + body, receive_bytes=4096)


@holder
def bombs_at_once(target: Target) -> list[int]:
    body = form(pictures.png_of_one_colour())
    return holding(target, 40, sent=head("POST", SEGMENT, len(body), FORM) + body)


@holder
def streams(target: Target) -> list[int]:
    return holding(target, 20, sent=head("GET", f"/gradio_api/heartbeat/{target.dice.getrandbits(40):x}"))


@holder
def promises_of_bodies(target: Target) -> list[int]:
    """Asked whether to go on, they do not."""
    return holding(target, 40, sent=head("POST", SEGMENT, 15 * MANY, JSON, Expect="100-continue"))
