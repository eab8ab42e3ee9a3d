"""The REST service: answers, limits, batches, and errors that say why."""

import base64
import io
import json
import socket
import struct
import sys
import threading
import time
import zlib

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

from support.costly_pictures import encoded, with_scans
from support.letters import Letters
from support.live_service import live, until
from support.painted import NAMES, Painted, paint, painted_folder
from support.small_clip import small_clip
from wordmask import cli, segmenters
from wordmask.masks.segmentation import Segmentation
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.maskclip import MaskClip, MaskClipSettings
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.batching import Batcher, Job
from wordmask.serving.settings import RequestError


def client_of(segmenter=None, **settings):
    app = build_app({"painted": segmenter or Painted()}, ServeSettings(**settings), page=False)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client():
    with client_of() as client:
        yield client


@pytest.fixture
def photo(tmp_path):
    return (painted_folder(tmp_path / "pictures") / "ring.png").read_bytes()


def form(photo, names=tuple(NAMES), **fields):
    files = [("image", ("C:\\photo.png", photo, "image/png"))]
    return {"files": files, "data": {"names": list(names), **fields}}


def reason(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"code", "reason"}
    return error["reason"]


def png_that_claims(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def gif():
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "GIF")
    return buffer.getvalue()


def test_masks_come_as_run_lengths(client, photo):
    answer = client.post("/v1/segment", **form(photo)).json()
    truth, scores = paint(np.array(Image.open(io.BytesIO(photo))))
    assert answer["size"] == list(truth.shape)
    assert answer["names"] == NAMES
    for mask in answer["masks"]:
        own = truth == NAMES.index(mask["name"])
        assert (coco_mask.decode(mask["rle"]) == own).all()
        assert mask["area"] == own.sum()
        assert mask["score"] == pytest.approx(scores[own].mean(), abs=1e-4)


def test_json_with_base64_and_one_field_of_names_say_the_same(client, photo):
    wanted = client.post("/v1/segment", **form(photo)).json()
    as_json = {"image": base64.b64encode(photo).decode(), "names": NAMES}
    assert client.post("/v1/segment", json=as_json).json() == wanted
    assert client.post("/v1/segment", **form(photo, ["red, blue, background"])).json() == wanted


def test_room_is_made_and_noted_unless_the_names_are_to_fill(client, photo):
    told = client.post("/v1/segment", **form(photo, ["red", "blue"])).json()
    assert told["names"] == ["red", "blue", "background"]
    assert "background is not among the names and was added" in told["note"]
    filled = client.post("/v1/segment", **form(photo, ["red", "blue"], fill="true")).json()
    assert filled["names"] == ["red", "blue"]
    assert "note" not in filled
    assert "note" not in client.post("/v1/segment", **form(photo)).json()


def test_names_are_typed_as_on_the_command_line(client, photo):
    told = client.post("/v1/segment", **form(photo, ["red: [crimson, scarlet], blue"])).json()
    assert told["names"] == ["red", "blue", "background"]
    assert "semicolon" in reason(client.post("/v1/segment", **form(photo, ["red; blue"])), 400)
    assert "semicolon" in reason(client.post("/v1/segment", **form(photo, ["red", "blue; green"])), 400)
    synonyms = ", ".join(f"word {i}" for i in range(300))
    assert "300 names and synonyms" in reason(client.post("/v1/segment", **form(photo, [f"red: [{synonyms}]"])), 413)


def test_a_least_score_and_a_least_share_are_taken(client, photo):
    everything = client.post("/v1/segment", **form(photo)).json()
    large = client.post("/v1/segment", **form(photo, drop_absent="0.2")).json()
    assert [mask["name"] for mask in large["masks"]] == ["red", "background"]
    assert len(everything["masks"]) == 3
    sure = client.post("/v1/segment", **form(photo, min_score="0.999")).json()
    assert sum(mask["area"] for mask in sure["masks"]) == sure["size"][0] * sure["size"][1]
    assert "min_score" in reason(client.post("/v1/segment", **form(photo, min_score="7")), 400)


