"""Bytes that flip in a run that is not done: it ends as if nothing had happened and says so, or names the file."""

import json
import random
import shutil

import numpy as np
import pytest

from support.tiny_collection import write_pictures
from support.tiny_run import Listener, contents, pipeline_with
from wordmask.collection import embedding
from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import CollectionError
from wordmask.distillation import pseudo_masks, redrawing, training
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.runs.parts import CHECKSUMS, Parts, vouch_for, write_part
from wordmask.runs.stages import StageError
from wordmask.training.checkpoints import BEFORE, CHECKPOINT, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


STOPS = {
    "embeddings": (embedding, "write_part", 7),
    "masks": (pseudo_masks, "write_masks", 3),
    "experts": (training, "save_checkpoint", 3 + 2),
    "refined": (redrawing, "write_masks", 3),
    "student": (training, "save_checkpoint", 9 + 2),
}
"""Where a run is killed: just after the n-th call of a function."""


@pytest.fixture(scope="module", autouse=True)
def _small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 3)
        patch.setattr(redrawing, "MASKS_PER_SHARD", 2)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("damage") / "pictures", 20)[0].parent


@pytest.fixture(scope="module")
def undisturbed(pictures):
    pipeline_with(pictures, pictures.parent / "whole").run_all()
    return contents(pictures.parent / "whole")


@pytest.fixture(scope="module")
def stopped(pictures):
    """A run that was killed in a stage."""

    def at(stage):
        out = pictures.parent / stage
        if not out.exists():
            module, name, calls = STOPS[stage]
            function, left = getattr(module, name), [calls]

            def mortal(*args, **kwargs):
                left[0] -= 1
                result = function(*args, **kwargs)
                if left[0] == 0:
                    raise KeyboardInterrupt
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, name, mortal)
                with pytest.raises(KeyboardInterrupt):
                    pipeline_with(pictures, out).run_all()
        return out

    return at


@pytest.fixture
def run(pictures, undisturbed, tmp_path):
    """A copy of the whole run, to be damaged."""
    return shutil.copytree(pictures.parent / "whole", tmp_path / "run")


@pytest.fixture
def gone_on_with(pictures, undisturbed, tmp_path):
    """Goes on with a run, which must end as the undisturbed one: what it says of damage."""

    def go_on(run):
        listener = Listener()
        pipeline_with(pictures, run, console=listener).run_all()
        assert contents(run) == undisturbed
        return damage_told(listener)

    return go_on


def damage_told(listener):
    return [text for text in listener.said if "damaged" in text]


def changed(path, place, value):
    content = bytearray(path.read_bytes())
    content[place] ^= value
    path.write_bytes(content)


