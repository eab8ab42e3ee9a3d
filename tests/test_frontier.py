"""The tables of the frontier: what is published, what is measured under what, and no two protocols mixed unsaid."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from wordmask.benchmarks.protocols import list_protocols
from wordmask.benchmarks.tables import find, frontier
from wordmask.benchmarks.tables.base import Row, Table, Under, fill
from wordmask.benchmarks.tables.errors import NotRunError, TableError
from wordmask.benchmarks.tables.frontier import MEAN, OURS, Ours, check_here
from wordmask.benchmarks.tables.run import Run
from wordmask.benchmarks.wordings import list_wordings
from wordmask.cards import EIGHT, cards


def published():
    return {row.label: row for row in find("frontier").rows}


def test_published_means_are_those_of_the_eight_figures():
    whole = [row.published for row in published().values() if {*EIGHT, MEAN} <= set(row.published)]
    assert len(whole) >= 20
    for figures in whole:
        assert sum(figures[name] for name in EIGHT) / 8 == pytest.approx(figures[MEAN], abs=0.06)


def test_published_figures_stand_in_their_columns():
    rows = published()
    sclip, best = rows["SCLIP, CLIP B/16"].published, rows["CorrCLIP 2, L/14 + bank of COCO"].published
    assert [sclip[name] for name in EIGHT] == [59.1, 30.4, 30.5, 80.4, 34.2, 22.4, 32.2, 16.1]
    assert (best["voc"], best["coco-object"], best["ade20k"], best[MEAN]) == (82.3, 58.0, 36.5, 59.5)
    assert rows["SC-CLIP, CLIP B/16"].published["cityscapes"] == 41.0
    assert rows["OV-Stitcher, CLIP B/16 + SAM 2"].published == {MEAN: 50.7}
    variants = {row.label: row.published[MEAN] for row in find("frontier-variants").rows}
    assert variants["CorrCLIP, CLIP B/16, without map correction"] == 46.8


@pytest.mark.parametrize(
    "method", [name for name, card in cards().items() if card.mean is not None and name not in ("maskclip", "reco")]
)
def test_what_a_method_is_chosen_by_is_what_the_table_has(method):
    """MaskCLIP's and ReCo's cards are of CLIP-DINOiser's table, whose figures of them are others."""
    figures = dict(cards()[method].figures)
    assert figures in [{name: row.published.get(name) for name in EIGHT} for row in published().values()]


def test_rows_are_measured_as_their_papers_say():
    assert set(OURS) <= set(published())
    for label, ours in OURS.items():
        assert ours.protocol in list_protocols()
        assert ours.vocabulary in list_wordings()
        told = published()[label].published_under
        for mine, theirs in ((ours.protocol, told.protocol), (ours.vocabulary, told.vocabulary)):
            assert theirs in (mine, "restated", "not said")


def test_a_table_that_mixes_protocols_without_saying_so_is_refused():
    rows = (Row("a", under=Under("sclip", "sclip")), Row("b", under=Under("own", "sclip")))
    with pytest.raises(TableError, match="mixes rows that were measured under different protocols"):
        Table("mixed", "", ("x",), rows)
    with pytest.raises(TableError, match="without saying so"):
        Table("mixed", "", ("x",), (Row("a", {"x": 1.0}, under=Under("own", "plain"), published_under=rows[0].under),))
    assert Table("told", "", ("x",), rows, tells_under=True).has_under
    assert Table("alike", "", ("x",), (rows[0], replace(rows[0], label="c")))


