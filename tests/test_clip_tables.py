"""The tables of CLIP-DIY and CLIP-DINOiser: the paper's figures, and rows that are sets of options which exist."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.data_sets import voc_folder
from wordmask.benchmarks import list_benchmarks
from wordmask.benchmarks.tables import find
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.run import Run
from wordmask.methods import settings_of
from wordmask.names.prompts import templates

NAMES = [f"clip-diy-{number}" for number in range(1, 5)] + [f"clip-dinoiser-{number}" for number in ("1", "2a", "2b")]


class Pretended:
    """In place of a run: checks what a row asks for, and notes it."""

    def __init__(self):
        self.asked = {}

    def open(self, benchmark):
        return benchmark

    def segmenter(self, method, preset="paper", **settings):
        return method, preset, settings_of("segmenter", method, preset, **settings)

    def evaluate(self, segmenter, benchmark, *, protocol="own"):
        self.asked[benchmark] = segmenter
        return SimpleNamespace(miou=12.5)


def row_of(table, label):
    return next(row for row in find(table).rows if row.label == label)


def ask(table, label):
    run = Pretended()
    for column in find(table).columns:
        row_of(table, label).measure(run, column)
    return run.asked


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_a_choice_of_options_that_exist(name):
    table = find(name)
    assert set(table.columns) <= set(list_benchmarks())
    for row in table.rows:
        if row.measure is not None and row.label != "ReCo":
            assert set(row.published) <= set(ask(name, row.label))


def test_the_papers_figures_stand_in_their_columns():
    figures = {name: {row.label: dict(row.published) for row in find(name).rows} for name in NAMES}
    assert figures["clip-diy-1"]["CLIP-DIY"] == {"voc": 59.9, "coco-object": 31.0}
    assert figures["clip-diy-2"]["w/o objectness"] == {"voc": 24.1, "coco-object": 15.5}
    assert figures["clip-diy-3"]["1 2 3"] == {"voc": 53.8, "coco-object": 26.4}
    assert figures["clip-diy-4"]["CutLER saliency"] == {"voc": 55.4}
    assert figures["clip-dinoiser-1"]["NamedMask"] == {"coco-object": 27.7, "voc": 59.2}
    ours = figures["clip-dinoiser-1"]["CLIP-DINOiser"]
    assert (ours["voc20"], ours["cityscapes"], ours["context"], ours["voc"]) == (80.9, 31.7, 32.4, 62.1)
    assert figures["clip-dinoiser-2a"]["DINO's affinity"]["ade20k"] == 20.4
    assert figures["clip-dinoiser-2b"]["DINO's affinity, FOUND alone"] == {"coco-object": 32.1, "voc": 60.1}


def test_scales_are_windows_of_the_preset_s_size():
    windows = {column: own[2].windows for column, own in ask("clip-diy-3", "1 2 3").items()}
    assert (windows["voc"], windows["world"]) == ((128, 64, 32), (64, 32, 16))
    assert ask("clip-diy-2", "w/o multi-scale")["voc"][2].windows == (256,)
    assert ask("clip-diy-2", "w/o objectness")["world"][2].saliency == "none"
    assert "world" not in ask("clip-diy-1", "CLIP-DIY, ViT-B/16")


@pytest.mark.parametrize(
    ("table", "label"),
    [("clip-dinoiser-1", "CLIP-DINOiser"), ("clip-dinoiser-2a", "MaskCLIP"), ("clip-dinoiser-2b", "DINO's affinity")],
)
def test_pictures_are_shrunk_as_for_the_published_figures(table, label):
    asked = ask(table, label)
    assert not asked["voc"][2].antialias
    assert asked["world"][2].antialias


@pytest.mark.parametrize("table", ["clip-diy-1", "clip-dinoiser-1"])
def test_clip_diy_says_a_before_vowels_as_its_figures_were_made(table):
    asked = ask(table, "CLIP-DIY")
    assert templates(asked["voc"][2].templates).fill("aeroplane") == ["a photo of a aeroplane"]
    assert templates(asked["world"][2].templates).fill("aeroplane") == ["a photo of an aeroplane"]


def test_background_is_filtered_where_the_paper_filters_it():
    background = {column: own[2].background for column, own in ask("clip-dinoiser-1", "CLIP-DINOiser").items()}
    assert {column for column, own in background.items() if own == "trained"} == {"coco-object", "voc", "world"}
    assert background["context"] == "none"
    assert ask("clip-dinoiser-2b", "DINO's affinity, FOUND alone")["voc"][2].background == "found-alone"


def reco_row(tmp_path, column, **given):
    row = replace(row_of("clip-dinoiser-1", "ReCo"), published={})
    voc_folder(tmp_path / "data")
    run = Run(tmp_path / "run", root=tmp_path / "data", pictures=1, device="cpu", **given)
    [filled] = fill(replace(find("clip-dinoiser-1"), columns=(column,), rows=(row,)), run)
    return filled


def test_reco_learns_from_the_archive_that_is_given(tmp_path):
    assert "give a folder of them with --archive" in reco_row(tmp_path / "without", "voc").not_run["voc"]
    archive = tmp_path / "archive"
    archive.mkdir()
    assert "WORDMASK_OFFLINE" in reco_row(tmp_path / "with", "voc", archive=archive).not_run["voc"]  # its weights


def test_reco_learns_the_world_s_names_from_the_world(tmp_path, monkeypatch):
    monkeypatch.setattr("wordmask_world.tables.world.ARCHIVE", 2)
    filled = reco_row(tmp_path, "world-stuff")
    assert filled.not_run == {}
    assert 0 <= filled.ours["world-stuff"] <= 100


def test_what_is_missing_is_named_and_stops_no_table(tmp_path):
    """Here are neither the papers' weights nor their data."""
    for filled in fill(find("clip-diy-4"), Run(tmp_path, pictures=1)):
        assert filled.not_run["voc"]
        assert "voc" not in filled.ours


