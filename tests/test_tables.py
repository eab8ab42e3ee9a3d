"""Tables: rows measure themselves, what is missing is named, what is measured is kept."""

import json
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest

from support.squares import Guess, Squares
from wordmask import segmenters
from wordmask.benchmarks import list_benchmarks, tables
from wordmask.benchmarks.datasets import MissingDataError
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.tables import namedmask
from wordmask.benchmarks.tables.base import Row, Table, fill
from wordmask.benchmarks.tables.class_masks import ClassIous, add_masks, saliency_ious
from wordmask.benchmarks.tables.errors import NotRunError, TableError
from wordmask.benchmarks.tables.published import rows
from wordmask.benchmarks.tables.run import Run, RunError
from wordmask.extras import MissingExtraError
from wordmask.methods import MethodError, settings_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.weights.download import DownloadError
from wordmask_world.tables.saliency import Middle


def one_row(measure, columns=("a", "b")):
    return Table("small", "A small table", columns, (Row("ours", {"a": 50.0}, measure),))


def counted(calls, figures):
    return lambda run, column: calls.append(column) or figures[column]


def test_a_row_has_published_figures_beside_its_own(tmp_path):
    table = one_row(counted([], {"a": 49.5, "b": 2.0}))
    (row,) = fill(table, Run(tmp_path))
    assert row.as_json(table.columns) == {
        "label": "ours",
        "published": {"a": 50.0, "b": None},
        "ours": {"a": 49.5, "b": 2.0},
        "not_run": {},
    }


def test_what_was_measured_is_not_measured_again_nor_mixed_with_what_is_measured_otherwise(tmp_path):
    calls = []
    table = one_row(counted(calls, {"a": 1.0, "b": 2.0}))
    list(fill(table, Run(tmp_path, pictures=5)))
    again = Run(tmp_path, pictures=5)
    assert again.count_kept == 2
    assert next(fill(table, again)).ours == {"a": 1.0, "b": 2.0}
    assert calls == ["a", "b"]
    with pytest.raises(RunError, match="--fresh to measure anew"):
        Run(tmp_path, pictures=6)
    list(fill(table, Run(tmp_path, pictures=6, fresh=True)))
    assert calls == ["a", "b", "a", "b"]


def test_a_table_that_fails_keeps_what_it_had(tmp_path):
    measure = Mock(side_effect=[1.0, RuntimeError("the power went"), 2.0])
    with pytest.raises(RuntimeError):
        list(fill(one_row(measure), Run(tmp_path)))
    (row,) = fill(one_row(measure), Run(tmp_path))
    assert row.ours == {"a": 1.0, "b": 2.0}
    assert [call.args[1] for call in measure.call_args_list] == ["a", "b", "b"]


def test_one_pass_may_answer_for_all_columns(tmp_path):
    measure = Mock(return_value={"a": 1.0, "b": 2.0})
    (row,) = fill(one_row(measure), Run(tmp_path))
    assert (row.ours, measure.call_count) == ({"a": 1.0, "b": 2.0}, 1)


@pytest.mark.parametrize("error", [NotRunError, MissingDataError, MissingExtraError])
def test_what_is_missing_is_the_reason_and_is_tried_again(tmp_path, error):
    measure = Mock(side_effect=[error("there is no data; get it"), 3.0])
    (row,) = fill(one_row(measure), Run(tmp_path))
    assert (row.ours, row.not_run) == ({"b": 3.0}, {"a": "there is no data; get it"})
    assert Run(tmp_path).kept("ours", "a") is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rows("clip_diy", "clip-diy-2", {"CLIP-DIM": None}), r"no row \['CLIP-DIM'\] in clip-diy-2"),
        (lambda: Table("bad", "", ("a",), (Row("x"), Row("x"))), "two rows"),
        (lambda: Table("bad", "", ("a",), (Row("x", {"b": 1.0}),)), "figures for no column"),
        (lambda: tables.find("nonsense"), "no table is called 'nonsense'; choose one of"),
    ],
    ids=["a row that no paper has", "two rows of one name", "figures for no column", "unknown"],
)
def test_tables_that_cannot_be_are_refused(make, says):
    with pytest.raises(TableError, match=says):
        make()


