"""What visitors of the web page upload: no other file and no URL is read, and little lies in memory, not for long."""

import pytest

from support.live_service import until
from support.painted import painted_folder
from support.served_client import ask, client_of, reason, upload
from wordmask.serving import ServeSettings
from wordmask.serving.settings import RequestError
from wordmask.serving.uploads import Upload, Uploads


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with client_of(page=True, max_bytes=100_000, upload_seconds=0.2) as client:
        yield client


@pytest.fixture
def ring(tmp_path):
    """A picture on the server's disk that nobody uploaded."""
    return painted_folder(tmp_path / "pictures") / "ring.png"


def kept(client):
    return client.app.state.page.uploads


def test_nothing_is_written_to_disk(client, ring, tmp_path):
    ask(client, upload(client, ring.read_bytes()).split("/")[0])
    assert not list((tmp_path / "gradio").rglob("*.*"))


def test_no_file_of_the_server_is_read_and_nothing_is_fetched(client, ring):
    for path in (str(ring), f"../{ring}", "/etc/passwd", "http://127.0.0.1:9/a.png", "file:///etc/passwd", "x\0y", ""):
        assert ask(client, path).status_code in (400, 404), path
        answer = client.get(f"/gradio_api/file={path}".replace("\0", "%00"), follow_redirects=False)
        assert answer.status_code == 404, path


def test_an_upload_is_shown_by_the_browser_until_it_is_looked_at_and_then_as_the_service_sees_it(client, ring):
    path = upload(client, ring.read_bytes())
    shown = client.get(f"/gradio_api/file={path}")
    assert (shown.headers["content-type"], shown.content) == ("image/png", ring.read_bytes())
    token = path.split("/")[0]
    assert ask(client, token).status_code == 200
    assert len(kept(client)) == 0
    assert client.get(f"/gradio_api/file={path}").headers["content-type"] == "image/jpeg"
    assert client.post(f"/page/{token}/forget").status_code == 200
    assert client.get(f"/gradio_api/file={path}").status_code == 404


def test_what_is_no_picture_is_not_sent_back(client):
    for content in (b"<script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""):
        path = upload(client, content, "page.html")
        assert client.get(f"/gradio_api/file={path}").status_code == 404
        assert ask(client, path.split("/")[0]).status_code == 400
    assert len(kept(client)) == 0  # one that cannot be read goes too


def test_an_upload_goes_with_its_page_and_after_a_while_by_itself(client):
    token = upload(client, b"hello").split("/")[0]
    client.post(f"/page/{token}/forget")
    assert len(kept(client)) == 0
    upload(client, b"hello")
    assert len(kept(client)) == 1
    until(lambda: len(kept(client)) == 0)


def test_a_picture_that_was_too_much_for_a_busy_service_may_be_asked_for_again(client, ring, monkeypatch):
    def busy(content, deadline, side):
        raise RequestError(503, "busy", "come back later")

    token = upload(client, ring.read_bytes()).split("/")[0]
    with monkeypatch.context() as patched:
        patched.setattr(client.app.state.service, "picture", busy)
        assert ask(client, token).status_code == 503
    assert ask(client, token).json()["panels"]


@pytest.mark.parametrize(
    ("sent", "name"),
    [("a.png",) * 2, ("C:\\me\\a.png", "a.png"), ("/etc/passwd", "passwd"), ("..", "picture"), ("x" * 300, "x" * 100)],
)
def test_of_a_files_name_the_last_part_is_kept(client, sent, name):
    assert upload(client, b"x", sent).split("/")[1:] == [name]


def add(uploads, size, visitor):
    return uploads.add(Upload(bytes(size), "a.png", visitor))


def test_one_visitor_has_few_uploads_lying_there():
    uploads = Uploads(ServeSettings(uploads_each=2))
    tokens = [add(uploads, 1, visitor) for visitor in [*4 * ["1.2.3.4"], "5.6.7.8"]]
    assert [uploads.get(token) is not None for token in tokens] == [False, False, True, True, True]


def test_who_has_most_gives_way_to_others():
    uploads = Uploads(ServeSettings(upload_bytes=50_000))
    tokens = [add(uploads, 10_000, "1.2.3.4"), *(add(uploads, 15_000, "5.6.7.8") for _ in range(4))]
    assert [uploads.get(token) is not None for token in tokens] == [True, False, False, True, True]
    assert uploads.nbytes == 40_000
    for token in tokens:
        uploads.take(token)
    assert (len(uploads), uploads.nbytes) == (0, 0)


def test_small_uploads_count_for_something():
    uploads = Uploads(ServeSettings(upload_bytes=20_000))
    for number in range(10):
        add(uploads, 0, f"1.2.3.{number}")
    assert len(uploads) == 4


def test_the_page_keeps_the_limits_of_the_service(client):
    refused = client.post("/gradio_api/upload", files={"files": ("a.png", bytes(100_001))})
    assert "100000 bytes" in reason(refused, 413)
    service = client.app.state.service
    others = [service.places.claim(str(i)) for i in range(service.settings.in_flight)]
    assert all(claim.take(1) for claim in others)
    busy = ask(client, "a")
    for claim in others:
        claim.close()
    assert (busy.status_code, "Retry-After" in busy.headers) == (503, True)
