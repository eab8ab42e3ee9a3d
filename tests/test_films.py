"""Films: frames in, masks out, a film back; in bounded memory, and within limits that are checked before decoding."""

import errno
import io
import json
import os
import resource
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from support.painted import NAMES, Painted
from wordmask import segmenters
from wordmask.extras import MissingExtraError, is_installed
from wordmask.files import NoRoomError
from wordmask.pictures.decoding_worker import send
from wordmask.pictures.films import FilmError, FilmLimits, _answer, read_film, seconds_between
from wordmask.pictures.films_worker import chosen, upright
from wordmask.pictures.films_writing import film_at

needs_av = pytest.mark.skipif(not is_installed("av"), reason="PyAV is not installed: pip install 'wordmask[films]'")
RATE = 10


def painted(number, height=45, width=61):
    """A red square that walks, over a blue ground with a black rim."""
    image = np.zeros((height, width, 3), np.uint8)
    image[4:-4, 4:-4, 2] = 255
    left = 8 + number % (width - 32)
    image[12:28, left : left + 16] = (255, 0, 0)
    return image


def make_film(path, count=35, **size):
    """By PyAV itself, without loss that a mask would notice."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb" if path.suffix == ".mkv" else "libx264", rate=RATE)
        first = painted(0, **size)
        stream.height, stream.width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
        stream.pix_fmt = "rgb24" if path.suffix == ".mkv" else "yuv420p"
        stream.options = {"crf": "0" if path.suffix == ".mkv" else "10"}
        for number in range(count):
            frame = painted(number, **size)[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def film(tmp_path):
    return make_film(tmp_path / "walk.mkv")


@pytest.fixture
def run(monkeypatch, command):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    return command


def frames_in(path, **options):
    with read_film(path, **options) as (_, frames):
        return list(frames)


def labels_of(image):
    return np.where(image[..., 0] > 127, 0, np.where(image[..., 2] > 127, 1, 2))


@needs_av
def test_frames_come_with_their_times(film):
    with read_film(film) as (told, frames):
        assert (told.size, told.codec, told.rate) == ((44, 60), "h264", RATE)
        found = list(frames)
    assert [frame.time for frame in found] == [Fraction(n, RATE) for n in range(35)]
    for number, frame in enumerate(found):
        assert (labels_of(frame.image) == labels_of(painted(number)[:44, :60])).all()
    assert [frame.time for frame in frames_in(film, every=Fraction(1))] == [0, 1, 2, 3]
    assert [frame.time for frame in frames_in(film, every=Fraction(1, 4))][:4] == [
        0,
        Fraction(3, 10),
        Fraction(1, 2),
        Fraction(4, 5),
    ]


def test_of_each_stretch_the_first_frame_is_chosen():
    times = [Fraction(t) for t in ("0", "0.9", "1.1", "1.9", "2.5", "5.2", "5.9", "6")]
    assert [time for time, _ in chosen(((t, None) for t in times), Fraction(1))] == [
        Fraction(t) for t in ("0", "1.1", "2.5", "5.2", "6")
    ]
    assert len(list(chosen(((t, None) for t in times), None))) == len(times)
    passed = []
    assert len(list(chosen(((t, None) for t in times), Fraction(1), lambda: passed.append(1)))) + len(passed) == 8


def test_a_decoder_has_its_time_for_each_frame_also_for_those_that_nobody_asked_for():
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as answers, os.fdopen(write, "wb", buffering=0) as says:
        for told in ({"alive": True}, {"alive": True}, {"end": True}):
            send(says, told)
        process = SimpleNamespace(stdin=io.BytesIO(), stdout=answers)
        assert _answer(process, {"next": True}, "film", 1.0) == {"end": True}
        with pytest.raises(FilmError, match="a frame took longer than"):
            _answer(process, {"next": True}, "film", 0.01)


def test_frames_are_turned_upright():
    image = np.arange(6).reshape(2, 3, 1)
    assert upright(image, 90)[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]  # counter-clockwise
    assert upright(image, -90)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert (upright(image, 180) == image[::-1, ::-1]).all()
    assert (upright(image, 0) == image).all()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("500ms", Fraction(1, 2)), ("2min", 120), ("0.25", Fraction(1, 4))]
)
def test_how_far_frames_are_apart_is_read(text, seconds):
    assert seconds_between(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1h1", "soon"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(FilmError, match="1s, 500ms or 2min"):
        seconds_between(text)


@needs_av
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"bytes": 100}, "bytes, above the limit of 100"),
        ({"length": 2.0}, "seconds long, above the limit"),
        ({"frames": 5}, "more than 5 frames"),
        ({"pixels": 1000}, "frames of 60 x 44 pixels"),
        ({"codecs": ("vp9",)}, r"is coded in h264; vp9|is damaged, or no film"),
        ({"formats": ("avi",)}, "is damaged, or no film"),
    ],
)
def test_a_film_beyond_its_limits_is_refused(film, limits, says):
    with pytest.raises(FilmError, match=says) as error, read_film(film, limits=FilmLimits(**limits)) as (_, frames):
        list(frames)
    assert "walk.mkv" in str(error.value)


@needs_av
def test_no_film_opens_another_file_or_an_address(film, tmp_path):
    """Lists of ffmpeg's are files that name others."""
    said = {
        "hls.mp4": f"#EXTM3U\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {film}\n",
        "concat2.mkv": "ffconcat version 1.0\nfile http://127.0.0.1:9/a.mp4\n",
        "text.avi": "hello" * 1000,
        "empty.mp4": "",
    }
    for name, text in said.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(FilmError, match="no film"), read_film(tmp_path / name):
            pass
    (tmp_path / "short.mkv").write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(FilmError, match="short.mkv"), read_film(tmp_path / "nowhere" / "short.mkv"):
        pass
    assert len(frames_in(tmp_path / "short.mkv")) < 35


