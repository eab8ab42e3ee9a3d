"""Somebody who only segments installs the core alone; what else there is says which extra brings it."""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

from support.every_verb import REPOSITORY, installed_by, packages_of_extras, project
from wordmask.extras import EXTRA_OF

SEGMENTERS = ("maskclip", "clip-diy", "clip-dinoiser", "selfmask-clip", "namedmask")
SALIENCY = ("found", "seed", "selfmask")
SEGMENT = f"""
import importlib.util, json, sys
import numpy as np
import wordmask
from wordmask import saliency

picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
seen = {{
    method: wordmask.load(method, preset="world", device="cpu").segment(picture, ["dog", "background"]).labels.shape
    for method in {SEGMENTERS}
}}
seen |= {{each: saliency.load(each, preset="world", device="cpu").look(picture).soft.shape for each in {SALIENCY}}}
there = [name for name in {sorted(EXTRA_OF)} if importlib.util.find_spec(name)]
try:
    wordmask.distill
except wordmask.WordmaskError as error:
    refused = str(error)
print(json.dumps({{"file": wordmask.__file__, "seen": seen, "there": there, "refused": refused}}))
"""


def run(*command, path="", **options):
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **options)


def done(*command, **options):
    ended = run(*command, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment with nothing in it but this package, built and installed, and links to what the core needs."""
    folder = tmp_path_factory.mktemp("bare")
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    done(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    packages = Path(done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in installed_by(project()["dependencies"]):
        distribution = metadata.distribution(name)
        for part in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (packages / part).exists():
                (packages / part).symlink_to(Path(distribution.locate_file(part)).resolve())
    done(*pip, "--python", python, "install", "--no-deps", "--no-index", *wheels.glob("*.whl"))
    return environment


@pytest.mark.slow
def test_the_bare_core_segments_with_every_method(bare, tmp_path):
    told = json.loads(done(bare / "bin" / "python", "-I", "-c", SEGMENT, cwd=tmp_path))
    assert Path(told["file"]).is_relative_to(bare)
    assert told["there"] == []
    assert told["refused"] == "pyarrow is not installed: pip install 'wordmask[distill]'"
    assert told["seen"] == {method: [64, 80] for method in (*SEGMENTERS, *SALIENCY)}


@pytest.mark.slow
def test_the_bare_command_segments_and_names_the_extra_of_what_it_cannot_do(bare, tmp_path):
    wordmask = bare / "bin" / "wordmask"
    for line in (
        "world make --out data --count 2 --size 32 --workers 1",
        "segment data/images --names dog,background --preset world --out masks",
    ):
        done(wordmask, *line.split(), cwd=tmp_path)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 2
    refused = run(wordmask, *["distill", "--names", "dog", "--images", "data/images", "--out", "run"], cwd=tmp_path)
    assert (refused.returncode, "pip install 'wordmask[distill]'" in refused.stderr) == (1, True)
    assert not (tmp_path / "run").exists()


def test_the_core_brings_nothing_of_the_extras():
    core = installed_by(project()["dependencies"])
    assert not core & {"pyarrow", "pandas", "scikit-learn", "threadpoolctl", "accelerate", "gradio", "fastapi", "onnx"}
    assert {"pyarrow", "sklearn", "accelerate", "threadpoolctl"} <= packages_of_extras()


@pytest.mark.parametrize(
    ("code", "there"),
    [
        ("import wordmask", {"wordmask"}),
        ("import wordmask; wordmask.load; wordmask.evaluate", {"wordmask", "pydantic", "yaml"}),
    ],
)
def test_importing_costs_next_to_nothing(code, there):
    watched = {"torch", "torchvision", "numpy", "PIL", "scipy", "timm", "open_clip", "typer", "rich", *EXTRA_OF, *there}
    loaded = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}} & {watched})"
    assert set(done(sys.executable, "-c", loaded, path=REPOSITORY / "src").split()) <= there
