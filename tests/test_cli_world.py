"""The verbs of the world: pictures on disk, contact sheets, evaluation of any segmenter on it."""

import json

import numpy as np
import pytest
from PIL import Image

from wordmask import benchmarks
from wordmask.benchmarks.datasets import BenchmarkError
from wordmask_world import NAMES, THINGS
from wordmask_world.baselines import AllBackground
from wordmask_world.benchmark import World


def test_make_writes_pictures_labels_and_captions_and_show_a_contact_sheet(command, tmp_path):
    out = tmp_path / "pictures"
    assert command("world", "make", "--count", 3, "--size", "40x60", "--workers", 1, "-o", out)[:2] == (0, f"{out}\n")
    with Image.open(out / "images" / "000002.jpg") as image, Image.open(out / "labels" / "000002.png") as labels:
        assert image.size == labels.size == (60, 40)
    assert len((out / "captions.jsonl").read_text().splitlines()) == 3
    sheet = tmp_path / "sheet.png"
    assert command("world", "show", "--count", 2, "--size", 32, "--labels", "-o", sheet)[0] == 0
    assert Image.open(sheet).width > 2 * 2 * 32


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("make -o x --size big", "--size is one number or HEIGHTxWIDTH"),
        ("make -o x --kinds single,odd", "no pictures of the kind 'odd'"),
        ("make -o x --labels", "--labels goes with --shards"),
        ("show -o x.gif", ".png or a .jpg"),
        ("train-clip -o x --machine tpu", "--machine is cpu or accelerator"),
        ("train-dino -o x --network mlp", "--network is vit or resnet"),
    ],
)
def test_mistakes_are_wrong_usage(command, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = command("world", *line.split())
    assert (status, message in " ".join(err.replace("│", " ").split())) == (2, True), err


def test_the_world_s_labels_are_those_of_its_names():
    things, everything = World("multi", pictures=4, size=64), World("multi", stuff=True, pictures=4, size=64)
    for a, b in zip(things, everything, strict=True):
        assert np.array_equal(a.image, b.image)
        for label, name in enumerate(things.vocabulary.names):
            where = b.labels >= len(THINGS) if name == "background" else b.labels == NAMES.index(name)
            assert np.array_equal(a.labels == label, where)
    assert everything.vocabulary.names == NAMES


def test_a_report_of_the_baseline_is_what_counting_gives():
    benchmark = World("single", pictures=5, size=64)
    report = benchmarks.evaluate(AllBackground(), benchmark, batch_size=2)
    share = 100 * np.mean([(sample.labels == 0).mean() for sample in benchmark])
    present = {int(label) for sample in benchmark for label in np.unique(sample.labels)}
    assert report.images == 5
    assert report.pixel_accuracy == pytest.approx(share, abs=0.01)
    assert report.miou == pytest.approx(share / len(present), abs=0.01)
    assert report.per_class["background"] == pytest.approx(share, abs=0.01)
    fields = "method preset benchmark split images miou pixel_accuracy per_class seconds more protocol vocabulary"
    assert set(json.loads(json.dumps(report.as_json()))) == set(fields.split())
    assert "mIoU" in report.table()


def test_unknown_benchmarks_and_splits_are_named():
    with pytest.raises(BenchmarkError, match="'vok'; choose one of world"):
        benchmarks.open_benchmark("vok")
    with pytest.raises(BenchmarkError, match="no split 'val'; choose one of single, multi"):
        benchmarks.open_benchmark("world", split="val")
