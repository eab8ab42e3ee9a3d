"""Things pasted over pictures, against a loop over pixels."""

import numpy as np
import pytest
import torch

from wordmask.distillation.copy_paste import Box, bounding_box, paste

IGNORE = 255


def chance(seed=0):
    return np.random.default_rng(seed)


def scene(seed, side=24, label=1):
    """A picture of values that occur nowhere else, with a ragged thing on it and a strip beyond the picture."""
    draw = np.random.default_rng(seed)
    image = torch.from_numpy(
        draw.permutation(3 * side * side).astype(np.float32).reshape(3, side, side) + 10_000 * seed
    )
    labels = torch.zeros(side, side, dtype=torch.int16)
    top, left = draw.integers(0, side - 8, 2)
    labels[top : top + 7, left : left + 5] = label * torch.from_numpy(draw.integers(0, 2, (7, 5)).astype(np.int16))
    labels[:, -2:] = IGNORE
    return image, labels


def pasted(seed):
    image, labels = scene(seed)
    other, other_labels = scene(seed + 1, label=2)
    result, result_labels = image.clone(), labels.clone()
    paste(result, result_labels, other, other_labels, chance(seed), ignore=IGNORE)
    return image, labels, other, other_labels, result, result_labels


@pytest.mark.parametrize("seed", range(40))
def test_pasted_object_keeps_every_pixel_and_its_shape_and_all_else_stays_as_it_was(seed):
    image, labels, other, other_labels, result, result_labels = pasted(seed)
    beside = result_labels != 2
    assert torch.equal(result[:, ~beside], other[:, other_labels == 2])
    before, after = (np.argwhere(each.numpy() == 2) for each in (other_labels, result_labels))
    assert len(set(map(tuple, after - before))) == 1, "one shift takes every pixel of the thing to its new place"
    assert torch.equal(result[:, beside], image[:, beside])
    assert torch.equal(result_labels[beside], labels[beside])


def test_pasted_labels_overwrite_what_was_there_even_beyond_the_picture():
    image, labels = torch.zeros(3, 4, 4), torch.full((4, 4), IGNORE, dtype=torch.int16)
    paste(image, labels, torch.ones(3, 4, 4), torch.full((4, 4), 5, dtype=torch.int16), chance(), ignore=IGNORE)
    assert (labels == 5).all()
    assert (image == 1).all()


def test_nothing_to_paste_changes_nothing():
    (image, labels), (other, other_labels) = scene(1), scene(2)
    other_labels[other_labels != IGNORE] = 0
    result, result_labels = image.clone(), labels.clone()
    paste(result, result_labels, other, other_labels, chance(), ignore=IGNORE)
    assert torch.equal(result, image)
    assert torch.equal(result_labels, labels)


def test_every_place_is_as_likely_as_any_other():
    other_labels = torch.zeros(6, 6, dtype=torch.int16)
    other_labels[1:4, 2:6] = 1  # 3 x 4: 4 x 3 places
    counts = np.zeros((4, 3))
    for seed in range(1200):
        labels = torch.zeros(6, 6, dtype=torch.int16)
        paste(torch.zeros(3, 6, 6), labels, torch.ones(3, 6, 6), other_labels, chance(seed), ignore=IGNORE)
        top, left = np.argwhere(labels.numpy()).min(axis=0)
        counts[top, left] += 1
    assert counts.min() > 65
    assert counts.max() < 140


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (7, 5, 8, 6), (2, 1, 6, 5), (0, 0, 8, 6)])
def test_boxes_include_the_last_row_and_column(box):
    top, left, bottom, right = box
    mask = torch.zeros(8, 6, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    assert bounding_box(mask) == Box(*box)


def test_boxes_are_those_of_a_loop_over_pixels():
    for seed in range(50):
        mask = torch.from_numpy(chance(seed).random((9, 11)) > 0.93)
        places = np.argwhere(mask.numpy())
        expected = Box(*places.min(axis=0), *places.max(axis=0) + 1) if len(places) else None
        assert bounding_box(mask) == expected