def test_methods_that_cannot_be_loaded_are_tried_once(tmp_path, monkeypatch):
    load = Mock(side_effect=DownloadError("the host is not found"))
    monkeypatch.setattr("wordmask.segmenters.load", load)
    run = Run(tmp_path)
    for _ in range(2):
        with pytest.raises(NotRunError, match="the host is not found"):
            run.segmenter("maskclip")
    assert load.call_count == 1


def test_a_student_that_nobody_gave_leaves_a_cell_empty(tmp_path):
    with pytest.raises(NotRunError, match="brings no student"):
        Run(tmp_path, device="cpu").segmenter("namedmask", "world", student=None)


@pytest.mark.parametrize(
    ("method", "preset", "settings", "says"),
    [
        ("nonsense", "world", {}, "no method is called 'nonsense'"),
        ("maskclip", "nonsense", {}, "maskclip has no preset 'nonsense'"),
        ("maskclip", "world", {"archive": "pictures"}, "maskclip has no setting 'archive'"),
        ("maskclip", "world", {"window": -1}, "window=-1 cannot be used"),
    ],
)
def test_a_row_s_mistakes_are_errors_and_no_empty_cells(tmp_path, method, preset, settings, says):
    table = one_row(lambda run, column: run.segmenter(method, preset, **settings))
    with pytest.raises(MethodError, match=says):
        list(fill(table, Run(tmp_path, device="cpu")))


def test_a_run_evaluates_as_evaluate_does(tmp_path):
    run = Run(tmp_path)
    with run.at("row", "column"):
        found = run.evaluate(Guess(), Squares())
    assert {**found.as_json(), "seconds": 0} == {**evaluate(Guess(), Squares()).as_json(), "seconds": 0}
    assert (tmp_path / "work" / "row-column" / "squares-all" / "images-0.jsonl").exists()


@pytest.mark.parametrize("name", tables.list_tables())
def test_every_table_of_the_list_is_there(name):
    table = tables.find(name)
    assert table.name == name
    assert table.rows


@pytest.fixture
def tables_command(command, monkeypatch, tmp_path):
    """`wordmask tables` with a small table in the list."""
    table = one_row(Mock(side_effect=[49.5, NotRunError("no data; get them from http://example.org")] * 2))
    table = replace(table, rows=(Row("theirs", {"a": 40.0, "b": 41.0}), *table.rows))
    monkeypatch.setattr(tables, "find", lambda name: table)
    monkeypatch.chdir(tmp_path)

    return partial(command, "tables")


def test_the_table_is_printed_with_its_reasons_at_the_foot(tables_command):
    status, out, err = tables_command("small")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "A small table",
        "",
        "                         a        b",
        "theirs  published     40.0     41.0",
        "ours    published     50.0        -",
        "        ours          49.5      [1]",
        "",
        "[1] not run: no data; get them from http://example.org",
    ]


def test_json_and_page_say_the_same(tables_command, tmp_path):
    status, out, _ = tables_command("small", "--json", "--out", "table.html")
    assert status == 0
    told = json.loads(out)
    assert (told["table"], told["columns"]) == ("small", ["a", "b"])
    assert told["rows"][1]["ours"] == {"a": 49.5, "b": None}
    page = (tmp_path / "table.html").read_text()
    assert "49.5" in page
    assert "[1] not run: no data" in page


def test_only_some_rows(tables_command):
    _, out, _ = tables_command("small", "--only", "THEIR")
    assert "theirs" in out
    assert "ours  " not in out
    status, _, err = tables_command("small", "--only", "nobody")
    assert (status, "no row with nobody" in err) == (1, True)


def test_a_row_s_whole_label_is_that_row_and_a_part_is_all_that_hold_it():
    labels = ("SCLIP", "ResCLIP", "SCLIP, spread", "NACLIP")
    table = Table("t", "t", ("a",), tuple(Row(label) for label in labels))

    def asked(*only):
        return tuple(row.label for row in table.only(only).rows)

    assert asked() == labels
    assert asked("sclip") == ("SCLIP",)
    assert asked("sclip", "spread") == ("SCLIP", "SCLIP, spread")
    assert asked("CLIP,") == ("SCLIP, spread",)
    assert asked("clip") == labels
    assert asked("nobody") == ()