def test_without_data_all_is_said_at_once(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    status, out, _ = command("tables", "frontier")
    assert (status, time.monotonic() - start < 30) == (0, True)
    for data in ("voc", "context", "coco-object", "voc20", "context59", "coco-stuff", "cityscapes", "ade20k"):
        assert f"not run: {data} needs its data" in out
    assert "protocol" in out.splitlines()[2]
    maskclip = next(line for line in out.splitlines() if "  ours  " in line and " sclip" in line)
    assert "[" in maskclip


class Pretended(Run):
    def open(self, benchmark, split=None, vocabulary="plain"):
        self.asked = {**getattr(self, "asked", {}), benchmark: vocabulary}
        return SimpleNamespace(name=benchmark)

    def segmenter(self, method, preset="paper", **settings):
        return method, settings

    def evaluate(self, segmenter, benchmark, split=None, *, protocol="own", single=False):
        self.under = protocol
        self.loaded = segmenter
        return SimpleNamespace(miou=float(10 + EIGHT.index(benchmark.name)))


def small_table():
    table = find("frontier")
    return replace(table, rows=tuple(row for row in table.rows if row.label == "MaskCLIP, CLIP B/16"))


def test_a_row_is_measured_under_its_own_protocol_and_its_mean_comes_last(tmp_path):
    run = Pretended(tmp_path)
    (row,) = fill(small_table(), run)
    assert row.ours[MEAN] == 13.5
    assert set(run.asked.values()) == {"sclip"}
    assert (run.under, run.loaded[0], run.loaded[1]["window"]) == ("sclip", "maskclip", 224)
    told = row.as_json(EIGHT)
    assert told["under"] == {"protocol": "sclip", "vocabulary": "sclip"}
    assert told["published_under"] == {"protocol": "restated", "vocabulary": "restated"}


def test_no_mean_is_told_of_some_of_the_eight(tmp_path, monkeypatch):
    def open_some(run, benchmark, split=None, vocabulary="plain"):
        if benchmark == "ade20k":
            raise NotRunError("no data")
        return SimpleNamespace(name=benchmark)

    monkeypatch.setattr(Pretended, "open", open_some)
    (row,) = fill(small_table(), Pretended(tmp_path))
    assert set(row.ours) == set(EIGHT) - {"ade20k"}


def test_all_rows_can_be_measured_alike_and_say_so(tmp_path):
    run = Pretended(tmp_path, protocol="lposs", vocabulary="corrclip")
    (row,) = fill(small_table(), run)
    assert (run.under, run.loaded[1]["shorter_side"]) == ("lposs", 448)
    assert set(run.asked.values()) == {"corrclip"}
    assert row.under == Under("lposs", "corrclip")


def test_tables_of_one_paper_have_no_protocol_to_choose(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = command("tables", "clip-diy-1", "--protocol", "sclip")
    assert (status, "measured as its paper has it" in " ".join(err.split())) == (2, True)
    status, _, err = command("tables", "frontier", "--vocabulary", "nonsense")
    assert (status, "no vocabulary is called 'nonsense'" in err) == (1, True)
    told = json.loads(command("tables", "frontier", "--vocabulary", "plain", "--only", "ClearCLIP", "--json")[1])
    assert told["rows"][0]["under"] == {"protocol": "clearclip", "vocabulary": "plain"}


@pytest.mark.parametrize(
    ("method", "settings", "preset", "says"),
    [
        ("nonsense", {}, "paper", "nonsense is not here"),
        ("maskclip", {}, "nonsense", "it has no preset nonsense"),
        ("maskclip", {"nonsense": 1}, "paper", "it has no setting nonsense"),
        ("maskclip", {"refine": "nonsense"}, "paper", "nonsense is not here: no refinement"),
    ],
)
def test_what_is_not_here_is_a_row_that_says_so(method, settings, preset, says):
    with pytest.raises(NotRunError, match=says):
        check_here(method, settings, preset)


def test_a_method_that_cannot_look_so_leaves_its_cells_empty(tmp_path):
    table = replace(small_table(), rows=(Row("x", measure=Ours("clip-diy").measure, under=Under("own", "plain")),))
    (row,) = fill(table, Pretended(tmp_path, protocol="sclip"))
    assert "clip-diy cannot look at pictures as sclip does" in row.not_run["voc"]
    assert frontier.measure(Pretended(tmp_path), "voc", ours=Ours("clip-diy")) == 10
