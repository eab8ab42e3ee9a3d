"""Run lengths of all names in one pass, against pycocotools and masks one by one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from wordmask.masks import run_lengths
from wordmask.masks.instances import find_instances
from wordmask.masks.run_lengths import count_labels, encoded_labels, encoded_part, mean_scores
from wordmask.masks.segmentation import Segmentation

UNHURRIED = settings(deadline=None)  # a first call may wait for libraries to warm up
SIDES = st.integers(0, 12)


def plainly(mask: np.ndarray) -> dict[str, object]:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """Label maps of any size, noisy ones and such of large parts, in either order of memory."""
    height, width, names = draw(SIDES), draw(SIDES), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint32, np.int64]))
    labels = np.random.default_rng(draw(st.integers(0, 2**16))).integers(0, names, (height, width)).astype(dtype)
    coarse = np.repeat(np.repeat(labels, draw(st.integers(1, 40)), axis=0), draw(st.integers(1, 4)), axis=1)
    return np.asfortranarray(coarse) if draw(st.booleans()) else coarse


def check(labels: np.ndarray) -> None:
    codes = encoded_labels(labels)
    assert sorted(codes) == np.unique(labels).tolist()
    for label, code in codes.items():
        assert code == plainly(labels == label)


@UNHURRIED
@given(maps(), st.sampled_from([0.0, 2.0]), st.sampled_from([1, 3, 512]))
def test_all_names_at_once_are_pycocotools_own_to_the_byte(labels: np.ndarray, rough: float, columns: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_lengths, "ROUGH", rough)  # masks one by one, or runs whatever it takes
        patched.setattr(run_lengths, "COLUMNS", columns)
        check(labels)


def places(*indices: object) -> Callable[[np.ndarray], None]:
    def paint(labels: np.ndarray) -> None:
        for index in indices:
            labels[index] = 1

    return paint


CORNERS = places((0, 0), (-1, -1), (0, -1))
CHECKS = places(np.s_[::2, ::2], np.s_[1::2, 1::2])
HARD = [CORNERS, CHECKS, places((-1, 0)), places(np.s_[:, -1]), places(...)]


@pytest.mark.parametrize("paint", HARD)
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 2), (37, 1100), (600, 513)])
def test_hard_maps(paint: Callable[[np.ndarray], None], size: tuple[int, int], monkeypatch) -> None:
    labels = np.zeros(size, np.uint8)
    paint(labels)
    check(labels)
    monkeypatch.setattr(run_lengths, "ROUGH", 2)
    check(labels)


@UNHURRIED
@given(maps(), st.sampled_from([1, 2**20]), st.integers(0, 2**16))
def test_pixels_are_exact_and_scores_those_of_the_masks_to_rounding(labels: np.ndarray, strip: int, seed: int) -> None:
    """The mean of a mask's float32 scores is rounded as float32; added up run by run it is as near to the exact one."""
    scores = np.random.default_rng(seed).random(labels.shape, np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_lengths, "STRIP_PIXELS", strip)
        pixels, means = count_labels(labels, 6), mean_scores(labels, scores, 6)
    for label in range(6):
        own = scores[labels == label]
        assert pixels[label] == len(own)
        assert means[label] == pytest.approx(own.mean(dtype=np.float64) if len(own) else 0, abs=1e-6)
        assert means[label] == pytest.approx(float(own.mean()) if len(own) else 0, abs=1e-6)


@UNHURRIED
@given(maps(), st.tuples(*[st.integers(0, 3)] * 4))
def test_a_part_is_encoded_where_it_lies(labels: np.ndarray, around: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = around
    mask = labels == 0
    whole = np.pad(mask, ((top, bottom), (left, right)))
    assert encoded_part(mask, top, left, whole.shape) == plainly(whole)


@UNHURRIED
@given(maps())
def test_a_segmentation_says_of_all_names_what_it_says_of_each(labels: np.ndarray) -> None:
    scores = np.random.default_rng(0).random(labels.shape, np.float32)
    result = Segmentation(labels, [f"name {i}" for i in range(6)], scores)
    there = [name for name, area in result.pixels.items() if area]
    assert result.rles() == {name: result.rle(name) for name in there}
    assert list(result.mean_scores) == there
    for annotation, instance in zip(result.to_coco()["annotations"], find_instances(labels, result.names), strict=True):
        whole = np.zeros(result.size, np.uint8)
        instance.paste_into(whole, 1)
        assert annotation["segmentation"] == plainly(whole)
        assert annotation["area"] == whole.sum()
    assert not Segmentation(labels, result.names).mean_scores
