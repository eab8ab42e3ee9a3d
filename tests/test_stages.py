"""Stages: done once, made anew when stale, and they say why."""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from support.tiny_run import Listener
from wordmask.runs import stages
from wordmask.runs.claim import claimed
from wordmask.runs.stages import Stage, StageError, Stages, earlier


class Kitchen:
    """Stages that write one file each and count how often they do."""

    def __init__(self, run):
        self.run, self.made = run, []
        self.listener = Listener()
        self.loaf = run / "bread" / "loaf.txt"

    def bake(self, text="bread", **inputs):
        def make(report):
            self.made.append("bread")
            self.loaf.parent.mkdir(exist_ok=True)
            self.loaf.write_text(text)

        return self.do(make, **inputs)

    def do(self, make, **inputs):
        stage = Stage("bread", self.run / "bread", {k: str(v) for k, v in inputs.items()}, ("*.txt",), make)
        self.listener.said.clear()
        return Stages(self.run, self.listener).run_stage(stage)


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path)


def test_what_is_done_is_not_done_again(kitchen):
    digest = kitchen.bake(flour=1)
    assert kitchen.bake(flour=1) == digest
    assert kitchen.made == ["bread"]
    assert kitchen.listener.of("bread") == "bread: done before"
    assert kitchen.bake(flour=2) == digest  # equal outputs of other inputs leave what follows alone


def test_other_inputs_make_it_anew_and_say_which(kitchen):
    kitchen.bake(flour=1, oven="x" * 60, salt=2)
    (kitchen.run / "bread" / "old.txt").write_text("crumbs")
    other = kitchen.bake(text="rye", flour=3, oven="y" * 60, salt=2)
    assert kitchen.listener.of("bread") == "bread: made anew, as flour changed from 1 to 3, oven changed"
    assert not (kitchen.run / "bread" / "old.txt").exists()  # nothing stale is left to be taken for new
    assert kitchen.bake(text="rye", flour=3, oven="y" * 60, salt=2) == other
    assert kitchen.made == ["bread", "bread"]


def test_what_was_finished_is_not_lost_before_what_follows_it_is(kitchen):
    kitchen.bake(flour=1)
    with pytest.raises(RuntimeError, match="burnt"):
        kitchen.do(Mock(side_effect=RuntimeError("burnt")), flour=2)
    [(kept, made_from)] = earlier(kitchen.run, "bread")
    assert ((kept / "loaf.txt").read_text(), made_from) == ("bread", {"flour": "1"})
    kitchen.bake(text="rye", flour=2)
    assert not earlier(kitchen.run, "bread")


def test_a_lost_output_is_made_again(kitchen):
    digest = kitchen.bake(flour=1)
    kitchen.loaf.unlink()
    assert kitchen.bake(flour=1) == digest
    assert "loaf.txt is gone" in kitchen.listener.of("bread")
    assert len(kitchen.made) == 2


def test_an_output_changed_by_hand_is_kept_and_what_follows_hears_of_it(kitchen):
    digest = kitchen.bake(flour=1)
    kitchen.loaf.write_text("sliced")
    assert kitchen.bake(flour=1) != digest
    assert "loaf.txt has been changed since, which is kept" in kitchen.listener.of("bread")
    assert kitchen.loaf.read_text() == "sliced"
    assert kitchen.made == ["bread"]


def test_a_full_disk_is_explained_and_costs_only_the_step(kitchen):
    with pytest.raises(StageError, match="bread: no room is left on the disk .* make room, and start"):
        kitchen.do(Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    kitchen.bake()
    assert kitchen.listener.of("bread") == "bread: goes on where it stopped"


def test_other_errors_pass_as_they_are(kitchen):
    with pytest.raises(PermissionError):
        kitchen.do(Mock(side_effect=PermissionError(errno.EACCES, "no")))


def test_a_damaged_record_is_named(kitchen):
    kitchen.bake()
    (kitchen.run / "stages" / "bread.json").write_text("{")
    with pytest.raises(StageError, match=r"stages/bread\.json cannot be read"):
        kitchen.bake()


def test_other_processes_of_a_launcher_wait_for_the_first_and_work_where_all_do(tmp_path):
    made = []

    def stage(who, together):
        def make(report):
            made.append(who)
            (tmp_path / "bread").mkdir(exist_ok=True)
            if who == "first":
                while together and "second" not in made:  # as collectives do
                    time.sleep(0.01)
                (tmp_path / "bread" / "loaf.txt").write_text("bread")

        return Stage("bread", tmp_path / "bread", {"together": str(together)}, ("*.txt",), make, together=together)

    for together in (False, True):
        made.clear()
        second = Stages(tmp_path, Listener(), leads=False)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.run_stage, stage("second", together))
            first = Stages(tmp_path, Listener()).run_stage(stage("first", together))
            assert waiting.result(timeout=30) == first
        assert sorted(made) == (["first", "second"] if together else ["first"])


def a_stage(folder, make=lambda report: None):
    return Stage("bread", folder / "bread", {"flour": "1"}, ("*.txt",), make)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(stages, "CALLS_EVERY", 0.05)
    monkeypatch.setattr(stages, "PATIENCE", 1.0)


def test_where_the_first_process_has_ended_the_others_do_not_wait_for_ever(tmp_path, soon):
    with ThreadPoolExecutor(1) as pool:
        with claimed(tmp_path, "distill"):
            waiting = pool.submit(Stages(tmp_path, Listener(), leads=False).run_stage, a_stage(tmp_path))
            (tmp_path / "config.yaml").write_text("")
            time.sleep(1)
        with pytest.raises(
            StageError, match=r"bread: the first process \(RANK 0\) has not worked in .* Start the same"
        ):
            waiting.result(timeout=30)


def test_while_there_is_one_they_wait(tmp_path, soon):
    with ThreadPoolExecutor(1) as pool:
        with claimed(tmp_path, "distill"):
            waiting = pool.submit(Stages(tmp_path, Listener(), leads=False).run_stage, a_stage(tmp_path))
            time.sleep(2)  # twice their patience
            assert not waiting.done()
            done = Stages(tmp_path, Listener()).run_stage(a_stage(tmp_path))
        assert waiting.result(timeout=30) == done


@pytest.mark.parametrize(("name", "text"), [("loaf.txt", "sliced"), ("loaf.txt", "bread"), ("more.txt", "bread")])
def test_others_wait_for_the_first_to_see_what_was_changed_by_hand(kitchen, name, text):
    kitchen.bake(flour=1)
    changed = kitchen.loaf.with_name(name)  # or touched, or added
    changed.write_text(text)
    os.utime(changed, (1, 1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Stages(kitchen.run, Listener(), leads=False).run_stage, a_stage(kitchen.run))
        time.sleep(1)
        assert not waiting.done()
        assert kitchen.bake(flour=1) == waiting.result(timeout=30)
    assert kitchen.made == ["bread"]


def test_but_not_for_long(kitchen, monkeypatch):
    monkeypatch.setattr(stages, "SETTLES", 1.0)
    digest = kitchen.bake(flour=1)
    os.utime(kitchen.loaf, (1, 1))  # after the first has passed, or on a disk that tells another time here
    assert Stages(kitchen.run, Listener(), leads=False).run_stage(a_stage(kitchen.run)) == digest
