"""What masks are answered as, and several pictures in one request."""

import base64
import gc
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage
from starlette.datastructures import Headers

from support.live_service import png
from support.painted import NAMES, Painted, paint, painted_folder
from support.served_client import Counting, client_of, form, reason
from wordmask.labelling.settings import MIN_AREA
from wordmask.pictures.images import read_image
from wordmask.serving import ServeSettings
from wordmask.serving import answers as answers_module
from wordmask.serving.many import at_once
from wordmask.serving.reading import parse
from wordmask.serving.settings import RequestError


@pytest.fixture
def client():
    with client_of() as client:
        yield client


@pytest.fixture
def photos(tmp_path):
    folder = painted_folder(tmp_path / "pictures")
    return [(folder / f"{name}.png").read_bytes() for name in ("ring", "parts", "nothing")]


def ask(client, photo, **fields):
    return client.post("/v1/segment", **form(photo, **fields))


def test_polygons_and_boxes_tell_of_each_part(client, photos):
    labels, scores = paint(read_image(photos[0]))
    told = ask(client, photos[0], format="polygons", tolerance="0", min_area="1").json()
    assert [mask["name"] for mask in told["masks"]] == ["red", "blue"]  # background is no part of anything
    for mask in told["masks"]:
        own = labels == NAMES.index(mask["name"])
        count = ndimage.label(own)[1]
        assert (len(mask["parts"]), mask["area"]) == (count, own.sum())
        drawn = np.zeros(labels.shape, bool)
        for part in mask["parts"]:
            code = coco_mask.frPyObjects([part["polygon"]], *labels.shape)
            pixels = coco_mask.decode(code)[..., 0].astype(bool)
            rows, columns = np.nonzero(pixels)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (part["box"], part["area"]) == (box, pixels.sum())
            assert part["score"] == pytest.approx(scores[pixels].mean(), abs=1e-4)
            drawn |= pixels
        assert (drawn == own).all()
    boxes = ask(client, photos[0], format="boxes", min_area="1").json()
    for mask in told["masks"]:
        for part in mask["parts"]:
            del part["polygon"]
    assert boxes["masks"] == told["masks"]
    large = ask(client, photos[0], format="boxes", min_area="16").json()
    assert [len(mask["parts"]) for mask in large["masks"]] == [1, 1]


def test_specks_are_no_parts_unless_they_are_asked_for(client, photos):
    """As `wordmask label` has it: the ring is large, a patch in it and a pixel beside it are not."""
    told = ask(client, photos[0], format="boxes").json()
    [mask] = told["masks"]
    assert (mask["name"], [part["area"] for part in mask["parts"]]) == ("red", [mask["area"] - 1])
    assert all(part["area"] >= MIN_AREA for part in mask["parts"])
    with_specks = ask(client, photos[0], format="boxes", min_area="1").json()
    assert sorted(part["area"] for mask in with_specks["masks"] for part in mask["parts"])[:2] == [1, 16]


def test_an_overlay_is_the_picture_under_its_masks(client, photos):
    answer = ask(client, photos[1], format="overlay")
    assert answer.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))[:24]
    picture = read_image(photos[1])
    clear = ndimage.minimum_filter((picture == 0).all(axis=-1), 5)
    assert (drawn[clear] == 0).all()
    assert (drawn[14, 14] != picture[14, 14]).any()


class Reducing(Painted):
    """Keeps less than a picture where it may, as published methods do."""

    def reduce(self, image):
        raise AssertionError("an overlay needs the picture")


def test_an_overlay_asks_for_the_whole_picture(photos):
    with client_of(Reducing()) as client:
        assert ask(client, photos[1], format="overlay").status_code == 200


def test_masks_too_ragged_for_polygons_are_refused_before_they_are_walked(client, monkeypatch):
    monkeypatch.setattr(answers_module, "MOST_EDGES", 500)
    ragged = png(40, 40, noise=True)
    for kind in ("polygons", "boxes"):
        assert "ask for format=rle" in reason(ask(client, ragged, format=kind), 413)
    assert ask(client, ragged).status_code == 200
    assert ask(client, png(400, 400), format="boxes").status_code == 200


def test_synonyms_come_as_json_too(client, photos):
    image = base64.b64encode(photos[0]).decode()
    names = {"red": ["crimson", "scarlet"], "blue": []}
    told = client.post("/v1/segment", json={"image": image, "names": names}).json()
    assert told["names"] == ["red", "blue", "background"]
    assert told["masks"] == ask(client, photos[0], names=["red: [crimson, scarlet], blue"]).json()["masks"]
    many = {"red": [f"word {i}" for i in range(200)]}
    refused = client.post("/v1/segment", json={"image": image, "names": many})
    assert "201 names and synonyms" in reason(refused, 413)


