"""Evaluations: independent plain counts, clean resumption, figures of every kind."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from support.squares import NAMES, Guess, SeenByChance, Squares
from wordmask import benchmarks, segmenters
from wordmask.benchmarks.boundary import boundary_counts, boundary_width
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.benchmarks.evaluation import evaluate
from wordmask.benchmarks.metrics import ConfusionMatrix
from wordmask.benchmarks.results import ResultFolder
from wordmask.benchmarks.scores import ImageScore, Totals
from wordmask.benchmarks.spreading import evaluate_on_devices
from wordmask.benchmarks.sweep import sweep_thresholds
from wordmask.masks.segmentation import reject_unsure
from wordmask.methods import settings_of
from wordmask.names.vocabulary import Vocabulary
from wordmask.runs.crew import CrewError


def answers(benchmark):
    return [(sample, SeenByChance(sample.image, sample.key).segment(NAMES, fill=True).labels) for sample in benchmark]


def plain_miou(pairs, only_true=False):
    """Mean IoU in percent over (truth, answer) lists of pixels, name by name."""
    ious = []
    for label in range(len(NAMES)):
        both = sum(t == label and a == label for t, a in pairs)
        either = sum(t == label or a == label for t, a in pairs)
        if either and not (only_true and not any(t == label for t, _ in pairs)):
            ious.append(both / either)
    return 100 * sum(ious) / len(ious) if ious else math.nan


def pixels(sample, answer):
    return [(int(t), int(a)) for t, a in zip(sample.labels.ravel(), answer.ravel(), strict=True) if t != Squares.ignore]


def figures(report):
    return {**report.as_json(), "seconds": 0}


def stopped(out, **options):
    """An evaluation that is stopped after six pictures; its lines."""
    with pytest.raises(KeyboardInterrupt):
        evaluate(Guess(stop_after=6), Squares(), batch_size=3, out=out, **options)
    return out / "images-0.jsonl"


def test_the_report_equals_plain_counting():
    found = evaluate(Guess(), Squares(), batch_size=3)
    everything = [pair for sample, answer in answers(Squares()) for pair in pixels(sample, answer)]
    assert found.images == 10
    assert found.miou == round(plain_miou(everything), 2)
    assert found.pixel_accuracy == round(100 * sum(t == a for t, a in everything) / len(everything), 2)


def test_pictures_of_one_thing_and_of_several_are_told_apart():
    found = evaluate(Guess(), Squares())
    for name, wanted in (("miou_single", 1), ("miou_multi", 2)):
        pairs = [p for sample, answer in answers(Squares()) if sample.objects == wanted for p in pixels(sample, answer)]
        assert found.more[name] == round(plain_miou(pairs), 2)


def test_sizes_are_those_of_imagenet_s():
    """A thing's share of the pixels that count, in percent and rounded up: to 5 small, to 25, to 50, and large."""
    found = evaluate(Guess(), Squares())
    limits = {"S": (0, 5), "MS": (5, 25), "ML": (25, 50), "L": (50, 100)}
    told = 0
    for size, (above, most) in limits.items():
        pairs = []
        for sample, answer in answers(Squares()):
            own = pixels(sample, answer)
            share = {label: math.ceil(100 * sum(t == label for t, _ in own) / len(own)) for label in (1, 2)}
            things = [label for label, part in share.items() if above < part <= most]
            if things:
                pairs += [(t, a) for t, a in own if t == 0 or t in things]
        if pairs:
            told += 1
            assert found.more[f"miou_{size}"] == round(plain_miou(pairs, only_true=True), 2)
        else:
            assert f"miou_{size}" not in found.more
    assert told >= 2


def plain_boundary(mask, width):
    """Pixel by pixel: inside, with something outside (or the edge) no farther than `width` in rows and columns."""
    height, breadth = mask.shape
    found = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        for y in range(row - width, row + width + 1):
            for x in range(column - width, column + width + 1):
                if not (0 <= y < height and 0 <= x < breadth) or not mask[y, x]:
                    found[row, column] = True
    return found


