"""The examples run as they stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("look_once_ask_often.py", "looked in"),
        ("label_a_folder.py", "24 pictures"),
        ("ask_the_service.py", "400 the picture"),
    ],
)
def test_a_script_runs(script, says, tmp_path):
    done = subprocess.run([sys.executable, EXAMPLES / script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.mark.slow
def test_the_notebook_runs():
    notebook = json.loads((EXAMPLES / "names_in_masks_out.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)
    names = {}
    exec(compile("\n".join("".join(cell["source"]) for cell in cells), "notebook", "exec"), names)
    assert len(names["annotations"]) == len(names["detections"])
    assert 0 <= names["report"].miou <= 100