@pytest.mark.parametrize("name", ["clip-diy-1", "clip-dinoiser-1", "clip-dinoiser-2", "namedmask-5", "namedmask-7"])
def test_without_data_the_published_figures_and_what_is_missing_come_at_once(command, monkeypatch, tmp_path, name):
    def forbidden(*arguments, **options):
        raise AssertionError("a network is loaded where nothing is to be measured")

    monkeypatch.setattr("wordmask.segmenters.load", forbidden)
    monkeypatch.chdir(tmp_path)
    status, out, err = command("tables", name)
    assert (status, err, "published" in out) == (0, "", True)
    reasons = [line for line in out.splitlines() if "] not run: " in line]
    assert reasons
    for reason in reasons:
        assert "--world measures them" in reason or ("needs its data, " in reason and "from http" in reason)
        assert "--world" in reason or "--root" in reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [["--world"], ["--pictures", "2"], ["--root", "."]])
def test_the_world_s_columns_are_measured_when_asked_for(command, monkeypatch, tmp_path, asked):
    monkeypatch.setattr(Run, "segmenter", lambda *arguments, **settings: None)
    monkeypatch.setattr(Run, "evaluate", lambda *arguments: SimpleNamespace(miou=12.5))
    monkeypatch.chdir(tmp_path)
    told = json.loads(command("tables", "clip-diy-2", "--json", *asked)[1])
    assert [row["ours"] for row in told["rows"]] == [{"voc": None, "coco-object": None, "world": 12.5}] * 3


def test_figures_of_the_world_that_are_kept_are_shown(tmp_path):
    table = replace(find("clip-diy-2"), rows=find("clip-diy-2").rows[:1])
    Run(tmp_path).keep("CLIP-DIY", {"world": 38.8}, seconds=1.0)
    (row,) = fill(table, Run(tmp_path, beside=False))
    assert row.ours == {"world": 38.8}
