"""docs/hour.md in small: its own commands, run in their order, leave behind what the page says."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO
from torchvision.datasets import VOCSegmentation

from support.browsing import BROWSERS
from wordmask.corrections import REJECTED, read_corrections
from wordmask.masks.segmentation import Segmentation
from wordmask.weights.loading import read_metadata

HOUR = Path(__file__).parents[1] / "benchmarks" / "hour.py"
PICTURES = 40

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the commands have worked in, and what they printed."""
    out = tmp_path_factory.mktemp("hour")
    has_browser = importlib.util.find_spec("playwright") and any(map(shutil.which, BROWSERS))
    command = [sys.executable, HOUR, "--out", out, "--pictures", str(PICTURES), "--steps", "4"]
    command += [] if has_browser else ["--without-browser"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WORDMASK_CACHE": str(tmp_path_factory.mktemp("cache"))}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out, ended.stdout


def test_three_data_sets_are_read_and_hold_nothing_that_was_rejected(done):
    out, _ = done
    labels = out / "labels"
    gone = {
        Path(each.picture).stem for each in read_corrections(labels / "corrections.json") if each.verdict == REJECTED
    }
    assert gone
    wanted = {path.stem for path in (out / "pictures" / "images").iterdir()} - gone
    assert len(wanted) == PICTURES - len(gone)

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(labels / "coco" / "annotations.json")
    assert {Path(image["file_name"]).stem for image in coco.imgs.values()} == wanted
    assert coco.anns
    assert all(coco.annToMask(annotation).sum() == annotation["area"] for annotation in coco.anns.values())

    data = yaml.safe_load((labels / "yolo" / "data.yaml").read_text())
    assert list(data["names"].values()) == [category["name"] for category in coco.cats.values()]
    lines = 0
    for side in filter(None, (data["train"], data["val"])):
        for image in (labels / "yolo" / side).iterdir():
            wanted.remove(image.stem)
            text = (labels / "yolo" / side.replace("images", "labels") / f"{image.stem}.txt").read_text()
            lines += len(text.splitlines())
    assert not wanted
    assert lines == len(coco.anns)

    devkit = out / "VOCdevkit"
    devkit.mkdir()
    (devkit / "VOC2012").symlink_to(labels / "voc")
    pairs = VOCSegmentation(str(out), year="2012", image_set="train", download=False)
    assert len(pairs) == PICTURES - len(gone)
    for image, target in pairs:
        assert image.size == target.size
        assert np.array(target).max() in (*range(len(coco.cats) + 1), 255)


def test_the_student_says_that_it_was_corrected(done):
    out, printed = done
    metadata = read_metadata(out / "run" / "student" / "student.safetensors")
    assert metadata["note"].startswith("not annotation-free any more")
    assert metadata["note"] in printed
    assert "not annotation-free any more" in (out / "run" / "report" / "report.html").read_text().lower()


def test_names_are_changed_and_the_service_answers(done):
    out, printed = done
    names = {name for path in (out / "coaches" / "masks").iterdir() for name in Segmentation.load(path).names}
    assert "coach" in names
    assert "bus" not in names
    [answer] = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert answer["method"] == "student"
    assert set(answer["names"]) <= {"boat", "bus", "bottle", "mushroom", "train", "umbrella", "background"}
