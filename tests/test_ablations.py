"""NamedMask's ablations on the world: what is distilled, what is shared, what is printed, what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wordmask
from support import tiny_ablations
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
"""Pictures of which one at least shows one of the names."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(monkeypatch):
    tiny_ablations.shorten(monkeypatch.setattr)
    monkeypatch.setattr(TinyBranch, "clip", tiny_ablations.AnyClip())
    monkeypatch.setattr(TinyBranch, "saliency", tiny_ablations.Lit())


def chosen(folder, **changes):
    return AblationSettings(runs=folder, names=NAMES, collection=COLLECTION, settings=SETTINGS, **changes)


def test_one_command_measures_all_and_looks_at_nothing_twice(tiny, command, tmp_path):
    asked = tiny_ablations.arguments(tmp_path)
    status, out, err = command("tables", "namedmask-world", *asked, "--out", tmp_path / "all.html")
    assert (status, "not run" in out) == (0, False), out + err
    titles = [line for line in out.splitlines() if line.startswith("NamedMask, ") and " on the world" in line]
    assert [title.split(" on the world")[0] for title in titles] == [
        *(f"NamedMask, table {number}," for number in (1, 2, 3, 10)),
        "NamedMask, figure 3,",
    ]
    runs = tmp_path / "runs"
    assert {path.parent.name for path in runs.glob("*/stages")} == RUNS
    assert not (runs / "experts-1" / "student").exists(), "table 2 needs no student"

    archives = [Archive(run / "archive" / "archive.parquet") for run in map(runs.joinpath, RUNS)]
    in_archives = {entry.image for archive in archives for name in NAMES for entry in archive.entries(name)}
    # pictures of the benchmark that SelfMask, and CLIP in the baseline, are measured on
    baseline, table_1 = 3 * PICTURES, PICTURES
    assert TinyBranch.clip.pictures == COLLECTION + baseline
    assert TinyBranch.saliency.pictures == len(in_archives) + baseline + table_1

    shown = json.loads((tmp_path / "tables" / "namedmask-world-10" / "figures.json").read_text())["figures"]
    assert list(shown) == ["without copy-paste", "up to 2 pictures", "up to 3 pictures"]
    curve = ElementTree.fromstring((tmp_path / "tables" / "namedmask-world-figure-3" / "figure-3.svg").read_text())
    assert len(curve.findall(".//{http://www.w3.org/2000/svg}circle")) == 2
    page = (tmp_path / "all.html").read_text()
    assert all(title in page for title in titles)

    again = command("tables", "namedmask-world", *asked, "--json")
    told = json.loads(again[1])
    assert [table["table"] for table in told["tables"]] == list(list_suites()["namedmask-world"])
    assert told["tables"][2]["columns"] == ["single", "multi", "all"]
    assert "figures were measured before" in again[2]
    assert "begun" not in again[2], "what was measured is distilled no more"
    same_student = told["tables"][2]["rows"][2]["ours"]["all"], told["tables"][3]["rows"][1]["ours"]["mIoU"]
    assert same_student[0] == same_student[1]


def own_student(weights, **settings):
    return wordmask.load("namedmask", weights=weights, device="cpu", precision="fp32", **settings)


def test_figures_are_those_of_the_runs_masks_and_students(tiny, tmp_path):
    own = Ablations(chosen(tmp_path / "runs"), device="cpu")
    run = Run(tmp_path / "tables", pictures=2, device="cpu", shared=own)
    tables = namedmask_world.tables_of(own.chosen)
    (row,) = fill(only(tables["namedmask-world-10"], "up to 3"), run)
    student = own_student(tmp_path / "runs" / "copy-paste-3" / "student" / "student.safetensors")
    benchmark = SomeOfTheWorld(NAMES, "all", 2)
    assert row.ours == {"mIoU": evaluate(student, benchmark).miou}
    (row,) = fill(only(tables["namedmask-world-3"], "PAMR"), run)
    along_edges = own_student(tmp_path / "runs" / "copy-paste-2" / "student" / "student.safetensors", refine="pamr")
    assert row.ours["all"] == evaluate(along_edges, benchmark).miou

    rows = {row.label: row for row in fill(tables["namedmask-world-1"], Run(tmp_path / "1", pictures=MANY, shared=own))}
    saliency, expert = {}, {}
    experts = dict(
        zip(NAMES, sorted((tmp_path / "runs" / "copy-paste-2" / "experts").glob("*/*.safetensors")), strict=True)
    )
    for label, name in enumerate(NAMES, start=1):
        pictures = [sample for sample in SomeOfTheWorld(NAMES, "all", MANY) if (sample.labels == label).any()]
        if pictures:
            truths = [sample.labels == label for sample in pictures]
            seen = [TinyBranch.saliency.maps([sample.image])[0] > THRESHOLD for sample in pictures]
            network = own_student(experts[name], refine=own.expert_settings.edges)
            drawn_by = [network.segment(sample.image, ["background", name]).labels == 1 for sample in pictures]
            saliency[name], expert[name] = iou(truths, seen), iou(truths, drawn_by)
    assert saliency, "none of the names is on a picture"
    for label, found in (("SelfMask", saliency), ("category experts", expert)):
        assert rows[label].ours == pytest.approx({**found, "mean": np.mean(list(found.values()))})
    two = {row.label: row for row in fill(tables["namedmask-world-2"], Run(tmp_path / "2", pictures=MANY, shared=own))}
    assert list(two) == ["SelfMask", "1 expert", "3 experts"]
    assert two["3 experts"].ours == pytest.approx({"mean": np.mean(list(expert.values()))})


