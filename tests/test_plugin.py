"""A package of somebody else's brings a method: it is there wherever methods are, in a process that has the package."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordmask

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
SOURCES = Path(wordmask.__file__).parents[1]
COMMAND = "import sys; from wordmask.cli import main; main()"
NAMES = "shadow, snow"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package and what an installer notes of it, for PYTHONPATH: nothing is fetched to build it."""
    told = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    folder = tmp_path_factory.mktemp("site")
    for package in told["tool"]["setuptools"]["packages"]:
        shutil.copytree(EXAMPLE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    notes = folder / "wordmask_brightness-0.1.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: wordmask-brightness\nVersion: 0.1\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
             for group, points in told["project"]["entry-points"].items()]  # fmt: skip
    (notes / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def python(site, tmp_path):
    """How a process starts that has the package."""
    paths = os.pathsep.join((str(site), str(SOURCES)))
    return {"env": {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, "cwd": tmp_path, "text": True}


def run(python, *arguments):
    command = [sys.executable, *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, timeout=120, check=False, **python)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.fixture
def photo(tmp_path):
    """The left half dark, the right half bright."""
    pixels = np.zeros((24, 32, 3), dtype=np.uint8)
    pixels[:, 16:] = 250
    path = tmp_path / "photos" / "halves.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def verb(python):
    return partial(run, python, "-c", COMMAND)


def halves(labels):
    return set(np.unique(labels[:, :16]).tolist()), set(np.unique(labels[:, 16:]).tolist())


def test_python_loads_and_lists_it(python, photo):
    code = f"""
import json, wordmask
result = wordmask.load("brightness", contrast=0.0).segment({str(photo)!r}, ["shadow", "snow"], fill=True)
listed = [[m.name, m.licence] for m in wordmask.list_methods("segmenter")]
print(json.dumps([listed, result.labels[0, [0, -1]].tolist()]))
"""
    listed, labels = json.loads(run(python, "-c", code))
    assert ["brightness", "no weights"] in listed
    assert labels == [0, 1]


def test_methods_lists_it(verb):
    rows = {row["name"]: row for row in json.loads(verb("methods", "--json"))}
    assert rows["brightness"]["kind"] == "segmenter"


def test_segment_takes_it(verb, photo):
    out = photo.parent.parent / "masks"
    verb("segment", photo, "--method", "brightness", "--names", NAMES, "--fill", "--out", out)
    assert halves(np.array(Image.open(out / "halves.png"))) == ({0}, {1})


def test_label_takes_it(verb, photo):
    out = photo.parent.parent / "labels"
    verb("label", photo.parent, "--method", "brightness", "--names", NAMES, "--fill", "--format", "coco", "--out", out)
    annotations = json.loads((out / "annotations.json").read_text())["annotations"]
    assert sorted(part["area"] for part in annotations) == [24 * 16, 24 * 16]


def test_evaluate_takes_it(verb, tmp_path):
    out = tmp_path / "evaluated"
    verb("evaluate", "--benchmark", "world", "--pictures", 2, "--method", "brightness", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert (result["method"], result["images"]) == ("brightness", 2)
    assert result["configuration"]["settings"] == {"contrast": 0.1}
    assert 0 < result["pixel_accuracy"] < 100


def test_tables_has_its_table(verb, tmp_path):
    assert "Names by brightness beside MaskCLIP" in verb("tables")
    few = ("--pictures", 2, "--only", "brightness")
    (row,) = json.loads(verb("tables", "brightness", *few, "--out-dir", tmp_path / "t", "--json"))["rows"]
    assert 0 < row["ours"]["single"] < 100


def test_its_verb_says_how_bright_a_picture_is(verb, photo):
    assert verb("brightness", photo) == f"{photo}: 0.49\n"


def test_its_benchmark_is_one_that_it_solves(verb, tmp_path):
    out = tmp_path / "evaluated"
    verb("evaluate", "--benchmark", "halves", "--pictures", 3, "--method", "brightness", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert (result["images"], result["pixel_accuracy"]) == (3, 100)


def test_its_presets_and_its_scheme_are_there(python, tmp_path):
    (tmp_path / "weights.pt").touch()
    code = """
from wordmask.methods import settings_of
from wordmask.weights.addresses import find
print(settings_of("segmenter", "brightness", "sure").contrast, settings_of("segmenter", "maskclip", "coarse").stride)
print(find("shelf:weights.pt").path)
try:
    find("shelf:absent.pt")
except Exception as error:
    print(error)
"""
    told = run({**python, "env": {**python["env"], "SHELF": str(tmp_path)}}, "-c", code).splitlines()
    assert told[:2] == ["0.4 448", str(tmp_path / "weights.pt")]
    assert "let SHELF name the folder" in told[2]


def test_serve_serves_it(python):
    command = [sys.executable, "-c", COMMAND, "serve", "--method", "brightness", "--port", "0", "--no-page"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, **python) as process:
        try:
            address = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
            with urllib.request.urlopen(f"{address.rstrip('/')}/v1/models", timeout=30) as answer:
                models = json.load(answer)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert "brightness" in json.dumps(models)


def test_its_own_test_passes(python):
    run({**python, "cwd": EXAMPLE}, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, EXAMPLE / "tests")
