"""What a user without a network gets: the shipped weights, the demo, the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import wordmask
from wordmask.console.progress import OnStderr
from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.precision import Measurement
from wordmask.names.prompts import templates
from wordmask_world import demo
from wordmask_world.baselines import BestName
from wordmask_world.benchmark import World
from wordmask_world.models import world_clip, world_weights

ROOT = Path(__file__).parent.parent


def test_the_package_carries_a_clip_that_says_where_it_comes_from():
    told = world_weights()["clip"]
    assert "wordmask world train-clip" in told["command"]
    assert {"naming", "recall_at_1", "miou_all"} <= set(json.loads(told["figures"]))


def test_maskclip_finds_the_world_s_things_and_stuff_better_than_one_name_a_picture():
    segmenter = wordmask.load("maskclip", preset="world", device="cpu", precision="fp32")
    best_name = BestName(world_clip(), templates("photo"))
    everything = World("all", stuff=True, pictures=24)
    assert wordmask.evaluate(segmenter, everything).miou > wordmask.evaluate(best_name, everything).miou + 5


def test_words_never_seen_do_not_crash_and_larger_pictures_are_fine():
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    segmenter = wordmask.load("maskclip", preset="world", device="cpu")
    assert segmenter.segment(image, ["zyzzyva", "Ünïcödé 犬", "dog"]).labels.shape == (300, 500)


def run(*command):
    options = {"capture_output": True, "text": True, "check": True, "cwd": ROOT}
    return subprocess.run([sys.executable, *command], env=os.environ | {"WORDMASK_OFFLINE": "1"}, **options).stdout


def cli(*arguments):
    code = "import sys; from wordmask.cli import main; sys.argv = ['wordmask', *sys.argv[1:]]; main()"
    return run("-c", code, *arguments)


@pytest.mark.slow
def test_drawn_scenes_are_segmented_without_a_network(tmp_path):
    out = run("examples/segment_drawn_scenes.py", "--out", str(tmp_path))
    assert (tmp_path / "scenes.jpg").stat().st_size > 10_000
    assert out.count("IoU with the truth") == 4


@pytest.mark.slow
def test_the_report_prints_its_tables_and_writes_its_page(tmp_path):
    out = cli("world", "report", "--pictures", "3", "--out", str(tmp_path / "report.html"))
    assert "naming, pictures of one thing" in out
    assert out.count("MaskCLIP, residual and MLP") == 8  # two tables for each of four ways to ask
    assert "data:image/jpeg;base64," in (tmp_path / "report.html").read_text()


def test_the_demo_goes_on_in_the_precision_that_it_has_begun_in(tmp_path, monkeypatch):
    measured = []

    def timed(sample):
        measured.append(sample)
        return Measurement(sample.what, {"fp32": 2.0, "bf16": 1.0}, "here", "", "")

    monkeypatch.setattr(demo.MEASURED, "of", timed)
    begun, again = (demo.Demo(tmp_path, 1, 1, 1, 1, OnStderr()) for _ in range(2))
    assert begun.precision == again.precision == "bf16"
    assert len(measured) == 1
    assert [measured[0].call(each)().dtype for each in ("fp32", "bf16")] == [torch.float32, torch.bfloat16]
    with pytest.raises(NoInt8Error):
        measured[0].call("int8")


@pytest.mark.slow
def test_the_demo_distils_and_measures_without_a_network(tmp_path):
    small = ("--pictures", "150", "--archive", "4", "--steps", "10", "--measured", "2")
    out = cli("demo", "--out", str(tmp_path), *small)
    learnt = ("NamedMask, this student", "the same, edges by PAMR", "NamedMask, as it ships")
    for method in ("MaskCLIP", "ReCo", "CLIP-DINOiser", "SelfMask + CLIP", *learnt):
        assert sum(line.startswith(method) for line in out.splitlines()) == 1
    assert (tmp_path / "run" / "report" / "report.html").exists()
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg;base64,") == 4 + 6  # methods, archives
    assert cli("demo", "--out", str(tmp_path), *small) == out  # nothing is done again
