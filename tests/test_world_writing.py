"""Files of the picture world: whole or not there, and the same bytes after a kill, a restart, or in two processes."""

import io
import json
import subprocess
import sys
import tarfile
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from wordmask_world import NAMES, WorldError, draw_scene, open_array, write_array, write_folder, write_shards
from wordmask_world.files import pictures as pictures_module
from wordmask_world.files import training_file, writing
from wordmask_world.files.pictures import SEEDS_APART


class Killed(BaseException):
    """Stands for the end of the process."""


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _folder(out, count=20, **options):
    return write_folder(out, count, size=32, **options)


def _shards(out, count=20, **options):
    return write_shards(out, count, size=32, **{"per_shard": 8, "labels": True, **options})


def _array(out, count=20, **options):
    return write_array(out / "train.npy", count, size=32, **{"labels": True, **options})


def _killed(write, out):
    """After eight pictures."""

    def progress(done, total):
        if done >= 8:
            raise Killed

    with pytest.raises(Killed):
        write(out, progress=progress)


def _lines(out):
    return [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]


every_writer = pytest.mark.parametrize("write", [_folder, _shards, _array])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (pictures_module, writing, training_file):
        monkeypatch.setattr(module, "BLOCK", 8)


@every_writer
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(write, tmp_path):
    write(tmp_path / "whole")
    _killed(write, tmp_path / "killed")
    (tmp_path / "killed" / ".0123456789abcdef.part").write_bytes(b"half a file")
    begun = []
    write(tmp_path / "killed", progress=lambda done, total: begun.append(done))
    assert begun[0] == 8, "the finished block is not drawn again"
    assert begun[-1] == 20
    left = _files(tmp_path / "killed")
    if write == _array:  # whose folder may be anybody's, so that leftovers are not swept away
        left.pop(".0123456789abcdef.part", None)
    assert left == _files(tmp_path / "whole")


@every_writer
def test_a_finished_run_is_left_alone_and_other_settings_are_refused(write, tmp_path):
    write(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path)
    with pytest.raises(WorldError, match="seed 0, not 4"):
        write(tmp_path, seed=4)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    _array(tmp_path / "one")
    _array(tmp_path / "two", workers=2)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


ENDLESS = """
import sys
from wordmask_world import write_folder
if __name__ == "__main__":
    write_folder(sys.argv[1], 100_000, workers=2)
"""
PATIENCE = 120