def test_masks_come_as_png_with_the_names_inside(client, photo, tmp_path):
    response = client.post("/v1/segment", **form(photo, format="png", method="painted"))
    assert response.headers["content-type"] == "image/png"
    (tmp_path / "masks.png").write_bytes(response.content)
    saved = Segmentation.load(tmp_path / "masks.png")
    assert saved.names == NAMES
    assert (saved.labels == paint(np.array(Image.open(io.BytesIO(photo))))[0]).all()


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"photo": b""}, 400, "is empty"),
        ({"photo": b"hello"}, 400, "not a picture of a known format"),
        ({"photo": png_that_claims(60_000, 60_000)}, 413, "60000 x 60000 pixels"),
        ({"photo": png_that_claims(100, 100)[:60]}, 400, "corrupt or cut short"),
        ({"photo": gif()}, 415, "a GIF picture; send one of JPEG"),
        ({"names": ["dog", "Dog"]}, 400, "there twice"),
        ({"names": ["dog", ""]}, 400, "empty name"),
        ({"names": [f"n{i}" for i in range(201)]}, 413, "201 names"),
        ({"names": ["x" * 201]}, 400, "201 characters"),
        ({"names": []}, 400, "names: field required"),
        ({"method": "gpt"}, 404, "no method 'gpt'"),
        ({"format": "exe"}, 400, "format"),
        ({"image_url": "http://127.0.0.1/secret"}, 400, "image_url: extra"),
        ({"weights": "/etc/passwd"}, 400, "weights: extra"),
    ],
)
def test_what_cannot_be_answered_is_explained(client, photo, change, status, says):
    given = {"photo": photo, **change}
    assert says in reason(client.post("/v1/segment", **form(given.pop("photo"), **given)), status)


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"{", "application/json", 400, "not JSON"),
        (b"[" * 30_000, "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "dictionary"),
        (b'{"image": "AA==", "names": "dog"}', "application/json", 400, "names"),
        (b'{"image": 3, "names": ["dog"]}', "application/json", 400, "image"),
        (b'{"image": "/etc/passwd", "names": ["dog"]}', "application/json", 400, "base64"),
        (b'{"image": "AA==", "names": ["dog"], "names2": 1}', "application/json", 400, "names2"),
        (b'{"image": "AA==", "names": ["\\ud800"]}', "application/json", 400, "half a character"),
        (b'{"names": [' + b"[]," * 100_000 + b"[]]}", "application/json", 413, "more than a picture"),
        (b"\x80\x04K\x01.", "application/octet-stream", 415, "multipart/form-data"),
        (b"names=dog", "application/x-www-form-urlencoded", 415, "multipart/form-data"),
        (b"garbage", "multipart/form-data", 400, "boundary"),
        (b"garbage", "multipart/form-data; boundary=x", 400, "form"),
    ],
)
def test_malformed_bodies_are_explained(client, body, kind, status, says):
    response = client.post("/v1/segment", content=body, headers={"Content-Type": kind})
    assert says in reason(response, status)


def test_a_request_that_is_too_large_is_refused(photo):
    with client_of(max_bytes=1000) as client:
        assert "1000 bytes" in reason(client.post("/v1/segment", **form(bytes(2000))), 413)
        assert "1000 bytes" in reason(client.post("/v1/segment", **form(bytes(100_000))), 413)


@pytest.mark.parametrize("decoders", [0, 2])
def test_pictures_are_decoded_apart_or_here_alike(photo, decoders):
    with client_of(decoders=decoders, max_pixels=10_000) as client:
        assert (client.app.state.service.pool is None) == (decoders == 0)
        assert client.post("/v1/segment", **form(photo)).json()["size"] == [30, 40]
        assert "60000 x 60000" in reason(client.post("/v1/segment", **form(png_that_claims(60_000, 60_000))), 413)
        assert "a GIF picture" in reason(client.post("/v1/segment", **form(gif())), 415)
        assert "100 scans" in reason(client.post("/v1/segment", **form(with_scans(20_000))), 400)


