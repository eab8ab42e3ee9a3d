"""Every verb where things are not as they should be: packages of extras lacking, no network, a full disk, the source of
an earlier run away. One line says what is the matter, soon, and nothing that was there before is changed.

`python tests/support/every_verb.py CONDITION FOLDER` prints the same as JSON.
"""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support import every_verb
from support.every_verb import CONDITIONS, LATER, NEEDING_EXTRAS, NEEDING_OPENCV, packages_of_extras
from wordmask.cli.verbs import VERBS, all_verbs
from wordmask.extras import EXTRA_OF, is_installed
from wordmask_world.cli import world

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lines are run in forks")

MOST_PROCESSOR_SECONDS = 5
MOST_LINES_SECONDS = 600
STAGE = re.compile(r"\w+: begun|going on at step \d+ of \d+|[\w ]+( \.\.\.|: \d+ to do)|method: [\w-]+, the best .+")
"""What a distillation or a training says as it goes, and whatever takes more than a moment; and which method was chosen
for who named none."""
FIGURES = ("tables",)
"""Verbs that have what they are asked for without their pictures: figures that were kept."""

REFUSED = {"no extras": NEEDING_EXTRAS, "no extra but distill": NEEDING_OPENCV}

lines = partial(pytest.mark.parametrize, ("condition", "name"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of a condition: what became of each line. Each condition is made once."""
    made = {}

    def of(condition):
        run = "later" if condition in LATER else condition
        if run not in made:
            folder = tmp_path_factory.mktemp("every verb") / "folder"
            done = subprocess.run(
                [sys.executable, every_verb.__file__, run, folder],
                capture_output=True,
                text=True,
                timeout=MOST_LINES_SECONDS,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            assert done.returncode == 0, done.stderr
            made[run] = json.loads(done.stdout)
        return made[run][condition]

    return of


def of(*conditions):
    return lines(
        [
            pytest.param(condition, name, marks=[pytest.mark.slow] if condition in LATER else [])
            for condition in conditions
            for name in CONDITIONS[condition]
        ]
    )


def error_of(told):
    """The one line that says what is the matter; warnings and a run's stages may stand before it."""
    *others, error = [line for line in told["stderr"].splitlines() if line.strip()] or [""]
    assert error.startswith("wordmask: error: "), told["stderr"]
    for line in others:
        assert line.startswith(("wordmask: warning: ", "wordmask: note: ")) or STAGE.fullmatch(line), told["stderr"]
    assert told["status"] == 1
    assert told["processor"] < MOST_PROCESSOR_SECONDS
    return error


def test_no_verb_is_left_out():
    tried = {line.split()[0] for condition in CONDITIONS.values() for line in condition.values()}
    assert tried == set(all_verbs()) == set(VERBS) | {"world", "demo"}
    drawing = every_verb.DRAWING | every_verb.OF_HOURS
    of_the_world = {line.split()[1] for line in drawing.values() if line.startswith("world ")}
    slow = {"report"}  # it measures for minutes, and writes at the end
    assert of_the_world | slow == {each.name or each.callback.__name__ for each in world.registered_commands}


def test_every_package_of_the_extras_is_known():
    here = set(filter(is_installed, EXTRA_OF))  # those of `sam` and `faiss` are large, and no test needs them
    assert here <= packages_of_extras()
    assert {"sklearn", "fastapi", "onnx"} <= here
    assert set(EXTRA_OF.values()) <= set(every_verb.extras())


@of("no extras", "no extra but distill")
def test_without_extras(results, condition, name):
    told = results(condition)[name]
    if name in REFUSED[condition]:
        assert re.search(r"(\w+) is not installed: pip install 'wordmask\[\w+\]'$", error_of(told))
        assert "method: " not in told["stderr"]  # what is to be installed is said before weights are looked for
        assert not told["changed"] + told["new"]
    else:
        assert told["status"] == 0, told["stderr"]
        assert "ModuleNotFoundError" not in told["stderr"]


@of("no network")
def test_without_a_network(results, condition, name):
    told = results(condition)[name]
    error = error_of(told)
    assert "is there a network?" in error
    ways_out = ("by hand",) if "URL" in name else ("--weights FILE", "WORDMASK_CACHE", "--preset world")
    assert all(way in error or (way == "WORDMASK_CACHE" and "HF_HOME" in error) for way in ways_out)
    assert not told["changed"]
    assert told["seconds"] < every_verb.MOST_SECONDS


@of("full disk", "full disk, finished before")
def test_on_a_full_disk(results, condition, name):
    told = results(condition)[name]
    if told["status"] or condition == "full disk":  # what is finished need not be written again
        assert "no room is left on the disk of " in error_of(told) or "ledger.sqlite" in told["stderr"]
    assert not told["changed"] + told["new"]


@of("source gone", "source empty")
def test_with_the_source_away(results, condition, name):
    told = results(condition)[name]
    if not (name in FIGURES and condition == "source empty"):
        error = error_of(told)
        assert "data" in error or "no pictures" in error
        assert not told["changed"] + told["new"]


def test_the_runner_itself_sees_what_a_verb_changes(tmp_path):
    (tmp_path / "kept").write_text("one")
    before = every_verb.files_in(tmp_path)
    (tmp_path / "kept").write_text("two")
    (tmp_path / "new").touch()
    after = every_verb.files_in(tmp_path)
    assert before[Path("kept").name] != after["kept"]
    assert set(after) - set(before) == {"new"}