def flip(path):
    changed(path, 2 * path.stat().st_size // 3, 16)


def zero(path):
    """Eight bytes in the middle, as of a block that was never written."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8) if any(content[middle : middle + 8]) else b"damaged!"
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


PARTS = {
    "embeddings": ["img_emb/img_emb_00000.npy", "metadata/metadata_00001.parquet"],
    "masks": ["masks_00001.arrow", "masks_00000.seen"],
    "experts": ["000/expert.safetensors", "001/checkpoint.pt"],
    "refined": ["refined_000_00001.arrow"],
    "student": ["checkpoint.pt"],
}


@pytest.mark.parametrize("damage", [flip, zero, cut])
@pytest.mark.parametrize(("stage", "part"), [(stage, part) for stage, parts in PARTS.items() for part in parts])
def test_a_damaged_part_is_made_anew_and_told_of(gone_on_with, stopped, tmp_path, stage, part, damage):
    run = shutil.copytree(stopped(stage), tmp_path / "run")
    damage(run / stage / part)
    assert any(f"{stage}/{part}" in text for text in gone_on_with(run))


@pytest.mark.parametrize("stage", STOPS)
def test_a_run_that_was_killed_goes_on_without_a_word_of_damage(gone_on_with, stopped, tmp_path, stage):
    assert gone_on_with(shutil.copytree(stopped(stage), tmp_path / stage)) == []


@pytest.mark.parametrize("stage", STOPS)
def test_a_run_of_an_earlier_version_has_no_checksums_and_goes_on(gone_on_with, stopped, tmp_path, stage):
    without = shutil.ignore_patterns(CHECKSUMS)
    assert gone_on_with(shutil.copytree(stopped(stage), tmp_path / "run", ignore=without)) == []


def test_a_checkpoint_without_a_checksum_is_tried_by_its_own(gone_on_with, stopped, tmp_path):
    run = shutil.copytree(stopped("student"), tmp_path / "run", ignore=shutil.ignore_patterns(CHECKSUMS))
    path = run / "student" / CHECKPOINT
    changed(path, path.read_bytes().index(b"/data/0") + 200, 64)
    assert any("checkpoint.pt is damaged" in text for text in gone_on_with(run))


def test_masks_set_aside_that_are_damaged_are_made_anew(pictures, run, tmp_path):
    """Of a run over other names, which keeps what it can."""
    flip(next((run / "masks").glob("*.seen")))
    listener = Listener()
    for out in (run, tmp_path / "new"):
        pipeline_with(pictures, out, {"names": ["green", "blue"]}, console=listener).run_all()
    assert contents(run) == contents(tmp_path / "new")
    assert any(".seen is damaged" in text for text in listener.said)


def test_an_expert_set_aside_that_is_damaged_is_trained_anew(pictures, run, tmp_path):
    changed(run / "experts" / "001" / "expert.safetensors", 10, 128)  # in its header
    listener = Listener()
    for out in (run, tmp_path / "new"):
        pipeline_with(pictures, out, {"names": ["green", "blue"]}, console=listener).run_all()
    assert contents(run) == contents(tmp_path / "new")
    assert any("expert.safetensors is damaged" in text for text in listener.said)
    assert "experts: 1 of 2 are kept, as nothing has changed for them" in listener.said


def test_a_line_of_the_log_that_is_damaged_costs_itself(gone_on_with, stopped, tmp_path, caplog):
    log = shutil.copytree(stopped("student"), tmp_path / "run") / "student" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b"\xff{broken\n" + b"".join(lines[1:]))
    gone_on_with(tmp_path / "run")
    assert "log.jsonl, line 2 is damaged" in caplog.text
    assert [json.loads(line)["step"] for line in log.read_bytes().splitlines()] == [1, 2, 3, 4]


def test_a_finished_runs_log_that_is_damaged_does_not_stop_the_report(pictures, run):
    (run / "student" / "log.jsonl").write_bytes(b'[1]\n{"step": 1, "loss": null}\nnull\n\xff\n')
    (run / "report" / "report.html").unlink()
    pipeline_with(pictures, run).run_all()
    assert (run / "report" / "report.html").exists()


def test_masks_that_somebody_has_changed_are_no_damage(pictures, run):
    first, second = sorted((run / "masks").glob("*.arrow"))[:2]
    shutil.copy(second, first)
    by_somebody = first.read_bytes()
    pipeline_with(pictures, run).run_all()  # which says so, and keeps them
    second.unlink()
    listener = Listener()
    pipeline_with(pictures, run, console=listener).run_all()
    assert first.read_bytes() == by_somebody
    assert "made anew in part" in listener.of("masks")
    assert damage_told(listener) == []


@pytest.mark.parametrize("record", [b"[]", b"{", b'{"inputs": 3}', b'{"inputs": {}, "outputs": {"a": [1]}}', b"\xff"])
def test_a_damaged_record_names_itself(pictures, run, record):
    (run / "stages" / "masks.json").write_bytes(record)
    with pytest.raises(StageError, match=r"masks\.json.*delete it"):
        pipeline_with(pictures, run).run_all()


def test_masks_that_are_cut_while_a_table_is_open_are_an_error_and_not_the_end(run):
    table = MaskTable(run / "masks")
    for shard in (run / "masks").glob("*.arrow"):
        cut(shard)
    with pytest.raises(DistillationError, match=r"masks_0000.\.arrow is no file of masks"):
        list(table)


def test_whatever_is_in_a_shard_its_reader_answers_or_names_it(run):
    shard, refused = min((run / "masks").glob("*.arrow")), []
    for place in range(0, shard.stat().st_size, 13):
        changed(shard, place, 128)
        try:
            list(MaskTable(run / "masks"))
        except DistillationError as error:
            refused.append(str(error))
        changed(shard, place, 128)
    assert refused
    assert all(told.startswith(str(shard)) for told in refused)


def test_whatever_is_in_a_folder_of_embeddings_its_reader_answers_or_names_it(stopped, tmp_path):
    place = shutil.copytree(stopped("masks") / "embeddings", tmp_path / "embeddings")
    files, refused = [place / name for name in ("collection.json", *PARTS["embeddings"])], []
    for number in range(200):
        dice, path = random.Random(number), files[number % len(files)]
        content = path.read_bytes()
        other = bytearray(content)
        for _ in range(3):
            other[dice.randrange(len(other))] = dice.choice((0, 48, 128, 255))
        path.write_bytes(other)
        try:
            folder = EmbeddingFolder(place)
            folder.references(folder.told(np.arange(len(folder))))
        except CollectionError as error:
            refused.append(str(error))
        path.write_bytes(content)
    assert len(refused) > 50
    assert all(str(place) in told for told in refused)


# The mechanism


def write(path, content):
    with write_part(path) as file:
        file.write(content)


def test_a_part_is_whole_as_it_was_written_and_as_it_was_written_before(tmp_path):
    """A kill may come between the checksum and the file's name: the old content is no damage."""
    path, said = tmp_path / "part", []
    write(path, b"old")
    write(path, b"new")
    assert Parts().whole(path)
    path.write_bytes(b"old")
    assert Parts().whole(path)
    path.write_bytes(b"now")
    assert not Parts(said.append).whole(path)
    vouch_for(path)
    assert Parts(said.append).whole(path)
    assert not Parts(said.append).whole(path, tmp_path / "none")
    assert said == [f"{path} is damaged, made anew"]


def test_checksums_that_were_cut_off_or_damaged_spoil_no_others(tmp_path):
    write(tmp_path / "a", b"a")
    with (tmp_path / CHECKSUMS).open("ab") as file:
        file.write(b"0123\xff")  # a full disk
    write(tmp_path / "b", b"b")
    assert Parts().whole(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").write_bytes(b"c")
    assert not Parts().whole(tmp_path / "b")


def test_a_damaged_checkpoint_sends_a_training_back_to_the_one_before(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"run": "a", "step": step})
    said, damaged = [], f"{tmp_path / CHECKPOINT} is damaged: the training"
    flip(tmp_path / CHECKPOINT)
    assert load_checkpoint(tmp_path, run="a", say=said.append)["step"] == 2
    flip(tmp_path / BEFORE)
    assert load_checkpoint(tmp_path, run="a", say=said.append) is None
    assert said == [f"{damaged} goes on from the one before, of step 2", f"{damaged} starts anew"]


def test_a_kill_between_two_checkpoints_loses_one_step_and_says_nothing(tmp_path):
    save_checkpoint(tmp_path, {"run": "a", "step": 1})
    (tmp_path / CHECKPOINT).replace(tmp_path / BEFORE)
    said = []
    assert load_checkpoint(tmp_path, run="a", say=said.append)["step"] == 1
    assert load_checkpoint(tmp_path, run="b", say=said.append) is None
    assert not said


def test_the_last_checkpoint_of_a_training_stays_alone(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, {"run": "a", "step": step}, last=step == 2)
    assert not (tmp_path / BEFORE).exists()