def only(table, part):
    return replace(table, rows=tuple(row for row in table.rows if part in row.label))


def iou(truths, masks):
    both = sum((truth & mask).sum() for truth, mask in zip(truths, masks, strict=True))
    return 100 * both / sum((truth | mask).sum() for truth, mask in zip(truths, masks, strict=True))


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
    labels = {name: [row.label for row in table.rows] for name, table in tables.items()}
    experts = [f"{count} experts" for count in (2, 5, 7, 24)]
    assert labels["namedmask-world-2"] == ["SelfMask", "1 expert", *experts]
    assert labels["namedmask-world-figure-3"] == ["1 picture", *(f"{n} pictures" for n in (5, 10, 50, 100, 200, 500))]
    assert labels["namedmask-world-10"][0] == "without copy-paste"
    assert len(labels["namedmask-world-10"]) == 6
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
    status, _, err = command("tables", "world", "--steps", "3")
    assert status == 2
    assert "namedmask-world" in err
    status, _, err = command("tables", "namedmask-world", "--only", "nobody", "--runs", tmp_path)
    assert (status, "no row with nobody" in err) == (1, True)
    with pytest.raises(NotRunError, match="wordmask tables namedmask-world"):
        namedmask_world.measure_student(Run(tmp_path / "tables"), "all", name="x", changed={})


def test_names_that_are_on_no_picture_have_no_figure(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(SomeOfTheWorld, "_labels", lambda self, labels: np.zeros_like(labels))
    own = Ablations(chosen(tmp_path))
    (row,) = fill(
        only(namedmask_world.tables_of(own.chosen)["namedmask-world-2"], "SelfMask"),
        Run(tmp_path / "2", pictures=2, shared=own),
    )
    assert row.not_run == {"mean": "none of the names is on these 2 pictures: take more of them (--pictures)"}


def test_steps_are_of_students_and_a_tenth_of_experts(tiny, tmp_path):
    own = Ablations(replace(chosen(tmp_path), steps=35, settings=SETTINGS[:-2]))
    config = own.networks().config
    assert (config.student.steps, config.experts.steps) == (35, 4)


def test_a_curve_rises_to_the_right_with_its_points_in_place():
    picture = ElementTree.fromstring(drawn([(1, 10.0), (10, 30.0), (100, 50.0)], x_label="n & m", y_label="mIoU"))
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    xs, ys = ([float(circle.get(key)) for circle in circles] for key in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # tenfold is a step, wherever
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[0] > ys[2]
    texts = [text.text for text in picture.findall("{http://www.w3.org/2000/svg}text")]
    assert {"n & m", "mIoU", "10.0", "50.0", "100"} <= set(texts)
    assert "<circle" in drawn([(5, 0.0)], x_label="", y_label="")


PATIENCE = 1800


@pytest.mark.slow
def test_a_command_killed_for_real_ends_with_the_same_figures(tmp_path):
    script = Path(tiny_ablations.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])}

    def start(folder):
        return subprocess.Popen(
            [sys.executable, script, folder], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    whole = start(tmp_path / "whole").communicate()[0]
    killed = tmp_path / "killed"
    for reached in (
        "copy-paste-2/stages/experts.json",
        "copy-paste-1/student/log.jsonl",
        "archive-3/stages/masks.json",
    ):
        process, deadline = start(killed), time.monotonic() + PATIENCE
        while not (killed / "runs" / reached).exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert start(killed).communicate()[0] == whole
    assert whole.count(b", on the world: ") == 5
