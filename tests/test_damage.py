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
from wordmask.distillation import experts, pseudo_masks, training
from wordmask.distillation.records import DistillationError, MaskTable
from wordmask.runs.parts import CHECKSUMS, Parts, vouch_for, write_part
from wordmask.runs.stages import StageError
from wordmask.training.checkpoints import BEFORE, CHECKPOINT, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    pass


STOPS = {
    "embeddings": (embedding, "write_part", 7),
    "masks": (pseudo_masks, "write_masks", 3),
    "experts": (training, "save_checkpoint", 3 + 2),
    "refined": (experts, "write_masks", 3),
    "student": (training, "save_checkpoint", 9 + 2),
}
"""Where a run is killed: just after the n-th call of a function."""


@pytest.fixture(scope="module", autouse=True)
def _small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 3)
        patch.setattr(experts, "MASKS_PER_SHARD", 2)
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
                    raise Killed
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, name, mortal)
                with pytest.raises(Killed):
                    pipeline_with(pictures, out).run_all()
        return out

    return at


def flip(path):
    content = bytearray(path.read_bytes())
    content[2 * len(content) // 3] ^= 16
    path.write_bytes(content)


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
def test_a_damaged_part_is_made_anew_and_told_of(pictures, undisturbed, stopped, tmp_path, stage, part, damage):
    run = tmp_path / "run"
    shutil.copytree(stopped(stage), run)
    damage(run / stage / part)
    listener = Listener()
    pipeline_with(pictures, run, teller=listener).run_all()
    assert contents(run) == undisturbed
    assert [text for text in listener.said if "damaged" in text and f"{stage}/{part}" in text]


def test_a_run_that_was_killed_goes_on_without_a_word_of_damage(pictures, undisturbed, stopped, tmp_path):
    for stage in STOPS:
        shutil.copytree(stopped(stage), tmp_path / stage)
        listener = Listener()
        pipeline_with(pictures, tmp_path / stage, teller=listener).run_all()
        assert contents(tmp_path / stage) == undisturbed
        assert not [text for text in listener.said if "damaged" in text]


@pytest.mark.parametrize("stage", STOPS)
def test_a_run_of_an_earlier_version_has_no_checksums_and_goes_on(pictures, undisturbed, stopped, tmp_path, stage):
    shutil.copytree(stopped(stage), tmp_path / "run", ignore=shutil.ignore_patterns(CHECKSUMS))
    listener = Listener()
    pipeline_with(pictures, tmp_path / "run", teller=listener).run_all()
    assert contents(tmp_path / "run") == undisturbed
    assert not [text for text in listener.said if "damaged" in text]


def test_a_checkpoint_without_a_checksum_is_tried_by_its_own(pictures, undisturbed, stopped, tmp_path):
    shutil.copytree(stopped("student"), tmp_path / "run", ignore=shutil.ignore_patterns(CHECKSUMS))
    path = tmp_path / "run" / "student" / CHECKPOINT
    content = bytearray(path.read_bytes())
    place = content.index(b"/data/0") + 200
    content[place] ^= 64
    path.write_bytes(content)
    listener = Listener()
    pipeline_with(pictures, tmp_path / "run", teller=listener).run_all()
    assert contents(tmp_path / "run") == undisturbed
    assert [text for text in listener.said if "checkpoint.pt is damaged" in text]


def test_masks_set_aside_that_are_damaged_are_made_anew(pictures, stopped, tmp_path):
    """Of a run over other names, which keeps what it can."""
    shutil.copytree(pictures.parent / "whole", tmp_path / "run")
    flip(next((tmp_path / "run" / "masks").glob("*.seen")))
    listener = Listener()
    pipeline_with(pictures, tmp_path / "run", {"names": ["green", "blue"]}, teller=listener).run_all()
    pipeline_with(pictures, tmp_path / "new", {"names": ["green", "blue"]}).run_all()
    assert contents(tmp_path / "run") == contents(tmp_path / "new")
    assert [text for text in listener.said if ".seen is damaged" in text]


def test_a_line_of_the_log_that_is_damaged_costs_itself(pictures, undisturbed, stopped, tmp_path, caplog):
    shutil.copytree(stopped("student"), tmp_path / "run")
    log = tmp_path / "run" / "student" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b"\xff{broken\n" + b"".join(lines[1:]))
    pipeline_with(pictures, tmp_path / "run").run_all()
    assert contents(tmp_path / "run") == undisturbed
    assert "log.jsonl, line 2 is damaged" in caplog.text
    assert [json.loads(line)["step"] for line in log.read_bytes().splitlines()] == [1, 2, 3, 4]


