"""Whole runs with a teacher: what is skipped, what is made anew, and that kills change nothing."""

import json
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import wordmask
from support.nursery import run_with_kills
from support.tiny_collection import picture, write_pictures
from support.tiny_run import NAMES, Listener, contents, pipeline_with
from wordmask.cli import app
from wordmask.distillation.config import ConfigError
from wordmask.distillation.records import MaskTable
from wordmask.distillation.targets import TargetTable
from wordmask.segmenters.open_student import OpenStudent

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = {"masks": {"teacher": "maskclip", "pictures": "all"}}
"""The teacher's name; `pipeline_with` has a tiny one in its place."""
ARCHIVES = {"masks": {"teacher": "maskclip"}}
STUFF = {"masks": {"teacher": "maskclip"}, "stuff": ["blue"]}
RACE = {"masks": {"race": True}, "experts": None}
OPEN = {"student": {"vocabulary": "open"}}


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    place = tmp_path_factory.mktemp("taught")
    os.environ["WORDMASK_CACHE"] = str(place / "cache")
    write_pictures(place / "pictures", 14)[5].write_bytes(b"broken")
    return place / "pictures"


def heard(pictures, out, *layers):
    listener = Listener()
    pipeline = pipeline_with(pictures, out, *layers, console=listener)
    pipeline.teacher.pictures = 0
    return pipeline.run_all(), [text for text in listener.said if "done before" not in text], pipeline.teacher.pictures


@pytest.mark.parametrize(
    ("layers", "stages", "pictures"),
    [
        ([ALL], ["taught", "student", "report"], 13),
        ([ARCHIVES], ["embeddings", "archive", "taught", "student", "report"], None),
        ([RACE], ["embeddings", "archive", "masks", "taught", "targets", "student", "report"], None),
        (
            [STUFF],
            ["embeddings", "archive", "masks", "experts", "refined", "taught", "targets", "student", "report"],
            None,
        ),
        ([ALL, OPEN], ["taught", "student", "report"], 13),
    ],
    ids=["all", "archives", "race", "stuff", "open"],
)
def test_a_run_makes_what_it_needs_once_and_ends_with_a_student(pile, tmp_path, layers, stages, pictures):
    student, said, looked_at = heard(pile, tmp_path / "run", *layers)
    assert [text.removesuffix(": begun") for text in said if text.endswith(": begun")] == stages
    assert student.segment(picture(1), ["red", "background"]).labels.shape == (12, 16)
    assert isinstance(student, OpenStudent) == (OPEN in layers)
    assert pictures is None or looked_at == pictures
    before = contents(tmp_path / "run")
    again = heard(pile, tmp_path / "run", *layers)
    assert (again[1], again[2], contents(tmp_path / "run")) == ([], 0, before)
    html = (tmp_path / "run" / "report" / "report.html").read_text()
    assert all(name in html for name in NAMES)
    assert html.count("<img") >= 20


def test_things_come_of_experts_and_stuff_of_the_teacher(pile, tmp_path):
    heard(pile, tmp_path / "run", STUFF)
    run = tmp_path / "run"
    assert MaskTable(run / "masks").names == MaskTable(run / "refined").names == ("red", "green")
    targets = TargetTable(run / "targets")
    assert targets.names == tuple(NAMES)
    assert "blue" in targets.seen_names()
    assert len(list((run / "experts").glob("*/expert.safetensors"))) == 2


def test_who_is_unsure_is_a_matter_of_the_student_alone(pile, tmp_path):
    heard(pile, tmp_path / "run", ALL)
    _, said, looked_at = heard(pile, tmp_path / "run", ALL, {"masks": {"least_confidence": 0.9, "ignore_share": 0.1}})
    assert looked_at == 0
    assert [text.split(":")[0] for text in said] == ["student", "report"]
    assert "masks.least_confidence changed from 0.0 to 0.9" in said[0]


def test_more_pictures_are_all_that_a_teacher_looks_at_again(pile, tmp_path):
    own = shutil.copytree(pile, tmp_path / "pictures")
    heard(own, tmp_path / "run", ALL)
    write_pictures(own / "more", 3, colours=("green",))
    _, said, looked_at = heard(own, tmp_path / "run", ALL)
    assert looked_at == 2  # one of them is there already, under another name
    assert "taught: the answers to 14 pictures were there already" in said
    fresh = tmp_path / "fresh"
    heard(own, fresh, ALL)
    assert contents(fresh) == contents(tmp_path / "run")
    names = {"names": [*NAMES, "grey"]}
    assert heard(own, tmp_path / "run", ALL, names)[2] == 16


def test_settings_of_teachers_change_nothing_about_runs_without_one(pile, tmp_path):
    heard(pile, tmp_path / "run")
    unused = {"masks": {"least_confidence": 0.5, "ignore_share": 0.5, "fill": True}, "student": {"temperature": 0.5}}
    _, said, _ = heard(pile, tmp_path / "run", unused)
    assert said == []
    for stage in ("masks", "student"):
        inputs = json.loads((tmp_path / "run" / "stages" / f"{stage}.json").read_text())["inputs"]
        assert not [key for key in inputs if "teach" in key or "stuff" in key or "confidence" in key or "vocab" in key]


def test_mistakes_about_a_teacher_are_told_before_anything_is_made(pile, tmp_path):
    for told, message in (
        ({"masks": {"teacher": "maskcip"}}, "no method is called 'maskcip'"),
        ({"masks": {"teacher": "maskclip", "teacher_settings": {"scael": 3}}}, "maskclip has no setting 'scael'"),
    ):
        with pytest.raises(wordmask.WordmaskError, match=message):
            pipeline_with(pile, tmp_path / "run", told).run_all()
        assert not (tmp_path / "run" / "embeddings").exists()
    heard(pile, tmp_path / "other", ARCHIVES)
    with pytest.raises(ConfigError, match="holds embeddings"):
        pipeline_with(tmp_path / "other" / "embeddings", tmp_path / "run", ALL).run_all()


def test_the_command_line_asks_a_teacher_about_all_pictures(tmp_path, monkeypatch):
    asked = []

    def pipeline(run, *_, **__):
        asked.append(run.config.masks)
        raise KeyboardInterrupt

    monkeypatch.setattr("wordmask.distillation.pipeline.Pipeline", pipeline)
    told = ["distill", "--teacher", "clip-dinoiser", "--names", "red, blue", "--images", tmp_path, "--out", tmp_path]
    for more, pictures in (([], "all"), (["--set", "masks.pictures=archives"], "archives")):
        assert CliRunner().invoke(app, [str(word) for word in [*told, *more]]).exit_code == 130
        assert (asked[-1].teacher, asked[-1].pictures) == ("clip-dinoiser", pictures)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [("masks.pictures=all",), ("stuff=[blue]", "student.vocabulary=open")])
def test_killed_at_any_moment_and_started_again_a_run_ends_the_same(tmp_path, layers):
    pictures = write_pictures(tmp_path / "pictures", 30)[0].parent
    told = ("masks.teacher=maskclip", "student.steps=20", "experts.steps=4", "student.save_every=7", *layers)
    kills = run_with_kills(tmp_path, pictures, *told, most=12, per=4)
    assert kills >= 4
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "run")) > 10
    assert all(np.isfinite(target.confidence).all() for target in [TargetTable(tmp_path / "run" / "taught")[0]])
