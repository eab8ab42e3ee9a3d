"""Regions: against the definitions by loops and dense matrices, and what a user's function may return."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

import wordmask
from support.own_regions import halves
from support.plain_saliency import tiny_dino
from wordmask import regions
from wordmask.benchmarks.evaluation import configuration
from wordmask.cli import options
from wordmask.extras import MissingExtraError
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import MethodError, methods_of
from wordmask.regions.base import RegionError, described, in_order, numbered, painted, region_map
from wordmask.regions.correction import correct
from wordmask.regions.panoptic_cut import PanopticCut, PanopticCutSettings, panoptic_cut, second_eigenvector
from wordmask.regions.spectral import SpectralRegions, SpectralRegionsSettings, connected_parts
from wordmask_world.benchmark import World

FP32 = {"device": "cpu", "precision": "fp32"}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blocks(height, width, seed=0, noise=0.05):
    """Features (C, h, w) of two things on a ground, noisy."""
    made = np.zeros((6, height, width))
    made[0] = 1
    made[:, 1:4, 1:4] = np.eye(6)[1][:, None, None]
    made[:, 5:, 5 : width - 1] = np.eye(6)[2][:, None, None]
    return torch.from_numpy(made + noise * np.random.default_rng(seed).normal(size=made.shape))


# Panoptic Cut


@pytest.mark.parametrize("count", [12, 90])
def test_the_eigenvector_is_the_second_of_the_generalised_problem(count):
    """Dense by `eigh` for few patches, by Lanczos' method for more."""
    rng = np.random.default_rng(count)
    points = rng.normal(size=(count, 3)) + 2 * np.eye(3)[rng.integers(0, 3, count)]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    alike = unit @ unit.T > 0.3
    affinity = np.where(alike, 1.0, 1e-5)
    degrees = np.diag(affinity.sum(axis=1))
    values, vectors = eigh(degrees - affinity, degrees)
    assert values[2] - values[1] > 1e-3  # else any mixture of the two would do
    ours, expected = second_eigenvector(alike), vectors[:, 1]
    expected = expected * np.sign(expected[np.abs(expected).argmax()])
    np.testing.assert_allclose(ours / np.linalg.norm(ours), expected / np.linalg.norm(expected), atol=1e-5)


def plain_cut(features, threshold, most):
    """Panoptic Cut in words of its definition, patch by patch."""
    height, width = features.shape[1:]
    vectors = {(y, x): features[:, y, x].numpy() for y in range(height) for x in range(width)}
    free, masks = list(vectors), []
    while len(masks) < most and len(free) > 5:
        alike = [
            [a @ b / np.linalg.norm(a) / np.linalg.norm(b) > threshold for b in map(vectors.get, free)]
            for a in map(vectors.get, free)
        ]
        if np.all(alike):  # no cut is better than another
            break
        affinity = np.where(alike, 1.0, 1e-5)
        degrees = np.diag(affinity.sum(axis=1))
        vector = eigh(degrees - affinity, degrees)[1][:, 1]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        inside = {place for place, value in zip(free, vector, strict=True) if value > vector.mean()}
        corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
        if sum(corner in inside for corner in corners) >= 3:
            vector, inside = -vector, set(free) - inside
        part, waiting = set(), [free[int(vector.argmax())]]
        while waiting:
            y, x = waiting.pop()
            if (y, x) in inside and (y, x) not in part:
                part.add((y, x))
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        masks.append(part)
        free = [place for place in free if place not in part]
    return masks


@pytest.mark.parametrize("size", [(9, 9), (8, 12)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cuts_equal_the_definition(size, seed):
    features = blocks(*size, seed=seed, noise=0.3)
    ours = panoptic_cut(features, 0.3, 4)
    expected = plain_cut(features, 0.3, 4)
    assert [set(zip(*np.nonzero(mask), strict=True)) for mask in ours] == expected
    assert len(ours) >= 3
    assert not (ours[0] & ours[1]).any()


def test_the_first_cuts_are_the_things_and_not_the_ground():
    first, second = panoptic_cut(blocks(9, 9), 0.3, 2)
    things = np.zeros((2, 9, 9), bool)
    things[0, 1:4, 1:4] = things[1, 5:, 5:8] = True
    assert {first.tobytes(), second.tobytes()} == {thing.tobytes() for thing in things}


def test_patches_that_are_all_alike_are_not_cut():
    assert panoptic_cut(torch.ones(4, 6, 6), 0.3, 3) == []
    assert second_eigenvector(np.ones((9, 9), bool)) is None


@pytest.mark.parametrize("refine", ["none", "solver", "pamr"])
def test_panoptic_cut_makes_a_map_of_the_pictures_size_whose_rest_is_a_region_or_none(refine):
    image = picture(50, 70)
    image[10:30, 20:50] = (250, 10, 10)
    changes = {"side": 64, "threshold": 0.5, "most": 3, "refine": refine}
    maker = PanopticCut(tiny_dino(), PanopticCutSettings(**changes))
    bare = PanopticCut(tiny_dino(), PanopticCutSettings(**changes, rest="none"))
    found, without = region_map(maker, image), region_map(bare, image)
    assert found.shape == (50, 70)
    assert found.min() == 1
    assert np.array_equal(np.where(without == 0, found.max(), without), found)
    assert np.array_equal(found, region_map(maker, image))


# Spectral regions


def test_connected_parts_are_the_clusters_pieces_without_the_small_ones():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 2], [3, 3, 3, 0], [3, 3, 3, 0]])
    assert np.array_equal(connected_parts(labels, 0), [[1, 1, 3, 3], [1, 1, 3, 4], [5, 5, 5, 2], [5, 5, 5, 2]])
    assert np.array_equal(connected_parts(labels, 0.13), [[1, 1, 2, 2], [1, 1, 2, 0], [3, 3, 3, 0], [3, 3, 3, 0]])


