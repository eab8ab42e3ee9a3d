"""The review through the service: what may be read, who may write, and what is in the file afterwards."""

import json
import os
import re

import numpy as np
import pytest
from starlette.testclient import TestClient

from support.labelling_job import label
from support.many_reviewed import write_many
from support.painted import painted_folder
from wordmask.corrections import FILE_NAME, Correction, read_corrections, write_corrections
from wordmask.labelling.review import read_script
from wordmask.masks.run_lengths import encoded_mask
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.review_folder import ReviewFolder
from wordmask.serving.settings import ServeError

KEY = "a key ü"


@pytest.fixture
def labels(tmp_path):
    return write_many(tmp_path, 60).parent


@pytest.fixture
def reviewed(labels):
    folder = ReviewFolder(labels)
    yield folder
    folder.close()


def client_of(folder, key=None):
    app = build_app({}, ServeSettings(api_key=key, decoders=0), page=False, review=folder)
    return TestClient(app, base_url="http://localhost")


def index_of(labels):
    return read_script(labels / "review" / "index.js", "index")


def entry(labels, number=0, verdict="accepted"):
    told = index_of(labels)
    path, _, fingerprint, height, width, *_ = told["pictures"][number]
    _, counts = read_script(labels / "review" / f"masks-{number // told['together']:05d}.js", "masks")[number % 50]
    masks = [{"name": "dog", "verdict": None, "counts": code} for code in counts]
    return {"picture": path, "fingerprint": fingerprint, "size": [height, width], "verdict": verdict, "masks": masks}


def put(client, told, **headers):
    address = f"/review/corrections/{told['fingerprint']}"
    return client.put(address, content=json.dumps(told), headers={"content-type": "application/json", **headers})


def test_verdicts_are_written_and_given_back(labels, reviewed):
    with client_of(reviewed) as client:
        assert 'data-api="corrections"' in client.get("/review").text
        first, last = entry(labels), entry(labels, 55, "rejected")
        last["masks"][0] |= {"name": "lynx", "was": "dog", "verdict": "accepted"}
        assert put(client, first).status_code == put(client, last).status_code == 204
        kept = read_corrections(labels / FILE_NAME)
        assert {each.fingerprint: each.to_json() for each in kept} == {
            told["fingerprint"]: told for told in (first, last)
        }
        shown = json.loads(client.get("/review/review/index.js").text[len("wordmaskReview.index(") : -3])
        assert shown["verdicts"][first["fingerprint"]]["v"] == "accepted"
        assert shown["verdicts"][last["fingerprint"]]["m"][0] == ["accepted", "lynx"]
        nothing = {**first, "verdict": None}
        assert put(client, nothing).status_code == 204  # taken back
        assert [each.fingerprint for each in read_corrections(labels / FILE_NAME)] == [last["fingerprint"]]


def test_what_another_program_writes_meanwhile_is_kept(labels, reviewed):
    with client_of(reviewed) as client:
        put(client, entry(labels))
        other = Correction("elsewhere.png", "f" * 64, (2, 2), "rejected")
        write_corrections(labels / FILE_NAME, [*read_corrections(labels / FILE_NAME), other])
        put(client, entry(labels, 1))
        assert len(read_corrections(labels / FILE_NAME)) == 3


def test_a_page_that_is_older_than_the_labels_takes_no_mask_away(labels, reviewed):
    with client_of(reviewed) as client:
        told = entry(labels)
        assert len(told["masks"]) > 1
        for masks in ([], told["masks"][:1], told["masks"][::-1]):
            assert put(client, {**told, "masks": masks}).status_code == 409
        mended = {**told["masks"][0], "counts": encoded_mask(np.eye(*told["size"], dtype=bool))["counts"]}
        write_corrections(labels / FILE_NAME, [Correction.from_json({**told, "masks": [mended]})])
        assert put(client, told).status_code == 409
        (kept,) = read_corrections(labels / FILE_NAME)
        assert [mask.counts for mask in kept.masks] == [mended["counts"]]