def many(client, photos, **fields):
    return client.post("/v1/segment_many", files=[("image", own) for own in photos], data={"names": NAMES, **fields})


@pytest.mark.parametrize("kind", ["rle", "polygons", "boxes"])
def test_several_pictures_are_answered_as_one_by_one(client, photos, kind):
    told = many(client, photos, format=kind).json()
    assert told == {"answers": [ask(client, photo, format=kind).json() for photo in photos]}
    images = [base64.b64encode(photo).decode() for photo in photos]
    assert client.post("/v1/segment_many", json={"images": images, "names": NAMES, "format": kind}).json() == told


def test_one_that_fails_does_not_cost_the_others_theirs(client, photos):
    first, bad, last = many(client, [photos[0], b"hello", photos[1]]).json()["answers"]
    assert bad["error"]["code"] == "image"
    assert first["masks"]
    assert last["masks"]


def test_several_are_bounded_and_come_as_json(photos):
    with client_of(max_pictures=2) as client:
        assert "Too many files" in reason(many(client, photos), 400)
        images = [base64.b64encode(photo).decode() for photo in photos]
        refused = client.post("/v1/segment_many", json={"images": images, "names": NAMES})
        assert "3 pictures; at most 2" in reason(refused, 413)
        assert "format: png is for one picture" in reason(many(client, photos[:2], format="png"), 400)
        assert "images" in reason(client.post("/v1/segment_many", json={"images": [], "names": NAMES}), 400)


def test_parts_of_a_request_go_through_the_network_together_and_count_in_the_budgets():
    segmenter = Counting()
    with client_of(segmenter, batch_size=4, batch_wait=0.3) as client:
        service = segmenter.service = client.app.state.service
        told = many(client, [png()] * 8).json()["answers"]
        assert all(own["masks"] for own in told)
        assert segmenter.most == 4 == at_once(service)
        assert all(0 < places <= 4 and held >= places * 8 * 30 * 40 for places, held in segmenter.held)
        assert (service.places.held, service.pictures.held, service.arrivals.bytes.held) == (0, 0, 0)


def test_several_pictures_fit_the_smallest_service(photos):
    with client_of(in_flight=1, waiting=1, decoders=0) as client:
        assert all("masks" in own for own in many(client, photos).json()["answers"])


def test_one_client_with_many_pictures_leaves_another_its_turn(photos):
    entered, opened = threading.Event(), threading.Event()

    class Gate(Painted):
        def look_many(self, images, sources):
            entered.set()
            opened.wait(10)
            return super().look_many(images, sources)

    with client_of(Gate(), waiting=4, batch_size=2) as client:
        thread = threading.Thread(target=many, args=(client, photos * 3))
        thread.start()
        try:
            assert entered.wait(10)
            service = client.app.state.service
            assert service.batcher.length <= at_once(service) <= 1
        finally:
            opened.set()
            thread.join()


@pytest.fixture
def without_collection():
    """Of garbage: among all that tests have loaded it takes longer than what is measured."""
    gc.disable()
    yield
    gc.enable()


BOUNDARY = b"\r\n--b"
DISPOSITION = b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nc'
START = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx'
HARD = {
    "parts": ("multipart/form-data; boundary=b", (BOUNDARY + DISPOSITION) * 5000, "too many parts"),
    "what begins as one does": (
        "multipart/form-data; boundary=b",
        START + (BOUNDARY + b"q") * 200_000,
        "too many parts",
    ),
    "lists": ("application/json", b'{"image": "", "names": [' + b"[]," * 40_000 + b"[]]}", "40001 names"),
    "synonyms": ("application/json", b'{"image": "", "names": {"a": [' + b"[]," * 40_000 + b"[]]}}", "40002 names"),
    "contrast": (
        "application/json",
        b'{"image": "", "names": ["a"], "contrast": [' + b"[]," * 40_000 + b"[]]}",
        "contrast",
    ),
    "many fields": ("application/json", b"{" + b",".join(b'"%d": 1' % i for i in range(30_000)) + b"}", "30000 fields"),
}


@pytest.mark.parametrize(("kind", "body", "why"), HARD.values(), ids=HARD)
def test_what_is_made_to_be_hard_to_read_is_refused_in_little_time(kind, body, why, without_collection):
    start = time.thread_time()
    with pytest.raises(RequestError, match=why):
        parse(Headers({"content-type": kind}), kind.partition(";")[0], bytearray(body), ServeSettings())
    assert time.thread_time() - start < 0.1
