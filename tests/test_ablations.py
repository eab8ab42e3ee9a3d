"""NamedMask's ablations on the world: what is distilled, what is shared, what is printed, what a kill costs."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wordmask
from support import tiny_ablations
from support.killing import kill_when
from support.tiny_ablations import COLLECTION, NAMES, PICTURES, SETTINGS, TinyBranch
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.tables import list_suites
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.errors import NotRunError, TableError
from wordmask.benchmarks.tables.plot import drawn
from wordmask.benchmarks.tables.run import Run
from wordmask.collection.archive import Archive
from wordmask.distillation.config import ConfigError
from wordmask.refinement.clean_up import THRESHOLD
from wordmask_world import THINGS
from wordmask_world.benchmark import World
from wordmask_world.models import WorldModelError
from wordmask_world.tables import namedmask as namedmask_world
from wordmask_world.tables.ablation_settings import AblationSettings
from wordmask_world.tables.ablations import Ablations, SomeOfTheWorld

RUNS = {"copy-paste-1", "copy-paste-2", "copy-paste-3", "experts-1", "archive-1", "archive-3"}

MANY = 16
SVG = "{http://www.w3.org/2000/svg}"
"""Pictures of which one at least shows one of the names."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(monkeypatch):
    tiny_ablations.shorten(monkeypatch.setattr)
    monkeypatch.setattr(TinyBranch, "clip", tiny_ablations.AnyClip())
    monkeypatch.setattr(TinyBranch, "saliency", tiny_ablations.Lit())


def chosen(folder, **changes):
    return AblationSettings(runs=folder, names=NAMES, collection=COLLECTION, settings=SETTINGS, **changes)


def own_student(weights, **settings):
    return wordmask.load("namedmask", weights=weights, device="cpu", precision="fp32", **settings)


def only(table, part):
    return replace(table, rows=tuple(row for row in table.rows if part in row.label))


def filled(table, run):
    return {row.label: row for row in fill(table, run)}


def iou(truths, masks):
    both = sum((truth & mask).sum() for truth, mask in zip(truths, masks, strict=True))
    return 100 * both / sum((truth | mask).sum() for truth, mask in zip(truths, masks, strict=True))


def test_one_command_measures_all_and_looks_at_nothing_twice(tiny, command, tmp_path):
    asked = tiny_ablations.arguments(tmp_path)
    status, out, err = command("tables", "namedmask-world", *asked, "--out", tmp_path / "all.html")
    assert (status, "not run" in out) == (0, False), out + err
    titles = [line for line in out.splitlines() if line.startswith("NamedMask, ") and " on the world" in line]
    shown = [f"NamedMask, {one}," for one in ("table 1", "table 2", "table 3", "table 10", "figure 3")]
    assert [title.split(" on the world")[0] for title in titles] == shown
    runs, tables, page = tmp_path / "runs", tmp_path / "tables", (tmp_path / "all.html").read_text()
    assert all(title in page for title in titles)
    assert {path.parent.name for path in runs.glob("*/stages")} == RUNS
    assert not (runs / "experts-1" / "student").exists(), "table 2 needs no student"

    archives = [Archive(runs / run / "archive" / "archive.parquet") for run in RUNS]
    in_archives = {entry.image for archive in archives for name in NAMES for entry in archive.entries(name)}
    # pictures of the benchmark that SelfMask, and CLIP in the baseline, are measured on
    baseline, table_1 = 3 * PICTURES, PICTURES
    assert TinyBranch.clip.pictures == COLLECTION + baseline
    assert TinyBranch.saliency.pictures == len(in_archives) + baseline + table_1

    figures = json.loads((tables / "namedmask-world-10" / "figures.json").read_text())["figures"]
    assert list(figures) == ["without copy-paste", "up to 2 pictures", "up to 3 pictures"]
    curve = ElementTree.parse(tables / "namedmask-world-figure-3" / "figure-3.svg")
    assert len(curve.findall(f".//{SVG}circle")) == 2

    _, again, said = command("tables", "namedmask-world", *asked, "--json")
    told = json.loads(again)["tables"]
    assert [table["table"] for table in told] == list(list_suites()["namedmask-world"])
    assert told[2]["columns"] == ["single", "multi", "all"]
    assert "measured before, in" in said
    assert "begun" not in said, "what was measured is distilled no more"
    assert told[2]["rows"][2]["ours"]["all"] == told[3]["rows"][1]["ours"]["mIoU"], "they are the same student"


