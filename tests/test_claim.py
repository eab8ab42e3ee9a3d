"""Folders of runs: claimed, known again, refused to others, and held by one process at a time."""

import json
import os
import subprocess
import sys

import pytest
import torch
from filelock import FileLock

from support import plain_saliency
from support.tiny_voting import found_settings, voters
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.tables.base import Row, Table, fill
from wordmask.benchmarks.tables.run import Run, RunError
from wordmask.distillation.config import ConfigError
from wordmask.distillation.pipeline import _claimed
from wordmask.errors import WordmaskError
from wordmask.runs.claim import ClaimError, Marker, check_claim, claimed, is_claimed, mark, read_marker
from wordmask.saliency.base import SaliencyError
from wordmask.text_files import TextFileError
from wordmask.training.claim import claimed_run
from wordmask.training.found import train_head
from wordmask.training.pictures import Pictures
from wordmask.training.votes import VoteStore
from wordmask_world import WorldError, open_array, write_array, write_folder, write_shards


def _everything(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("written") / "photos", 4, size=48) / "images"


def test_a_new_folder_becomes_the_commands_own_and_is_gone_on_with(tmp_path):
    out = tmp_path / "a" / "b"
    for _ in range(2):
        with claimed(out, "label", pictures=("images",)):
            (out / "made.txt").write_text("made")
    assert read_marker(out) == Marker("label", ("images",))
    assert json.loads((out / ".wordmask" / "run.json").read_text())["format"] == 1


def test_a_claim_under_which_nothing_came_to_be_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "a" / "b", "label"):
        raise ZeroDivisionError
    assert _everything(tmp_path) == {}
    (tmp_path / "there").mkdir()
    with claimed(tmp_path / "there", "label"):
        pass
    assert _everything(tmp_path) == {"there": False}


@pytest.mark.parametrize("there", ["labels/000001.txt", "data.yaml", "below/deep/photo.jpg"])
def test_a_folder_with_files_of_a_persons_is_refused_and_left_as_it_is(tmp_path, there):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("precious")
    before = _everything(tmp_path)
    with pytest.raises(ClaimError, match=rf"{there} is there already, and not by `wordmask label`: .*another --out"):
        claimed(tmp_path, "label").__enter__()
    assert _everything(tmp_path) == before


def test_hidden_files_and_empty_folders_are_nobodys_loss(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / ".DS_Store").write_text("")
    check_claim(tmp_path, "label")


def test_another_commands_folder_is_refused(tmp_path):
    mark(tmp_path, Marker("train-found"))
    with pytest.raises(ClaimError, match="made by `wordmask train-found`, not by `wordmask label`"):
        check_claim(tmp_path, "label")
    (tmp_path / "file").write_text("")
    with pytest.raises(ClaimError, match="file is there already, and is no folder"):
        check_claim(tmp_path / "file", "label")
    mark(tmp_path, Marker("segment", among_others=True))  # results among a person's files make no folder ours
    with pytest.raises(ClaimError, match=r"file is there already"):
        check_claim(tmp_path, "segment")


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"verb": "label"}', b"\xff"])
def test_a_damaged_marker_is_named(tmp_path, damage):
    mark(tmp_path, Marker("label"))
    (tmp_path / ".wordmask" / "run.json").write_bytes(damage)
    with pytest.raises(TextFileError, match=r"run\.json: is (damaged|not UTF-8)"):
        check_claim(tmp_path, "label")


def test_only_who_asks_for_it_may_claim_a_folder_twice(tmp_path):
    with claimed(tmp_path / "out", "train-found"):
        with claimed(tmp_path / "out", "train-found", nested=True):
            pass
        with pytest.raises(ClaimError, match="is being written by another run"):
            claimed(tmp_path / "out", "train-found").__enter__()


def _evaluation(folder, out):
    with ResultFolder(out, {"names": ["dog"]}).claimed():
        pass


def _votes(folder, out):
    return VoteStore(out, Pictures(folder), voters())


TABLE = Table("small", "", ("a",), (Row("ours", measure=lambda run, column: 1.0),))
COMMANDS = {
    "evaluate": (BenchmarkError, _evaluation),
    "tables": (RunError, lambda folder, out: list(fill(TABLE, Run(out)))),
    "train-found": (
        WordmaskError,
        lambda folder, out: train_head(
            plain_saliency.tiny_dino(), found_settings(folder, out, steps=1), Pictures(folder)
        ),
    ),
    "votes": (SaliencyError, _votes),
    "world make": (WorldError, lambda folder, out: write_folder(out, 2, size=32)),
    "world make --shards": (WorldError, lambda folder, out: write_shards(out, 2, size=32)),
}


