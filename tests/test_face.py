"""What `import wordmask` offers: the names, to people and to type checkers, and at what cost."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import wordmask
from wordmask.saliency.found import Found
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.maskclip import MaskClip


def offered_to_type_checkers():
    """Every name that is imported for type checkers alone, and where from."""
    tree = ast.parse(Path(wordmask.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_every_name_is_there_and_listed():
    for name in wordmask.__all__:
        assert getattr(wordmask, name) is not None
    assert dir(wordmask) == sorted(wordmask.__all__)
    assert {"Segmenter", "Seen", "Segmentation", "Vocabulary", "load", "distill", "evaluate"} <= set(wordmask.__all__)


def test_names_are_the_library_s_own():
    from wordmask.masks.segmentation import Segmentation
    from wordmask.segmenters.base import Seen, Segmenter

    assert (wordmask.Segmentation, wordmask.Seen, wordmask.Segmenter) == (Segmentation, Seen, Segmenter)
    assert callable(wordmask.saliency.load)
    assert callable(wordmask.hub.from_pretrained)


def test_type_checkers_see_what_people_do():
    assert offered_to_type_checkers() == wordmask._HOMES
    assert set(wordmask.__all__) == {*wordmask._HOMES, "WordmaskError", "__version__"}


def test_the_import_itself_brings_nothing_heavy():
    code = "import json, sys, wordmask; dir(wordmask); print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    own = [name for name in json.loads(told) if name.split(".")[0] == "wordmask"]
    assert own == ["wordmask", "wordmask._version", "wordmask.errors"]
    assert not {"torch", "numpy", "PIL", "pydantic"} & set(json.loads(told))


def test_a_name_that_there_is_not_is_refused():
    assert not hasattr(wordmask, "segment_all")


@pytest.mark.parametrize("name", wordmask._MOVED)
def test_a_module_that_has_moved_says_where_to(name):
    with pytest.raises(AttributeError, match=rf"wordmask\.{name} has moved: import wordmask\.\w+") as refused:
        getattr(wordmask, name)
    import_module(str(refused.value).rpartition(" ")[2])


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (MaskClip, "wordmask.load('maskclip', "),
        (Found, "wordmask.saliency.load('found', "),
        (Segmenter, "wordmask.load"),
    ],
)
def test_a_class_says_what_loads_it(chosen, says):
    assert not hasattr(chosen, "load")
    with pytest.raises(AttributeError) as refused:
        chosen.load("world")
    assert says in str(refused.value)