def test_figures_are_those_of_the_runs_masks_and_students(tiny, tmp_path):
    runs = tmp_path / "runs"
    own = Ablations(chosen(runs), device="cpu")
    run = Run(tmp_path / "tables", pictures=2, device="cpu", shared=own)
    tables, benchmark = namedmask_world.tables_of(own.chosen), SomeOfTheWorld(NAMES, "all", 2)
    (row,) = fill(only(tables["namedmask-world-10"], "up to 3"), run)
    student = own_student(runs / "copy-paste-3" / "student" / "student.safetensors")
    assert row.ours == {"mIoU": evaluate(student, benchmark).miou}
    (row,) = fill(only(tables["namedmask-world-3"], "PAMR"), run)
    along_edges = own_student(runs / "copy-paste-2" / "student" / "student.safetensors", refine="pamr")
    assert row.ours["all"] == evaluate(along_edges, benchmark).miou

    rows = filled(tables["namedmask-world-1"], Run(tmp_path / "1", pictures=MANY, shared=own))
    saliency, expert = {}, {}
    experts = sorted((runs / "copy-paste-2" / "experts").glob("*/*.safetensors"))
    for label, (name, file) in enumerate(zip(NAMES, experts, strict=True), start=1):
        pictures = [sample for sample in SomeOfTheWorld(NAMES, "all", MANY) if (sample.labels == label).any()]
        if pictures:
            truths = [sample.labels == label for sample in pictures]
            seen = [TinyBranch.saliency.maps([sample.image])[0] > THRESHOLD for sample in pictures]
            network = own_student(file, refine=own.expert_settings.edges)
            drawn_by = [network.segment(sample.image, ["background", name]).labels == 1 for sample in pictures]
            saliency[name], expert[name] = iou(truths, seen), iou(truths, drawn_by)
    assert saliency, "none of the names is on a picture"
    for label, found in (("SelfMask", saliency), ("category experts", expert)):
        assert rows[label].ours == pytest.approx({**found, "mean": np.mean(list(found.values()))})
    two = filled(tables["namedmask-world-2"], Run(tmp_path / "2", pictures=MANY, shared=own))
    assert list(two) == ["SelfMask", "1 expert", "3 experts"]
    assert two["3 experts"].ours == pytest.approx({"mean": np.mean(list(expert.values()))})


