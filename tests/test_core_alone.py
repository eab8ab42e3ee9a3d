"""The core neither imports nor names the built-in world, and works without it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import wordmask

CORE = Path(wordmask.__file__).parent
GUEST = "wordmask_world"
ENGLISH = {"training/team.py": r"\bWORLD_SIZE\b"}
"""Where the word stands for something else: the number of processes that a launcher started."""
NOTHING = r"(?!)"
OWED = {
    "cli/serve.py",
    "segmenters",
    "saliency",
    "weights",
    "fingerprints.py",
    "distillation/config.py",
    "distillation/ingredients.py",
    "training/selfmask.py",
}
"""Folders and files that still name it."""
ALONE = """
import importlib.metadata
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "wordmask_world":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

every = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **asked: () if asked.get("group") == "wordmask.plugins" else every(**asked)
sys.meta_path.insert(0, Hidden())
"""


def is_owed(place):
    return place in OWED or place.split("/")[0] in OWED


def modules_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_core_neither_imports_nor_names_the_world():
    texts = {file.relative_to(CORE).as_posix(): file.read_text(encoding="utf-8") for file in CORE.rglob("*.py")}
    assert len(texts) > 200
    imported = [
        (place, module)
        for place, text in texts.items()
        for module in modules_of(ast.parse(text))
        if module.partition(".")[0] == GUEST and not is_owed(place)
    ]
    assert imported == []
    named = [
        (place, line)
        for place, text in texts.items()
        for line in re.sub(ENGLISH.get(place, NOTHING), "", text).splitlines()
        if "world" in line.casefold() and not is_owed(place)
    ]
    assert named == []


def test_what_is_owed_is_still_owed():
    """The list above holds nothing that is done."""
    for place in OWED:
        files = [CORE / place] if place.endswith(".py") else list((CORE / place).rglob("*.py"))
        assert any("world" in file.read_text(encoding="utf-8").casefold() for file in files), place


def alone(code):
    """What a script prints where there is no world."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE + code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_and_the_description_stand_without_examples():
    alone(
        """
import sys
sys.path.insert(0, "tests")
from fastapi.testclient import TestClient
from support.painted import Painted
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.page import suggestions

with TestClient(build_app({"painted": Painted()}, ServeSettings())) as client:
    parts = client.get("/config").json()["components"]
    assert "wm-names" in [part["props"].get("elem_id") for part in parts]
    assert "wm-examples" not in [part["props"].get("elem_id") for part in parts]
    assert any("data-examples=" in str(part["props"].get("value")) for part in parts)
    assert client.get("/page/examples/0.jpg").status_code == 404
    assert client.get("/docs/example.webp").status_code == 404
    docs = client.get("/docs").text
    assert "example.webp" not in docs and '"picture": null' in docs and "image=@photo.jpg" in docs
assert suggestions([Painted()]) == ["background"]
"""
    )
