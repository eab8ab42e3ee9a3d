"""A labelling run: killed and started again, over bad files, by one process or several, in constant memory."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from support.labelling_job import Stop, StopsAfter, files_in, job
from support.painted import NAMES, Painted, painted_folder
from wordmask import cli, segmenters
from wordmask.labelling import LabelError, label_folder
from wordmask.names.vocabulary import Vocabulary
from wordmask_world import write_folder


@pytest.fixture
def folder(tmp_path):
    return painted_folder(tmp_path / "pictures")


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "png", "label-studio"])
def test_a_stopped_run_goes_on_and_ends_as_if_never_stopped(folder, tmp_path, format):
    label_folder(job(folder, tmp_path / "whole", format), segmenter=Painted(), batch_size=2)
    with pytest.raises(Stop):
        label_folder(job(folder, tmp_path / "out", format), segmenter=StopsAfter(2), batch_size=2)
    second = Painted()
    done = label_folder(job(folder, tmp_path / "out", format), segmenter=second, batch_size=2)
    assert len(second.looked) == done.new == 2
    assert done.pictures == 4
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_a_finished_run_looks_at_nothing_again(folder, tmp_path):
    label_folder(job(folder, tmp_path / "out"), segmenter=Painted())
    before = files_in(tmp_path / "out")
    again = Painted()
    label_folder(job(folder, tmp_path / "out"), segmenter=again)
    assert again.looked == []
    assert files_in(tmp_path / "out") == before


def test_new_changed_and_removed_pictures_are_noticed(folder, tmp_path):
    out = tmp_path / "out"
    label_folder(job(folder, out, "yolo"), segmenter=Painted(), batch_size=1)
    (folder / "parts.png").unlink()
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[..., 2] = 255
    Image.fromarray(blue).save(folder / "nothing.png")
    Image.fromarray(blue).save(folder / "zebra.png")
    again = Painted()
    told = []
    done = label_folder(job(folder, out, "yolo"), segmenter=again, batch_size=1, prune=True, on_note=told.append)
    assert "1 labelled pictures" in told[0]
    assert [os.path.basename(path) for path in again.looked] == ["nothing.png", "zebra.png"]  # noqa: PTH119
    assert done.pictures == 4
    assert not [path for path in out.rglob("parts*") if ".wordmask" not in path.parts]
    (nothing,) = (out / "labels").rglob("nothing.txt")
    assert nothing.read_text() == "1 0 0 1 0 1 1 0 1\n"


def test_results_that_are_called_otherwise_now_leave_nothing_behind(folder, tmp_path):
    out = tmp_path / "out"
    label_folder(job(folder, out, "png"), segmenter=Painted())
    assert (out / "masks" / "ring.png").exists()
    Image.open(folder / "parts.png").save(folder / "ring.bmp")
    label_folder(job(folder, out, "png"), segmenter=Painted())
    names = {path.name for path in (out / "masks").glob("*.png")}
    assert names == {"ring.png.png", "ring.bmp.png", "parts.png", "nothing.png"}


def test_a_student_brings_its_names(folder, tmp_path, monkeypatch, capsys):
    student = Painted()
    student.vocabulary = Vocabulary.of(NAMES)
    monkeypatch.setattr(segmenters, "load", lambda **options: student)
    arguments = ["label", str(folder), "--method", "namedmask", "-o", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", ["wordmask", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["instances"] > 0
    with (tmp_path / "out" / "annotations.json").open() as file:
        assert [category["name"] for category in json.load(file)["categories"]] == ["red", "blue"]


def test_bad_pictures_are_left_out_and_listed(folder, tmp_path):
    (folder / "aaa.png").write_bytes((folder / "ring.png").read_bytes()[:60])
    (folder / "zzz.jpg").write_bytes(b"hello")
    told = []
    done = label_folder(job(folder, tmp_path / "out"), segmenter=Painted(), batch_size=3, on_bad=told.append)
    assert (done.pictures, done.left_out) == (4, 2)
    lines = (tmp_path / "out" / "left-out.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["aaa.png", "zzz.jpg"]
    assert "is not a picture of a known format" in lines[1]
    assert len(told) == 2
    coco = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [
        "below/noise.png",
        "nothing.png",
        "parts.png",
        "ring.png",
    ]


def test_pictures_of_one_name_have_labels_of_their_own(tmp_path):
    folder = painted_folder(tmp_path / "pictures")
    Image.open(folder / "parts.png").save(folder / "ring.bmp")
    label_folder(job(folder, tmp_path / "out", "png"), segmenter=Painted())
    names = {path.name for path in (tmp_path / "out" / "masks").glob("*.png")}
    assert names == {"ring.png.png", "ring.bmp.png", "parts.png", "nothing.png"}


def test_names_that_are_no_utf_8_are_no_obstacle(folder, tmp_path):
    (folder / "ring.png").rename(os.fsdecode(bytes(folder) + b"/caf\xe9.png"))
    for format in ("coco", "yolo", "voc", "label-studio"):
        assert label_folder(job(folder, tmp_path / format, format), segmenter=Painted()).pictures == 4


def test_results_inside_the_folder_are_not_labelled(folder):
    label_folder(job(folder, folder / "labels", "voc"), segmenter=Painted())
    again = Painted()
    assert label_folder(job(folder, folder / "labels", "voc"), segmenter=again).pictures == 4
    assert again.looked == []


def test_other_settings_need_another_place(folder, tmp_path):
    label_folder(job(folder, tmp_path / "out"), segmenter=Painted())
    with pytest.raises(LabelError, match=r"made with tolerance 1.0, not 2.0: use the same settings"):
        label_folder(job(folder, tmp_path / "out", tolerance=2.0), segmenter=Painted())
    with pytest.raises(LabelError, match="the folder of the pictures themselves"):
        label_folder(job(folder, folder), segmenter=Painted())
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelError, match="no pictures found"):
        label_folder(job(tmp_path / "empty", tmp_path / "other"), segmenter=Painted())


def test_what_a_killed_run_left_half_written_goes(folder, tmp_path):
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "labels" / ".0123456789abcdef.part").write_text("half")
    label_folder(job(folder, tmp_path / "out", "yolo"), segmenter=Painted())
    assert not list((tmp_path / "out").rglob("*.part"))


def test_two_runs_do_not_write_one_place(folder, tmp_path):
    class Meddler(Painted):
        def look_many(self, images, sources):
            with pytest.raises(LabelError, match="is being written by another run"):
                label_folder(job(folder, tmp_path / "out"), segmenter=Painted())
            return super().look_many(images, sources)

    label_folder(job(folder, tmp_path / "out"), segmenter=Meddler())


def test_the_verb_prints_what_was_done(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segmenters, "load", lambda **options: Painted())
    arguments = ["label", folder, "--names", ",".join(NAMES), "--format", "yolo", "-o", tmp_path / "out", "--json"]
    monkeypatch.setattr(sys, "argv", ["wordmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    row = json.loads(capsys.readouterr().out)
    assert row["pictures"] == row["new"] == 4
    monkeypatch.setattr(sys, "argv", ["wordmask", "label", str(folder), "--names", "a", "--format", "pascal"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "--format 'pascal'" in capsys.readouterr().err


def world_command(folder, out, *more):
    names = "dog,cat,car,tree,grass,sky,background"
    code = "from wordmask.cli import main; main()"
    options = ["--names", names, "--preset", "world", "--device", "cpu", "--format", "yolo", "--batch-size", "4"]
    return [sys.executable, "-c", code, "label", str(folder), *options, "-o", str(out), *more]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Pictures of the world, and what a run that nobody killed makes of them."""
    place = tmp_path_factory.mktemp("undisturbed")
    folder = write_folder(place / "world", 28) / "images"
    subprocess.run(world_command(folder, place / "out"), check=True, env=ONE_THREAD, capture_output=True)
    return folder, files_in(place / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "stops"), [("1", (4, 16)), ("2", (4,))])
def test_a_killed_run_started_again_gives_the_very_same_files(undisturbed, tmp_path, workers, stops):
    folder, wanted = undisturbed
    command, out = world_command(folder, tmp_path / "out", "--workers", workers), tmp_path / "out"
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
    subprocess.run(command, check=True, env=ONE_THREAD, capture_output=True)
    assert files_in(out) == wanted


def children_of(out):
    """Processes that have a run's files open or its place in their command line."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if str(out) in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found