@needs_av
def test_a_decoder_that_dies_costs_an_error_and_no_process_is_left(film):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with read_film(film) as (_, frames):
        next(frames)
        child = next(c for c in psutil.Process().children(recursive=True) if c.pid not in before)
        child.kill()
        with pytest.raises(FilmError, match="its decoder ended with"):
            list(frames)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@needs_av
def test_a_film_of_labels_keeps_every_value(tmp_path):
    values = [np.random.default_rng(n).integers(0, 256, (45, 61), dtype=np.uint8) for n in range(5)]
    times = [Fraction(0), Fraction(1, 30), Fraction(1, 2), Fraction(1), Fraction(7, 3)]
    with film_at(tmp_path / "labels.mkv", None) as writer:
        for value, time in zip(values, times, strict=True):
            writer.write(value, time)
    found = frames_in(tmp_path / "labels.mkv")
    for frame, value, time in zip(found, values, times, strict=True):
        assert (frame.image == value[..., None]).all()
        assert abs(frame.time - time) < Fraction(1, 900)  # Matroska counts milliseconds

    def changes():
        with film_at(tmp_path / "other.mkv", None) as writer:
            writer.write(values[0], times[0])
            writer.write(values[1][:20], times[1])

    with pytest.raises(FilmError, match="change from"):
        changes()
    assert not (tmp_path / "other.mkv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"labels.mkv"}


@needs_av
def test_segment_gives_a_film_of_masks(run, film, tmp_path):
    out = tmp_path / "masks.mkv"
    status, said, err = run("segment", film, "--names", ",".join(NAMES), "--out", out, "--json", "--batch-size", "4")
    assert (status, json.loads(said)["frames"]) == (0, 35), err
    for number, frame in enumerate(frames_in(out)):
        assert frame.time == Fraction(number, RATE)
        assert (frame.image[..., 0] == labels_of(painted(number)[:44, :60])).all()
    assert run("segment", film, "--names", ",".join(NAMES), "--every", "1s", "--out", tmp_path / "o.mp4")[0] == 0
    drawn = frames_in(tmp_path / "o.mp4")
    assert [frame.time for frame in drawn] == [0, 1, 2, 3]
    expected = np.asarray(Painted().segment(painted(10)[:44, :60], NAMES).overlay(legend=False), int)
    assert abs(drawn[1].image - expected).mean() < 12  # H.264 blurs colours
    other = np.asarray(Painted().segment(painted(20)[:44, :60], NAMES).overlay(legend=False), int)
    assert abs(drawn[1].image - other).mean() > 2 * abs(drawn[1].image - expected).mean()


@needs_av
def test_a_place_that_may_not_be_written_is_named_as_it_was_given(run, film, tmp_path, monkeypatch):
    real = os.open

    def refuse(path, flags, *rest, **options):  # no permission stops an administrator
        if Path(path).parent == tmp_path / "locked":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    out = tmp_path / "locked" / "masks.mp4"
    status, _, err = run("segment", film, "--names", "red", "--out", out)
    assert (status, err.splitlines()[-1]) == (
        1,
        f"wordmask: error: {out}: read-only file system; choose another place, or change its rights",
    )


@needs_av
@pytest.mark.parametrize("name", ["drawn.mp4", "labels.mkv"])
def test_a_film_that_has_no_room_is_named_and_leaves_nothing(tmp_path, name):
    noise, limit = np.random.default_rng(0), resource.getrlimit(resource.RLIMIT_FSIZE)

    def write():
        with film_at(tmp_path / name, None) as writer:
            for number in range(40):
                shape = (64, 64, 3) if name.endswith(".mp4") else (64, 64)
                writer.write(noise.integers(0, 256, shape, dtype=np.uint8), Fraction(number, 10))

    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
    try:
        with pytest.raises(NoRoomError, match=f"disk of {tmp_path / name} "):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


@needs_av
def test_what_is_there_is_not_written_over(run, film, tmp_path):
    for out, says in ((film, "is there already"), (tmp_path / "masks", "written as a film")):
        status, _, err = run("segment", film, "--names", "red", "--out", out)
        assert (status, says in err) == (1, True), err
    (tmp_path / "pictures").mkdir()
    Image.fromarray(painted(0)).save(tmp_path / "pictures" / "a.png")
    status, _, err = run("segment", film, tmp_path / "pictures", "--names", "red", "--out", tmp_path / "both")
    assert (status, "is a film" in err, len(list((tmp_path / "both").rglob("a.png")))) == (1, True, 1), err
    status, _, err = run("segment", tmp_path, "--names", "red", "--every", "1s")
    assert (status, "--every is for a film" in err) == (2, True)


@needs_av
def test_memory_does_not_grow_with_the_length_of_a_film(tmp_path):
    """Ten times the frames, the same memory, here and in the decoder."""
    size = {"height": 480, "width": 640}

    def most(path):
        seen, own = [], psutil.Process()
        with read_film(path) as (_, frames), film_at(path.with_name("out.mkv"), None) as writer:
            stream = (frame.image for frame in frames)
            for number, result in enumerate(Painted().segment_many(stream, NAMES, batch_size=2)):
                writer.write(result.labels.astype(np.uint8), Fraction(number, RATE))
                seen.append(sum(process.memory_info().rss for process in (own, *own.children())))
        return max(seen)

    short, long = make_film(tmp_path / "short.mkv", 15, **size), make_film(tmp_path / "long.mkv", 150, **size)
    most(short)  # what is kept for good
    assert most(long) < most(short) + 40 * 2**20  # its frames are 138 MB


@needs_av
def test_label_goes_through_a_film_and_on_after_a_stop(run, film, tmp_path, monkeypatch):
    out, frames = tmp_path / "labels", tmp_path / "labels-frames"
    arguments = ("label", film, "--every", "1s", "--names", ",".join(NAMES), "--out", out, "--json")
    arguments = (*arguments, "--method", "maskclip", "--precision", "fp32")
    write, count = films_cli()._write_frame, []

    def stops(path, image):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(path)
        write(path, image)

    with monkeypatch.context() as patched:
        patched.setattr(films_cli(), "_write_frame", stops)
        assert run(*arguments)[0] == 130
    kept = {path: path.stat().st_mtime_ns for path in frames.glob("*.jpg")}
    assert len(kept) == 2
    status, said, err = run(*arguments)
    assert status == 0, err
    assert json.loads(said)["pictures"] == 4
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert sorted(path.name for path in frames.glob("*.jpg")) == [f"walk-00-00-0{n}.000.jpg" for n in range(4)]
    told = json.loads((out / "annotations.json").read_text())
    assert [image["file_name"] for image in told["images"]] == [f"walk-00-00-0{n}.000.jpg" for n in range(4)]
    monkeypatch.setattr(films_cli(), "read_film", lambda *_, **__: pytest.fail("decoded once more"))
    assert json.loads(run(*arguments)[1])["new"] == 0
    status, _, err = run(*arguments, "--every", "2s")
    assert (status, "frames of another film" in err) == (1, True)


def films_cli():
    from wordmask.cli import films as module

    return module


@needs_av
def test_frames_do_not_come_among_other_things(run, film, tmp_path):
    (tmp_path / "labels-frames").mkdir()
    (tmp_path / "labels-frames" / "mine.txt").touch()
    status, _, err = run("label", film, "--names", "red", "--method", "maskclip", "--out", tmp_path / "labels")
    assert (status, "holds other things" in err) == (1, True)


@needs_av
def test_no_frames_are_taken_for_labels_that_may_not_be_written(run, film, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.txt").touch()
    status, _, err = run("label", film, "--names", "red", "--method", "maskclip", "--out", tmp_path / "labels")
    assert (status, "mine.txt" in err, (tmp_path / "labels-frames").exists()) == (1, True, False)


def test_without_pyav_the_extra_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")

    def missing(package):
        raise MissingExtraError(f"{package} is not installed: pip install 'wordmask[films]'")

    monkeypatch.setattr(films_cli(), "need", missing)
    for verb in ("segment", "label"):
        out = tmp_path / ("o.mp4" if verb == "segment" else "labels")
        status, _, err = run(verb, tmp_path / "a.mp4", "--names", "red", "--method", "maskclip", "--out", out)
        assert (status, "wordmask[films]" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