def test_one_name_may_stand_for_several_tables(tables_command):
    status, out, _ = tables_command("clip-dinoiser-2", "--json", "--only", "theirs")
    assert (status, len(json.loads(out)["tables"])) == (0, 2)
    assert tables.SUITES["clip-dinoiser-2"] == ("clip-dinoiser-2a", "clip-dinoiser-2b")
    status, _, err = tables_command("clip-dinoiser-2", "--steps", "3")
    assert status == 2
    assert "distil what they measure: namedmask-world" in " ".join(err.split())


def test_kept_figures_are_mentioned(tables_command):
    tables_command("small")
    _, _, err = tables_command("small")
    assert "measured before, in runs/tables/small: 1 figure; --fresh forgets them" in err


class Corrected:
    note = "not annotation-free any more: 2 pictures corrected (weight 4)"


def test_what_is_to_be_known_of_a_student_stands_at_the_foot_of_its_table(tmp_path, command, monkeypatch):
    monkeypatch.setattr(segmenters, "load", lambda *asked, **more: Corrected())
    table = Table("noted", "Noted", ("a",), (Row("ours", {}, lambda run, _: len(run.segmenter("namedmask").note)),))
    monkeypatch.setattr(tables, "find", lambda name: table)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # measured, and kept
        status, out, _ = command("tables", "noted")
        assert (status, out.splitlines()[-1]) == (0, f"ours: {Corrected.note}")
    told = json.loads(command("tables", "noted", "--json", "--out", "table.html")[1])
    assert told["notes"] == [f"ours: {Corrected.note}"]
    assert Corrected.note in (tmp_path / "table.html").read_text()


def test_published_figures_of_namedmask_are_the_papers():
    """Spot checks against the paper: the highest of each table, and one in the middle."""
    found = {name: {row.label: row.published for row in table.rows} for name, table in namedmask.TABLES.items()}
    assert found["namedmask-2"]["30 experts"] == {"mean": 64.1}
    assert found["namedmask-3"]["NamedMask"] == {"single": 68.0, "multi": 53.6, "all": 58.7}
    assert found["namedmask-5"]["ReCo"]["coca"] == 16.9
    assert found["namedmask-6"]["NamedMask"] == {"voc": 59.2}
    assert found["namedmask-7"]["LUSS-P"] == {"mIoU": 32.0, "S": 9.7, "MS": 26.2, "ML": 36.5, "L": 40.5}
    assert found["namedmask-8"]["NamedMask"]["ML"] == 34.9
    assert found["namedmask-9"]["ReCo"]["MS"] == 4.6
    assert found["namedmask-10"]["without copy-paste"] == {"mIoU": 56.6}


def test_a_table_of_sizes_is_filled_from_one_evaluation(tmp_path):
    run = Run(tmp_path)
    report = evaluate(Guess(), Squares())

    def figures(column):
        with run.at("row", column):
            return namedmask.figures(run, Squares(), Guess(), column)

    sizes = {size: report.more[f"miou_{size}"] for size in ("S", "MS", "ML", "L") if f"miou_{size}" in report.more}
    assert figures("mIoU") == {"mIoU": report.miou, **sizes}
    assert figures("single")["multi"] == report.more["miou_multi"]
    assert figures("squares") == {"squares": report.miou}


def test_class_ious_are_over_the_pictures_that_have_the_class():
    ious = ClassIous(Squares())
    labels = np.array([[0, 1, 1, 255], [0, 2, 2, 2]], dtype=np.uint8)
    ious.add(labels, np.array([[0, 1, 0, 1], [1, 1, 0, 0]], dtype=bool))
    ious.add(np.zeros((2, 4), dtype=np.uint8), np.ones((2, 4), dtype=bool))
    percent = ious.percent()
    # dog: 1 of its 2 pixels; the mask's other counted pixels are 2 more. cat: 1 of 3, with 2 more outside.
    expected = {"dog": 100 * 1 / 4, "cat": 100 * 1 / 5, "mean": (25 + 20) / 2}
    assert {name: percent[name] for name in expected} == pytest.approx(expected)


