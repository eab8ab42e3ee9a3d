"""Streams of pictures: in order, in bounded memory, past bad files."""

import io
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageSequence

from wordmask.masks.segmentation import Segmentation
from wordmask.names.vocabulary import VocabularyError
from wordmask.pictures import streaming
from wordmask.pictures.image_files import ImageReadError, find_images
from wordmask.pictures.streaming import READERS, read_ahead
from wordmask.segmenters.base import Seen, Segmenter, SegmenterError


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((4, 5 + i, 3), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    return tmp_path


def test_batches_come_in_order_and_the_last_is_short(folder):
    paths = sorted(folder.iterdir())
    batches = list(read_ahead(paths, 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert [read.source for batch in batches for read in batch] == [str(path) for path in paths]
    assert [int(read.image[0, 0, 0]) for batch in batches for read in batch] == list(range(12))


def test_a_bad_picture_is_reported_and_left_out(folder):
    (folder / "03.png").write_bytes(b"no picture")
    (folder / "11.png").write_bytes(b"")
    bad = []
    good = [read.source for batch in read_ahead(sorted(folder.iterdir()), 4, on_bad=bad.append) for read in batch]
    assert len(good) == 10
    assert [error.source for error in bad] == [str(folder / "03.png"), str(folder / "11.png")]
    assert all(isinstance(error, ImageReadError) for error in bad)


def test_without_a_listener_a_bad_picture_is_named_in_a_warning(folder):
    (folder / "00.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: .*00\.png"):
        assert sum(len(batch) for batch in read_ahead(sorted(folder.iterdir()), 4)) == 11


def test_nothing_but_bad_pictures_is_no_batch(tmp_path):
    bad = []
    assert list(read_ahead([tmp_path / "none.png"] * 3, 2, on_bad=bad.append)) == []
    assert len(bad) == 3
    assert list(read_ahead([], 2)) == []


def test_no_more_is_read_than_two_batches_ahead():
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield np.zeros((2, 2, 3), np.uint8)

    stream = read_ahead(endless(), 3)
    for taken in range(1, 20):
        next(stream)
        assert len(asked) <= 3 * taken + 2 * 3
    stream.close()


def test_leaving_a_stream_ends_its_threads(folder):
    stream = read_ahead(sorted(folder.iterdir()), 2)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("wordmask-read")]
    assert READERS >= 1


def test_the_pixel_limit_reaches_the_readers(folder):
    bad = []
    list(read_ahead(sorted(folder.iterdir()), 4, on_bad=bad.append, max_pixels=4 * 9))
    assert len(bad) == 7


# What else may go wrong on the way


def broken_after(pictures):
    yield from pictures
    raise ConnectionError("the store went away")


def test_an_error_of_the_stream_comes_after_what_was_read_before_it(folder):
    paths = sorted(folder.iterdir())
    stream = read_ahead(broken_after(paths), 5)
    assert [len(next(stream)) for _ in range(3)] == [5, 5, 2]
    with pytest.raises(ConnectionError, match="the store went away"):
        next(stream)
    assert not [t for t in threading.enumerate() if t.name.startswith("wordmask-read")]


def test_an_error_of_the_listener_comes_after_what_was_read_before_it(folder):
    (folder / "07.png").write_bytes(b"")

    def refuse(error):
        raise error

    stream = read_ahead(sorted(folder.iterdir()), 5, on_bad=refuse)
    assert [len(next(stream)) for _ in range(2)] == [5, 2]
    with pytest.raises(ImageReadError, match=r"07\.png"):
        next(stream)


def test_a_folder_that_cannot_be_listed_costs_no_picture(tmp_path, monkeypatch):
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    bad = []
    batches = list(read_ahead(find_images(tmp_path, bad.append), 8))
    assert [read.source for read in batches[0]] == [str(tmp_path / "a/1.png"), str(tmp_path / "c/3.png")]
    assert [error.source for error in bad] == [str(tmp_path / "b")]


def test_an_error_of_the_operating_systems_is_a_bad_picture(folder, monkeypatch):
    def fail(source, **_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(streaming, "read_image", fail)
    bad = []
    assert list(read_ahead([folder / "00.png"], 2, on_bad=bad.append)) == []
    assert str(bad[0]) == f"{folder / '00.png'}: cannot be read (Input/output error)"


# Objects that change


def jpeg(side):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_one_pil_image_may_come_many_times():
    content = jpeg(600)
    expected = next(read_ahead([content], 1))[0].image
    for _ in range(3):
        image = Image.open(io.BytesIO(content))
        bad = []
        reads = [read for batch in read_ahead([image] * 8, 4, on_bad=bad.append) for read in batch]
        assert bad == []
        assert all(np.array_equal(read.image, expected) for read in reads)


def test_frames_of_an_animation_keep_apart():
    colours = [(40 * i, 0, 250 - 40 * i) for i in range(6)]
    frames = [Image.new("RGB", (300, 200), colour) for colour in colours]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    stream = read_ahead(ImageSequence.Iterator(Image.open(buffer)), 3)
    assert [tuple(read.image[0, 0].tolist()) for batch in stream for read in batch] == colours


def test_an_array_that_is_filled_anew_for_every_picture_is_read_as_it_comes():
    def camera():
        frame = np.zeros((200, 300, 3), np.uint8)
        for i in range(10):
            frame[:] = i
            yield frame

    stream = read_ahead(camera(), 4)
    assert [int(read.image[0, 0, 0]) for batch in stream for read in batch] == list(range(10))


# Memory


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that have been decoded."""
    names = []
    read_image = streaming.read_image

    def count(source, **options):
        image = read_image(source, **options)
        names.append(source)
        return image

    monkeypatch.setattr(streaming, "read_image", count)
    return names


@pytest.fixture
def alike(tmp_path):
    """Twenty pictures of 3,000 bytes."""
    for i in range(20):
        Image.fromarray(np.full((25, 40, 3), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    return sorted(tmp_path.iterdir())


def test_large_pictures_wait_in_smaller_numbers_and_come_in_smaller_batches(alike, decoded, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 8_000)  # two pictures wait, and the next; three are a batch
    stream = read_ahead(alike, 8)
    seen = []
    for batch in stream:
        seen.append([int(read.image[0, 0, 0]) for read in batch])
        time.sleep(0.05)  # in which the threads would read whatever they may
        assert len(decoded) <= sum(map(len, seen)) + 3
    assert seen == [list(range(start, min(start + 3, 20))) for start in range(0, 20, 3)]


def test_no_more_arrays_are_asked_for_than_memory_allows(monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 8_000)
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield np.zeros((25, 40, 3), np.uint8)

    stream = read_ahead(endless(), 8)
    for taken in range(1, 10):
        assert len(next(stream)) == 3
        assert len(asked) <= 3 * taken + 3
    stream.close()


def test_a_picture_larger_than_the_memory_for_all_comes_alone(alike, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 1)
    assert [[read.source for read in batch] for batch in read_ahead(alike, 4)] == [[str(path)] for path in alike]


def test_leaving_a_stream_ends_threads_that_wait_for_memory(alike, decoded, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 4_000)  # one picture waits; two are a batch
    stream = read_ahead(alike, 8)
    assert len(next(stream)) == 2
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("wordmask-read")]
    assert len(decoded) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_every_mixture_of_sizes_and_kinds_comes_whole_and_in_order(tmp_path, monkeypatch, seed):
    random = np.random.default_rng(seed)
    monkeypatch.setattr(streaming, "MOST_BYTES", int(random.integers(1, 30_000)))
    images = [np.full((*random.integers(1, 80, 2), 3), i, np.uint8) for i in range(60)]
    sources = []
    for i, image in enumerate(images):
        kind = random.integers(4)
        path = tmp_path / f"{i}.png"
        Image.fromarray(image).save(path)
        if i % 7 == 3:
            path.write_bytes(path.read_bytes()[: random.integers(0, 60)])
            kind = 0
        sources.append([path, path.read_bytes(), Image.open(path) if kind == 2 else None, image][kind])
    bad = []
    stream = read_ahead(sources, int(random.integers(1, 9)), on_bad=bad.append)
    reads = [read.image for batch in stream for read in batch]
    assert len(bad) == len([i for i in range(60) if i % 7 == 3])
    for read, image in zip(reads, [image for i, image in enumerate(images) if i % 7 != 3], strict=True):
        assert np.array_equal(read, image)


# What a segmenter makes of it


class SeenPlainly(Seen):
    def answer(self, vocabulary):
        return Segmentation(np.zeros(self.image.shape[:2], np.uint8), list(vocabulary.names), source=self.source)


class Plain(Segmenter):
    method = "plain"

    def look_many(self, images, sources):
        return [SeenPlainly(image, source) for image, source in zip(images, sources, strict=True)]


@pytest.mark.parametrize(
    "one",
    ["photo.jpg", b"\xff\xd8", Image.new("RGB", (2, 2)), np.zeros((4, 4, 3), np.uint8)],
    ids=lambda x: type(x).__name__,
)
def test_one_picture_in_place_of_many_is_refused_at_the_call(one, tmp_path):
    for given in (one, tmp_path):
        with pytest.raises(
            SegmenterError, match=r"takes many pictures, not one .*use segment; .*find_images\(folder\)"
        ):
            Plain().segment_many(given, ["dog"])


@pytest.mark.parametrize(
    ("images", "names", "batch_size", "error", "message"),
    [
        (None, ["dog"], 8, SegmenterError, "takes many pictures, not NoneType"),
        ([], ["dog"], 0, SegmenterError, "batch_size must be a whole number, 1 or more, not 0"),
        ([], ["dog"], 2.5, SegmenterError, "batch_size must be a whole number, 1 or more, not 2.5"),
        ([], "dog", 8, VocabularyError, "must be a list"),
        ([], ["dog", "dog"], 8, VocabularyError, "twice"),
    ],
)
def test_mistakes_are_told_at_the_call_and_not_at_the_first_result(images, names, batch_size, error, message):
    with pytest.raises(error, match=message):
        Plain().segment_many(images, names, batch_size=batch_size)


def test_results_come_before_the_error_that_ends_their_stream(folder):
    stream = Plain().segment_many(broken_after(sorted(folder.iterdir())), ["dog"], batch_size=5)
    assert [next(stream).size for _ in range(12)] == [(4, 5 + i) for i in range(12)]
    with pytest.raises(ConnectionError):
        next(stream)


def test_a_stack_of_arrays_is_many_pictures():
    assert len(list(Plain().segment_many(np.zeros((5, 4, 6, 3), np.uint8), ["dog"]))) == 5
