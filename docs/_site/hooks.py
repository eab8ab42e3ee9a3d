"""What the site gets from elsewhere when it is built: pages of the root, and tables of the catalogue of weights.

In a page, `<!-- weights: NAME NAME ... -->` becomes a table of those weights, `<!-- weights -->` one of all, and
`<!-- readme: HEADING -->` the first table of that section of the README, so that no figure stands in two places.
`<!-- methods -->` becomes a table of the segmenters, by what they can be chosen.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from wordmask.methods import list_methods, table_to_choose_by
from wordmask.weights.catalogue import CATALOGUE, Weight

ROOT = Path(__file__).parents[2]
FROM_THE_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
WEIGHTS = re.compile(r"^<!-- weights(?:: ([^>]*?))? -->$", re.MULTILINE)
METHODS = re.compile(r"^<!-- methods -->$", re.MULTILINE)
README = re.compile(r"^<!-- readme: ([^>]*?) -->$", re.MULTILINE)
KINDS = {
    "clip": "CLIP",
    "dino": "DINO",
    "saliency": "Saliency",
    "segmenter": "Students and experts",
    "heads": "Heads",
    "archive": "Archives and pseudo-masks",
    "embeddings": "Embeddings",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie in the root, with their links as seen from docs/."""
    for page, source in FROM_THE_ROOT.items():
        text = (ROOT / source).read_text().replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables of weights in their places."""
    markdown = METHODS.sub(lambda _: table_to_choose_by(list_methods("segmenter")), markdown)
    markdown = README.sub(lambda found: table_of_the_readme(found[1]), markdown)
    return WEIGHTS.sub(lambda found: table(found[1].split()) if found[1] else whole_catalogue(), markdown)


def table_of_the_readme(heading: str) -> str:
    """Return the first table below a heading."""
    _, _, section = (ROOT / "README.md").read_text().partition(f"## {heading}\n")
    found = re.search(r"(?:^\|.*\n)+", section.split("\n## ")[0], re.MULTILINE)
    if found is None:
        raise PluginError(f"README.md has no table below {heading!r}")
    return found[0]


def whole_catalogue() -> str:
    """Return every entry, in a section for each kind."""
    sections = []
    for kind in dict.fromkeys(entry.kind for entry in CATALOGUE):
        sections += [f"## {KINDS[kind]}", rows(entry for entry in CATALOGUE if entry.kind == kind)]
    return "\n\n".join(sections)


def table(names: list[str]) -> str:
    """Return the entries of these names; `NAME-*` stands for all that begin so."""
    chosen = []
    for name in names:
        found = [e for e in CATALOGUE if e.name == name or (name.endswith("*") and e.name.startswith(name[:-1]))]
        if not found:
            raise PluginError(f"the catalogue of weights has no {name}")
        chosen += found
    return rows(chosen)


def rows(entries: Iterable[Weight]) -> str:
    """Return a table in Markdown."""
    lines = ["| name | licence | size | from |", "|---|---|---|---|"]
    for entry in entries:
        size = f"{entry.bytes / 1e6:,.0f} MB" if entry.bytes >= 1e6 else f"{entry.bytes / 1e3:,.0f} kB"
        origin = "<br>".join(part for part in (link(entry.source), entry.note) if part)
        lines.append(f"| `{entry.name}` | {entry.licence} | {size} | {origin} |")
    return "\n".join(lines)


def link(source: str) -> str:
    """Return an address as a link where it is one of the web's."""
    return f"[{source.rsplit('/', 1)[-1]}]({source})" if source.startswith("https://") else f"`{source}`"
