"""The core neither imports nor names the built-in world, and works without it."""

import ast
import re
from pathlib import Path

import wordmask
from support.script import printed_by
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask.segmenters.student_file import write_student

CORE = Path(wordmask.__file__).parent
ENGLISH = {"training/team.py": r"\bWORLD_SIZE\b"}
"""Where the word stands for something else: the number of processes that a launcher started."""
ALONE = """
import importlib.metadata, sys, warnings

warnings.simplefilter("ignore")

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "wordmask_world":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

every = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **asked: () if asked.get("group") == "wordmask.plugins" else every(**asked)
sys.meta_path.insert(0, Hidden())
"""


def modules_of(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_core_neither_imports_nor_names_the_world():
    texts = {file.relative_to(CORE).as_posix(): file.read_text(encoding="utf-8") for file in CORE.rglob("*.py")}
    assert len(texts) > 200
    imported = [(place, module) for place, text in texts.items() for module in modules_of(text)]
    assert [(place, module) for place, module in imported if module.partition(".")[0] == "wordmask_world"] == []
    own = {place: re.sub(ENGLISH.get(place, r"(?!)"), "", text) for place, text in texts.items()}
    lines = [(place, line) for place, text in own.items() for line in text.splitlines()]
    assert [each for each in lines if "world" in each[1].casefold()] == []


def alone(code, *arguments):
    """What a script prints where there is no world."""
    return printed_by(ALONE + code, *arguments)


def test_tables_show_the_papers_columns_alone(tmp_path):
    told = alone(
        """
from pathlib import Path
from wordmask.benchmarks import tables
from wordmask.benchmarks.tables.base import fill
from wordmask.benchmarks.tables.run import Run

assert tables.list_tables() == tables.TABLES
for name in tables.TABLES:
    assert not any("world" in column for column in tables.find(name).columns), name
for row in fill(tables.find("clip-diy-2"), Run(Path(sys.argv[1]))):
    print(dict(row.published), sorted(row.not_run))
""",
        tmp_path / "run",
    )
    assert told.splitlines()[0] == "{'voc': 59.9, 'coco-object': 31.0} ['coco-object', 'voc']"


def test_the_page_and_the_description_stand_without_examples():
    alone(
        """
sys.path.insert(0, "tests")
from fastapi.testclient import TestClient
from support.painted import Painted
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.page import suggestions

with TestClient(build_app({"painted": Painted()}, ServeSettings())) as client:
    parts = [part["props"] for part in client.get("/config").json()["components"]]
    ids = {part.get("elem_id") for part in parts}
    assert "wm-names" in ids and "wm-examples" not in ids
    assert any("data-examples=" in str(part.get("value")) for part in parts)
    for path in ("/page/examples/0.jpg", "/docs/example.webp"):
        assert client.get(path).status_code == 404
    docs = client.get("/docs").text
    assert "example.webp" not in docs and '"picture": null' in docs and "image=@photo.jpg" in docs
assert suggestions([Painted()]) == ["background"]
"""
    )


def test_a_student_of_ones_own_segments(tmp_path):
    network = DeepLabV3Plus(2, small_resnet_settings(backbone_options={"channels": (8, 8, 16, 16), "stem_width": 4}))
    write_student(tmp_path / "student.safetensors", network, Vocabulary.of(["background", "dog"]), {})
    told = alone(
        """
import numpy as np
import wordmask
student = wordmask.load("namedmask", weights=sys.argv[1], device="cpu")
print(*student.segment(np.zeros((48, 64, 3), np.uint8), ["dog"]).labels.shape)
""",
        tmp_path / "student.safetensors",
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
for arguments in (["--help"], *([word, "--help"] for word in ("tables", "evaluate", "serve")), ["tables"], ["methods"]):
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
