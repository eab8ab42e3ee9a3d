"""Stages: done once, made anew when stale, and they say why."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.tiny_run import Listener
from wordmask.runs.stages import Stage, StageError, Stages, earlier


class Kitchen:
    """Stages that write one file each and count how often they do."""

    def __init__(self, run):
        self.run, self.made = run, []
        self.listener = Listener()

    def bake(self, name, text="bread", **inputs):
        def make(report):
            self.made.append(name)
            (self.run / name).mkdir(exist_ok=True)
            (self.run / name / "loaf.txt").write_text(text)

        stage = Stage(name, self.run / name, {k: str(v) for k, v in inputs.items()}, ("*.txt",), make)
        self.listener.said.clear()
        return Stages(self.run, self.listener).run_stage(stage)


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path)


def test_what_is_done_is_not_done_again(kitchen):
    digest = kitchen.bake("bread", flour=1)
    assert kitchen.bake("bread", flour=1) == digest
    assert kitchen.made == ["bread"]
    assert kitchen.listener.of("bread") == "bread: done before"


def test_other_inputs_make_it_anew_and_say_which(kitchen):
    kitchen.bake("bread", flour=1, salt=2)
    (kitchen.run / "bread" / "old.txt").write_text("crumbs")
    other = kitchen.bake("bread", text="rye", flour=1, salt=3)
    assert kitchen.listener.of("bread") == "bread: made anew, as salt changed from 2 to 3"
    assert not (kitchen.run / "bread" / "old.txt").exists()  # nothing stale is left to be taken for new
    assert kitchen.bake("bread", text="rye", flour=1, salt=3) == other
    assert kitchen.made == ["bread", "bread"]


def test_what_was_finished_is_not_lost_before_what_follows_it_is(kitchen):
    kitchen.bake("bread", flour=1)

    def burning(report):
        raise RuntimeError("burnt")

    stage = Stage("bread", kitchen.run / "bread", {"flour": "2"}, ("*.txt",), burning)
    with pytest.raises(RuntimeError, match="burnt"):
        Stages(kitchen.run, kitchen.listener).run_stage(stage)
    [(kept, made_from)] = earlier(kitchen.run, "bread")
    assert ((kept / "loaf.txt").read_text(), made_from) == ("bread", {"flour": "1"})
    kitchen.bake("bread", text="rye", flour=2)
    assert not earlier(kitchen.run, "bread")


def test_equal_outputs_of_other_inputs_leave_what_follows_alone(kitchen):
    assert kitchen.bake("bread", flour=1) == kitchen.bake("bread", flour=2)


def test_a_lost_output_is_made_again(kitchen):
    digest = kitchen.bake("bread", flour=1)
    (kitchen.run / "bread" / "loaf.txt").unlink()
    assert kitchen.bake("bread", flour=1) == digest
    assert "loaf.txt is gone" in kitchen.listener.of("bread")
    assert len(kitchen.made) == 2


def test_changed_inputs_are_told_in_words(kitchen):
    kitchen.bake("bread", flour=1, oven="x" * 60, salt=1)
    kitchen.bake("bread", flour=2, oven="y" * 60, salt=1)
    assert kitchen.listener.of("bread") == "bread: made anew, as flour changed from 1 to 2, oven changed"


def test_an_output_changed_by_hand_is_kept_and_what_follows_hears_of_it(kitchen):
    digest = kitchen.bake("bread", flour=1)
    (kitchen.run / "bread" / "loaf.txt").write_text("sliced")
    assert kitchen.bake("bread", flour=1) != digest
    assert "loaf.txt has been changed since, which is kept" in kitchen.listener.of("bread")
    assert (kitchen.run / "bread" / "loaf.txt").read_text() == "sliced"
    assert kitchen.made == ["bread"]


def test_a_full_disk_is_explained_and_costs_only_the_step(kitchen):
    def make(report):
        raise OSError(errno.ENOSPC, "No space left on device")

    stage = Stage("bread", kitchen.run / "bread", {}, ("*.txt",), make)
    with pytest.raises(StageError, match="bread: no room is left on the disk .* make room, and start"):
        Stages(kitchen.run, kitchen.listener).run_stage(stage)
    kitchen.bake("bread")
    assert kitchen.listener.of("bread") == "bread: goes on where it stopped"


def test_other_errors_pass_as_they_are(kitchen):
    def make(report):
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        Stages(kitchen.run, kitchen.listener).run_stage(Stage("bread", kitchen.run / "bread", {}, (), make))


def test_a_damaged_record_is_named(kitchen):
    kitchen.bake("bread")
    (kitchen.run / "stages" / "bread.json").write_text("{")
    with pytest.raises(StageError, match=r"stages/bread\.json cannot be read"):
        kitchen.bake("bread")


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