def test_a_pass_over_masks_goes_on_where_it_was_stopped(tmp_path):
    class Counted(Middle):
        def __init__(self, stop_after=None):
            self.looked, self.stop_after = 0, stop_after

        def raw_maps(self, images):
            if self.looked == self.stop_after:
                raise RuntimeError("the power went")
            self.looked += len(images)
            return super().raw_maps(images)

    class Small(Run):
        def open(self, benchmark, split=None, vocabulary="plain"):
            return Squares(10)

        def saliency(self, method, preset="paper", **settings):
            return self.method

    def measured(folder, method):
        run = Small(tmp_path / folder, batch_size=4)
        run.method = method
        with run.at("SelfMask", "mean"):
            return saliency_ious(run, "mean", benchmark="voc", split="train")

    def masks(samples):
        return [soft > 0.5 for soft in Middle().maps([sample.image for sample in samples])]

    stopped, rest = Counted(stop_after=8), Counted()
    with pytest.raises(RuntimeError):
        measured("stopped", stopped)
    again = measured("stopped", rest)
    assert (stopped.looked, rest.looked) == (8, 2)
    plain = ClassIous(Squares(10))
    add_masks(plain, Squares(10), masks, batch_size=3, report=None, total=10)
    assert again == measured("alone", Counted()) == plain.percent()


def test_every_row_of_every_table_asks_for_settings_that_exist(tmp_path, monkeypatch):
    """What cannot be loaded only leaves a cell empty, so a misspelt setting would go unseen."""
    asked = []

    class Asking(Run):
        def open(self, benchmark, split=None, vocabulary="plain"):
            assert benchmark in list_benchmarks()
            squares = Squares(2)
            squares.vocabulary = Vocabulary.of(["background", *namedmask.VOC_CLASSES])
            return squares

        def _load(self, load, kind, method, preset, settings):
            own = {key: value for key, value in settings.items() if key not in ("weights", "correct")}
            settings_of(kind, method, preset, **own)
            asked.append((method, preset))
            raise NotRunError("enough is known")

    monkeypatch.setattr("wordmask_world.tables.world.ARCHIVE", 1)
    weights = {namedmask.COPY_PASTE.format(most): "student.safetensors" for most in (1, 4, 6, 8, 10)}
    for name in tables.list_tables():
        list(fill(tables.find(name), Asking(tmp_path / name, weights=weights, archive=tmp_path)))
    methods = {method for method, _ in asked}
    assert {"maskclip", "clip-diy", "clip-dinoiser", "reco", "selfmask-clip", "namedmask", "selfmask"} <= methods
    assert {preset for _, preset in asked} >= {"paper", "world", *namedmask.PRESET_OF.values()}


@pytest.mark.parametrize("label", ["MaskCLIP", "ReCo", "NamedMask", "NamedMask, validation"])
@pytest.mark.parametrize(
    ("table", "column", "picture", "looked_at"),
    [
        ("namedmask-5", "coco-object", (480, 640), (480, 640)),
        ("namedmask-6", "voc", (500, 375), (500, 375)),
        ("namedmask-7", "mIoU", (480, 640), (768, 1024)),
        ("namedmask-8", "mIoU", (1500, 1000), (1024, 683)),
    ],
)
def test_namedmask_s_tables_look_at_pictures_as_its_paper_says(tmp_path, table, column, picture, looked_at, label):
    looked = []

    class Looking(Run):
        def open(self, benchmark, split=None, vocabulary="plain"):
            return Squares(1)

        def _load(self, load, kind, method, preset, settings):
            chosen = settings_of(kind, method, preset, **settings)
            if method == "namedmask":
                looked.append(chosen.size(*picture))
            else:
                plan = chosen.plan(*picture)
                assert len(plan) == 1
                looked.append(plan.window)
            raise NotRunError("enough is known")

    rows = [replace(row, published={}) for row in tables.find(table).rows if row.label == label]
    cells = replace(tables.find(table), columns=(column,), rows=tuple(rows))
    list(fill(cells, Looking(tmp_path, archive=tmp_path)))
    if (table, label) == ("namedmask-8", "NamedMask, validation"):
        looked_at = (512, 341)  # the shorter side would be 384
    assert looked == [looked_at] * len(rows)


def test_a_cell_of_the_world_is_what_evaluate_says(tmp_path):
    from wordmask import segmenters
    from wordmask_world.benchmark import World

    table = tables.find("world")
    cell = replace(table, columns=("single",), rows=table.rows[:1])
    (row,) = fill(cell, Run(tmp_path / "run", pictures=2, device="cpu"))
    segmenter = segmenters.load("maskclip", preset="world", device="cpu", precision="fp32", residual=False)
    assert row.ours == {"single": evaluate(segmenter, World("single", pictures=2)).miou}