def test_a_finished_runs_log_that_is_damaged_does_not_stop_the_report(pictures, undisturbed, tmp_path):
    shutil.copytree(pictures.parent / "whole", tmp_path / "run")
    (tmp_path / "run" / "student" / "log.jsonl").write_bytes(b'[1]\n{"step": 1, "loss": null}\nnull\n\xff\n')
    (tmp_path / "run" / "report" / "report.html").unlink()
    pipeline_with(pictures, tmp_path / "run").run_all()
    assert (tmp_path / "run" / "report" / "report.html").exists()


def test_masks_that_somebody_has_changed_are_no_damage(pictures, undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pictures.parent / "whole", run)
    first, second = sorted((run / "masks").glob("*.arrow"))[:2]
    shutil.copy(second, first)
    changed = first.read_bytes()
    pipeline_with(pictures, run).run_all()  # which says so, and keeps them
    second.unlink()
    listener = Listener()
    pipeline_with(pictures, run, teller=listener).run_all()
    assert first.read_bytes() == changed
    assert "made anew in part" in listener.of("masks")
    assert not [text for text in listener.said if "damaged" in text]


@pytest.mark.parametrize("record", [b"[]", b"{", b'{"inputs": 3}', b'{"inputs": {}, "outputs": {"a": [1]}}', b"\xff"])
def test_a_damaged_record_names_itself(pictures, undisturbed, tmp_path, record):
    shutil.copytree(pictures.parent / "whole", tmp_path / "run")
    (tmp_path / "run" / "stages" / "masks.json").write_bytes(record)
    with pytest.raises(StageError, match=r"masks\.json.*delete it"):
        pipeline_with(pictures, tmp_path / "run").run_all()


def test_masks_that_are_cut_while_a_table_is_open_are_an_error_and_not_the_end(pictures, undisturbed, tmp_path):
    shutil.copytree(pictures.parent / "whole" / "masks", tmp_path / "masks")
    table = MaskTable(tmp_path / "masks")
    for shard in (tmp_path / "masks").glob("*.arrow"):
        cut(shard)
    with pytest.raises(DistillationError, match=r"masks_0000.\.arrow is no file of masks"):
        list(table)


def test_whatever_is_in_a_shard_its_reader_answers_or_names_it(pictures, undisturbed, tmp_path):
    shutil.copytree(pictures.parent / "whole" / "masks", tmp_path / "masks")
    shard = min((tmp_path / "masks").glob("*.arrow"))
    content, refused = shard.read_bytes(), []
    for place in range(0, len(content), 13):
        changed = bytearray(content)
        changed[place] ^= 128
        shard.write_bytes(changed)
        try:
            list(MaskTable(tmp_path / "masks"))
        except DistillationError as error:
            refused.append(str(error))
    assert refused
    assert all(told.startswith(str(shard)) for told in refused)


def test_whatever_is_in_a_folder_of_embeddings_its_reader_answers_or_names_it(stopped, tmp_path):
    shutil.copytree(stopped("masks") / "embeddings", tmp_path / "embeddings")
    files = [tmp_path / "embeddings" / name for name in ("collection.json", *PARTS["embeddings"])]
    refused = 0
    for number in range(200):
        dice, path = random.Random(number), files[number % len(files)]
        content = path.read_bytes()
        changed = bytearray(content)
        for _ in range(3):
            changed[dice.randrange(len(changed))] = dice.choice((0, 48, 128, 255))
        path.write_bytes(changed)
        try:
            folder = EmbeddingFolder(tmp_path / "embeddings")
            folder.references(folder.told(np.arange(len(folder))))
        except CollectionError as error:
            assert str(tmp_path / "embeddings") in str(error)  # noqa: PT017
            refused += 1
        path.write_bytes(content)
    assert refused > 50


# The mechanism


def write(path, content):
    with write_part(path) as file:
        file.write(content)


def test_a_part_is_whole_as_it_was_written_and_as_it_was_written_before(tmp_path):
    """A kill may come between the checksum and the file's name: the old content is no damage."""
    path = tmp_path / "part"
    write(path, b"old")
    write(path, b"new")
    assert Parts().whole(path)
    path.write_bytes(b"old")
    assert Parts().whole(path)
    said = []
    path.write_bytes(b"now")
    assert not Parts(said.append).whole(path)
    assert said == [f"{path} is damaged, made anew"]
    vouch_for(path)
    assert Parts(said.append).whole(path)
    assert not Parts(said.append).whole(path, tmp_path / "none")
    assert len(said) == 1


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
    flip(tmp_path / CHECKPOINT)
    said = []
    assert load_checkpoint(tmp_path, run="a", say=said.append)["step"] == 2
    assert said == [f"{tmp_path / CHECKPOINT} is damaged: the training goes on from the one before, of step 2"]
    flip(tmp_path / BEFORE)
    said.clear()
    assert load_checkpoint(tmp_path, run="a", say=said.append) is None
    assert said == [f"{tmp_path / CHECKPOINT} is damaged: the training starts anew"]


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