def test_a_picture_that_takes_too_long_is_the_senders_fault(photo):
    large = encoded(Image.new("RGB", (6000, 4000)), "JPEG", progressive=True)
    with client_of(decode_seconds=0.05, decoders=1) as client:
        assert "longer than 0.05 seconds" in reason(client.post("/v1/segment", **form(large)), 400)
        assert client.get("/healthz").status_code == 200


def test_pixels_are_counted_before_they_are_decoded(photo):
    with client_of(max_pixels=30 * 40 - 1) as client:
        assert "40 x 30 pixels; 1199 are allowed" in reason(client.post("/v1/segment", **form(photo)), 413)


def test_a_student_needs_no_names(photo):
    student = Painted()
    student.vocabulary = Vocabulary.of(NAMES)
    with client_of(student) as client:
        answer = client.post("/v1/segment", files={"image": photo}).json()
        assert answer["names"] == NAMES
        assert client.get("/v1/models").json()[0]["names"] == NAMES


@pytest.fixture
def port():
    """A service of its own, over a real socket."""
    with live(body_seconds=0.3) as service:
        yield service.port


def test_a_sender_who_never_ends_is_sent_away(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        head = "POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        line.sendall(head.encode())
        answer = b"".join(iter(lambda: line.recv(4096), b""))  # until the service hangs up
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.3 seconds" in answer


def test_a_sender_who_leaves_costs_nothing(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
    metrics = ""

    def forgotten():
        nonlocal metrics
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return 'status="400"' in metrics

    until(forgotten)
    assert "wordmask_in_flight 0" in metrics


def test_wrong_addresses_and_verbs_are_json_too(client):
    assert reason(client.get("/v1/nothing"), 404) == "not found"
    assert reason(client.get("/v1/segment"), 405) == "method not allowed"


def test_whether_the_service_is_up_may_be_asked_without_a_body(client):
    answer = client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")
    assert set(client.get("/openapi.json").json()["paths"]["/healthz"]) == {"get"}


def test_a_key_is_asked_for_where_there_is_one(photo):
    with client_of(api_key="sésame") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}):
            assert "key" in reason(client.post("/v1/segment", **form(photo), headers=headers), 401)
            assert client.get("/v1/models", headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/healthz").json()["status"] == "ok"
        for name, value in (("Authorization", "Bearer sésame"), ("X-API-Key", "sésame")):
            headers = {name: value.encode()}
            assert client.get("/v1/models", headers=headers).status_code == 200


def test_models_are_listed():
    """By what a request calls them; a student of somebody's goes by its file, and says whose paper it is of."""
    student = Painted()
    student.method, student.preset, student.precision = "namedmask", "world", "bf16"
    student.vocabulary = Vocabulary.of(["dog", "background"])
    with TestClient(build_app({"painted": Painted(), "dogs": student}, page=False)) as client:
        told = client.get("/v1/models").json()
        described = client.get("/openapi.json").json()["paths"]["/v1/models"]["get"]["responses"]["200"]["content"]
    assert told == [
        {
            "method": "painted",
            "segmenter": "painted",
            "paper": None,
            "preset": "custom",
            "precision": "fp32",
            "names": None,
        },
        {
            "method": "dogs",
            "segmenter": "namedmask",
            "paper": "Shin et al., CVPRW 2023",
            "preset": "world",
            "precision": "bf16",
            "names": ["dog", "background"],
        },
    ]
    assert set(described["application/json"]["schema"]["items"]["properties"]) == set(told[0])


def test_a_decoder_that_cannot_be_started_is_told_to_the_client(client, photo, monkeypatch):
    assert client.post("/v1/segment", **form(photo)).status_code == 200
    for decoder in client.app.state.service.pool._processes:
        decoder._process.kill()
        decoder._process.wait()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    refused = client.post("/v1/segment", **form(photo))
    assert "no decoder can be started" in reason(refused, 503)
    assert "Retry-After" in refused.headers
    monkeypatch.undo()
    assert client.post("/v1/segment", **form(photo)).status_code == 200


def test_metrics_count_answers_and_pictures(client, photo):
    client.post("/v1/segment", **form(photo))
    client.post("/v1/segment", **form(b"hello"))
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines())
    assert lines['wordmask_answers_total{status="200"}'] == "1"
    assert lines['wordmask_answers_total{status="400"}'] == "1"
    assert lines["wordmask_pictures_total"] == "1"
    assert lines["wordmask_waiting"] == lines["wordmask_in_flight"] == "0"
    assert float(lines["wordmask_resident_bytes"]) > 1e7


