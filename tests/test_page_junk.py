"""What is sent to the page's addresses by those who try: every answer is in words, and none fails."""

import itertools
import json
import re

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from support.painted import Painted
from wordmask.serving import ServeSettings, build_app

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PARTS = (
    *("0", "predict", "-1", "..", "%00", "%0d%0a", "..%2f..%2f..%2fetc%2fpasswd", "%ff%fe", "\N{SNOWMAN}", "a" * 2000),
    *("http:%2f%2f127.0.0.1:9%2fx", "/etc/passwd", "nul\\..", "'; --", "{}", "%2e%2e/%2e%2e/config", "example-0-a"),
)
QUERIES = ("", "?a=1", "?deep_link=../x", "?upload_id=%00", "?panel=x", "?panel=-1", "?__sign=%ff", "?" + "a" * 3000)
FILE = {"path": "/etc/passwd", "url": "http://127.0.0.1:9/x", "is_stream": True, "meta": {"_type": "gradio.FileData"}}
BODIES = tuple(
    body if isinstance(body, bytes) else json.dumps(body).encode()
    for body in (
        *(b"", b"{", b"\x00", b"\xff\xfe{}", b"[" * 5000, b'{"a":' * 5000, b'"\\ud800"', b"1e999", b"NaN"),
        *(None, [], "text", 0, {}, {"data": None}, {"data": [FILE], "fn_index": 0, "session_hash": "x"}),
        {"data": [FILE, None, [FILE]], "fn_index": "0", "session_hash": ["x"], "event_data": {"a": 1}},
        {"data": {"0": []}, "fn_index": -1, "session_hash": "\0", "trigger_id": "x", "batched": True},
        {"event_id": "x", "session_hash": "y", "fn_index": 10**30},
        {"picture": "a", "names": [], "method": 3},
        {"picture": "a" * 5000, "names": ["a"], "method": "painted"},
        {"picture": "example-0-" + "a" * 32, "names": [["a"]], "method": "painted"},
        {"picture": "example-0-" + "a" * 32, "names": ["\ud800", "\0", "a" * 5000], "method": "painted"},
        {"picture": "example-0-" + "a" * 32, "names": ["a"], "method": "\ud800", "beside": {}},
        {"picture": "example-0-" + "a" * 32, "names": ["a"], "method": "painted", "more": 1},
    )
)
KINDS = (
    *("application/json", "", "text/plain", "multipart/form-data", "multipart/form-data; boundary=\xff", "/" * 300),
    *("multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "application/json; charset=junk"),
)
HEADERS = (
    *({}, {"cookie": "access-token-x=y; \xff=;;;"}, {"range": "bytes=9-1,-,x"}, {"accept-encoding": "br;q=x"}),
    *({"origin": "null", "access-control-request-method": "POST"}, {"if-modified-since": "never"}),
    *({"x-forwarded-host": "evil.example\0"}, {"content-length": "-1"}),
)


@pytest.fixture(scope="module")
def client():
    with TestClient(build_app({"painted": Painted()})) as client:
        yield client


def routes_of(router):
    for route in router.routes:
        yield from routes_of(route.original_router) if hasattr(route, "original_router") else [route]


def gradio_of(app):
    return next(route for route in app.routes if isinstance(route, Mount))


def addresses(app):
    """Of gradio and of the page's own, as they are registered: an update that brings new ones brings them here."""
    known = [str(getattr(route, "path", "")) for route in routes_of(app)]
    own = [path for path in known if path.startswith(("/page", "/gradio_api"))]
    gradios = [route.path for route in routes_of(gradio_of(app).app)]
    assert (len(gradios) > 50, len(own) > 5) == (True, True)
    return sorted({*own, *gradios, "/{path:path}", "/gradio_api/{path:path}", "/assets/{path:path}"})


def junk(app):
    """Every address with every verb; what else is sent takes turns."""
    parts, queries, bodies, kinds, headers = map(itertools.cycle, (PARTS, QUERIES, BODIES, KINDS, HEADERS))
    for path in addresses(app):
        for verb in (*VERBS, "POST", "POST", "GET"):
            filled = re.sub(r"{[^}]*}", lambda _: next(parts), path)
            body = b"" if verb in ("GET", "HEAD", "OPTIONS") else next(bodies)
            yield verb, filled + next(queries), body, {"content-type": next(kinds)} | next(headers)
    for path in ("/page/ask", "/gradio_api/upload", "/login"):
        for body, kind in itertools.product(BODIES, KINDS):
            yield "POST", path, body, {"content-type": kind}


def failures(caplog):
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_no_junk_is_answered_with_a_failure_of_the_service(client, caplog, capfd):
    sent = 0
    for verb, address, body, headers in junk(client.app):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = client.request(verb, address, content=body, headers=encoded, follow_redirects=False)
        what = f"{verb} {address[:200]} {body[:200]} {headers}: {answer.status_code} {answer.text[:200]}"
        assert answer.status_code < 500, what
        if answer.status_code >= 400 and verb != "HEAD":
            assert answer.headers["content-type"] == "application/json", what
            assert answer.json(), what
        sent += 1
    assert sent > 800
    assert failures(caplog) == []
    assert "Traceback" not in "".join(capfd.readouterr())


def test_no_junk_opens_a_page_that_has_a_key(caplog):
    with TestClient(build_app({"painted": Painted()}, ServeSettings(api_key="sesame"))) as client:
        for body, kind in itertools.product((*BODIES, b"username=a&password=%00", b"username=a&username=b"), KINDS):
            answer = client.post("/login", content=body, headers={"content-type": kind.encode("latin-1")})
            assert 400 <= answer.status_code < 500
            assert answer.headers["content-type"] == "application/json"
    assert failures(caplog) == []


def test_of_gradios_addresses_only_those_that_the_page_needs_are_reached(client, monkeypatch):
    """A new one of gradio's is closed until somebody has looked at it."""
    reached = set()

    async def recorder(scope, receive, send):
        reached.add((scope["method"], scope["path"]))
        assert scope["query_string"] == b""
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    mounted = gradio_of(client.app)
    paths = {re.sub(r"{[^}]*}", "x", route.path) for route in routes_of(mounted.app)}
    monkeypatch.setattr(mounted, "app", recorder)
    for path in (*paths, "/x", "/gradio_api/x"):
        for verb in VERBS:
            client.request(verb, f"{path}?a=b", follow_redirects=False)
    assert reached == {
        *((verb, "/") for verb in ("GET", "HEAD")),
        *(("GET", f"/{name}") for name in ("config", "theme.css", "favicon.ico", "manifest.json", "robots.txt")),
        *(("GET", f"/{name}") for name in ("assets/x", "static/x", "logout")),
        ("POST", "/login"),
    }


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("embedded null byte"), 400), (KeyError("x"), 400), (RuntimeError("broken"), 500)]
)
def test_what_gradio_fails_at_is_told_in_words_and_junk_leaves_one_line(client, monkeypatch, caplog, error, status):
    async def failing(scope, receive, send):
        raise error

    monkeypatch.setattr(gradio_of(client.app), "app", failing)
    answer = client.get("/config")
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "reason"}
    assert len(caplog.records) == 1
    assert (caplog.records[0].exc_info is None) == (status == 400)  # a failure of the service's own is not hidden


def test_a_failure_that_is_half_sent_is_not_sent_again(client, monkeypatch):
    async def failing(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    monkeypatch.setattr(gradio_of(client.app), "app", failing)
    with pytest.raises(RuntimeError, match="broken"):
        client.get("/config")


@pytest.mark.parametrize("path", ["/page/ask", "/login"])
def test_what_is_short_by_nature_may_not_be_long(client, path):
    for content, status in ((b" " * 600_000, 413), (iter([b"{}"]), 411)):
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == status
