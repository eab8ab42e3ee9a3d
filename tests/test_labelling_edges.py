"""Labelling when something is not as it should be: a first attempt that fails, awkward names, turned pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from PIL import Image

from support.labelling_job import files_in, job, label
from support.painted import NAMES, Painted, paint
from wordmask import segmenters
from wordmask.labelling import LabelError, label_folder
from wordmask.methods import MethodError


def with_load(made, **load):
    return replace(made, load=load)


def test_a_first_attempt_that_fails_leaves_nothing_in_the_way(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def broken(**_):
        raise MethodError("there is no file student.safetensors")

    monkeypatch.setattr(segmenters, "load", broken)
    (tmp_path / "empty").mkdir()
    for wrong, error, says in (
        (job(tmp_path / "nowhere", out), Exception, "no such folder"),
        (job(tmp_path / "empty", out), LabelError, "no pictures found"),
        (job(folder, out, "voc", names=[f"n{i}" for i in range(300)]), LabelError, "300 names"),
        (with_load(job(folder, out), method="maskclip"), MethodError, "student.safetensors"),
        (with_load(job(folder, out), method="nosuch"), MethodError, "no method is called 'nosuch'"),
    ):
        with pytest.raises(error, match=says):
            label_folder(wrong if wrong.load else with_load(wrong, method="maskclip"))
        assert not out.exists()

    class Picky(Painted):
        def look_many(self, images, sources):
            raise MethodError("this student knows no zebra")

    with pytest.raises(MethodError, match="zebra"):
        label(folder, out, names=["zebra"], segmenter=Picky())
    assert label(folder, out).pictures == 4


def test_pictures_that_failed_are_tried_again(folder, tmp_path):
    whole = (folder / "ring.png").read_bytes()
    out = tmp_path / "out"
    times = (folder / "ring.png").stat()

    def write(content):  # of the same size and time: what changed is the disk, say
        (folder / "ring.png").write_bytes(content)
        os.utime(folder / "ring.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    write(whole[:100] + bytes(len(whole) - 100))
    assert label(folder, out, batch_size=2, on_bad=lambda _: None).left_out == 1
    write(whole)
    again = Painted()
    done = label(folder, out, segmenter=again, batch_size=2)
    assert (done.pictures, done.left_out) == (4, 0)
    assert len(again.looked) == 2  # the batch, as the network saw it
    assert (out / "left-out.txt").read_text() == ""


@pytest.mark.parametrize("as_option", [True, False])
def test_another_limit_of_pixels_is_taken_up(folder, tmp_path, monkeypatch, as_option):
    def limited(pixels):
        if not as_option:
            monkeypatch.setenv("WORDMASK_MAX_PIXELS", str(pixels))
        return replace(job(folder, tmp_path / "out"), max_pixels=pixels if as_option else None)

    assert label_folder(limited(800), segmenter=Painted(), on_bad=lambda _: None).left_out == 1
    assert json.loads((tmp_path / "out" / ".wordmask" / "settings.json").read_text())["max_pixels"] == 800
    assert label_folder(limited(1200), segmenter=Painted()).pictures == 4


def test_labels_of_two_students_are_not_mixed(folder, tmp_path):
    student = tmp_path / "student.safetensors"
    student.write_bytes(b"first")
    asked = with_load(job(folder, tmp_path / "out"), method="namedmask", weights=str(student))
    label_folder(asked, segmenter=Painted())
    student.write_bytes(b"other")
    with pytest.raises(LabelError, match=r"another content of weights \(.*student.safetensors\)"):
        label_folder(asked, segmenter=Painted())
    student.write_bytes(b"first")
    label_folder(asked, segmenter=Painted())


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "png", "label-studio"])
def test_one_awkward_name_costs_only_its_own_picture(folder, tmp_path, format):
    long = "写" * 83  # 249 bytes, and .jpg fills what a name may have
    (folder / "ring.png").rename(folder / f"{long}.png")
    Image.open(folder / "parts.png").save(folder / f"{long}.bmp")  # so that results have the whole name, and more
    (folder / "parts.jpg").mkdir()
    Image.open(folder / "nothing.png").save(folder / "parts.jpg" / "x.png")
    done = label(folder, tmp_path / "out", format, on_bad=lambda _: None)
    assert done.left_out == (0 if format in ("coco", "label-studio") else 2)
    assert done.pictures == 6 - done.left_out
    assert done.left_out == (tmp_path / "out" / "left-out.txt").read_text().count("File name too long".lower())
    assert [path for path in (tmp_path / "out").rglob(".*") if path.name != ".wordmask"] == []


@pytest.mark.parametrize("format", ["yolo", "voc", "png"])
def test_pictures_of_one_stem_keep_apart(tmp_path, format):
    folder, (red, blue) = tmp_path / "pictures", np.eye(3, dtype=np.uint8)[[0, 2]] * 255
    folder.mkdir()
    for name, colour in {"a.png": red, "a.bmp": blue, "a.PNG.png": red, "b.png": blue, "B.bmp": red}.items():
        Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(folder / name)
    out = tmp_path / "out"
    done = label(folder, out, format)
    assert (done.pictures, done.instances) == (5, 5)
    suffix = {"yolo": "labels/*/*.txt", "voc": "SegmentationClass/*.png", "png": "masks/*.png"}[format]
    assert len({path.name.casefold() for path in out.glob(suffix)}) == 5


@pytest.mark.parametrize(("format", "place"), [("voc", "JPEGImages/phone.jpg"), ("yolo", "images/*/phone.jpg")])
def test_a_turned_photograph_lies_as_its_labels_do(tmp_path, format, place):
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    Image.fromarray(image).save(folder / "phone.jpg", exif=exif, quality=95)
    label(folder, tmp_path / "out", format, on_note=lambda _: None)
    (beside,) = (tmp_path / "out").glob(place)
    plain = Image.open(beside)  # as who passes over EXIF
    assert plain.size == (20, 40)
    assert not plain.getexif().get(0x0112)
    assert not beside.is_symlink()
    assert (paint(np.array(plain))[0] == paint(folder / "phone.jpg")[0]).mean() > 0.99
    before = files_in(tmp_path / "out")
    label(folder, tmp_path / "out", format, on_note=lambda _: None)
    assert files_in(tmp_path / "out") == before


def test_a_place_that_holds_the_pictures_is_refused_with_the_reason(folder, tmp_path):
    with pytest.raises(LabelError, match="holds the folder of the pictures"):
        label(folder, tmp_path)
    assert not (tmp_path / ".wordmask").exists()


def test_hidden_files_of_others_stay(folder, tmp_path):
    out = tmp_path / "out"
    for place in ("labels", "other"):
        (out / place).mkdir(parents=True)
    others = [out / "labels" / ".film.part", out / "other" / f".{'0' * 16}.part", out / f".{'0' * 15}g.part"]
    own = [out / "labels" / f".{'0' * 16}.part", out / f".{'a' * 16}.part"]
    for path in others + own:
        path.write_text("half")
    (out / "images").mkdir()
    (out / "images" / f".{'b' * 16}.part").symlink_to(folder / "ring.png")  # of a link that was not finished
    label(folder, out, "yolo")
    assert all(path.exists() for path in others)
    assert not any(path.exists() for path in own)
    assert not list((out / "images").glob(".*"))


def command(folder, out, *more):
    options = ["--names", ",".join(NAMES), "--preset", "world", "--device", "cpu", "--workers", "2", "-o", str(out)]
    return [sys.executable, "-c", "from wordmask.cli import main; main()", "label", str(folder), *options, *more]


@pytest.mark.slow
def test_a_worker_that_cannot_begin_says_why(folder, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    for more, says in (
        (("--method", "nosuch"), "no method is called 'nosuch'"),
        (("--weights", str(tmp_path / "weights.safetensors")), "weights.safetensors"),
    ):
        ended = subprocess.run(command(folder, tmp_path / "out", *more), capture_output=True, text=True)
        assert ended.returncode == 1
        assert says in ended.stderr
        assert not any(word in ended.stderr for word in ("Traceback", "of itself"))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["they begin", "they work"])
def test_interrupted_workers_end_without_a_word(folder, tmp_path, when):
    for copy in range(150):
        Image.open(folder / "ring.png").resize((600, 600)).save(folder / f"copy{copy}.png")
    process = psutil.Popen(
        command(folder, tmp_path / "out", "--batch-size", "2", "--format", "png"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as a terminal starts it
    )
    masks, deadline = tmp_path / "out" / "masks", time.monotonic() + 300
    while not (masks.exists() if when == "they work" else len(process.children()) > 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert "Traceback" not in told
