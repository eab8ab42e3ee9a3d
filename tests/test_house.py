"""How the repository is laid out, beyond what `lint-imports` checks of the package."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


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
