"""A run over other names, or archives of another size, keeps what they leave as it was, and ends as a new run would."""

import json
import shutil

import pytest
import torch

from support.tiny_collection import encoded, picture, write_pictures
from support.tiny_run import NETWORK, Counted, Listener, contents, pipeline_with
from wordmask.collection.archive import Archive
from wordmask.collection.references import ImageRef
from wordmask.distillation import known_masks, pseudo_masks, redrawing, training
from wordmask.distillation.batches import Examples
from wordmask.distillation.identities import start_identity
from wordmask.distillation.known_masks import KnownMasks
from wordmask.distillation.records import MaskTable
from wordmask.distillation.student import StudentSettings
from wordmask.runs import stages
from wordmask.runs.stages import EARLIER, earlier
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus
from wordmask_world import models

pytestmark = pytest.mark.usefixtures("one_thread")
ALL_KEPT = "experts: 2 of 2 are kept, as nothing has changed for them"
TWO, THREE = {"names": ["green", "blue"]}, {"names": ["red", "green", "blue"]}
SHORT = {"experts": {"steps": 2}, "student": {"steps": 1}, "archive": {"size": 4}}


def run_with(pictures, out, *layers, console=None):
    """How many pictures its saliency has looked at."""
    made = pipeline_with(pictures, out, SHORT, *layers, console=console)
    made.saliency = Counted()
    made.run_all()
    return made.saliency.pictures


