"""What the site gets from elsewhere when it is built: pages of the root, and tables of the catalogue of weights.

In a page, `<!-- weights: NAME NAME ... -->` becomes a table of those weights, `<!-- weights -->` one of all, and
`<!-- readme: HEADING -->` the first table of that section of the README, so that no figure stands in two places.
`<!-- protocols -->`, `<!-- vocabularies -->` and `<!-- published: TABLE -->` become tables of those data files.
`<!-- methods -->` becomes a table of the segmenters, by what they can be chosen.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from wordmask.benchmarks.protocols import OWN, list_protocols
from wordmask.benchmarks.tables import find
from wordmask.benchmarks.wordings import OTHERS, list_wordings
from wordmask.html_page import cell
from wordmask.methods import list_methods, table_to_choose_by
from wordmask.weights.catalogue import CATALOGUE, Weight

ROOT = Path(__file__).parents[2]
FROM_THE_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
WEIGHTS = re.compile(r"^<!-- weights(?:: ([^>]*?))? -->$", re.MULTILINE)
METHODS = re.compile(r"^<!-- methods -->$", re.MULTILINE)
README = re.compile(r"^<!-- readme: ([^>]*?) -->$", re.MULTILINE)
PUBLISHED = re.compile(r"^<!-- published: ([^>]*?) -->$", re.MULTILINE)
PROTOCOLS, VOCABULARIES = "<!-- protocols -->", "<!-- vocabularies -->"
KINDS = {
    "clip": "CLIP",
    "dino": "DINO",
    "saliency": "Saliency",
    "segmenter": "Students and experts",
    "heads": "Heads",
    "text": "Words",
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
    """Put the tables in their places."""
    markdown = METHODS.sub(lambda _: table_to_choose_by(list_methods("segmenter")), markdown)
    markdown = README.sub(lambda found: table_of_the_readme(found[1]), markdown)
    markdown = PUBLISHED.sub(lambda found: published(found[1]), markdown)
    if PROTOCOLS in markdown or VOCABULARIES in markdown:
        markdown = markdown.replace(PROTOCOLS, protocols()).replace(VOCABULARIES, vocabularies())
    return WEIGHTS.sub(lambda found: table(found[1].split()) if found[1] else whole_catalogue(), markdown)


def published(name: str) -> str:
    """Return what papers print of a table, as `wordmask tables NAME` shows it."""
    found = find(name)
    said = ["protocol", "words"] if found.tells_under else []
    headings = [found.headings.get(column, column) for column in found.columns]
    lines = [f"| | {' | '.join([*said, *headings])} |", "|---" * (1 + len(said) + len(headings)) + "|"]
    for row in found.rows:
        under = row.published_under
        texts = [] if under is None or not said else [under.protocol, under.vocabulary]
        figures = [cell(row.published.get(column)) for column in found.columns]
        lines.append(f"| {' | '.join([row.label, *texts, *figures])} |")
    return "\n".join(lines)


def protocols() -> str:
    """Return every protocol in numbers, and on which benchmarks it has others."""
    lines = ["| `--protocol` | whose | shorter side, windows | but on |", "|---|---|---|---|"]
    for name, protocol in list_protocols().items():
        others = "; ".join(f"`{benchmark}`: {protocol.described(benchmark)}" for benchmark in protocol.benchmarks)
        numbers = "" if name == OWN else protocol.described("")
        lines.append(f"| `{name}` | {protocol.about} | {numbers} | {others} |")
    return "\n".join(lines)


def vocabularies() -> str:
    """Return every vocabulary, and what is not known of it."""
    lines = ["| `--vocabulary` | whose | not known |", "|---|---|---|"]
    for name, wording in list_wordings().items():
        where = {key: "elsewhere" if key == OTHERS else f"`{key}`" for key in wording.unsure}
        unsure = "; ".join(f"{where[key]}: {what}" for key, what in wording.unsure.items())
        lines.append(f"| `{name}` | {wording.about} | {unsure} |")
    return "\n".join(lines)


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
        count = entry.bytes
        known = "not known" if count is None else f"{count / 1e3:,.0f} kB"
        size = f"{count / 1e6:,.0f} MB" if count is not None and count >= 1e6 else known
        origin = "<br>".join(part for part in (link(entry.source), entry.note) if part)
        lines.append(f"| `{entry.name}` | {entry.licence} | {size} | {origin} |")
    return "\n".join(lines)


def link(source: str) -> str:
    """Return an address as a link where it is one of the web's."""
    return f"[{source.rsplit('/', 1)[-1]}]({source})" if source.startswith("https://") else f"`{source}`"
