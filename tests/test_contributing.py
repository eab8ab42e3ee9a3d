"""CONTRIBUTING.md: the diff that adds a method applies, and the listing of the house is that of its floors."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wordmask

ROOT = Path(__file__).parents[1]
SOURCES = Path(wordmask.__file__).parents[1]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of what the diff touches and of the package, with the diff applied."""
    diff = re.search(r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(SOURCES / "wordmask", folder / "src" / "wordmask", ignore=shutil.ignore_patterns("__pycache__"))
    for path in re.findall(r"^--- a/(\S+)", diff, re.MULTILINE):
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    applied = subprocess.run(
        ["git", "apply", "-C1", "-"], input=diff, cwd=folder, capture_output=True, text=True, check=False
    )
    assert applied.returncode == 0, applied.stderr
    return folder


def test_the_diff_adds_a_method_whose_test_passes(changed):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(changed / "src"), str(SOURCES)))}
    tests = list((changed / "tests").glob("test_*.py"))
    assert tests
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *tests]
    told = subprocess.run(command, env=environment, cwd=changed, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_diff_has_a_page_that_the_site_shows(changed):
    page = next((changed / "docs" / "methods").glob("[!i]*.md"))
    assert f"methods/{page.name}" in (changed / "mkdocs.yml").read_text()
    assert f"({page.name})" in (changed / "docs" / "methods" / "index.md").read_text()


def test_the_listing_of_the_house_follows_its_floors():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    listing = (ROOT / "CONTRIBUTING.md").read_text().split("| `src/wordmask/` |")[1].split("\n\n")[0]
    listed = [name.removesuffix(".py").removesuffix("/") for name in re.findall(r"`([a-z_]+(?:\.py|/))`", listing)]
    place = {name: number for number, name in enumerate(listed)}
    below = -1
    for floor in reversed(floors):
        places = [place[name] for name in re.findall(r"\w+", floor) if name != "_version"]
        assert min(places) > below, floor
        below = max(places)
    assert below == len(listed) - 1
