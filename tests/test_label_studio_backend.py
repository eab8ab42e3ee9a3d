"""`wordmask serve --label-studio`: what Label Studio asks of an ML backend, and that nobody gets it to open more."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from support.live_service import png
from support.painted import NAMES, Painted, paint, painted_folder
from support.served_client import Counting, reason
from wordmask.labelling.brush_rle import encode_brush
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import read_image
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.label_studio_config import read_interface
from wordmask.serving.label_studio_pictures import TOKEN, LabelStudio
from wordmask.serving.settings import RequestError, ServeError


def interface(tag="BrushLabels", labels=("red", "blue")):
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    tool = f'<{tag} name="tool" toName="img">{inside}</{tag}>'
    return f'<View><Image name="img" value="$picture" zoom="true"/>{tool}</View>'


@contextmanager
def backend(segmenter=None, allowed=None, **settings):
    app = build_app(
        {"painted": segmenter or Painted()},
        ServeSettings(**settings),
        page=False,
        label_studio=allowed or LabelStudio(),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def data_url(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def predict(client, *addresses, config=None, **headers):
    """As Label Studio asks it."""
    tasks = [
        {"id": n, "data": {"picture": address}, "annotations": [], "project": 1}
        for n, address in enumerate(addresses, start=1)
    ]
    asked = {"tasks": tasks, "model_version": None, "project": "1.1700000000", "label_config": config or interface()}
    asked["params"] = {"login": None, "password": None, "context": None}
    return client.post("/predict", json=asked, headers=headers)


@pytest.fixture
def ring(tmp_path):
    return painted_folder(tmp_path / "pictures") / "ring.png"


def test_label_studio_greets_asks_and_tells(ring):
    with backend() as client:
        assert client.get("/health").json()["status"] == "UP"
        version = client.post("/setup", json={"project": "1.1", "schema": interface(), "access_token": "x"}).json()
        assert client.post("/setup", json={"project": "1.1", "schema": "<View></View>"}).json() == version
        answer = predict(client, data_url(ring.read_bytes()), data_url(png())).json()
        assert answer["model_version"] == version["model_version"]
        assert [own["model_version"] for own in answer["results"]] == [version["model_version"]] * 2
        told = client.post("/webhook", json={"action": "ANNOTATION_CREATED", "annotation": {}})
        assert (told.status_code, told.json()) == (201, {"status": "ignored"})
    assert not answer["results"][1]["result"]  # all background


def test_brushes_are_the_very_masks(ring):
    with backend() as client:
        told = predict(client, data_url(ring.read_bytes())).json()["results"][0]
    labels, scores = paint(read_image(ring))
    assert told["score"] == pytest.approx(scores.mean(), abs=1e-4)
    for region, name in zip(told["result"], ["red", "blue"], strict=False):
        own = labels == NAMES.index(name)
        assert region["value"] == {"format": "rle", "rle": encode_brush(own), "brushlabels": [name]}
        assert region["score"] == pytest.approx(scores[own].mean(), abs=1e-4)
        assert (region["original_width"], region["original_height"], region["type"]) == (40, 30, "brushlabels")
        assert (region["from_name"], region["to_name"]) == ("tool", "img")


def test_polygons_and_rectangles_are_in_percent_of_the_picture(ring):
    with backend() as client:
        boxes = predict(client, data_url(ring.read_bytes()), config=interface("RectangleLabels")).json()
        polygons = predict(client, data_url(ring.read_bytes()), config=interface("PolygonLabels")).json()
    box = boxes["results"][0]["result"][0]["value"]
    assert [box["x"], box["y"], box["width"], box["height"]] == pytest.approx([12.5, 100 / 6, 62.5, 200 / 3])
    region = polygons["results"][0]["result"][0]
    points = np.array(region["value"]["points"])
    assert region["value"]["polygonlabels"] == ["red"]
    assert points.min(axis=0) == pytest.approx([12.5, 100 / 6])
    assert points.max(axis=0) == pytest.approx([75, 250 / 3])


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels", "RectangleLabels"])
def test_label_studios_own_sdk_takes_the_predictions(ring, tag):
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    objects = pytest.importorskip("label_studio_sdk.label_interface.objects")
    with backend() as client:
        told = predict(client, data_url(ring.read_bytes()), config=interface(tag)).json()["results"][0]
    own = sdk.LabelInterface(interface(tag))
    own.validate()
    assert own.validate_prediction(told, return_errors=True) == []
    assert objects.PredictionValue(**told).model_dump()["result"] == told["result"]
    wrong = json.loads(json.dumps(told).replace('"red"', '"green"'))
    assert own.validate_prediction(wrong, return_errors=True)
    if tag == "BrushLabels":
        labels = paint(read_image(ring))[0]
        pixels = brush.decode_rle(told["result"][0]["value"]["rle"]).reshape(30, 40, 4)[..., 3]
        assert ((pixels > 0) == (labels == 0)).all()


def test_pictures_come_from_the_folder_and_nowhere_else(tmp_path, ring):
    folder = tmp_path / "media"
    (folder / "upload/1").mkdir(parents=True)
    (folder / "upload/1/a b.png").write_bytes(ring.read_bytes())
    (tmp_path / "secret.png").write_bytes(ring.read_bytes())
    (folder / "upload/link.png").symlink_to(tmp_path / "secret.png")
    (folder / "upload/inside.png").symlink_to(folder / "upload/1/a b.png")
    good = ["/data/upload/1/a%20b.png", "/data/local-files/?d=upload/1/a%20b.png", "/data/upload/inside.png"]
    bad = [
        "/data/upload/../../secret.png",
        "/data/upload/%2e%2e/%2e%2e/secret.png",
        "/data/local-files/?d=../secret.png",
        f"/data/local-files/?d={quote(str(tmp_path / 'secret.png'))}",
        "/data/upload/link.png",
        "/data/upload/1",
        "/data/upload/" + "x" * 5000,
        "/data/upload/a%00b",
        f"file://{tmp_path}/secret.png",
        str(tmp_path / "secret.png"),
        "/api/projects",
        "http://127.0.0.1:1/data/upload/1/a%20b.png",
        "http://[::1",
        "s3://bucket/a.png",
        "//evil.example/data/upload/1/a%20b.png",
        "data:image/png,abc",
        "data:image/png;base64,???",
        "",
        None,
        7,
    ]
    with backend(allowed=LabelStudio(files=folder)) as client:
        for address in good:
            assert predict(client, address).json()["results"][0]["result"], address
        for address in bad:
            assert reason(predict(client, address), 400)
    with backend() as client:
        assert "without --label-studio-files" in reason(predict(client, good[0]), 400)


@contextmanager
def label_studio(answers):
    """A Label Studio that serves pictures: {path: (status, headers, body)}; and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_pictures_are_fetched_from_the_named_host_alone(ring, monkeypatch):
    monkeypatch.setenv(TOKEN, "sesame")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    elsewhere = {"/data/upload/1/secret.png": (200, {}, ring.read_bytes())}
    with label_studio(elsewhere) as (other, others):
        answers = {
            "/data/upload/1/a%20b.png": (200, {}, ring.read_bytes()),
            "/data/upload/1/moved.png": (302, {"Location": f"{other}/data/upload/1/secret.png"}, b""),
            "/data/upload/1/closed.png": (403, {}, b""),
            "/data/upload/1/large.png": (200, {}, bytes(2**20)),
        }
        with label_studio(answers) as (host, asked), backend(allowed=LabelStudio(host=host), max_bytes=2**19) as client:
            for address in ("/data/upload/1/a%20b.png", f"{host}/data/upload/1/a%20b.png"):
                assert predict(client, address).json()["results"][0]["result"]
            assert asked == [("/data/upload/1/a%20b.png", "Token sesame")] * 2
            assert "are not fetched" in reason(predict(client, "/data/upload/1/moved.png"), 400)
            assert TOKEN in reason(predict(client, "/data/upload/1/closed.png"), 400)
            assert "524288 bytes" in reason(predict(client, "/data/upload/1/large.png"), 413)
            count = len(asked)
            for address in (
                f"{other}/data/upload/1/secret.png",
                f"{host}/api/projects",
                f"{host}@{other[7:]}/data/upload/1/x",
            ):
                assert predict(client, address).status_code == 400
            assert len(asked) == count
        assert not others
        assert "cannot be reached (URLError)" in reason(_predicted_at(host), 503)


