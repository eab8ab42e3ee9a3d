"""The frontier on the world: pictures are drawn once, features computed once, and what is not here says so."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from support.squares import Guess, Squares
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.single import WAYS
from wordmask.benchmarks.tables import find
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.run import Run
from wordmask.cli.table_lines import Pace, Shown
from wordmask.masks.segmentation import Segmentation
from wordmask_world import draw_scene
from wordmask_world.benchmark import World
from wordmask_world.tables import frontier
from wordmask_world.tables.frontier import SPLITS, STUFF, DrawnOnce, Remembered, row


def test_pictures_drawn_once_are_the_world_s(monkeypatch):
    scenes = {}
    for stuff in (False, True):
        once, world = (kind("multi", stuff=stuff, pictures=3, **more) for kind, more in kinds(scenes))
        for mine, theirs in zip(once, world, strict=True):
            np.testing.assert_array_equal(mine.image, theirs.image)
            np.testing.assert_array_equal(mine.labels, theirs.labels)
            assert (mine.key, mine.objects) == (theirs.key, theirs.objects)
    monkeypatch.setattr("wordmask_world.benchmark.draw_scene", None)
    assert len(list(DrawnOnce("multi", stuff=True, pictures=3, scenes=scenes))) == 3


def test_choices_are_made_on_other_pictures_than_the_benchmark_s():
    chosen_by = World("multi", pictures=1, size=32, first_seed=7_500_000)[0]
    np.testing.assert_array_equal(chosen_by.image, draw_scene(7_500_000, 32, kind="multi").image)
    assert not np.array_equal(chosen_by.image, World("multi", pictures=1, size=32)[0].image)


def kinds(scenes):
    return (DrawnOnce, {"scenes": scenes}), (World, {})


def test_what_was_seen_of_a_picture_is_not_looked_at_again(monkeypatch):
    guess = Guess()
    segmenter = Remembered(guess)
    image = np.zeros((24, 30, 3), dtype=np.uint8)
    first = segmenter.see([image, image], ["a", "b"])
    again = segmenter.see([image, image, image], ["b", "c", "a"])
    assert guess.looked == 3
    assert [again[0], again[2]] == [first[1], first[0]]
    assert segmenter.method == "guess"
    monkeypatch.setattr(frontier, "MOST_SEEN", 2)
    segmenter.see([image], ["d"])
    segmenter.see([image], ["a"])
    assert guess.looked == 5, "the oldest are forgotten"


def test_a_segmenter_that_remembers_is_evaluated_as_it_is():
    mine, theirs = evaluate(Remembered(Guess()), Squares()), evaluate(Guess(), Squares())
    assert {**mine.as_json(), "seconds": 0} == {**theirs.as_json(), "seconds": 0}


def small_table(*labels):
    table = find("frontier-world")
    return replace(table, rows=tuple(own for own in table.rows if own.label in labels))


def test_a_row_is_measured_on_every_split_and_kept(tmp_path, monkeypatch):
    asked = []

    def evaluated(run, segmenter, benchmark, split=None):
        asked.append((segmenter.method, benchmark.name, benchmark.split, len(benchmark)))
        return SimpleNamespace(miou=float(len(asked)))

    loaded = SimpleNamespace(method="maskclip")
    monkeypatch.setattr(Run, "segmenter", lambda run, method, preset, **settings: loaded)
    monkeypatch.setattr(Run, "evaluate", evaluated)
    table = small_table("MaskCLIP, with residual and MLP")
    for _ in range(2):
        (filled,) = fill(table, Run(tmp_path, pictures=2))
        assert filled.ours == {"single": 1, "multi": 2, "pairs": 3, "all": 4, STUFF: 5}
    assert [(name, split) for _, name, split, _ in asked] == [
        *(("world", split) for split in SPLITS),
        ("world-stuff", "all"),
    ]
    assert {count for *_, count in asked} == {2}


def test_one_look_answers_for_things_and_for_stuff(tmp_path, monkeypatch):
    guess = Guess()
    monkeypatch.setattr(Run, "segmenter", lambda run, method, preset, **settings: guess)
    monkeypatch.setattr("support.squares.SeenByChance.answer", whole_picture)
    run = Run(tmp_path, pictures=2)
    with run.at("a row", "all"):
        assert set(frontier.measure(run, "all", method="maskclip")) == {"all", STUFF}
    assert guess.looked == 2


def test_names_asked_for_alone_are_measured_all_ways_at_once(tmp_path, monkeypatch):
    def evaluated(run, segmenter, benchmark, split=None, *, single=False):
        assert (benchmark.split, single) == ("multi", True)
        return SimpleNamespace(more={f"iou_single_{way}": float(len(way)) for way in WAYS})

    monkeypatch.setattr(Run, "segmenter", lambda run, method, preset, **settings: method)
    monkeypatch.setattr(Run, "evaluate", evaluated)
    table = find("frontier-world-alone")
    (filled,) = fill(replace(table, rows=table.rows[:1]), Run(tmp_path, pictures=2))
    assert filled.ours == {way: len(way) for way in table.columns}


def whole_picture(seen, vocabulary):
    return Segmentation(np.zeros(seen.size, dtype=np.uint8), list(vocabulary.names), None, None, seen.source)


def test_papers_means_stand_aside_and_what_is_not_here_says_so(tmp_path):
    table = replace(small_table("SCLIP"), rows=(row("SCLIP", "nonsense", published="SCLIP, CLIP B/16"),))
    (filled,) = fill(table, Run(tmp_path))
    shown = Shown(table)
    (line,) = shown.add(filled)
    assert line.split() == ["SCLIP", *["[1]"] * 5, "38.2"]
    assert "nonsense is not here" in shown.foot()[0]


def test_rows_that_differ_in_a_sign_keep_their_pictures_apart(tmp_path):
    run, folders = Run(tmp_path), set()
    for own in find("frontier-world").rows:
        with run.at(own.label, "all"):
            folders.add(run.cell_folder)
    assert len(folders) == len(find("frontier-world").rows)


def test_time_left_is_told_by_the_rows_that_took_time():
    times = iter([0.0, 10.0, 10.1, 30.0, 31.0])
    pace = Pace(4, lambda: next(times))
    assert pace.told() == "1 of 4 rows, at most about 30 s left"
    assert pace.told() is None, "a row that was kept"
    assert pace.told() == "3 of 4 rows, at most about 15 s left"
    assert pace.told() is None, "nothing is left"
