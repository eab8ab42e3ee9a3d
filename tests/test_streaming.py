"""Streams of pictures: in order, in bounded memory, past bad files."""

import io
import os
import threading
import time
from pathlib import Path
from unittest.mock import Mock

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


@pytest.fixture
def paths(folder):
    return sorted(folder.iterdir())


def colours(stream):
    """The value of every picture's first pixel, batch by batch."""
    return [[int(read.image[0, 0, 0]) for read in batch] for batch in stream]


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("wordmask-read")]


def endless(asked, size):
    while True:
        asked.append(1)
        yield np.zeros((*size, 3), np.uint8)


def test_batches_come_in_order_and_the_last_is_short(paths):
    batches = list(read_ahead(paths, 5))
    assert colours(batches) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [read.source for batch in batches for read in batch] == [str(path) for path in paths]


def test_a_bad_picture_is_reported_and_left_out(paths):
    paths[3].write_bytes(b"no picture")
    paths[11].write_bytes(b"")
    bad = []
    assert colours(read_ahead(paths, 4, on_bad=bad.append)) == [[0, 1, 2, 4], [5, 6, 7, 8], [9, 10]]
    assert [error.source for error in bad] == [str(paths[3]), str(paths[11])]
    assert all(isinstance(error, ImageReadError) for error in bad)


def test_without_a_listener_a_bad_picture_is_named_in_a_warning(paths):
    paths[0].write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: .*00\.png"):
        assert sum(len(batch) for batch in read_ahead(paths, 4)) == 11


def test_the_pixel_limit_reaches_the_readers(paths):
    bad = []
    list(read_ahead(paths, 4, on_bad=bad.append, max_pixels=4 * 9))
    assert len(bad) == 7


def test_nothing_but_bad_pictures_is_no_batch(tmp_path):
    bad = []
    assert list(read_ahead([tmp_path / "none.png"] * 3, 2, on_bad=bad.append)) == []
    assert len(bad) == 3
    assert list(read_ahead([], 2)) == []


@pytest.mark.parametrize(
    ("size", "batch", "most_bytes", "given", "ahead"),
    [((2, 2), 3, streaming.MOST_BYTES, 3, 6), ((25, 40), 8, 8_000, 3, 3)],
    ids=["two batches ahead", "as memory allows"],
)
def test_no_more_is_read_than_there_is_room_for(monkeypatch, size, batch, most_bytes, given, ahead):
    monkeypatch.setattr(streaming, "MOST_BYTES", most_bytes)
    asked = []
    stream = read_ahead(endless(asked, size), batch)
    for taken in range(1, 20):
        assert len(next(stream)) == given
        assert len(asked) <= given * taken + ahead
    stream.close()


def test_leaving_a_stream_ends_its_threads(paths):
    stream = read_ahead(paths, 2)
    next(stream)
    stream.close()
    assert not readers()
    assert READERS >= 1


# What else may go wrong on the way


def broken_after(pictures):
    yield from pictures
    raise ConnectionError("the store went away")


def test_an_error_of_the_stream_comes_after_what_was_read_before_it(paths):
    stream = read_ahead(broken_after(paths), 5)
    assert [len(next(stream)) for _ in range(3)] == [5, 5, 2]
    with pytest.raises(ConnectionError, match="the store went away"):
        next(stream)
    assert not readers()


def test_an_error_of_the_listener_comes_after_what_was_read_before_it(paths):
    paths[7].write_bytes(b"")

    def refuse(error):
        raise error

    stream = read_ahead(paths, 5, on_bad=refuse)
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


def test_an_error_of_the_operating_systems_is_a_bad_picture(paths, monkeypatch):
    monkeypatch.setattr(streaming, "read_image", Mock(side_effect=OSError(5, "Input/output error")))
    bad = []
    assert list(read_ahead(paths[:1], 2, on_bad=bad.append)) == []
    assert str(bad[0]) == f"{paths[0]}: cannot be read (Input/output error)"