def test_the_interface_is_described_for_programs_and_for_people(client):
    described = client.get("/openapi.json").json()
    sent = described["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
    assert set(sent) == {"multipart/form-data", "application/json"}
    assert set(sent["application/json"]["schema"]["required"]) == {"image"}
    assert {"image", "names", "method", "format", "fill", "min_score", "drop_absent"} == set(
        sent["multipart/form-data"]["schema"]["properties"]
    )


class Gate(Painted):
    """Looks only when it is let, and notes how many pictures it was shown at once."""

    def __init__(self):
        super().__init__()
        self.open, self.entered, self.batches = threading.Event(), threading.Event(), []

    def look_many(self, images, sources):
        self.entered.set()
        assert self.open.wait(10)
        self.batches.append(len(images))
        return super().look_many(images, sources)


def in_threads(calls):
    results = [None] * len(calls)

    def run(index):
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    return threads, results


def test_requests_of_many_clients_go_through_the_network_together(photo):
    gate = Gate()
    with client_of(gate, batch_size=4) as client:
        service = client.app.state.service
        first, _ = in_threads([lambda: client.post("/v1/segment", **form(photo))])
        assert gate.entered.wait(10)
        others, results = in_threads([lambda: client.post("/v1/segment", **form(photo))] * 5)
        until(lambda: service.batcher.length == 5)
        gate.open.set()
        for thread in first + others:
            thread.join()
    assert gate.batches == [1, 4, 1]
    assert all(result.status_code == 200 for result in results)


def test_a_full_queue_says_when_to_come_back(photo):
    gate = Gate()
    with client_of(gate, waiting=2, address_share=1) as client:
        service = client.app.state.service
        first, _ = in_threads([lambda: client.post("/v1/segment", **form(photo))])
        assert gate.entered.wait(10)
        others, results = in_threads([lambda: client.post("/v1/segment", **form(photo))] * 2)
        until(lambda: service.batcher.length == 2)
        refused = client.post("/v1/segment", **form(photo))
        assert "2 pictures wait already" in reason(refused, 503)
        assert int(refused.headers["Retry-After"]) >= 1
        gate.open.set()
        for thread in first + others:
            thread.join()
        assert [result.status_code for result in results] == [200, 200]
        assert client.post("/v1/segment", **form(photo)).status_code == 200


def test_more_requests_than_are_held_at_once_are_refused(photo):
    gate = Gate()
    with client_of(gate, in_flight=1) as client:
        first, results = in_threads([lambda: client.post("/v1/segment", **form(photo))])
        assert gate.entered.wait(10)
        refused = client.post("/v1/segment", **form(photo))
        assert "too many requests" in reason(refused, 503)
        assert "Retry-After" in refused.headers
        gate.open.set()
        first[0].join()
        assert results[0].status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(photo):
    gate = Gate()
    with client_of(gate, answer_seconds=0.2) as client:
        late = client.post("/v1/segment", **form(photo))
        assert "no answer within 0.2 seconds" in reason(late, 503)
        assert "Retry-After" in late.headers
        gate.open.set()
        until(lambda: gate.batches == [1])
        assert client.get("/metrics").text.count('status="503"') == 1


class SlowTower(Letters):
    """Takes a twentieth of a second for a prompt."""

    def encode_text(self, prompts):
        time.sleep(0.05 * len(prompts))
        return super().encode_text(prompts)


@pytest.fixture
def slow_reader(tmp_path, monkeypatch):
    """A segmenter that reads names, slowly, but does not look at what they mean; a name a turn."""
    monkeypatch.setattr("wordmask.serving.server.PROMPTS_A_TURN", 1)
    painted = Painted()
    painted.embed = TextEmbedder(SlowTower(), templates("plain"), cache=tmp_path / "text.sqlite")
    return painted


def test_many_new_names_end_in_time_and_a_second_try_goes_on(photo, slow_reader):
    many = [f"name {i}" for i in range(20)]  # a second of reading
    with client_of(slow_reader, answer_seconds=0.7) as client:
        assert "no answer within 0.7 seconds" in reason(
            client.post("/v1/segment", **form(photo, many, fill="true")), 503
        )
        assert len(slow_reader.embed.encoder.read) < 20
        until(lambda: client.post("/v1/segment", **form(photo, many, fill="true")).status_code == 200)
    assert len(slow_reader.embed.encoder.read) == 20


def test_few_names_do_not_wait_for_many_of_another_client(photo, slow_reader):
    many = [f"name {i}" for i in range(60)]  # three seconds of reading
    with client_of(slow_reader) as client:
        first, results = in_threads([lambda: client.post("/v1/segment", **form(photo, many, fill="true"))])
        until(lambda: len(slow_reader.embed.encoder.read) >= 2)
        assert client.post("/v1/segment", **form(photo, ["name 0", "new"], fill="true")).status_code == 200
        assert len(slow_reader.embed.encoder.read) < 60
        first[0].join()
        assert results[0].status_code == 200


class Choosy(Painted):
    def look_many(self, images, sources):
        if any(image.shape[0] == 24 for image in images):
            raise RuntimeError("the secret path is /home/x")
        return super().look_many(images, sources)


def test_a_picture_that_breaks_the_network_costs_only_its_own_client(tmp_path):
    folder = painted_folder(tmp_path / "pictures")
    good, bad = (folder / "ring.png").read_bytes(), (folder / "parts.png").read_bytes()
    with client_of(Choosy(), batch_wait=0.3) as client:
        calls = [lambda p=p: client.post("/v1/segment", **form(p)) for p in (good, bad, good)]
        threads, results = in_threads(calls)
        for thread in threads:
            thread.join()
        assert [r.status_code for r in results] == [200, 500, 200]
        told = reason(results[1], 500)
    assert "RuntimeError" in told
    assert "secret" not in told


def test_batched_answers_are_those_of_single_pictures(tmp_path):
    segmenter = MaskClip(small_clip(), MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32 + 8 * i, 40, 3), dtype=np.uint8) for i in range(4)]
    batcher = Batcher({"m": segmenter}, ServeSettings(batch_wait=0.2))
    futures = [batcher.submit(Job("m", p, time.monotonic() + 30)) for p in pictures]
    for picture, future in zip(pictures, futures, strict=True):
        alone = segmenter.segment(picture, ["a", "b"], fill=True)
        assert (future.result(30).segment(["a", "b"], fill=True).labels == alone.labels).mean() > 0.999
    batcher.close()