def test_spectral_regions_cover_a_picture_and_one_of_one_colour_has_none():
    maker = SpectralRegions(tiny_dino(), SpectralRegionsSettings(clusters=3, least_share=0))
    found = region_map(maker, picture(40, 56))
    assert found.shape == (40, 56)
    assert found.min() == 1
    assert found.max() >= 3


# Functions of one's own


def test_numbers_have_no_gaps_and_the_least_negative_one_is_no_region():
    assert np.array_equal(numbered(np.array([[0, 7], [3, 7]])), [[0, 2], [1, 2]])
    assert np.array_equal(numbered(np.array([[5, 7], [3, 7]])), [[2, 3], [1, 3]])
    assert np.array_equal(numbered(np.array([[-1, 7], [0, 7]])), [[0, 2], [1, 2]])
    assert np.array_equal(numbered(np.array([[5 << 30, 0], [0, 7]])), [[2, 0], [0, 1]])
    assert np.array_equal(numbered(np.array([[5 << 30, 9 << 30]])), [[1, 2]])


def test_instances_are_painted_from_the_least_sure_to_the_surest_and_those_below_a_half_left_out():
    masks = np.zeros((4, 3, 4), bool)
    masks[0, :2], masks[1, :, 1:3], masks[2, 2], masks[3, 0, 0] = True, True, True, True
    found = painted(masks, [0.9, 0.6, 0.4, 0.5], (3, 4))
    assert np.array_equal(found, [[2, 2, 2, 2], [2, 2, 2, 2], [0, 1, 1, 0]])
    assert np.array_equal(region_map(lambda image: (masks, [0.9, 0.6, 0.4, 0.5]), picture(3, 4)), found)
    with pytest.raises(RegionError, match="4 masks"):
        painted(masks, [0.9], (3, 4))
    with pytest.raises(RegionError, match=r"\(2, 4\)"):
        in_order([masks[0, :2]], (3, 4))
    with pytest.raises(RegionError, match="finite"):
        painted(masks, [0.9, np.nan, 1, 1], (3, 4))


def test_a_function_is_checked_and_found_by_its_address():
    image = picture(6, 8)
    for wrong in (np.zeros((6, 8)), np.zeros((8, 6), int), (1, 2, 3)):
        with pytest.raises(RegionError):
            region_map(lambda image, found=wrong: found, image)
    maker = regions.maker_of("support.own_regions:halves")
    assert np.array_equal(np.unique(region_map(maker, image)), [1, 2])
    with pytest.raises(RegionError, match="makes no regions"):
        regions.maker_of("support.own_regions:NOT_A_FUNCTION")


def test_makers_are_listed_and_the_default_learnt_from_no_mask():
    known = methods_of("regions")
    assert next(iter(known)) == regions.DEFAULT_MAKER == "panoptic-cut"
    assert "trained on masks" in known["sam"].about


def test_sam_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("wordmask.extras.is_installed", lambda package: package != "transformers")
    with pytest.raises(MissingExtraError, match=r"wordmask\[sam\]"):
        regions.load("sam")


def test_sam_paints_whole_things_over_their_parts(monkeypatch):
    asked = {}
    masks = [np.zeros((6, 8), bool) for _ in range(3)]
    masks[0][:4], masks[1][1:3, 1:3], masks[2][3:, 5:] = True, True, True

    def generate(image, **told):
        asked.update(told, size=image.size)
        return {"masks": masks, "scores": torch.tensor([0.9, 0.99, 0.8])}

    generate.model = torch.nn.Identity()

    def pipeline(task, model, device):
        asked.update(task=task, model=model)
        return generate

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    monkeypatch.setattr("wordmask.extras.is_installed", lambda package: True)
    found = region_map(regions.load("sam", model="facebook/sam2-hiera-tiny", points=16, device="cpu"), picture(6, 8))
    assert asked["task"] == "mask-generation"
    assert asked["model"] == "facebook/sam2-hiera-tiny"
    assert (asked["points_per_crop"], asked["pred_iou_thresh"], asked["size"]) == (16, 0.4, (8, 6))
    expected = np.zeros((6, 8), int)
    expected[3:, 5:], expected[:4] = 1, 2
    assert np.array_equal(found, expected)


