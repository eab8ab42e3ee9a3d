"""Pictures reduced to what a network reads: the same labels and scores, and the service holds little of them."""

import threading

import numpy as np
import pytest
from PIL import Image

import wordmask
from support.live_service import body_of, head_of, live, png, rest_of
from support.painted import Painted, paint
from support.tiny_student import NAMES, tiny_student
from wordmask.masks.segmentation import Segmentation
from wordmask.pictures.reduced import Reduced, pixels_of
from wordmask.segmenters.base import Seen, SegmenterError
from wordmask.segmenters.namedmask import NamedMask, NamedMaskSettings
from wordmask_world import draw_scene

SIZES = [(129, 131), (640, 641), (333, 1999), (1001, 701), (129, 2000), (128, 200), (100, 90), (3, 900), (1, 1)]
"""Some are read smaller than they are, some larger, some as they are."""


def photo(height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(draw_scene(height % 50, 256).image).resize((width, height)))


@pytest.mark.parametrize("method", ["maskclip", "clip-dinoiser"])
def test_every_label_and_score_is_that_of_the_whole_picture(method: str) -> None:
    segmenter = wordmask.load(method, preset="world", device="cpu", precision="fp32")
    for height, width in SIZES:
        image = photo(height, width)
        small = segmenter.reduce(image)
        assert isinstance(small, Reduced) == (segmenter.input_size(height, width) is not None)
        whole, part = (segmenter.look_many([own], ["a"])[0] for own in (image, small))
        for names in (["dog", "cat", "tree"], ["sky", "grass", "background"]):
            wanted, found = whole.segment(names), part.segment(names)
            assert np.array_equal(found.labels, wanted.labels)
            assert np.array_equal(found.scores, wanted.scores)
    assert segmenter.input_size(640, 641) == (128, 128)
    assert segmenter.input_size(100, 90) is None


def test_a_student_reads_its_own_size_too() -> None:
    segmenter = NamedMask(tiny_student(), NamedMaskSettings(longer_side=96), device="cpu", precision="fp32")
    image = photo(201, 150)
    small = segmenter.reduce(image)
    assert isinstance(small, Reduced)
    assert small.pixels.shape == (96, 72, 3)
    whole, part = segmenter.look_many([image, small], ["a", "b"])
    wanted, found = whole.segment(list(NAMES)), part.segment(list(NAMES))
    assert np.array_equal(found.labels, wanted.labels)
    assert np.array_equal(found.scores, wanted.scores)
    assert found.image is None
    with pytest.raises(SegmenterError, match="handed in reduced"):
        _ = part.image


def test_who_needs_the_picture_itself_gets_it() -> None:
    image = photo(400, 500)
    refining = wordmask.load("maskclip", preset="world", refine="solver", device="cpu", precision="fp32")
    assert refining.reduce(image) is image
    assert Painted().reduce(image) is image


class SeenSmall(Seen):
    def __init__(self, picture, source):
        super().__init__(picture, source)
        self.pixels = pixels_of(picture)

    def answer(self, vocabulary):
        labels, scores = (np.repeat(np.repeat(own, 4, axis=0), 4, axis=1) for own in paint(self.pixels))
        return Segmentation(labels.astype(np.uint8), list(vocabulary.names), scores)


class ReadsSmall(Painted):
    """Reads a quarter of each side, when it is let."""

    def __init__(self):
        super().__init__()
        self.open, self.entered = threading.Event(), threading.Event()

    def input_size(self, height, width):
        return height // 4, width // 4

    def look_many(self, images, sources):
        self.entered.set()
        assert self.open.wait(20)
        return [SeenSmall(image, source) for image, source in zip(images, sources, strict=True)]


@pytest.mark.parametrize("decoders", [1, 0])
def test_pictures_count_whole_until_their_answers_are_taken(decoders: int) -> None:
    small = ReadsSmall()
    body = body_of(png(1000, 1000))
    one = {"max_pixels": 1_000_000, "picture_bytes": 1, "address_share": 1}  # there is room for, if it is whole
    with live(small, decoders=decoders, batch_size=1, **one) as service:
        lines = [service.line(head_of(body, "Connection: close") + body) for _ in range(4)]
        assert small.entered.wait(20)
        assert service.service.batcher.length == 0
        assert service.service.pictures.held == 8_000_000
        small.open.set()
        answers = [rest_of(line) for line in lines]
        for line in lines:
            line.close()
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"size":[1000,1000]' in answer
        assert b'"area":1000000' in answer