def test_clients_names_are_not_written_to_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("WORDMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    segmenter = MaskClip(small_clip(), MaskClipSettings(templates="photo", shorter_side=32, window=32, stride=16))
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2 * 2**20  # more than a form's parser would keep in memory by itself
    opened = []
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda self: opened.append(self))
    with client_of(segmenter) as client:
        assert client.post("/v1/segment", **form(buffer.getvalue(), ["private words", "x"])).status_code == 200
    assert opened == []
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_stopping_service_refuses_what_waits(photo):
    gate = Gate()
    batcher = Batcher({"m": gate}, ServeSettings())
    image = np.zeros((4, 4, 3), np.uint8)
    first = batcher.submit(Job("m", image, time.monotonic() + 10))
    assert gate.entered.wait(10)
    second = batcher.submit(Job("m", image, time.monotonic() + 10))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    time.sleep(0.05)
    gate.open.set()
    closing.join(10)
    assert first.result(1).image is image
    with pytest.raises(RequestError, match="being stopped"):
        second.result(1)


def test_settings_of_a_service_are_checked():
    with pytest.raises(ValueError, match="max_names"):
        ServeSettings(max_names=0)
    assert json.dumps(ServeSettings().max_bytes)


@pytest.fixture
def serve(monkeypatch, capsys):
    """Runs `wordmask serve` but for the waiting: (exit status, stderr, what uvicorn was given)."""
    monkeypatch.setattr(segmenters, "load", lambda method, **options: Painted())
    given = {}

    def run_server(server, sockets):
        server.service.batcher.close()  # as a server does when it ends
        host, port = sockets[0].getsockname()
        given.update(app=server.config.app, host=host, port=port)

    monkeypatch.setattr(uvicorn.Server, "run", run_server)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wordmask", "serve", "--no-page", "--port", "0", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        return status, capsys.readouterr().err, given

    return run


