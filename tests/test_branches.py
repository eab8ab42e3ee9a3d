"""Runs that take from each other what they have in common: the same results, and nothing made twice."""

import json
import shutil

import pytest

from support.tiny_collection import ColourClip, write_pictures
from support.tiny_run import NAMES, SETTINGS, Counted, Listener, contents, pipeline_with
from wordmask.distillation.config import make_run
from wordmask.distillation.records import MaskTable
from wordmask_world.tables import branches
from wordmask_world.tables.branches import Branch

SHARED = ("embeddings", "archive", "masks", "experts", "refined")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def lender(tmp_path_factory):
    place = tmp_path_factory.mktemp("lender")
    write_pictures(place / "pictures", 20)
    pipeline_with(place / "pictures", place / "lender").run_all()
    return place


def branch(lender, out, *layers, console=None):
    class Tiny(Branch):
        clip, saliency = ColourClip(), Counted()

    told = {"names": NAMES, "images": lender / "pictures", "out": out}
    return Tiny(make_run(SETTINGS, told, *layers), console, lenders=[lender / "lender"])


LESS = {"archive": {"size": 3}, "experts": None}
OTHER = {"student": {"most_pasted": 1}}


SHARD = "refined/refined_000_00000.arrow"


def test_a_branch_ends_as_a_run_alone_and_makes_only_what_differs(lender, tmp_path):
    listener, before = Listener(), contents(lender / "lender")
    made = branch(lender, tmp_path / "branch", OTHER, console=listener)
    made.run_all()
    for stage in SHARED:
        assert f"{stage}: taken over from lender, which made the same" in listener.said
    assert listener.of("student") == "student: begun"
    assert (made.clip.pictures, made.saliency.pictures) == (0, 0)
    pipeline_with(lender / "pictures", tmp_path / "alone", OTHER).run_all()
    assert contents(tmp_path / "branch") == contents(tmp_path / "alone")
    assert (tmp_path / "branch" / SHARD).samefile(lender / "lender" / SHARD)
    # going on with other settings changes nothing for the run that lent
    branch(lender, tmp_path / "branch", OTHER, {"experts": {"steps": 5}}).run_all()
    assert contents(lender / "lender") == before


@pytest.mark.parametrize(("size", "made"), [(3, 0), (7, 20 - 18)])
def test_masks_of_known_pictures_are_taken_and_the_others_made(lender, tmp_path, size, made):
    changed = {"archive": {"size": size}, "experts": None}
    own = branch(lender, tmp_path / "own", changed)
    own.run_all()
    assert own.saliency.pictures == made
    pipeline_with(lender / "pictures", tmp_path / "alone", changed).run_all()
    assert len(MaskTable(tmp_path / "alone" / "masks")) >= 3 * size - 1
    assert contents(tmp_path / "own") == contents(tmp_path / "alone")


def test_masks_made_otherwise_are_not_taken(lender, tmp_path):
    other = branch(lender, tmp_path / "other", LESS, {"masks": {"side": 12}})
    other.run_to("masks")
    assert other.saliency.pictures == 9


def test_a_run_can_be_taken_as_far_as_a_stage_and_gone_on_with(lender, tmp_path):
    run, listener, changed = tmp_path / "run", Listener(), {"experts": {"steps": 5}}
    branch(lender, run, changed).run_to("experts")
    assert len(list((run / "experts").glob("*/expert.safetensors"))) == 3
    assert not (run / "refined").exists()
    branch(lender, run, changed, console=listener).run_all()
    assert listener.of("experts") == "experts: done before"
    assert (run / "student" / "student.safetensors").exists()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_kill_while_taking_over_changes_nothing(lender, tmp_path, monkeypatch, steps):
    link, left = branches.os.link, iter(range(steps))

    def dying(source, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(branches.os, "link", dying)
        with pytest.raises(KeyboardInterrupt):
            branch(lender, tmp_path / "run", LESS).run_to("masks")
    for run in ("run", "whole"):
        branch(lender, tmp_path / run, LESS).run_to("masks")
    made, whole = ([each.score for each in MaskTable(tmp_path / run / "masks")] for run in ("run", "whole"))
    assert sorted(made) == sorted(whole)


def test_where_there_are_no_links_files_are_copied(lender, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(branches.os, "link", refuse)
    branch(lender, tmp_path / "run", OTHER).run_to("refined")
    assert (tmp_path / "run" / SHARD).read_bytes() == (lender / "lender" / SHARD).read_bytes()
    assert not (tmp_path / "run" / SHARD).samefile(lender / "lender" / SHARD)


def test_what_somebody_has_changed_is_not_taken(lender, tmp_path):
    shutil.copytree(lender / "lender", tmp_path / "lender")
    shard = next((tmp_path / "lender" / "masks").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes())  # the same content, at another time
    inputs = json.loads((tmp_path / "lender" / "stages" / "masks.json").read_text())["inputs"]
    stage = branches.Stage("masks", tmp_path / "run" / "masks", inputs, ("*.arrow",), lambda report: None)
    assert not branches._has_made(tmp_path / "lender", stage)
    assert branches._has_made(lender / "lender", stage)