def test_boundary_counts_equal_plain_ones():
    sample, answer = answers(Squares())[8]
    width = boundary_width(*sample.labels.shape)
    counted = sample.labels != 255
    expected = []
    for label in range(3):
        truth, said = (plain_boundary(labels == label, width) & counted for labels in (sample.labels, answer))
        expected.append([label, int((truth & said).sum()), int((truth | said).sum())])
    assert boundary_counts(sample.labels, answer, 255).tolist() == expected
    assert boundary_width(1000, 1000) == 28


def test_boundary_iou_is_measured_when_asked_for():
    assert "boundary_iou" not in evaluate(Guess(), Squares(4)).more
    assert 0 < evaluate(Guess(), Squares(4), boundary=True).more["boundary_iou"] < 100


def test_a_line_holds_all_of_a_score():
    sample, answer = answers(Squares())[5]
    score = ImageScore.of(5, sample, answer, names=3, ignore=255, boundary=True, seconds=0.5)
    again = ImageScore.from_row(json.loads(score.as_line()))
    assert again.as_line() == score.as_line()
    assert np.array_equal(again.pairs, score.pairs)
    assert (again.objects, again.key) == (2, "picture-5")
    matrix = ConfusionMatrix(NAMES)
    matrix.add(sample.labels, answer)
    assert score.iou == pytest.approx(matrix.miou_of_true, abs=1e-12)
    assert score.accuracy == matrix.pixel_accuracy


def test_scores_add_up_in_any_order_and_any_parts():
    how = {"names": 3, "ignore": 255, "boundary": True, "seconds": 0.0}
    scores = [ImageScore.of(i, *each, **how) for i, each in enumerate(answers(Squares()))]
    forwards, backwards = (Totals(NAMES, 0).add_all(order) for order in (scores, scores[::-1]))
    assert forwards.figures() == backwards.figures()
    assert np.array_equal(forwards.confusion.counts, backwards.confusion.counts)


def test_a_stopped_evaluation_goes_on_and_ends_as_one_never_stopped(tmp_path):
    whole = evaluate(Guess(), Squares(), batch_size=3, out=tmp_path / "whole", boundary=True)
    lines = stopped(tmp_path / "stopped", boundary=True)
    assert len(lines.read_text().splitlines()) == 6
    with lines.open("a") as file:
        file.write('{"index":6,"image":"pict')  # what a kill may leave
    rest = Guess()
    again = evaluate(rest, Squares(), batch_size=3, out=tmp_path / "stopped", boundary=True, page=False)
    assert rest.looked == 4
    assert figures(again) == figures(whole)
    assert len(lines.read_text().splitlines()) == 10


@pytest.mark.parametrize("damage", [b"\xff{", b"[3]", b'{"index": null}'])
def test_a_damaged_line_is_told_of_and_its_picture_measured_again(tmp_path, caplog, damage):
    whole = evaluate(Guess(), Squares(), batch_size=3, out=tmp_path / "whole")
    lines = stopped(tmp_path / "stopped")
    told = lines.read_bytes().splitlines()
    lines.write_bytes(b"\n".join([*told[:2], damage, *told[3:]]) + b"\n")
    rest = Guess()
    again = evaluate(rest, Squares(), batch_size=3, out=tmp_path / "stopped", page=False)
    assert rest.looked == 4 + 3  # with those that it is looked at together with
    assert "images-0.jsonl, line 3 is damaged" in caplog.text
    assert figures(again) == figures(whole)


