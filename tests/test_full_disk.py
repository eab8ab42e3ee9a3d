"""A disk that is full: one line that names it, nothing lost, and the same command goes on to the same end."""

import gc
import pickle
import resource
import subprocess
from contextlib import closing, contextmanager

import pytest

from support.tiny_collection import write_pictures
from support.tiny_run import Listener, contents, pipeline_with
from wordmask.files import NoRoomError, append, remove_leftovers, temporary_beside
from wordmask_world import write_folder

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def room_for(most):
    """No file may be larger: the system answers as it does where a disk or a quota is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sizes(first, step):
    while True:
        yield int(first)
        first *= step


def test_a_distillation_on_a_full_disk_names_it_and_goes_on_to_the_same_student(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 20)[0].parent
    pipeline_with(pictures, tmp_path / "whole").run_all()
    failures = {}
    for most in sizes(2000, 1.5):
        listener = Listener()
        try:
            with room_for(most):
                pipeline_with(pictures, tmp_path / "run", console=listener).run_all()
            break
        except Exception as error:
            told = str(error)
            failures[told.partition(":")[0]] = told
        assert "no room is left" in told
        assert str(tmp_path / "run") in told
        assert "\n" not in told
        assert not [text for text in listener.said if "damaged" in text]
        assert not list((tmp_path / "run").rglob("*.part"))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert "experts" in failures


def labelled(tmp_path, command, form, tries):
    """What is named as full, until the labels are those of a run that had room."""
    write_folder(tmp_path / "world", 6, size=48)
    asked = ["label", tmp_path / "world" / "images", "--preset", "world", "--method", "maskclip", "--format", form]
    asked += ["--names", tmp_path / "world" / "names.txt", "--batch-size", 3, "--out"]
    assert command(*asked, tmp_path / "whole")[0] == 0
    named = set()
    with closing(tries):
        out = _until_there_is_room(command, asked, tries, named)
    for path in (tmp_path / "whole").rglob("*.*"):
        beside = out / path.relative_to(tmp_path / "whole")
        if path.is_file() and path.suffix in (".png", ".json", ".csv", ".txt") and ".wordmask" not in path.parts:
            assert beside.read_bytes() == path.read_bytes(), path
    return named


def _until_there_is_room(command, asked, tries, named):
    for out in tries:
        status, _, said = command(*asked, out)
        gc.collect()  # this process, unlike the command's own, lives on with the ledger that the error has in hand
        if status == 0:
            return out
        (line,) = [line for line in said.strip().splitlines() if line.startswith("wordmask: error: ")]
        assert line.startswith(f"wordmask: error: no room is left on the disk of {out}")
        assert status == 1
        named.add(line.partition(f"{out}/")[2].partition(" ")[0])
    raise AssertionError("there never was room")


def test_labels_on_a_full_disk_name_it_and_go_on_to_the_same_labels(tmp_path, command):
    def tries():
        for most in sizes(100, 8):
            with room_for(most):
                yield tmp_path / "labels"

    assert ".wordmask/ledger.sqlite" in labelled(tmp_path, command, "coco", tries())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "png", "label-studio"])
def test_every_format_survives_a_disk_of_few_kilobytes(tmp_path, command, form):
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(disk)], check=False, capture_output=True).returncode == 0

    def tries():
        for size in range(8, 4000, 12):
            assert mount("-o", f"remount,size={size}k")
            yield disk / "labels"

    if not mount("-t", "tmpfs", "-o", "size=8k", "tmpfs"):
        pytest.skip("only root may mount a disk")
    try:
        assert labelled(tmp_path, command, form, tries())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_told_by_whichever_process_has_met_it(tmp_path):
    with room_for(10), pytest.raises(NoRoomError) as caught:
        append(tmp_path / "log.jsonl", b"0" * 100)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert str(tmp_path / "log.jsonl") in str(again)


def test_what_killed_processes_left_is_swept_away_when_a_run_starts_again(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 20)[0].parent
    run = tmp_path / "run"
    pipeline_with(pictures, run).run_all()
    before = {path for path in run.rglob("*") if path.is_file()}
    left = [temporary_beside(run / "student" / "x"), temporary_beside(run / "experts" / "001" / "x")]
    left.append(run / "student" / f".student.safetensors.{'0a' * 16}.tmp")  # as an earlier version called it
    for path in left:
        path.write_bytes(b"half")
    (run / "student" / ".mine.part").write_bytes(b"somebody's")
    pipeline_with(pictures, run).run_all()
    assert {path for path in run.rglob("*") if path.is_file()} == before | {run / "student" / ".mine.part"}


def test_what_somebody_may_still_be_writing_is_left_to_him(tmp_path):
    path = temporary_beside(tmp_path / "x")
    path.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert path.exists()
    remove_leftovers(tmp_path, alone=True)
    assert not path.exists()
