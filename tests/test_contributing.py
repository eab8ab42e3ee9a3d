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


ASKED_OF_ALL = ("tests/test_methods.py", "tests/test_docs.py")
ANOTHER = {
    "mkdocs.yml": ("          - methods/spectral.md\n", "          - methods/another.md\n"),
    "docs/methods/index.md": (" draw masks |\n", "| [another](another.md) | | |\n"),
    "src/wordmask/method_list.py": (
        '        "what many clusterings of DINO\'s features agree on",\n'
        '        "DINO ViT-S/16",\n        "Apache-2.0 (DINO)",\n    ),\n',
        '    Method("another", "saliency", "another:Another", "paper"),\n',
    ),
}
"""What somebody else may have added where the diff adds its own: file -> what stands before it, and the lines."""


def apply_diff(folder, change=lambda path, text: text):
    """Make a copy of what the diff touches and of the package, and apply the diff."""
    diff = re.search(r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    touched = re.findall(r"^--- a/(\S+)", diff, re.MULTILINE)
    for path in touched:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(change(path, (ROOT / path).read_text()))
    command = ["git", "apply", "-C1", "-"]
    applied = subprocess.run(command, input=diff, cwd=folder, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, applied.stderr
    return touched


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The package with the diff applied, and what the tests of all methods look at."""
    folder = tmp_path_factory.mktemp("changed")
    for path in ("src/wordmask", "docs/_site", "docs/methods"):
        shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
    apply_diff(folder)
    for path in ASKED_OF_ALL:
        shutil.copy(ROOT / path, folder / path)
    return folder


def run_tests(changed, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(changed / "src"), str(SOURCES)))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *map(str, arguments)]
    told = subprocess.run(command, env=environment, cwd=changed, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_diff_adds_a_method_whose_test_passes(changed):
    own = [path for path in (changed / "tests").glob("test_*.py") if f"tests/{path.name}" not in ASKED_OF_ALL]
    assert own
    run_tests(changed, *own)


def test_the_diff_s_method_passes_what_is_asked_of_all_methods(changed):
    page = next((changed / "docs" / "methods").glob("frequency*.md"))
    run_tests(changed, *ASKED_OF_ALL, "-k", page.stem)


def test_the_diff_applies_where_somebody_has_added_another_method(tmp_path):
    def with_another(path, text):
        before, lines = ANOTHER[path]
        assert text.count(before) == 1
        return text.replace(before, before + lines)

    assert set(apply_diff(tmp_path, with_another)) == set(ANOTHER)
    assert "frequency-tuned" in (tmp_path / "mkdocs.yml").read_text()


def test_the_diff_has_a_page_that_the_site_shows(changed):
    page = next((changed / "docs" / "methods").glob("frequency*.md"))
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
