"""IoU-single: every name alone, where it is, against a slow computation; and how much absent names take."""

import numpy as np
import pytest

import wordmask
from support.painted import Painted
from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.scores import ImageScore
from wordmask.benchmarks.single import WAYS, single_counts
from wordmask.names.vocabulary import Vocabulary

NAMES = Vocabulary.of(["background", "red", "blue"])


class Drawn:
    """Pictures in which a seed decides on everything."""

    name, split, ignore, vocabulary = "drawn", "all", 255, NAMES

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = np.zeros((6, 7, 3), np.uint8)
        labels = rng.integers(0, 3 if index else 2, (6, 7)).astype(np.uint8)  # no blue in the first
        painted = np.where(rng.random((6, 7)) < 0.2, rng.integers(0, 3, (6, 7)), labels)
        image[painted == 1, 0] = 255
        image[painted == 2, 2] = 255
        labels[0, 0] = 255
        return Sample(image, labels, str(index), 2)


def slowly(benchmark, way):
    """Each name in turn, pixel by pixel."""
    ious, taken = [], []
    for label in (1, 2):
        both = either = 0
        for index in range(len(benchmark)):
            sample = benchmark[index]
            answer = way(Painted().look(sample.image), NAMES.only([label]))
            own = [
                (truth == label, found == 0)
                for truth, found in zip(sample.labels.flat, answer.flat, strict=True)
                if truth != 255
            ]
            if not any(truth for truth, _ in own):
                taken.append(sum(found for _, found in own) / len(own))
                continue
            both += sum(truth and found for truth, found in own)
            either += sum(truth or found for truth, found in own)
        ious.append(both / either)
    return 100 * np.mean(ious), 100 * np.mean(taken)


def test_it_is_what_its_definition_says():
    found = evaluate(Painted(), Drawn(), single=True).more
    for name, way in WAYS.items():
        single, absent = slowly(Drawn(), way)
        assert found[f"iou_single_{name}"] == pytest.approx(single, abs=0.006)
        assert found[f"absent_{name}"] == pytest.approx(absent, abs=0.006)
    assert found["iou_single_filled"] < found["iou_single_auto"]
    assert not any("single_auto" in key for key in evaluate(Painted(), Drawn()).more)
    assert wordmask.evaluate(Painted(), Drawn(), single=True).more == found


def test_rows_are_read_back_and_an_evaluation_goes_on(tmp_path):
    sample = Drawn()[1]
    rows = single_counts(Painted().look(sample.image), sample, 1, NAMES, 255)
    assert (rows[:, 4] > 0).sum() == 2 * len(WAYS)
    score = ImageScore.of(1, sample, sample.labels % 3, names=3, ignore=255, boundary=False, seconds=0.0, single=rows)
    import json

    again = ImageScore.from_row(json.loads(score.as_line()))
    assert np.array_equal(again.single, rows)
    whole = evaluate(Painted(), Drawn(), single=True, out=tmp_path / "run", page=False, batch_size=1)
    lines = next((tmp_path / "run").glob("**/*.jsonl"))
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:-1]))
    resumed = evaluate(Painted(), Drawn(), single=True, out=tmp_path / "run", page=False, batch_size=1)
    assert resumed.more == whole.more
