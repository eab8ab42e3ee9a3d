"""Saliency methods against benchmarks; the S-measure against a plain one."""

import json
from itertools import product
from math import sqrt

import numpy as np
import pytest

from support.plain_figures_of_maps import plain_figures
from support.squares import Squares
from wordmask.benchmarks.datasets import BenchmarkError, Sample
from wordmask.benchmarks.s_measure import s_measure
from wordmask.benchmarks.saliency import evaluate_saliency
from wordmask.names.vocabulary import Vocabulary
from wordmask.saliency.base import Saliency, SaliencySettings


class Bright(Saliency):
    """The brightness of a picture's red."""

    method, preset = "bright", "none"
    settings = SaliencySettings()

    def __init__(self, stop_after=None):
        self.looked, self.stop_after = 0, stop_after

    def raw_maps(self, images):
        if self.stop_after is not None and self.looked >= self.stop_after:
            raise KeyboardInterrupt
        self.looked += len(images)
        return [(image[..., 0] / 255).astype(np.float32) for image in images]


def plain_s_measure(soft, mask):
    """Pixel by pixel, from the paper's equations."""
    points = [(r, c) for r in range(mask.shape[0]) for c in range(mask.shape[1])]
    inside = [p for p in points if mask[p]]
    outside = [p for p in points if not mask[p]]

    def mean(values):
        return sum(values) / len(values)

    if not inside or not outside:
        share = mean([soft[p] for p in points])
        return share if inside else 1 - share

    def even(values):
        x = mean(values)
        spread = sqrt(sum((v - x) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0
        return 2 * x / (x * x + 1 + spread)

    share = len(inside) / len(points)
    objects = share * even([soft[p] for p in inside]) + (1 - share) * even([1 - soft[p] for p in outside])

    row = round(mean([r for r, _ in inside])) + 1
    column = round(mean([c for _, c in inside])) + 1
    regions = 0.0
    for above, left in product((True, False), repeat=2):
        part = [(r, c) for r, c in points if (r < row) == above and (c < column) == left]
        if not part:
            continue
        x, y = mean([soft[p] for p in part]), mean([float(mask[p]) for p in part])
        n = max(len(part) - 1, 1e-15)
        sx = sum((soft[p] - x) ** 2 for p in part) / n
        sy = sum((mask[p] - y) ** 2 for p in part) / n
        sxy = sum((soft[p] - x) * (mask[p] - y) for p in part) / n
        top, bottom = 4 * x * y * sxy, (x * x + y * y) * (sx + sy)
        likeness = top / bottom if top else float(bottom == 0)
        regions += len(part) / len(points) * likeness
    return max(0.0, 0.5 * objects + 0.5 * regions)


@pytest.mark.parametrize("seed", range(4))
def test_the_s_measure_equals_a_plain_one(seed):
    chance = np.random.default_rng(seed)
    mask = np.zeros((9, 12), dtype=bool)
    mask[chance.integers(0, 4) : 7, 2 : chance.integers(4, 12)] = True
    soft = np.clip(mask * 0.6 + chance.random(mask.shape) * 0.4, 0, 1)
    assert s_measure(soft, mask) == pytest.approx(plain_s_measure(soft, mask), abs=1e-9)


def test_the_s_measure_of_perfect_empty_and_full_maps():
    mask = np.zeros((8, 8), dtype=bool)
    assert s_measure(np.full((8, 8), 0.25), mask) == 0.75
    assert s_measure(np.full((8, 8), 0.25), ~mask) == 0.25
    mask[2:5, 3:6] = True
    assert s_measure(mask.astype(float), mask) == pytest.approx(1, abs=1e-9)
    assert s_measure(1 - mask.astype(float), mask) < 0.1


class Pairs(Squares):
    """Maps as pictures, and their true foregrounds."""

    def __init__(self, *pairs):
        super().__init__(len(pairs))
        self.pairs = pairs

    def __getitem__(self, index):
        soft, mask = self.pairs[index]
        levels = np.rint(255 * np.asarray(soft)).astype(np.uint8)
        return Sample(levels[..., None].repeat(3, 2), mask.astype(np.uint8), self.key(index))


def figures_of(*pairs):
    """IoU, max F and MAE in percent."""
    found = evaluate_saliency(Bright(), Pairs(*pairs))
    assert found.images == len(pairs)
    return found.iou, found.max_f, found.mae


HALF = np.arange(10) < np.full((8, 1), 5)


def test_perfect_and_opposite_maps_have_the_best_and_the_worst_figures():
    nothing = np.zeros((5, 6), bool)  # is right when left empty
    assert figures_of((HALF, HALF)) == figures_of((nothing, nothing), (HALF, HALF)) == (100, 100, 0)
    at_the_lowest_threshold = 100 * 1.3 * 40 / (0.3 * 40 + 80)  # which takes everything
    assert figures_of((~HALF, HALF)) == pytest.approx((0, at_the_lowest_threshold, 100), abs=0.006)


def test_one_threshold_serves_all_pictures():
    """Each map is perfect at a threshold of its own; at any one threshold, one of them is not."""
    low, high = (np.where(HALF, 0.4, 0.1), HALF), (np.where(HALF, 0.9, 0.6), HALF)
    assert figures_of(low)[1] == figures_of(high)[1] == 100
    assert figures_of(low, high)[1] < 90


def test_the_report_equals_the_field_s_figures():
    found = evaluate_saliency(Bright(), Squares(), batch_size=3)
    pairs = []
    for sample in Squares():
        mask = (sample.labels > 0) & (sample.labels < 255)
        pairs.append((np.where(sample.labels == 255, 0, Bright().maps([sample.image])[0]), mask))
    assert any(not mask.any() for _, mask in pairs)
    assert (found.iou, found.max_f, found.mae) == pytest.approx(plain_figures(pairs), abs=0.006)
    assert found.images == 10
    assert found.s_measure == pytest.approx(100 * np.mean([plain_s_measure(*pair) for pair in pairs]), abs=0.006)


def test_it_goes_on_after_a_stop(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate_saliency(Bright(stop_after=6), Squares(), batch_size=3, out=tmp_path)
    rest = Bright()
    again = evaluate_saliency(rest, Squares(), batch_size=3, out=tmp_path).as_json()
    assert rest.looked == 4
    assert {**again, "seconds": 0} == {**evaluate_saliency(Bright(), Squares(), batch_size=3).as_json(), "seconds": 0}
    assert json.loads((tmp_path / "result.json").read_text())["configuration"]["saliency"] == "bright"


def test_a_benchmark_without_background_tells_no_foreground():
    benchmark = Squares()
    benchmark.vocabulary = Vocabulary.of(["dog", "cat", "cow"])
    with pytest.raises(BenchmarkError, match="has no background"):
        evaluate_saliency(Bright(), benchmark)