@pytest.mark.slow
def test_processes_that_draw_end_with_a_killed_parent(tmp_path):
    """They are at work when it is killed, and would draw for a quarter of an hour, and then wait for ever."""
    (tmp_path / "draw.py").write_text(ENDLESS)
    parent = psutil.Popen([sys.executable, tmp_path / "draw.py", tmp_path / "out"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(list((tmp_path / "out" / "images").glob("*.jpg"))) < 4:
        assert parent.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = parent.children(recursive=True)
    parent.kill()
    assert parent.wait() == -9
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        child.kill()
    assert not alive


def test_folder_holds_images_labels_captions_and_names(tmp_path):
    write_folder(tmp_path, 6, seed=2, size=(32, 48), image_format="png", kinds=["single"])
    assert (tmp_path / "names.txt").read_text().splitlines() == list(NAMES)
    assert [line["file"] for line in _lines(tmp_path)] == [f"{index:06d}.png" for index in range(6)]
    for index, line in enumerate(_lines(tmp_path)):
        scene = draw_scene(2 * SEEDS_APART + index, (32, 48), kind="single")
        with Image.open(tmp_path / "images" / line["file"]) as image:
            np.testing.assert_array_equal(np.asarray(image), scene.image)
        with Image.open(tmp_path / "labels" / line["file"]) as labels:
            assert labels.mode == "P"
            np.testing.assert_array_equal(np.asarray(labels), scene.labels)
        assert (line["captions"], line["things"]) == (list(scene.captions), list(scene.things))
        assert line["kind"] == "single"


def test_jpeg_is_close_to_the_picture(tmp_path):
    write_folder(tmp_path, 1, size=64)
    with Image.open(tmp_path / "images" / "000000.jpg") as image:
        difference = np.abs(np.asarray(image).astype(int) - draw_scene(0, 64).image)
    assert difference.mean() < 5


def test_shards_are_laid_out_as_img2dataset_does(tmp_path):
    _shards(tmp_path, 5, per_shard=2)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar", "00001.tar", "00002.tar"]
    with tarfile.open(tmp_path / "00001.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
        assert {member.mtime for member in tar} == {0}
    keys = ["000010000", "000010001"]
    assert list(members) == [f"{key}.{extension}" for key in keys for extension in ("jpg", "txt", "json", "labels.png")]
    scene = draw_scene(3, 32)
    assert members["000010001.txt"].decode() == scene.captions[0]
    described = json.loads(members["000010001.json"])
    assert (described["key"], described["captions"]) == ("000010001", list(scene.captions))
    with Image.open(io.BytesIO(members["000010001.labels.png"])) as labels:
        np.testing.assert_array_equal(np.asarray(labels), scene.labels)


def test_shards_hold_no_labels_unless_asked(tmp_path):
    write_shards(tmp_path, 2, size=32)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert not [name for name in tar.getnames() if name.endswith(".png")]


def test_training_file_is_memory_mapped_and_exact(tmp_path):
    opened = open_array(_array(tmp_path, 10, seed=1))
    assert isinstance(opened.images, np.memmap)
    assert opened.images.shape == (10, 32, 32, 3)
    for index in (0, 7, 9):
        scene = draw_scene(SEEDS_APART + index, 32)
        np.testing.assert_array_equal(opened.images[index], scene.image)
        np.testing.assert_array_equal(opened.labels[index], scene.labels)
        assert opened.captions[index] == scene.captions
    assert open_array(write_array(tmp_path / "bare.npy", 3, size=32)).labels is None


def test_somebody_elses_array_is_not_overwritten(tmp_path):
    np.save(tmp_path / "train.npy", np.arange(3))
    with pytest.raises(WorldError, match="already there"):
        _array(tmp_path, 3)
    assert np.load(tmp_path / "train.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("theirs", "write"),
    [("images/000000.jpg", write_folder), ("captions.jsonl", write_folder), ("00000.tar", write_shards)],
)
def test_a_folder_of_somebody_elses_is_left_alone(tmp_path, theirs, write):
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_bytes(b"theirs")
    with pytest.raises(WorldError, match="already, and not by"):
        write(tmp_path, 3, size=32)
    assert {name: content for name, content in _files(tmp_path).items() if content} == {theirs: b"theirs"}


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda out: write_folder(out, 0), "0 pictures"),
        (lambda out: write_folder(out, 3, image_format="gif"), "'gif'"),
        (lambda out: write_folder(out, 3, kinds=["crowd"]), "'crowd'"),
        (lambda out: write_folder(out, 3, kinds={"single": 0}), "nothing to draw"),
        (lambda out: write_shards(out, 3, per_shard=0), "0 pictures per shard"),
        (lambda out: write_array(out / "train.bin", 3), ".npy"),
        (lambda out: open_array(out / "none.npy"), "no such file"),
    ],
)
def test_bad_settings_are_named_and_leave_nothing_behind(call, complaint, tmp_path):
    with pytest.raises(WorldError, match=complaint):
        call(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_kinds_are_drawn_by_their_shares(tmp_path):
    write_folder(tmp_path, 40, size=16, kinds={"single": 3, "empty": 1})
    kinds = [line["kind"] for line in _lines(tmp_path)]
    assert set(kinds) == {"single", "empty"}
    assert 20 <= kinds.count("single") <= 38


@pytest.mark.parametrize("write", [_folder, _array])
def test_a_block_of_captions_that_is_damaged_is_drawn_again(write, tmp_path, caplog):
    write(tmp_path / "whole")
    _killed(write, tmp_path / "killed")
    (part,) = (tmp_path / "killed").rglob("000000000.jsonl")
    part.write_bytes(part.read_bytes().replace(b"a", b"e", 1))
    write(tmp_path / "killed")
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert "000000000.jsonl is damaged, made anew" in caplog.text
