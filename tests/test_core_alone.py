"""The core neither imports nor names the built-in world, and works without it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import wordmask
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.student_file import write_student

CORE = Path(wordmask.__file__).parent
GUEST = "wordmask_world"
ENGLISH = {"training/team.py": r"\bWORLD_SIZE\b"}
"""Where the word stands for something else: the number of processes that a launcher started."""
NOTHING = r"(?!)"
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
        if module.partition(".")[0] == GUEST
    ]
    assert imported == []
    named = [
        (place, line)
        for place, text in texts.items()
        for line in re.sub(ENGLISH.get(place, NOTHING), "", text).splitlines()
        if "world" in line.casefold()
    ]
    assert named == []


def alone(code):
    """What a script prints where there is no world."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE + code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tables_show_the_papers_columns_alone():
    told = alone(
        """
from wordmask.benchmarks import tables
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.run import Run
from pathlib import Path
import tempfile

assert tables.list_tables() == tables.TABLES
for name in tables.TABLES:
    table = tables.find(name)
    assert not any("world" in column for column in table.columns), table.columns
with tempfile.TemporaryDirectory() as folder:
    table = tables.find("clip-diy-2")
    for row in fill(table, Run(Path(folder) / "run")):
        print(dict(row.published), sorted(row.not_run))
"""
    )
    assert told.splitlines()[0] == "{'voc': 59.9, 'coco-object': 31.0} ['coco-object', 'voc']"


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


def test_a_student_of_ones_own_segments(tmp_path):
    network = DeepLabV3Plus(2, small_resnet_settings(backbone_options={"channels": (8, 8, 16, 16), "stem_width": 4}))
    write_student(tmp_path / "student.safetensors", network, Vocabulary.of(["background", "dog"]), {})
    told = alone(
        f"""
import numpy as np
import wordmask
student = wordmask.load("namedmask", weights={str(tmp_path / "student.safetensors")!r}, device="cpu")
print(*student.segment(np.zeros((48, 64, 3), np.uint8), ["dog"]).labels.shape)
"""
    )
    assert told == "48 64\n"


def test_a_preset_of_the_world_is_said_to_be_the_world_s():
    told = alone(
        """
import wordmask
from wordmask.errors import WordmaskError
for method in wordmask.list_methods("segmenter"):
    try:
        wordmask.load(method.name, preset="world")
    except WordmaskError as error:
        print(error)
"""
    )
    assert len(told.splitlines()) > 4
    for line in told.splitlines():
        assert re.search(r"no preset 'world'.* brought by wordmask_world, which is not installed here: .*pip", line)


def test_the_command_line_lists_what_there_is():
    told = alone(
        """
from wordmask.cli import main
for arguments in (["--help"], ["tables", "--help"], ["evaluate", "--help"], ["tables"], ["methods"]):
    sys.argv = ["wordmask", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)
"""
    )
    assert "--beside" in told
    assert "namedmask-figure-6" in told
    assert "world" not in told.casefold()
