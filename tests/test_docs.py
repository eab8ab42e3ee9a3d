"""What `mkdocs build --strict` cannot see: that no method lacks a page, and where links of pages in the root lead."""

import re
import sys
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import griffe
import pytest

from wordmask.methods import METHODS
from wordmask.plugins import named

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md", "examples/plugin/README.md")


@pytest.fixture(scope="module")
def docstrings():
    spec = spec_from_file_location("docs_site_docstrings", DOCS / "_site" / "docstrings.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_every_method_has_a_page_that_the_site_shows(method):
    page = f"methods/{method}.md"
    assert (DOCS / page).is_file()
    assert page in (ROOT / "mkdocs.yml").read_text()
    assert f"({method}.md)" in (DOCS / "methods" / "index.md").read_text()


@pytest.mark.parametrize("page", ROOT_PAGES)
def test_links_of_pages_in_the_root_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target


def test_what_a_docstring_says_of_names_is_told_from_the_rest(docstrings):
    text = (
        "Look at a picture.\n\nsize: how large. colour, tint: of what. Such: no name.\n"
        "shape: round.\n\nMore of it; see: nothing.\n\n>>> look(size=1)\n"
    )
    rest, said = docstrings.taken_apart(text, dict.fromkeys(("size", "colour", "tint", "shape")))
    assert rest == "Look at a picture.\n\nMore of it; see: nothing.\n\n>>> look(size=1)"
    assert said == {"size": "How large.", "colour": "Of what. Such: no name.", "tint": "Of what. Such: no name.",
                    "shape": "Round."}  # fmt: skip


@pytest.fixture(scope="module")
def package(docstrings):
    extensions = griffe.load_extensions(docstrings.HouseDocstrings())
    return griffe.load("wordmask", search_paths=[ROOT / "src"], extensions=extensions, resolve_aliases=False)


def settings_in_the_table(package, path):
    sections = package[path].docstring.parsed
    return {row.name: row for section in sections if section.kind.value == "parameters" for row in section.value}


def test_settings_of_base_classes_stand_in_the_table_with_what_is_said_of_them(package):
    rows = settings_in_the_table(package, "saliency.found.FoundSettings")
    assert list(rows)[:2] == ["refine", "most_patches"]
    assert str(rows["most_patches"].annotation) == "int"
    assert rows["most_patches"].description.startswith("A picture on more patches")
    assert rows["head"].default == "'found'"


@pytest.mark.parametrize("method", [method for method in METHODS if method.kind != "refinement"], ids=lambda m: m.name)
def test_every_setting_of_a_method_is_explained(method, package):
    """The page of the method shows them so."""
    settings = named(method.at).Settings
    rows = settings_in_the_table(package, f"{settings.__module__}.{settings.__name__}".removeprefix("wordmask."))
    assert list(rows) == [field.name for field in fields(settings)]
    assert [name for name, row in rows.items() if not row.description] == []
