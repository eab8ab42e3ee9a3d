"""The table of saliency methods on the world: its figures, its rows without weights, its memory."""

import numpy as np
import pytest

from support.plain_figures_of_maps import plain_figures
from wordmask import saliency
from wordmask.benchmarks.tables import find
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.run import Run
from wordmask_world import THINGS, draw_scene, models
from wordmask_world.benchmark import FIRST_SEED
from wordmask_world.tables.saliency import Middle, figures_of

SIDE = 128
FIGURES = {"iou", "max_f", "mae", "s_measure"}


def held_out(count):
    scenes = [draw_scene(FIRST_SEED + index, SIDE, kind="single") for index in range(count)]
    return [(scene.image, scene.labels < len(THINGS)) for scene in scenes]


def middle(image):
    [soft] = Middle().maps([image])
    return soft


def soft_guess(image):
    """A map with many levels that knows something of the picture."""
    return (image.astype(np.float32).mean(axis=2) / 255 + middle(image)) / 2


class By(Middle):
    """A method that is a function of the picture."""

    def __init__(self, guess):
        self.guess = guess

    def raw_maps(self, images):
        return [self.guess(image) for image in images]


def test_the_figures_are_those_of_the_definitions(tmp_path):
    told = figures_of(By(soft_guess), Run(tmp_path, pictures=3, batch_size=2))
    expected = plain_figures([(soft_guess(image), mask) for image, mask in held_out(3)])
    assert (told["iou"], told["max_f"], told["mae"]) == pytest.approx(expected, abs=0.01)


def test_the_truth_scores_all_there_is(tmp_path):
    masks = [mask.astype(np.float32) for _, mask in held_out(2)]
    told = figures_of(By(lambda _: masks.pop(0)), Run(tmp_path, pictures=2))
    assert told == pytest.approx({"iou": 100, "max_f": 100, "mae": 0, "s_measure": 100}, abs=0.1)


def test_a_row_that_was_stopped_goes_on(tmp_path):
    looked = []

    def once_too_often(image):
        looked.append(image)
        if len(looked) == 3:
            raise RuntimeError("the power went")
        return soft_guess(image)

    with pytest.raises(RuntimeError):
        figures_of(By(once_too_often), Run(tmp_path / "run", pictures=3, batch_size=1))
    again = figures_of(By(once_too_often), Run(tmp_path / "run", pictures=3, batch_size=1))
    assert len(looked) == 4
    assert again == figures_of(By(soft_guess), Run(tmp_path / "other", pictures=3))


def test_the_middle_is_a_quarter_of_the_picture():
    soft = middle(np.zeros((40, 80, 3), np.uint8))
    assert soft.mean() == 0.25
    assert soft[10:30, 20:60].all()


def test_no_more_than_a_batch_is_looked_at_together(tmp_path):
    seen = []

    class Counted(Middle):
        def raw_maps(self, images):
            seen.append(len(images))
            return super().raw_maps(images)

    figures_of(Counted(), Run(tmp_path, pictures=5, batch_size=2))
    assert seen == [2, 2, 1]


def test_rows_without_weights_say_so_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "nothing")
    rows = {row.label: row for row in fill(find("saliency"), Run(tmp_path / "run", pictures=1))}
    assert len(rows) == 7
    assert set(rows.pop("the middle of the picture").ours) == FIGURES
    for row in rows.values():
        assert not row.ours
        assert set(row.not_run) == FIGURES
        assert all("this installation carries no" in reason for reason in row.not_run.values())


def test_a_row_asks_for_its_method_with_its_refinement(tmp_path, monkeypatch):
    asked = []

    def load(method, preset, refine="none", **_):
        asked.append(f"{method} {preset} {refine}")
        return Middle()

    monkeypatch.setattr(saliency, "load", load)
    rows = list(fill(find("saliency"), Run(tmp_path, pictures=1)))
    assert [row.ours for row in rows] == [rows[0].ours] * 7
    refined = [("seed", "none"), ("spectral", "none"), ("found", "none"), ("found", "found"), ("selfmask", "none")]
    assert asked == [f"{method} world {refine}" for method, refine in (*refined, ("selfmask", "solver"))]
