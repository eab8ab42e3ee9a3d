"""The confusion matrix against plain counting, to the last digit."""

import numpy as np
import pytest

from wordmask.benchmarks.metrics import ConfusionMatrix


def counted_by_hand(pairs, names, ignore):
    """(mean IoU, accuracy), pixel by pixel, in exact fractions until the end."""
    both = [each for pair in pairs for each in zip(*(own.ravel().tolist() for own in pair), strict=True)]
    counted = [(truth, answer) for truth, answer in both if truth != ignore]
    ious = []
    for k in range(names):
        either = sum(truth == k or answer == k for truth, answer in counted)
        if either:
            ious.append(counted.count((k, k)) / either)
    return sum(ious) / len(ious), sum(truth == answer for truth, answer in counted) / len(counted)


def random_pairs(seed, count=3, names=5):
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        truth = generator.integers(0, names - 1, (7, 9))  # the last name is in no truth
        truth[generator.random((7, 9)) < 0.1] = 255
        pairs.append((truth.astype(np.uint8), generator.integers(0, names - 1, (7, 9)).astype(np.uint8)))
    return pairs


def confusion_of(pairs, names="abcde"):
    confusion = ConfusionMatrix(list(names))
    for truth, answer in pairs:
        confusion.add(truth, answer)
    return confusion


@pytest.mark.parametrize("seed", range(4))
def test_miou_and_accuracy_equal_plain_counting(seed):
    pairs = random_pairs(seed)
    confusion = confusion_of(pairs)
    miou, accuracy = counted_by_hand(pairs, 5, 255)
    assert confusion.miou == pytest.approx(miou, abs=1e-15)
    assert confusion.pixel_accuracy == accuracy
    assert np.isnan(confusion.iou[4])


def test_parts_add_up_to_the_whole():
    pairs = random_pairs(0, count=4)
    parts = confusion_of(pairs[:2])
    parts += confusion_of(pairs[2:])
    assert np.array_equal(parts.counts, confusion_of(pairs).counts)


def test_a_name_answered_but_never_true_counts_as_zero():
    confusion = confusion_of([(np.zeros((2, 2), int), np.array([[0, 0], [0, 1]]))], "ab")
    assert confusion.iou.tolist() == [0.75, 0.0]
    assert confusion.miou == 0.375


def test_nothing_counted_is_no_figure():
    confusion = confusion_of([(np.full((2, 2), 255), np.zeros((2, 2), int))], "a")
    assert np.isnan([confusion.miou, confusion.pixel_accuracy]).all()


@pytest.mark.parametrize(
    ("truth", "answer", "message"),
    [
        (np.full((2, 2), 2), np.zeros((2, 2), int), "label 2 found, but there are 2 names"),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "differ in size"),
    ],
)
def test_labels_and_sizes_that_do_not_fit_are_refused(truth, answer, message):
    with pytest.raises(ValueError, match=message):
        confusion_of([(truth, answer)], "ab")