def test_the_verb_serves_methods_and_students_within_its_limits(serve):
    status, err, given = serve("--method", "maskclip", "--student", "run/dogs.safetensors", "--max-names", "3")
    assert status == 0
    assert given["app"].state.service.settings.trusted_proxies == ()
    assert f"serving maskclip in fp32, dogs in fp32 at http://127.0.0.1:{given['port']} " in err
    assert given["port"] > 0
    service = given["app"].state.service
    assert list(service.segmenters) == ["maskclip", "dogs"]
    assert service.settings.max_names == 3
    assert given["host"] == "127.0.0.1"
    service.batcher.close()


def test_settings_are_checked_before_networks_are_loaded(serve, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda method, **options: pytest.fail("loaded"))
    status, err, _ = serve("--trusted-proxy", "nginx")
    assert status == 1
    assert "'nginx' is neither" in err


def test_proxies_are_named_one_by_one(serve):
    _, _, given = serve("--trusted-proxy", "10.0.0.7", "--trusted-proxy", "fd00::/8")
    given["app"].state.service.batcher.close()
    assert given["app"].state.service.settings.trusted_proxies == ("10.0.0.7", "fd00::/8")
    status, err, _ = serve("--trusted-proxy", "nginx")
    assert status == 1
    assert "'nginx' is neither an address nor a network" in err


def test_an_open_service_without_a_key_is_noted(serve):
    _, err, given = serve("--host", "0.0.0.0")
    assert "anybody who reaches 0.0.0.0 may use this service" in err
    given["app"].state.service.batcher.close()


def test_an_empty_key_does_not_open_the_service(serve, monkeypatch):
    for key in ("", " "):
        status, err, given = serve("--api-key", key)
        assert (status, given) == (2, {})
        assert "--api-key or WORDMASK_API_KEY is empty" in " ".join(err.replace("│", " ").split())
    monkeypatch.setenv("WORDMASK_API_KEY", "")
    assert serve()[0] == 2
    with pytest.raises(ValueError, match="api_key"):
        ServeSettings(api_key="")


def test_an_address_that_is_taken_is_said_and_nothing_is_served(serve):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        status, err, given = serve("--port", str(other.getsockname()[1]))
    assert (status, given) == (1, {})
    assert "cannot be listened at: address already in use; choose another --port" in err
    assert "serving" not in err


def test_two_methods_of_one_name_are_refused(serve):
    status, err, _ = serve("--method", "maskclip", "--student", "maskclip.safetensors")
    assert status == 1
    assert "two methods of one name" in err