def test_only_pictures_of_the_review_are_read(labels, reviewed):
    (labels.parent / "photos" / "secret.png").write_bytes(b"secret")
    (labels.parent / "secret.png").write_bytes(b"secret")
    with client_of(reviewed) as client:
        assert client.get("/review/pictures/00003.png").headers["content-type"] == "image/png"
        for path in (
            "secret.png",
            "../secret.png",
            "%2e%2e/secret.png",
            "..%2fsecret.png",
            "00003.png%00",
            "/etc/passwd",
        ):
            assert client.get(f"/review/pictures/{path}").status_code in (404, 400), path
        for path in ("masks-00009.js", "masks-..%2f0.js", "pictures/..%2f..%2fsettings.json", "masks--1.js"):
            assert client.get(f"/review/review/{path}").status_code == 404, path
        assert client.get("/review/review/masks-00001.js").text.startswith("wordmaskReview.masks(1, ")


def test_links_out_of_the_folder_are_not_followed(labels, reviewed):
    picture = labels.parent / "photos" / "00003.png"
    (labels.parent / "secret.png").write_bytes(b"secret")
    picture.unlink()
    picture.symlink_to(labels.parent / "secret.png")
    with client_of(reviewed) as client:
        assert client.get("/review/pictures/00003.png").status_code == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"verdict": "perhaps"}, 400),
        ({"masks": [{"name": "dog", "counts": "zzz"}]}, 400),
        ({"masks": None}, 400),
        ({"size": [1, 1]}, 400),
        ({"picture": "00001.jpg"}, 409),
        ({"fingerprint": "f" * 64}, 404),
    ],
)
def test_what_is_no_correction_of_this_review_is_refused(labels, reviewed, change, status):
    with client_of(reviewed) as client:
        assert put(client, {**entry(labels), **change}).status_code == status
        assert not (labels / FILE_NAME).exists()


def test_verdicts_come_from_the_page_alone(labels, reviewed):
    with client_of(reviewed) as client:
        assert put(client, entry(labels), **{"sec-fetch-site": "cross-site"}).status_code == 403
        assert put(client, entry(labels), **{"content-type": "text/plain"}).status_code == 415
        assert not (labels / FILE_NAME).exists()


def test_without_the_key_nothing_is_seen(labels, reviewed):
    with client_of(reviewed, KEY) as client:
        assert "This service's key" in client.get("/review/").text
        for path in ("review/index.js", "review/masks-00000.js", "pictures/00003.png"):
            assert client.get(f"/review/{path}").status_code == 401
        assert put(client, entry(labels)).status_code == 401
        assert "not the key" in client.post("/review/login", data={"key": "wrong"}).text
        assert client.get("/review/review/index.js").status_code == 401
        answer = client.post("/review/login", data={"key": KEY}, follow_redirects=False)
        assert answer.status_code == 303
        assert re.search("HttpOnly.*SameSite=strict", answer.headers["set-cookie"], re.IGNORECASE)
        assert put(client, entry(labels)).status_code == 204
        assert client.get("/review/pictures/00003.png").status_code == 200


def test_one_service_at_a_time_reviews_a_folder(labels, reviewed):
    with pytest.raises(ServeError, match="through another service"):
        ReviewFolder(labels)


def test_what_is_no_review_is_refused(tmp_path):
    with pytest.raises(ServeError, match="holds no review"):
        ReviewFolder(tmp_path)


def test_names_that_are_no_utf_8_and_labels_made_anew(tmp_path):
    photos = painted_folder(tmp_path / "photos")
    odd = os.fsdecode(b"caf\xe9.png")
    (photos / "ring.png").rename(photos / odd)
    label(photos, tmp_path / "labels")
    folder = ReviewFolder(tmp_path / "labels")
    with client_of(folder) as client:
        assert client.get("/review/pictures/caf%E9.png").status_code == 200
        told = next(each for each in (entry(tmp_path / "labels", i) for i in range(4)) if each["picture"] == odd)
        assert put(client, told).status_code == 204
        assert [each.picture for each in read_corrections(tmp_path / "labels" / FILE_NAME)] == [odd]
        (photos / odd).unlink()
        (photos / "parts.png").unlink()
        label(photos, tmp_path / "labels", prune=True, on_note=lambda note: None)
        assert put(client, told).status_code == 404
    folder.close()


def test_a_service_of_a_review_alone_says_so(reviewed):
    with client_of(reviewed) as client:
        assert client.get("/v1/models").json() == []
        assert client.get("/docs").status_code == 404
        assert client.get("/").url.path == "/review/"