def _predicted_at(host):
    with backend(allowed=LabelStudio(host=host)) as client:
        return predict(client, "/data/upload/1/a.png")


def test_a_task_that_fails_leaves_the_others_theirs_and_is_told(ring):
    with backend() as client:
        first, bad = predict(client, data_url(ring.read_bytes()), "http://example.org/a.png").json()["results"]
    assert first["result"]
    assert "result" not in bad  # so that Label Studio keeps no empty prediction of it
    assert "is not at the Label Studio" in bad["error"]["reason"]


def test_tasks_go_through_the_network_together_and_count_in_the_budgets(ring):
    segmenter = Counting()
    with backend(segmenter, batch_size=4, batch_wait=0.3) as client:
        service = segmenter.service = client.app.state.service
        assert len(predict(client, *[data_url(ring.read_bytes())] * 8).json()["results"]) == 8
        assert segmenter.most == 4
        assert (service.places.held, service.pictures.held, service.arrivals.bytes.held) == (0, 0, 0)


def test_a_key_is_asked_for_in_the_ways_label_studio_knows(ring):
    with backend(api_key="sesame") as client:
        assert predict(client, data_url(ring.read_bytes())).status_code == 401
        assert client.post("/setup", json={}).status_code == 401
        for password, status in (("sesame", 200), ("open", 401)):
            said = "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()
            assert predict(client, data_url(ring.read_bytes()), Authorization=said).status_code == status
        assert predict(client, data_url(ring.read_bytes()), Authorization="Basic ???").status_code == 401
        assert client.get("/health").status_code == 200