# Map correction


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_region_takes_its_most_frequent_name(seed):
    rng = np.random.default_rng(seed)
    labels, found = rng.integers(0, 4, (9, 13)).astype(np.uint8) * 2, rng.integers(0, 5, (9, 13)).astype(np.int32)
    scores = rng.random((9, 13)).astype(np.float32)
    ours = correct(Segmentation(labels, list("abcdefg"), scores), found)
    expected, sure = labels.copy(), scores.astype(float)
    for number in range(1, 5):
        own = [tuple(place) for place in np.argwhere(found == number)]
        votes = {label: sum(labels[place] == label for place in own) for label in range(7)}
        best = max(votes, key=lambda label: (votes[label], -label))
        voters = [place for place in own if labels[place] == best]
        for place in own:
            if labels[place] != best:
                expected[place], sure[place] = best, sum(float(scores[p]) for p in voters) / len(voters)
    assert np.array_equal(ours.labels, expected)
    assert ours.labels.dtype == labels.dtype
    np.testing.assert_allclose(ours.scores, sure, atol=1e-6)
    assert (labels != expected).any()
    assert np.array_equal(correct(ours, found).labels, ours.labels)


def test_where_there_is_no_region_nothing_changes():
    labels = np.random.default_rng(0).integers(0, 3, (5, 6))
    assert np.array_equal(correct(Segmentation(labels, list("abc")), np.zeros((5, 6), np.int32)).labels, labels)


# Map correction of every method


def test_a_segmenter_corrects_every_answer_and_makes_a_pictures_regions_once():
    image, asked = picture(64, 90), []

    def quarters(image):
        asked.append(image.shape)
        found = np.zeros(image.shape[:2], int)
        found[:32, :45], found[32:, 45:] = 1, 2
        return found

    plain = wordmask.load("maskclip", preset="world", **FP32)
    corrected = wordmask.load("maskclip", preset="world", correct=quarters, **FP32)
    names = ["dog", "car", "tree"]
    seen = corrected.look(image)
    found = seen.segment(names)
    expected = correct(plain.segment(image, names), quarters(image))
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.scores, expected.scores)
    assert len(np.unique(found.labels[:32, :45])) == 1
    assert (found.labels != plain.segment(image, names).labels).any()
    asked.clear()
    seen.segment(["sheep", "cow"])
    assert not asked
    streamed = next(corrected.segment_many([image], names))
    assert np.array_equal(streamed.labels, found.labels)
    assert len(asked) == 1


def test_what_is_unsure_votes_for_background_before_regions_are_corrected():
    image = picture(64, 90)
    plain = wordmask.load("maskclip", preset="world", **FP32)
    both = wordmask.load("maskclip", preset="world", correct=halves, **FP32)
    line = float(np.quantile(plain.segment(image, ["dog", "car"]).scores, 0.9))
    found = both.segment(image, ["dog", "car"], min_score=line)
    expected = correct(plain.segment(image, ["dog", "car"], min_score=line), halves(image))
    assert np.array_equal(found.labels, expected.labels)


def test_the_command_line_corrects_by_a_maker_of_the_preset_and_says_so_in_records():
    told = options.segmenter("maskclip", "world", None, "cpu", "fp32", ["correct=panoptic-cut"])
    segmenter = wordmask.load(**told)
    assert isinstance(segmenter.correction, PanopticCut)
    assert segmenter.correction.settings.side == 128
    assert segmenter.input_size(1000, 1000) is None  # all of the picture is needed
    record = configuration(segmenter, World(pictures=1), batch_size=1, boundary=False, asked=None)
    assert record["correct"]["method"] == "panoptic-cut"
    assert json.dumps(record["correct"])
    assert described(halves) == {"function": "support.own_regions:halves"}
    bare = wordmask.load("maskclip", preset="world", **FP32)
    assert "correct" not in configuration(bare, World(pictures=1), batch_size=1, boundary=False, asked=None)
    with pytest.raises(MethodError, match="no maker of regions is called 'cut'"):
        wordmask.load("maskclip", preset="world", correct="cut", **FP32)


def test_nothing_asks_past_the_correction():
    """`look_many` is what a segmenter does; `see` is what is called."""
    source = Path(wordmask.__file__).parent
    past = {path.name for path in source.rglob("*.py") if "segmenter.look_many(" in path.read_text()}
    assert past == {"redrawing.py"}  # an expert refines pseudo-masks, and is loaded without a correction