def test_the_world_with_all_its_names_is_the_world():
    whole, own = World("all", pictures=4), SomeOfTheWorld(THINGS, "all", 4)
    assert whole.vocabulary == own.vocabulary
    for one, other in zip(whole, own, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    few = SomeOfTheWorld(("dog", "cat"), "all", 4)
    for one, other in zip(whole, few, strict=True):
        np.testing.assert_array_equal(other.labels == 1, one.labels == 1 + THINGS.index("dog"))
        np.testing.assert_array_equal(other.labels == 2, one.labels == 1 + THINGS.index("cat"))


def test_rows_are_the_papers():
    tables = namedmask_world.tables_of(AblationSettings())
    assert tuple(tables) == list_suites()["namedmask-world"]
    two, ten, curve = ([row.label for row in tables[f"namedmask-world-{end}"].rows] for end in ("2", "10", "figure-3"))
    assert two == ["SelfMask", "1 expert", *(f"{count} experts" for count in (2, 5, 7, 24))]
    assert curve == ["1 picture", *(f"{n} pictures" for n in (5, 10, 50, 100, 200, 500))]
    assert (ten[0], len(ten)) == ("without copy-paste", 6)
    assert tables["namedmask-world-1"].columns == (*THINGS, "mean")


def test_without_saliency_nothing_is_drawn_and_every_row_says_why(tmp_path, monkeypatch):
    tries = []

    def missing(self):
        tries.append(1)
        raise WorldModelError("there is no SelfMask; train it")

    tiny_ablations.shorten(monkeypatch.setattr)
    monkeypatch.setattr(TinyBranch, "saliency", property(missing))
    own = Ablations(chosen(tmp_path / "runs"))
    run = Run(tmp_path / "tables", shared=own)
    for table in namedmask_world.tables_of(own.chosen).values():
        for row in fill(table, run):
            assert set(row.not_run.values()) == {"there is no SelfMask; train it"}
    assert len(tries) == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_leaves_its_row_out_and_no_other(tiny, tmp_path, monkeypatch):
    own = Ablations(chosen(tmp_path / "runs"))
    monkeypatch.setattr(namedmask_world, "SIZES", (1, COLLECTION + 1))
    table = namedmask_world.tables_of(own.chosen)["namedmask-world-figure-3"]
    monkeypatch.setattr(TinyBranch.saliency, "raw_maps", lambda images: [np.zeros(i.shape[:2]) for i in images])
    one, more = fill(table, Run(tmp_path / "tables", pictures=1, shared=own))
    assert "archive-1: no mask of 'cat' is usable" in one.not_run["mIoU"]
    assert f"has only {COLLECTION} pictures" in more.not_run["mIoU"]


def test_wishes_that_cannot_be_are_told_at_once(command, tmp_path):
    with pytest.raises(ConfigError, match="did you mean student.steps"):
        Ablations(AblationSettings(runs=tmp_path, settings=("student.step=3",)))
    with pytest.raises(TableError, match="the world has no 'unicorn'"):
        AblationSettings(names=("dog", "unicorn"))
    with pytest.raises(NotRunError, match="wordmask tables namedmask-world"):
        namedmask_world.measure_student(Run(tmp_path / "tables"), "all", name="x", changed={})
    status, _, err = command("tables", "world", "--steps", "3")
    assert (status, "namedmask-world" in err) == (2, True)
    status, _, err = command("tables", "namedmask-world", "--only", "nobody", "--runs", tmp_path)
    assert (status, "no row with nobody" in err) == (1, True)


def test_names_that_are_on_no_picture_have_no_figure(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(SomeOfTheWorld, "_labels", lambda self, labels: np.zeros_like(labels))
    own = Ablations(chosen(tmp_path))
    table = only(namedmask_world.tables_of(own.chosen)["namedmask-world-2"], "SelfMask")
    (row,) = fill(table, Run(tmp_path / "2", pictures=2, shared=own))
    assert "none of the names is on 2 pictures looked at: take more (--pictures)" in row.not_run["mean"]


def test_steps_are_of_students_and_a_tenth_of_experts(tiny, tmp_path):
    own = Ablations(replace(chosen(tmp_path), steps=35, settings=SETTINGS[:-2]))
    config = own.networks().config
    assert (config.student.steps, config.experts.steps) == (35, 4)


def test_a_curve_rises_to_the_right_with_its_points_in_place():
    picture = ElementTree.fromstring(drawn([(1, 10.0), (10, 30.0), (100, 50.0)], x_label="n & m", y_label="mIoU"))
    circles = picture.findall(f"{SVG}circle")
    xs, ys = (np.diff([float(circle.get(key)) for circle in circles]) for key in ("cx", "cy"))
    assert xs[0] == pytest.approx(xs[1], abs=0.2)  # tenfold is a step, wherever
    assert ys[0] == pytest.approx(ys[1], abs=0.2)
    assert ys[0] < 0
    assert {"n & m", "mIoU", "10.0", "50.0", "100"} <= {text.text for text in picture.findall(f"{SVG}text")}
    assert "<circle" in drawn([(5, 0.0)], x_label="", y_label="")


@pytest.mark.slow
def test_a_command_killed_for_real_ends_with_the_same_figures(tmp_path):
    script = Path(tiny_ablations.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])}

    def start(folder):
        return subprocess.Popen(
            [sys.executable, script, folder], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    whole, killed = start(tmp_path / "whole").communicate()[0], tmp_path / "killed"
    for part in ("copy-paste-2/stages/experts.json", "copy-paste-1/student/log.jsonl", "archive-3/stages/masks.json"):
        kill_when(start(killed), (killed / "runs" / part).exists, patience=1800)
    assert start(killed).communicate()[0] == whole
    assert whole.count(b", on the world: ") == 5