class Student(Painted):
    vocabulary = Vocabulary.of(["background", "red"])


def test_a_student_is_asked_for_what_it_knows(ring):
    with backend(Student()) as client:
        told = predict(client, data_url(ring.read_bytes())).json()["results"][0]["result"]
        assert {own["value"]["brushlabels"][0] for own in told} == {"red"}
        assert "knows none of the labels" in reason(
            predict(client, data_url(png()), config=interface(labels=["cat"])), 400
        )


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><View>&c;</View>'


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "needs an <Image>"),
        ("<View></View>", "needs an <Image>"),
        (interface("Choices"), "needs an <Image>"),
        (interface().replace("$picture", "picture"), "needs an <Image>"),
        (interface(labels=()), "needs an <Image>"),
        ("<View>", "is no XML"),
        (BOMB, "DOCTYPE"),
        ("<View>" * 100_000, "characters"),
        (7, "needs an <Image>"),
    ],
)
def test_an_interface_that_cannot_be_filled_is_explained(config, says):
    with pytest.raises(RequestError, match=says):
        read_interface(config)


def test_what_is_no_request_of_label_studios_is_refused():
    with backend(max_names=2) as client:
        for body in (b"{", b"[]", b"[" * 100_000, b'{"tasks": 1, "label_config": "<View/>"}'):
            told = client.post("/predict", content=body, headers={"content-type": "application/json"})
            assert told.status_code == 400, body[:20]
        assert "3 labels; at most 2" in reason(predict(client, data_url(png()), config=interface(labels="abc")), 413)
        assert predict(client).json()["results"] == []
        labels = ["a, b", "c"]
        assert "comma" in reason(predict(client, data_url(png()), config=interface(labels=labels)), 400)


def test_without_being_asked_for_there_is_no_backend():
    with TestClient(build_app({"painted": Painted()}, page=False)) as client:
        assert client.get("/health").status_code == 404
        assert client.post("/predict", json={}).status_code == 404


def test_a_service_without_a_method_is_no_backend():
    with pytest.raises(ServeError, match="needs a method"):
        build_app({}, page=False, label_studio=LabelStudio())


@pytest.mark.parametrize("host", ["labels", "ftp://labels", "http://", "http://a:b@labels", "http://labels/api"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(ServeError, match="is no address such as"):
        LabelStudio(host=host)


def test_the_verb_names_the_host_and_the_folder(command, tmp_path):
    told = ("--label-studio-host", "http://labels:8080", "--label-studio-files", tmp_path)
    out = command("serve", "--print-config", *told)[1]
    assert "host: http://labels:8080" in out
    assert f"files: {tmp_path}" in out
    assert "label_studio: null" in command("serve", "--print-config")[1]
    assert "method: null" in command("serve", "--print-config", "--label-studio")[1]
    status, _, err = command("serve", "--print-config", "--label-studio-files", tmp_path / "nowhere")
    assert (status, "no such folder" in err) == (1, True)