def test_a_folder_tells_what_was_measured_and_how_and_changes_no_figure(tmp_path):
    kept = evaluate(Guess(), Squares(), out=tmp_path / "run", batch_size=4, asked={"weights": "mine.pt"})
    assert figures(kept) == figures(evaluate(Guess(), Squares()))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["configuration"]["weights"] == "mine.pt"
    assert (result["configuration"]["batch_size"], result["configuration"]["names"]) == (4, list(NAMES))
    assert {"wordmask", "torch", "open_clip_torch", "timm"} <= set(result["versions"])
    assert result["finished"] > "2020"
    rows = [json.loads(line) for line in (tmp_path / "run" / "images-0.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == [f"picture-{index}" for index in range(10)]
    page = (tmp_path / "run" / "result.html").read_text()
    assert page.index("Worst pictures") < page.index("Best pictures")
    assert page.count("<img") == 10
    worst = min(rows, key=lambda row: row["miou"])
    assert f"{worst['image']}: mIoU {worst['miou']:.1f}" in page


class Corrected(Guess):
    note = "not annotation-free any more: 2 pictures corrected (weight 4)"


def test_what_is_to_be_known_of_a_segmenter_stands_with_its_figures(tmp_path):
    kept = evaluate(Corrected(), Squares(), out=tmp_path / "run")
    assert Corrected.note in kept.table()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["note"] == Corrected.note
    assert Corrected.note[1:] in (tmp_path / "run" / "result.html").read_text()
    plain = evaluate(Guess(), Squares())
    assert "note" not in plain.as_json()
    assert figures(kept) == figures(plain) | {"note": Corrected.note}


def test_another_evaluation_does_not_get_into_the_folder(tmp_path):
    evaluate(Guess(), Squares(4), out=tmp_path / "run", page=False)
    with pytest.raises(BenchmarkError, match="holds an evaluation made with batch_size 8, not 2"):
        evaluate(Guess(), Squares(4), out=tmp_path / "run", batch_size=2)
    rounded = Guess()
    rounded.precision = "bf16"
    with pytest.raises(BenchmarkError, match="made with precision 'fp32', not 'bf16': load with precision='fp32'"):
        evaluate(rounded, Squares(4), out=tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BenchmarkError, match=r"letter.txt is there already, and not by `wordmask evaluate`"):
        evaluate(Guess(), Squares(4), out=tmp_path / "mine")


def configured(method, preset, **changes):
    settings = asdict(settings_of("segmenter", method, preset, **changes))
    return {"method": method, "preset": preset, "settings": settings}


@pytest.mark.parametrize("preset", ["paper", "world"])
@pytest.mark.parametrize(
    ("method", "later"),
    [
        ("clip-dinoiser", ("found_preset", "dino_threshold")),
        ("clip-diy", ("saliency_preset",)),
        ("selfmask-clip", ("saliency_preset",)),
    ],
)
def test_a_setting_that_was_not_recorded_was_the_preset_s(tmp_path, method, later, preset):
    plan = configured(method, preset)
    for key in later:
        del plan["settings"][key]
    (tmp_path / "evaluation.json").write_text(json.dumps(plan))
    other = "world" if preset == "paper" else "paper"
    with (
        pytest.raises(BenchmarkError, match=rf"settings\.{later[0]} .*, not '{other}'"),
        ResultFolder(tmp_path, configured(method, preset, **{later[0]: other})).claimed(),
    ):
        pass
    with ResultFolder(tmp_path, configured(method, preset)).claimed():
        pass


def test_a_folder_that_is_refused_is_left_as_it_is(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"a": 1}')
    with pytest.raises(BenchmarkError, match="made with a 1, not 2"), ResultFolder(tmp_path, {"a": 2}).claimed():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_a_kill_while_the_folder_is_begun_does_not_spoil_it(tmp_path):
    (tmp_path / "run").mkdir()
    part = tmp_path / "run" / ".0123456789abcdef.part"
    part.write_text('{"wordmask"')
    evaluate(Guess(), Squares(4), out=tmp_path / "run", page=False)
    assert not part.exists()


def test_two_evaluations_do_not_share_a_folder_at_a_time(tmp_path):
    with (
        ResultFolder(tmp_path / "run", {"a": 1}).claimed(),
        pytest.raises(BenchmarkError, match="is being written by another run"),
        ResultFolder(tmp_path / "run", {"a": 1}).claimed(),
    ):
        pass


def test_a_damaged_line_is_named(tmp_path):
    folder = ResultFolder(tmp_path / "run", {"a": 1})
    with folder.claimed():
        folder.append(0, ['{"index":0}', "nonsense", '{"index":1}'])
        with pytest.raises(BenchmarkError, match=r"images-0\.jsonl, line 2"):
            folder.done()


def test_pictures_are_read_a_batch_ahead_and_no_more():
    benchmark = Squares()
    ahead = []

    class Watcher(Guess):
        def look_many(self, images, sources):
            time.sleep(0.05)
            ahead.append(len(benchmark.read) - self.looked)
            return super().look_many(images, sources)

    evaluate(Watcher(), benchmark, batch_size=2)
    assert sorted(benchmark.read) == list(range(10))
    assert max(ahead) <= 4


def test_the_sweep_equals_an_evaluation_at_every_threshold():
    thresholds = (0.0, 0.25, 0.5, 0.95)
    found = sweep_thresholds(Guess(), Squares(), thresholds, batch_size=4)
    for threshold in thresholds:
        pairs = []
        for sample in Squares():
            answer = SeenByChance(sample.image, sample.key).segment(NAMES[1:], fill=True)
            labels, _ = reject_unsure(answer.labels + 1, answer.scores, 0, threshold)
            pairs += pixels(sample, labels)
        assert found[threshold] == round(plain_miou(pairs), 2)


def test_a_sweep_needs_a_background():
    benchmark = Squares(2)
    benchmark.vocabulary = Vocabulary.of(["dog", "cat"])
    with pytest.raises(BenchmarkError, match="has no background"):
        sweep_thresholds(Guess(), benchmark)


SLOWLY = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from support.squares import Guess, Squares
from wordmask.benchmarks.evaluation import evaluate

class Slow(Guess):
    def look_many(self, images, sources):
        time.sleep(0.2)
        return super().look_many(images, sources)

evaluate(Slow(), Squares(60), batch_size=2, out=Path({out!r}), page=False)
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(tmp_path):
    out = tmp_path / "run"
    script = SLOWLY.format(tests=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = out / "images-0.jsonl"
    deadline = time.monotonic() + 120
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 8):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = lines.read_bytes().count(b"\n")
    assert done < 60
    rest = Guess()
    again = evaluate(rest, Squares(60), batch_size=2, out=out, page=False)
    assert rest.looked <= 60 - done + 1
    assert figures(again) == figures(evaluate(Guess(), Squares(60)))


@pytest.mark.slow
def test_several_processes_give_what_one_gives(tmp_path):
    load = {"method": "maskclip", "preset": "world"}  # in fp32, as all that does not say otherwise
    opening = {"name": "world", "split": "single", "pictures": 6}
    shared = evaluate_on_devices(load, opening, ["cpu", "cpu"], out=tmp_path / "shared", batch_size=2)
    segmenter = segmenters.load(**load, device="cpu", precision="fp32")
    alone = evaluate(segmenter, benchmarks.open_benchmark(**opening), batch_size=2)
    assert figures(shared) == figures(alone)
    said = []
    evaluate_on_devices(load, opening, ["nonsense", "cpu"], out=tmp_path / "other", batch_size=2, say=said.append)
    assert [line for line in said if "on nonsense cannot begin" in line and "cannot be used" in line]
    with pytest.raises(CrewError, match="cannot be used"):
        evaluate_on_devices(load, {**opening, "pictures": 8}, ["nonsense"], out=tmp_path / "none", say=said.append)


def test_several_devices_compute_in_one_precision(tmp_path):
    with pytest.raises(BenchmarkError, match="'auto' may differ among the devices: choose fp32, bf16 or int8"):
        evaluate_on_devices({"method": "maskclip", "precision": "auto"}, {"name": "world"}, ["cpu"], out=tmp_path)