@pytest.mark.parametrize(("error", "run"), COMMANDS.values(), ids=COMMANDS)
def test_every_run_refuses_what_is_not_its_own_and_what_is_in_use(folder, tmp_path, error, run):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    (theirs / "log.jsonl").write_text('{"event": "precious"}\n')
    with pytest.raises(error, match=r"log.jsonl is there already, and not by `wordmask"):
        run(folder, theirs)
    assert _everything(theirs) == {"log.jsonl": b'{"event": "precious"}\n'}
    mark(tmp_path / "out", Marker("other"))
    with pytest.raises(error, match="was made by `wordmask other`"):
        run(folder, tmp_path / "out")
    run(folder, ours)
    with FileLock(ours / ".wordmask" / "lock"), pytest.raises(error, match="written by another run"):
        run(folder, ours)
    run(folder, ours)
    (ours / ".wordmask" / "run.json").unlink()  # as of a version without markers
    run(folder, ours)
    assert read_marker(ours) is not None


def test_a_project_with_a_config_of_its_own_is_no_run_of_distill(tmp_path):
    config = tmp_path / "project" / "config.yaml"
    config.parent.mkdir()
    config.write_text("learning_rate: 1\n")
    with pytest.raises(ConfigError, match=r"config.yaml is there already, and not by `wordmask distill`"):
        _claimed(config.parent, tmp_path / "photos").__enter__()
    config.write_text("names: {}\nimages: photos\nout: project\n")
    with _claimed(config.parent, tmp_path / "photos"):
        pass
    assert read_marker(config.parent) == Marker("distill")


def test_measuring_afresh_deletes_no_folder_of_a_persons(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(RunError, match=r"notes.txt is there already, and not by `wordmask tables`"):
        Run(tmp_path, fresh=True)
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_a_checkpoint_of_another_kind_is_no_run_of_ours(tmp_path):
    torch.save({"run": "SelfMaskTraining {}", "step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(ClaimError, match=r"checkpoint.pt is there already"):
        claimed_run(tmp_path, "train-found", "FoundTraining").__enter__()


@pytest.mark.parametrize("beside", ["train.json", "train.captions.jsonl", "train.labels.npy"])
def test_a_training_file_writes_over_nothing_beside_it_and_is_written_by_one_process_at_a_time(tmp_path, beside):
    (tmp_path / beside).write_text("precious")
    with pytest.raises(WorldError, match=f"{beside}: already there"):
        write_array(tmp_path / "train.npy", 2, size=16, labels=True)
    assert (tmp_path / beside).read_text() == "precious"
    with FileLock(tmp_path / ".other.lock"), pytest.raises(WorldError, match="is being written by another run"):
        write_array(tmp_path / "other.npy", 2, size=16)


def test_a_folder_is_free_again_when_its_process_is_killed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from wordmask.runs.claim import claimed\n"
        "with claimed(Path(sys.argv[1]), 'label'):\n"
        "    Path(sys.argv[1], 'made').touch(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ClaimError, match="written by another run"):
            claimed(tmp_path / "out", "label").__enter__()
        process.kill()
    with claimed(tmp_path / "out", "label"):
        assert sorted(os.listdir(tmp_path / "out")) == [".wordmask", "made"]  # noqa: PTH208


@pytest.mark.parametrize(("verb", "name"), [("world make", "world.json"), ("votes", "settings.json")])
def test_damage_is_told_with_the_files_name(folder, tmp_path, verb, name):
    run = COMMANDS[verb][1]
    run(folder, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"[1")
    with pytest.raises(WordmaskError, match=rf"{name}: is damaged"):
        run(folder, tmp_path / "out")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'[{"size": 3}]', b'[{"size": [48, 48]}]', b"3"])
def test_damaged_votes_are_named(folder, tmp_path, damage):
    store = _votes(folder, tmp_path / "votes")
    (tmp_path / "votes" / "000000.json").write_bytes(damage)
    with pytest.raises(WordmaskError, match=r"000000\.json: .*delete it and run again"):
        store.mask(0, Pictures(folder).read(0))


def test_a_damaged_training_file_is_named(tmp_path):
    write_array(tmp_path / "train.npy", 2, size=16)
    (tmp_path / "train.captions.jsonl").write_text("{}\n")
    with pytest.raises(WorldError, match=r"train.captions.jsonl, line 1: is damaged"):
        open_array(tmp_path / "train.npy")
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(WordmaskError, match=r"train.json: is damaged"):
        write_array(tmp_path / "train.npy", 2, size=16)


def test_whether_a_folder_is_claimed_can_be_seen_without_claiming_it(tmp_path):
    out = tmp_path / "out"
    assert not is_claimed(out)
    with claimed(out, "embed"):
        assert is_claimed(out)
        (out / "part").write_text("")
    assert not is_claimed(out)
    assert not is_claimed(tmp_path)