def pictures_of(run):
    archive = Archive(run / "archive" / "archive.parquet")
    return {entry.image for name in archive.names for entry in archive.entries(name)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run over two names, and a run over three that was never anything else."""
    place = tmp_path_factory.mktemp("runs")
    write_pictures(place / "pictures", 20)
    assert run_with(place / "pictures", place / "two", TWO) == 8
    assert run_with(place / "pictures", place / "three", THREE) == 12
    return place


@pytest.fixture
def two(runs, tmp_path):
    return shutil.copytree(runs / "two", tmp_path / "run")


def files_of_experts(run):
    """The numbers of the files of experts: one that is kept has the number it had."""
    return {path.stat().st_ino: path.parent.name for path in run.glob("experts/*/expert.safetensors")}


def test_another_name_costs_its_own_masks_and_its_own_expert(runs, two):
    before, listener = files_of_experts(two), Listener()
    assert run_with(runs / "pictures", two, THREE, console=listener) == 4
    assert "masks: those of 8 pictures were there already" in listener.said
    assert "experts: 2 of 3 are kept, as nothing has changed for them" in listener.said
    kept = files_of_experts(two)
    assert sorted(kept[number] for number in kept.keys() & before) == ["001", "002"]
    assert contents(two) == contents(runs / "three")
    assert not list((two / EARLIER).iterdir())


def test_a_name_less_costs_nothing_but_the_student(runs, tmp_path):
    run = shutil.copytree(runs / "three", tmp_path / "run")
    assert run_with(runs / "pictures", run, TWO) == 0
    assert contents(run) == contents(runs / "two")


def test_larger_archives_cost_the_masks_of_the_pictures_that_are_new(runs, two, tmp_path):
    listener = Listener()
    assert run_with(runs / "pictures", two, TWO, {"archive": {"size": 5}}, console=listener) == 2
    assert "experts: 0 of 2 are kept, as nothing has changed for them" in listener.said
    run_with(runs / "pictures", tmp_path / "new", TWO, {"archive": {"size": 5}})
    assert contents(two) == contents(tmp_path / "new")


@pytest.mark.parametrize("changed", [{"edges": "pamr"}, {"keep": "either"}])
def test_masks_redrawn_in_another_way_are_made_anew_by_the_same_experts(runs, two, changed):
    before = files_of_experts(two)
    shards = {path.stat().st_mtime_ns for path in (two / "refined").glob("*.arrow")}
    listener = Listener()
    assert run_with(runs / "pictures", two, TWO, {"experts": changed}, console=listener) == 0
    assert ALL_KEPT in listener.said
    assert files_of_experts(two) == before
    assert shards.isdisjoint(path.stat().st_mtime_ns for path in (two / "refined").glob("*.arrow"))


def test_nothing_is_said_of_a_setting_that_came_later_and_changes_nothing(runs):
    for stage in ("experts", "refined"):
        assert "experts.keep" not in (runs / "two" / "stages" / f"{stage}.json").read_text()


@pytest.mark.parametrize("changed", [{"masks": {"side": 12}}, {"masks": {"settings": {"seed": 3}}}, "weights"])
def test_masks_of_another_saliency_are_all_made_anew(runs, two, tmp_path, changed):
    if changed == "weights":
        (tmp_path / "weights").write_bytes(b"one")
        chosen = {"masks": {"weights": str(tmp_path / "weights")}}
        assert run_with(runs / "pictures", two, TWO, chosen) == 8
        (tmp_path / "weights").write_bytes(b"two")
        changed = chosen
    assert run_with(runs / "pictures", two, THREE, changed) == 12


def test_experts_of_other_settings_or_another_seed_are_made_anew(runs, two):
    for changed in ({"experts": {"steps": 3}}, {"experts": {"steps": 3}, "seed": 1}):
        listener = Listener()
        run_with(runs / "pictures", two, THREE, changed, console=listener)
        assert not any("are kept" in text for text in listener.said)
        run_with(runs / "pictures", two, TWO, changed, console=listener)
        assert ALL_KEPT in listener.said


def test_a_picture_that_has_changed_is_looked_at_anew_whatever_its_name(runs, two, tmp_path):
    shutil.copytree(runs / "pictures", tmp_path / "pictures")  # all but one hold the same in another folder
    before = pictures_of(two)
    changed = next(ref for ref in before if "green" in ref.path)
    (tmp_path / "pictures" / changed.path).write_bytes(encoded(picture(77, "green")))
    looked_at = run_with(tmp_path / "pictures", two, TWO, {"archive": {"size": 7}})
    assert changed in pictures_of(two)
    assert looked_at == len(pictures_of(two) - before) + 1
    run_with(tmp_path / "pictures", tmp_path / "new", TWO, {"archive": {"size": 7}})
    assert contents(two) == contents(tmp_path / "new")


def test_a_mask_is_known_by_what_its_picture_holds(runs, tmp_path):
    known = KnownMasks([runs / "two" / "masks", tmp_path / "none"])
    place = next(iter(known_masks._seen((runs / "two" / "masks").glob("*.arrow"))))
    digest = known_masks.picture_digest(place, runs / "pictures")
    found = known.of({ImageRef("another name.png"): digest, place: "0" * 64, ImageRef("gone.png"): None})
    assert list(found) == [ImageRef("another name.png")]


def test_other_weights_under_the_name_that_trainings_start_from_are_noticed(runs, two, tmp_path):
    start = tmp_path / "start.pt"

    def write(seed):
        torch.manual_seed(seed)
        state = DeepLabV3Plus(2, DeepLabSettings(**NETWORK)).backbone.state_dict()
        torch.save({key.removeprefix("model."): value for key, value in state.items()}, start)

    chosen = {"experts": {"start": str(start)}, "student": {"start": str(start)}}
    ends = []
    for seed in (0, 1, 1):
        write(seed)
        listener = Listener()
        run_with(runs / "pictures", two, TWO, chosen, console=listener)
        ends.append(contents(two))
    assert ends[0]["experts/000/expert.safetensors"] != ends[1]["experts/000/expert.safetensors"]
    assert ends[0]["student/student.safetensors"] != ends[1]["student/student.safetensors"]
    assert ends[1] == ends[2]
    assert listener.of("student") == "student: done before"  # another time of the same content is nothing


def test_a_training_does_not_go_on_from_other_weights_than_it_started_from(runs, tmp_path):
    (tmp_path / "start.pt").write_bytes(b"one")
    settings = StudentSettings(start=str(tmp_path / "start.pt"))
    examples = Examples(MaskTable(runs / "two" / "masks"), {"green": 1})
    before = settings.identity(0, examples)
    assert settings.identity(0, examples) == before
    (tmp_path / "start.pt").write_bytes(b"other")
    assert settings.identity(0, examples) != before


def test_what_the_package_carries_is_known_by_its_content(tmp_path, monkeypatch):
    for name in (models.RESNET, models.CLIP_RESNET):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"one")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    before = {start: start_identity(start) for start in ("world", "world-clip", "dino-resnet50", "timm", None)}
    (tmp_path / models.RESNET / "model.safetensors").write_bytes(b"another")
    after = {start: start_identity(start) for start in before}
    assert [start for start in before if before[start] != after[start]] == ["world"]
    assert (after["dino-resnet50"], after["timm"], after[None]) == ("dino-resnet50", "timm", None)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("last", range(1, 30, 2))
def test_killed_while_it_keeps_what_is_left_a_run_ends_the_same(runs, two, monkeypatch, last):
    """Dies at the n-th write, move or deletion; and then over and over, each time a little later."""
    monkeypatch.setattr(pseudo_masks, "PICTURES_PER_SHARD", 64)
    left = [last]

    def mortal(function):
        def dying(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return dying

    steps = [(stages, "write_record"), (stages.shutil, "rmtree"), (type(two), "rename")]
    steps += [(pseudo_masks, "write_masks"), (pseudo_masks, "write_seen"), (redrawing, "write_masks")]
    with monkeypatch.context() as patch:
        for place, name in [*steps, (training, "save_checkpoint")]:
            patch.setattr(place, name, mortal(getattr(place, name)))
        while True:
            try:
                run_with(runs / "pictures", two, THREE)
                break
            except Killed:
                last += 7
                left[0] = last
    assert contents(two) == contents(runs / "three")
    assert not list((two / EARLIER).iterdir())


def test_names_that_change_again_before_a_run_is_through_lose_nothing(runs, two, monkeypatch):
    """Of both unfinished runs what is of use is taken."""

    def dying(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pseudo_masks, "check_none_empty", dying)
        with pytest.raises(Killed):
            run_with(runs / "pictures", two, THREE)
    assert len(earlier(two, "masks")) == 1
    assert run_with(runs / "pictures", two, {"names": ["red"]}) == 0
    assert not earlier(two, "masks")
    assert json.loads((two / "stages" / "masks.json").read_text())["done"]
