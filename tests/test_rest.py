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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

from support.costly_pictures import chunk, encoded, with_scans
from support.letters import Letters
from support.live_service import live, until
from support.painted import NAMES, Painted, paint, painted_folder
from support.plain_windows import settings as maskclip_settings
from support.served_client import client_of, form, reason
from support.small_clip import small_clip
from wordmask import segmenters
from wordmask.masks.segmentation import Segmentation
from wordmask.names.prompts import templates
from wordmask.names.text_embeddings import TextEmbedder
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.maskclip import MaskClip
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.batching import Batcher, Job
from wordmask.serving.settings import RequestError


@pytest.fixture
def client():
    with client_of() as client:
        yield client


@pytest.fixture
def photo(tmp_path):
    return (painted_folder(tmp_path / "pictures") / "ring.png").read_bytes()


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND")


GIF = encoded(Image.new("L", (4, 4)), "GIF")


def ask(client, photo, *names, **fields):
    return client.post("/v1/segment", **form(photo, names or tuple(NAMES), **fields))


def test_masks_come_as_run_lengths_however_they_are_asked_for(client, photo):
    answer = ask(client, photo).json()
    truth, scores = paint(np.array(Image.open(io.BytesIO(photo))))
    assert (answer["size"], answer["names"]) == (list(truth.shape), NAMES)
    for mask in answer["masks"]:
        own = truth == NAMES.index(mask["name"])
        assert (coco_mask.decode(mask["rle"]) == own).all()
        assert mask["area"] == own.sum()
        assert mask["score"] == pytest.approx(scores[own].mean(), abs=1e-4)
    as_json = {"image": base64.b64encode(photo).decode(), "names": NAMES}
    assert client.post("/v1/segment", json=as_json).json() == answer
    assert ask(client, photo, "red, blue, background").json() == answer


def test_room_is_made_and_noted_unless_the_names_are_to_fill(client, photo):
    told = ask(client, photo, "red", "blue").json()
    assert told["names"] == ["red", "blue", "background"]
    assert "background is not among the names and was added" in told["note"]
    filled = ask(client, photo, "red", "blue", fill="true").json()
    assert (filled["names"], "note" in filled) == (["red", "blue"], False)
    assert "note" not in ask(client, photo).json()


def test_names_are_typed_as_on_the_command_line(client, photo):
    assert ask(client, photo, "red: [crimson, scarlet], blue").json()["names"] == ["red", "blue", "background"]
    assert "semicolon" in reason(ask(client, photo, "red; blue"), 400)
    assert "semicolon" in reason(ask(client, photo, "red", "blue; green"), 400)
    synonyms = ", ".join(f"word {i}" for i in range(300))
    assert "300 names and synonyms" in reason(ask(client, photo, f"red: [{synonyms}]"), 413)


def test_a_least_score_and_a_least_share_are_taken(client, photo):
    assert len(ask(client, photo).json()["masks"]) == 3
    large = ask(client, photo, drop_absent="0.2").json()
    assert [mask["name"] for mask in large["masks"]] == ["red", "background"]
    sure = ask(client, photo, min_score="0.999").json()
    assert sum(mask["area"] for mask in sure["masks"]) == sure["size"][0] * sure["size"][1]
    assert "min_score" in reason(ask(client, photo, min_score="7"), 400)


def test_masks_come_as_png_with_the_names_inside(client, photo, tmp_path):
    response = ask(client, photo, format="png", method="painted")
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
        ({"photo": GIF}, 415, "a GIF picture; send one of JPEG"),
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


@pytest.mark.parametrize(
    ("limit", "sent", "says"),
    [
        ({"max_bytes": 1000}, bytes(2000), "1000 bytes"),
        ({"max_bytes": 1000}, bytes(100_000), "1000 bytes"),
        ({"max_pixels": 30 * 40 - 1}, None, "40 x 30 pixels; 1199 are allowed"),
    ],
)
def test_what_is_larger_than_the_limits_is_refused(photo, limit, sent, says):
    with client_of(**limit) as client:
        assert says in reason(ask(client, sent or photo), 413)


@pytest.mark.parametrize("decoders", [0, 2])
def test_pictures_are_decoded_apart_or_here_alike(photo, decoders):
    with client_of(decoders=decoders, max_pixels=10_000) as client:
        assert (client.app.state.service.pool is None) == (decoders == 0)
        assert ask(client, photo).json()["size"] == [30, 40]
        assert "60000 x 60000" in reason(ask(client, png_that_claims(60_000, 60_000)), 413)
        assert "a GIF picture" in reason(ask(client, GIF), 415)
        assert "100 scans" in reason(ask(client, with_scans(20_000)), 400)


def test_a_picture_that_takes_too_long_is_the_senders_fault(photo):
    large = encoded(Image.new("RGB", (6000, 4000)), "JPEG", progressive=True)
    with client_of(decode_seconds=0.05, decoders=1) as client:
        assert "longer than 0.05 seconds" in reason(ask(client, large), 400)
        assert client.get("/healthz").status_code == 200


