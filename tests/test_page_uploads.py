"""What visitors of the web page upload: no other path and no URL is read, and little lies there for long."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from gradio.utils import get_upload_folder

from painted import NAMES, Painted, painted_folder
from wordmask.app import ServeSettings, build_app

META = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


@pytest.fixture
def client(uploads):
    app = build_app({"painted": Painted()}, ServeSettings(max_bytes=100_000, upload_bytes=10_000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def secret(tmp_path):
    """A picture on the server's disk that nobody uploaded."""
    return painted_folder(tmp_path / "secret") / "ring.png"


def number_of(client, name):
    """Of an event of the page, which is how gradio's interface calls it."""
    config = client.get("/config").json()
    return next(own["id"] for own in config["dependencies"] if own["api_name"] == name)


def choose(client, picture):
    """What the page sends when somebody has chosen a picture."""
    data = [picture, None, NAMES, "painted", "none", False, 0]
    body = {"data": data, "fn_index": number_of(client, "new_picture"), "session_hash": "abc"}
    return client.post("/gradio_api/run/predict", json=body)


def upload(client, content, name="photo.png"):
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def copies(uploads, content):
    return [path for path in uploads.rglob("*") if path.is_file() and path.read_bytes() == content]


@pytest.mark.parametrize("more", [{}, META, META | {"is_stream": True}, {"url": "http://127.0.0.1/x.png"} | META])
def test_no_other_file_of_the_server_is_read(client, uploads, secret, more):
    (uploads / "link.png").symlink_to(secret)
    for path in (secret, uploads / ".." / "secret" / "ring.png", uploads / "link.png", "", "x\0y"):
        answer = choose(client, {"path": str(path), **more})
        assert "panels" not in answer.text
        assert answer.status_code != 200
    assert copies(uploads, secret.read_bytes()) == [uploads / "link.png"]


def test_no_other_input_brings_files_either(client, uploads, secret):
    body = {"data": [None, [{"path": str(secret), **META}], "painted", "none", False, 0], "session_hash": "abc"}
    answer = client.post("/gradio_api/run/predict", json=body | {"fn_index": number_of(client, "new_question")})
    assert answer.status_code != 200
    assert copies(uploads, secret.read_bytes()) == []


@pytest.mark.parametrize("more", [{}, META])
def test_nothing_is_fetched(client, monkeypatch, more):
    asked = []

    async def fetch(url, **_):
        asked.append(url)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    for url in ("http://127.0.0.1:9/a.png", "https://example.org/a.png", "data:image/png;base64,AAAA", "file:///etc"):
        assert choose(client, {"path": url, **more}).status_code != 200
        assert choose(client, {"path": "a.png", "url": url, **more}).status_code != 200
    assert asked == []


def test_uploads_and_examples_are_read(client, secret):
    for path in (upload(client, secret.read_bytes()), str(next(Path(get_upload_folder()).rglob("*.webp")))):
        answer = choose(client, {"path": path, **META})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][1]["panels"]


def lying(uploads, *, examples):
    return {path for path in uploads.rglob("*") if path.is_file()} - examples


def test_uploads_go_once_they_are_read_and_examples_stay(client, uploads, secret):
    examples = lying(uploads, examples=set())
    path = upload(client, secret.read_bytes())
    example = sorted(examples)[0]
    again = upload(client, example.read_bytes(), example.name)  # the same bytes by the same name are the same file
    assert Path(again) == example
    for chosen in (path, example):
        assert choose(client, {"path": str(chosen), **META}).status_code == 200
    assert lying(uploads, examples=examples) == set()
    assert examples == lying(uploads, examples=set())
    assert "forgotten" in choose(client, {"path": path, **META}).text


def test_uploads_that_nobody_reads_make_room_for_others(client, uploads):
    examples = lying(uploads, examples=set())
    paths = [Path(upload(client, bytes([number]) * 4500)) for number in range(5)]  # of 10,000 bytes in all
    assert lying(uploads, examples=examples) == set(paths[-2:])
    assert examples < lying(uploads, examples=set())


def test_the_page_keeps_the_limits_of_the_service(client):
    refused = client.post("/gradio_api/upload", files={"files": ("a.png", bytes(100_001))})
    assert refused.status_code == 413
    assert "100000 bytes" in refused.json()["error"]["reason"]
    service = client.app.state.service
    service.in_flight = service.settings.in_flight
    busy = choose(client, None)
    service.in_flight = 0
    assert busy.status_code == 503
    assert "Retry-After" in busy.headers


def test_addresses_of_gradio_that_the_page_does_not_need_are_closed(client):
    for path in ("file=http://example.org/a.png", "file=//h/a", "proxy=https://example.org", "queue/join", "deep_link"):
        answer = client.get(f"/gradio_api/{path}", follow_redirects=False)
        assert answer.status_code in (403, 404), path
    assert client.get("/gradio_api/file=http://example.org/a.png").json()["error"]["reason"] == "not found"