# Objects that change


def test_one_pil_image_may_come_many_times():
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    expected = next(read_ahead([buffer.getvalue()], 1))[0].image
    for _ in range(3):
        bad = []
        reads = [read for batch in read_ahead([Image.open(buffer)] * 8, 4, on_bad=bad.append) for read in batch]
        assert bad == []
        assert all(np.array_equal(read.image, expected) for read in reads)


def test_frames_of_an_animation_keep_apart():
    frames = [Image.new("RGB", (300, 200), (40 * i, 0, 250 - 40 * i)) for i in range(6)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert colours(read_ahead(ImageSequence.Iterator(Image.open(buffer)), 3)) == [[0, 40, 80], [120, 160, 200]]


def test_an_array_that_is_filled_anew_for_every_picture_is_read_as_it_comes():
    def camera():
        frame = np.zeros((200, 300, 3), np.uint8)
        for i in range(10):
            frame[:] = i
            yield frame

    assert colours(read_ahead(camera(), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


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
    seen = []
    for batch in read_ahead(alike, 8):
        seen += colours([batch])
        time.sleep(0.05)  # in which the threads would read whatever they may
        assert len(decoded) <= sum(map(len, seen)) + 3
    assert seen == [list(range(start, min(start + 3, 20))) for start in range(0, 20, 3)]


def test_a_picture_larger_than_the_memory_for_all_comes_alone(alike, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 1)
    assert [[read.source for read in batch] for batch in read_ahead(alike, 4)] == [[str(path)] for path in alike]


def test_leaving_a_stream_ends_threads_that_wait_for_memory(alike, decoded, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_BYTES", 4_000)  # one picture waits; two are a batch
    stream = read_ahead(alike, 8)
    assert len(next(stream)) == 2
    stream.close()
    assert not readers()
    assert len(decoded) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_every_mixture_of_sizes_and_kinds_comes_whole_and_in_order(tmp_path, monkeypatch, seed):
    random = np.random.default_rng(seed)
    monkeypatch.setattr(streaming, "MOST_BYTES", int(random.integers(1, 30_000)))
    images = [np.full((*random.integers(1, 80, 2), 3), i, np.uint8) for i in range(60)]
    sources, good = [], []
    for i, image in enumerate(images):
        path = tmp_path / f"{i}.png"
        Image.fromarray(image).save(path)
        kind = random.integers(4)
        if i % 7 == 3:
            path.write_bytes(path.read_bytes()[: random.integers(0, 60)])
            sources.append(path)
        else:
            sources.append([path, path.read_bytes(), Image.open(path), image][kind])
            good.append(image)
    bad = []
    stream = read_ahead(sources, int(random.integers(1, 9)), on_bad=bad.append)
    reads = [read.image for batch in stream for read in batch]
    assert len(bad) == 60 - len(good)
    for read, image in zip(reads, good, strict=True):
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
    ["photo.jpg", b"\xff\xd8", Image.new("RGB", (2, 2)), np.zeros((4, 4, 3), np.uint8), Path()],
    ids=lambda x: type(x).__name__,
)
def test_one_picture_in_place_of_many_is_refused_at_the_call(one):
    with pytest.raises(SegmenterError, match=r"takes many pictures, not one .*use segment; .*find_images\(folder\)"):
        Plain().segment_many(one, ["dog"])


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


def test_results_come_before_the_error_that_ends_their_stream(paths):
    stream = Plain().segment_many(broken_after(paths), ["dog"], batch_size=5)
    assert [next(stream).size for _ in range(12)] == [(4, 5 + i) for i in range(12)]
    with pytest.raises(ConnectionError):
        next(stream)


def test_a_stack_of_arrays_is_many_pictures():
    assert len(list(Plain().segment_many(np.zeros((5, 4, 6, 3), np.uint8), ["dog"]))) == 5