def test_a_student_needs_no_names(photo):
    student = Painted()
    student.vocabulary = Vocabulary.of(NAMES)
    with client_of(student) as client:
        answer = client.post("/v1/segment", files={"image": photo}).json()
        assert answer["names"] == NAMES
        assert client.get("/v1/models").json()[0]["names"] == NAMES


HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


def test_a_sender_who_never_ends_is_sent_away_and_one_who_leaves_costs_nothing():
    with live(body_seconds=0.3) as service:
        answer = service.ask(HEAD)
        service.line(HEAD).close()
        address = f"http://127.0.0.1:{service.port}/metrics"
        until(lambda: 'status="400"' in httpx.get(address).text)
        assert "wordmask_in_flight 0" in httpx.get(address).text
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.3 seconds" in answer


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
            for path in ("/v1/models", "/metrics"):
                assert client.get(path, headers=headers).status_code == 401
        assert client.get("/healthz").json()["status"] == "ok"
        for name, value in (("Authorization", "Bearer sésame"), ("X-API-Key", "sésame")):
            assert client.get("/v1/models", headers={name: value.encode()}).status_code == 200


def test_models_are_listed():
    """By what a request calls them; a student of somebody's goes by its file, and says whose paper it is of."""
    student = Painted()
    student.method, student.preset, student.precision = "namedmask", "world", "bf16"
    student.vocabulary = Vocabulary.of(["dog", "background"])
    with TestClient(build_app({"painted": Painted(), "dogs": student}, page=False)) as client:
        told = client.get("/v1/models").json()
        described = client.get("/openapi.json").json()["paths"]["/v1/models"]["get"]["responses"]["200"]["content"]
    known = ("method", "segmenter", "paper", "preset", "precision", "names")
    assert [tuple(own[key] for key in known) for own in told] == [
        ("painted", "painted", None, "custom", "fp32", None),
        ("dogs", "namedmask", "Shin et al., CVPRW 2023", "world", "bf16", ["dog", "background"]),
    ]
    assert set(described["application/json"]["schema"]["items"]["properties"]) == set(told[0]) >= set(known)


def test_a_decoder_that_cannot_be_started_is_told_to_the_client(client, photo, monkeypatch):
    assert ask(client, photo).status_code == 200
    for decoder in client.app.state.service.pool._processes:
        decoder._process.kill()
        decoder._process.wait()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        refused = ask(client, photo)
    assert "no decoder can be started" in reason(refused, 503)
    assert "Retry-After" in refused.headers
    assert ask(client, photo).status_code == 200


def test_metrics_count_answers_and_pictures(client, photo):
    ask(client, photo)
    ask(client, b"hello")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines())
    assert lines['wordmask_answers_total{status="200"}'] == lines['wordmask_answers_total{status="400"}'] == "1"
    assert lines["wordmask_pictures_total"] == "1"
    assert lines["wordmask_waiting"] == lines["wordmask_in_flight"] == "0"
    assert float(lines["wordmask_resident_bytes"]) > 1e7


def test_the_interface_is_described_for_programs_and_for_people(client):
    described = client.get("/openapi.json").json()
    sent = described["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
    assert set(sent) == {"multipart/form-data", "application/json"}
    assert set(sent["application/json"]["schema"]["required"]) == {"image"}
    fields = {"image", "names", "method", "format", "fill", "contrast", "min_score", "drop_absent"}
    assert fields | {"min_area", "tolerance"} == set(sent["multipart/form-data"]["schema"]["properties"])


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


@contextmanager
def busy(photo, more=0, **settings):
    """A service that looks at one picture until its gate opens, while so many more wait: (client, gate, answers)."""
    gate = Gate()
    with client_of(gate, **settings) as client, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, client, photo)]
        assert gate.entered.wait(10)
        answers += [pool.submit(ask, client, photo) for _ in range(more)]
        until(lambda: client.app.state.service.batcher.length == more)
        yield client, gate, answers


def test_requests_of_many_clients_go_through_the_network_together(photo):
    with busy(photo, 5, batch_size=4) as (_, gate, answers):
        gate.open.set()
    assert gate.batches == [1, 4, 1]
    assert all(answer.result().status_code == 200 for answer in answers)


@pytest.mark.parametrize(
    ("more", "settings", "says"),
    [
        (2, {"waiting": 2, "address_share": 1}, "2 pictures waiting already"),
        (0, {"in_flight": 1}, "too many requests"),
    ],
)
def test_a_full_service_says_when_to_come_back(photo, more, settings, says):
    with busy(photo, more, **settings) as (client, gate, answers):
        refused = ask(client, photo)
        gate.open.set()
        assert says in reason(refused, 503)
        assert int(refused.headers["Retry-After"]) >= 1
        assert all(answer.result().status_code == 200 for answer in answers)
        assert ask(client, photo).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(photo):
    gate = Gate()
    with client_of(gate, answer_seconds=0.2) as client:
        late = ask(client, photo)
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
        assert "no answer within 0.7 seconds" in reason(ask(client, photo, *many, fill="true"), 503)
        assert len(slow_reader.embed.encoder.read) < 20
        until(lambda: ask(client, photo, *many, fill="true").status_code == 200)
    assert len(slow_reader.embed.encoder.read) == 20


