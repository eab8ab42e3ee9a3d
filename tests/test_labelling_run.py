"""A labelling run: killed and started again, over bad files, by one process or several, in constant memory."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
from PIL import Image

from support.labelling_job import Stop, StopsAfter, files_in, label
from support.painted import NAMES, Painted
from wordmask import segmenters
from wordmask.labelling import LabelError
from wordmask.names.vocabulary import Vocabulary
from wordmask_world import write_folder


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "png", "label-studio"])
def test_a_stopped_run_goes_on_and_ends_as_if_never_stopped(folder, tmp_path, format):
    label(folder, tmp_path / "whole", format, batch_size=2)
    with pytest.raises(Stop):
        label(folder, tmp_path / "out", format, segmenter=StopsAfter(2), batch_size=2)
    second = Painted()
    done = label(folder, tmp_path / "out", format, segmenter=second, batch_size=2)
    assert len(second.looked) == done.new == 2
    assert done.pictures == 4
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_a_finished_run_looks_at_nothing_again(folder, tmp_path):
    label(folder, tmp_path / "out")
    before, again = files_in(tmp_path / "out"), Painted()
    label(folder, tmp_path / "out", segmenter=again)
    assert again.looked == []
    assert files_in(tmp_path / "out") == before


def test_new_changed_and_removed_pictures_are_noticed(folder, tmp_path):
    out, again, told = tmp_path / "out", Painted(), []
    label(folder, out, "yolo", batch_size=1)
    (folder / "parts.png").unlink()
    for name in ("nothing", "zebra"):
        Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / f"{name}.png")
    done = label(folder, out, "yolo", segmenter=again, batch_size=1, prune=True, on_note=told.append)
    assert ": 1 labelled picture;" in told[0]
    assert [os.path.basename(path) for path in again.looked] == ["nothing.png", "zebra.png"]  # noqa: PTH119
    assert done.pictures == 4
    assert not [path for path in out.rglob("parts*") if ".wordmask" not in path.parts]
    (nothing,) = (out / "labels").rglob("nothing.txt")
    assert nothing.read_text() == "1 0 0 1 0 1 1 0 1\n"


def test_results_that_are_called_otherwise_now_leave_nothing_behind(folder, tmp_path):
    masks = tmp_path / "out" / "masks"
    label(folder, tmp_path / "out", "png")
    assert (masks / "ring.png").exists()
    Image.open(folder / "parts.png").save(folder / "ring.bmp")
    label(folder, tmp_path / "out", "png")
    assert {path.name for path in masks.glob("*.png")} == {"ring.png.png", "ring.bmp.png", "parts.png", "nothing.png"}


def test_a_student_brings_its_names(folder, tmp_path, monkeypatch, command):
    student = Painted()
    student.vocabulary = Vocabulary.of(NAMES)
    monkeypatch.setattr(segmenters, "load", lambda **options: student)
    monkeypatch.setattr("wordmask.segmenters.namedmask.names_of_student", lambda *_: None)  # as a published one's
    status, printed, _ = command("label", folder, "--method", "namedmask", "-o", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(printed)["instances"] > 0
    categories = json.loads((tmp_path / "out" / "annotations.json").read_text())["categories"]
    assert [category["name"] for category in categories] == ["red", "blue"]


def test_a_student_that_is_to_go_on_otherwise_is_refused_before_it_is_loaded(folder, tmp_path, monkeypatch, command):
    line = (
        "label",
        folder,
        "--method",
        "namedmask",
        "--preset",
        "world",
        "--precision",
        "fp32",
        "-o",
        tmp_path / "out",
    )
    status, _, err = command(*line)
    assert status == 0, err
    monkeypatch.setattr(segmenters, "load", lambda **options: pytest.fail("was loaded"))
    status, _, err = command(*line, "--min-area", 99)
    assert (status, "made with min_area 32, not 99" in err) == (1, True), err


def test_bad_pictures_are_left_out_and_listed(folder, tmp_path):
    (folder / "aaa.png").write_bytes((folder / "ring.png").read_bytes()[:60])
    (folder / "zzz.jpg").write_bytes(b"hello")
    told = []
    done = label(folder, tmp_path / "out", batch_size=3, on_bad=told.append)
    assert (done.pictures, done.left_out, len(told)) == (4, 2, 2)
    lines = (tmp_path / "out" / "left-out.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["aaa.png", "zzz.jpg"]
    assert "is not a picture of a known format" in lines[1]
    images = json.loads((tmp_path / "out" / "annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["below/noise.png", "nothing.png", "parts.png", "ring.png"]


def test_names_that_are_no_utf_8_are_no_obstacle(folder, tmp_path):
    (folder / "ring.png").rename(os.fsdecode(bytes(folder) + b"/caf\xe9.png"))
    for format in ("coco", "yolo", "voc", "label-studio"):
        assert label(folder, tmp_path / format, format).pictures == 4


def test_results_inside_the_folder_are_not_labelled(folder):
    label(folder, folder / "labels", "voc")
    again = Painted()
    assert label(folder, folder / "labels", "voc", segmenter=again).pictures == 4
    assert again.looked == []


def test_other_settings_need_another_place(folder, tmp_path):
    label(folder, tmp_path / "out")
    with pytest.raises(LabelError, match=r"made with tolerance 1.0, not 2.0: use the same settings"):
        label(folder, tmp_path / "out", tolerance=2.0)
    with pytest.raises(LabelError, match="the folder of the pictures themselves"):
        label(folder, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelError, match="no pictures found"):
        label(tmp_path / "empty", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_two_runs_do_not_write_one_place(folder, tmp_path):
    class Meddler(Painted):
        def look_many(self, images, sources):
            with pytest.raises(LabelError, match="is being written by another run"):
                label(folder, tmp_path / "out")
            return super().look_many(images, sources)

    label(folder, tmp_path / "out", segmenter=Meddler())


def test_one_picture_with_one_mask_is_said_so(tmp_path, monkeypatch, command):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "photos" / "a.png")
    arguments = ("label", tmp_path / "photos", "--names", "red", "--method", "maskclip", "-o", tmp_path / "out")
    status, out, err = command(*arguments)
    assert (status, out.startswith(f"{tmp_path / 'out'}: 1 picture, 1 mask; look at ")) == (0, True), err


def test_the_verb_prints_what_was_done(folder, tmp_path, monkeypatch, command):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    asked = ("label", folder, "--method", "maskclip", "--names", ",".join(NAMES), "-o", tmp_path / "out", "--json")
    status, printed, _ = command(*asked, "--format", "yolo")
    row = json.loads(printed)
    assert (status, row["pictures"], row["new"]) == (0, 4, 4)
    status, _, said = command(*asked, "--format", "pascal")
    assert status == 2
    assert "--format 'pascal'" in said
    status, _, said = command("label", folder, "--method", "maskclip", "--names", "background", "-o", tmp_path / "none")
    assert (status, (tmp_path / "none").exists()) == (2, False)
    assert "nothing but background: name at least one thing to find" in " ".join(said.replace("│", " ").split())


def world_command(folder, out, *more):
    names = "dog,cat,car,tree,grass,sky,background"
    code = "from wordmask.cli import main; main()"
    options = ["--names", names, "--preset", "world", "--device", "cpu", "--format", "yolo", "--batch-size", "4"]
    return [sys.executable, "-c", code, "label", str(folder), *options, "-o", str(out), *more]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
run = partial(subprocess.run, check=True, env=ONE_THREAD, capture_output=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Pictures of the world, and what a run that nobody killed makes of them."""
    place = tmp_path_factory.mktemp("undisturbed")
    folder = write_folder(place / "world", 28) / "images"
    run(world_command(folder, place / "out"))
    return folder, files_in(place / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "stops"), [("1", (4, 16)), ("2", (4,))])
def test_a_killed_run_started_again_gives_the_very_same_files(undisturbed, workers, stops):
    folder, wanted = undisturbed
    out = folder.parents[1] / f"killed {workers}"  # beside the other: the review says where its pictures are from there
    command = world_command(folder, out, "--workers", workers)
    kills = 0
    for pictures in stops:
        process = subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((out / "labels").rglob("*.txt"))) < pictures:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == len(stops)
    assert not (out / "data.yaml").exists()
    deadline = time.time() + 10
    while children_of(out) and time.time() < deadline:
        time.sleep(0.1)
    assert children_of(out) == [], "workers outlive the process that started them"
    run(command)
    assert files_in(out) == wanted


def children_of(out):
    """Processes that have a run's place in their command line."""
    running = psutil.process_iter(["cmdline"])
    return [process.pid for process in running if str(out) in " ".join(process.info["cmdline"] or [])]
