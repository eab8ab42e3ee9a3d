"""How the repository is laid out, beyond what `lint-imports` checks of the package."""

import ast
import runpy
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_test_imports_another():
    """What two of them need is in `tests/support`."""
    for path in TESTS.rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith(("test_", "conftest"))], path


def test_every_helper_is_used():
    names = {name for path in TESTS.rglob("*.py") for name in imported(path)}
    used = {name.rpartition(".")[2] for name in names} | {
        alias.name
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "support"
        for alias in node.names
    }
    scripts = {"mutated_weights"}  # run as a process of its own
    assert {path.stem for path in (TESTS / "support").glob("*.py")} - used - scripts == {"__init__"}


@pytest.fixture(scope="module")
def closure():
    return runpy.run_path(str(TESTS.parent / "scripts" / "closure.py"))["closure"]


def folders_of(files):
    return {"/".join(path.relative_to(SOURCE).parts[:2]) for path in files}


def test_segmenting_reaches_nothing_that_only_others_need(closure):
    folders = folders_of(closure(SOURCE, "segment"))
    assert {"wordmask/cli", "wordmask/segmenters", "wordmask/pictures", "wordmask/masks"} <= folders
    others = ("benchmarks", "collection", "distillation", "export", "labelling", "serving", "training")
    assert not folders & {f"wordmask/{name}" for name in others}


def test_no_verb_of_the_core_reaches_the_world(closure):
    for verb in ("segment", "distill", "tables"):
        assert all(folder.startswith("wordmask/") for folder in folders_of(closure(SOURCE, verb)))