def test_few_names_do_not_wait_for_many_of_another_client(photo, slow_reader):
    many = [f"name {i}" for i in range(60)]  # three seconds of reading
    with client_of(slow_reader) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, photo, *many, fill="true")
        until(lambda: len(slow_reader.embed.encoder.read) >= 2)
        assert ask(client, photo, "name 0", "new", fill="true").status_code == 200
        assert len(slow_reader.embed.encoder.read) < 60
        assert first.result().status_code == 200


class Choosy(Painted):
    def look_many(self, images, sources):
        if any(image.shape[0] == 24 for image in images):
            raise RuntimeError("the secret path is /home/x")
        return super().look_many(images, sources)


def test_a_picture_that_breaks_the_network_costs_only_its_own_client(tmp_path):
    folder = painted_folder(tmp_path / "pictures")
    pictures = [(folder / f"{name}.png").read_bytes() for name in ("ring", "parts", "ring")]
    with client_of(Choosy(), batch_wait=0.3) as client, ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda picture: ask(client, picture), pictures))
    assert [result.status_code for result in results] == [200, 500, 200]
    told = reason(results[1], 500)
    assert ("RuntimeError" in told, "secret" in told) == (True, False)


def test_batched_answers_are_those_of_single_pictures():
    segmenter = MaskClip(small_clip(), maskclip_settings(shorter_side=32))
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
    noise = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)), "PNG")
    assert len(noise) > 2 * 2**20  # more than a form's parser would keep in memory by itself
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda self: pytest.fail("written"))
    with client_of(MaskClip(small_clip(), maskclip_settings(shorter_side=32))) as client:
        assert ask(client, noise, "private words", "x").status_code == 200
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_stopping_service_refuses_what_waits():
    gate = Gate()
    batcher = Batcher({"m": gate}, ServeSettings())
    image = np.zeros((4, 4, 3), np.uint8)
    first = batcher.submit(Job("m", image, time.monotonic() + 10))
    assert gate.entered.wait(10)
    second = batcher.submit(Job("m", image, time.monotonic() + 10))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batcher.close)
        time.sleep(0.05)
        gate.open.set()
        closing.result(10)
    assert first.result(1).image is image
    with pytest.raises(RequestError, match="being stopped"):
        second.result(1)


def test_settings_of_a_service_are_checked():
    with pytest.raises(ValueError, match="max_names"):
        ServeSettings(max_names=0)
    assert json.dumps(ServeSettings().max_bytes)


@pytest.fixture
def serve(monkeypatch, command):
    """Runs `wordmask serve` but for the waiting: (exit status, stderr, what uvicorn was given)."""
    monkeypatch.setattr(segmenters, "load", lambda method, **options: Painted())
    given = {}

    def run_server(server, sockets):
        server.service.batcher.close()  # as a server does when it ends
        host, port = sockets[0].getsockname()
        given.update(service=server.config.app.state.service, host=host, port=port)

    monkeypatch.setattr(uvicorn.Server, "run", run_server)

    def run(*arguments):
        method = () if "--method" in arguments else ("--method", "maskclip")
        status, _, err = command("serve", "--no-page", "--port", "0", *method, *arguments)
        return status, err, given

    return run


def test_the_verb_serves_methods_and_students_within_its_limits(serve):
    status, err, given = serve("--method", "maskclip", "--student", "run/dogs.safetensors", "--max-names", "3")
    assert status == 0
    assert f"serving maskclip in fp32, dogs in fp32 at http://127.0.0.1:{given['port']} " in err
    assert (given["host"], given["port"] > 0) == ("127.0.0.1", True)
    service = given["service"]
    assert list(service.segmenters) == ["maskclip", "dogs"]
    assert (service.settings.trusted_proxies, service.settings.max_names) == ((), 3)


def test_an_open_service_without_a_key_is_noted(serve):
    assert "anybody who reaches 0.0.0.0 may use this service" in serve("--host", "0.0.0.0")[1]


def test_proxies_are_named_one_by_one(serve, monkeypatch):
    _, _, given = serve("--trusted-proxy", "10.0.0.7", "--trusted-proxy", "fd00::/8")
    assert given["service"].settings.trusted_proxies == ("10.0.0.7", "fd00::/8")
    monkeypatch.setattr(segmenters, "load", lambda method, **options: pytest.fail("loaded before settings are checked"))
    status, err, _ = serve("--trusted-proxy", "nginx")
    assert (status, "'nginx' is neither an address nor a network" in err) == (1, True)


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
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, err, given = serve("--port", str(other.getsockname()[1]))
    assert (status, given) == (1, {})
    assert "cannot be listened at: address already in use; choose another --port" in err
    assert "serving" not in err


def test_two_methods_of_one_name_are_refused(serve):
    status, err, _ = serve("--method", "maskclip", "--student", "maskclip.safetensors")
    assert (status, "two methods of one name" in err) == (1, True)
