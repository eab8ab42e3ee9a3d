"""`wordmask contrast ...`: what names race against, from the captions of your own pictures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.console import complain, show
from wordmask.console.progress import progress_bar
from wordmask.names.contrast import GAMMA, is_file_of_concepts, shipped
from wordmask.text_files import counted

contrast = typer.Typer(
    name="contrast",
    help="Contrastive concepts: what a few names race against.\n\n"
    "Example: `wordmask contrast build shards --out contrast.json`",
    no_args_is_help=True,
)


@contrast.callback()
def _group() -> None:
    """Keep a single verb one of a group."""


@contrast.command()
def build(
    tars: Annotated[list[str], typer.Argument(help="Webdataset tars with captions, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .json file to write.")] = Path("contrast.json"),
    gamma: Annotated[
        float, typer.Option(min=0, max=1, help="A concept is in more than this share of a name's captions.")
    ] = GAMMA,
) -> None:
    """Count which words captions say together: concepts for `--contrast FILE`. The tars are read once, no picture is.

    Example: `wordmask contrast build shards --out contrast.json`
    """
    from wordmask.collection.captions import as_file, count_words
    from wordmask.collection.piles import TarPile, open_pile
    from wordmask.collection.references import CollectionError
    from wordmask.files import atomic_write

    if out.suffix.lower() != ".json":
        raise typer.BadParameter(f"--out is a .json file, not {out}")
    if out.exists() and not is_file_of_concepts(out):
        raise CollectionError(f"{out} is there and no file of `contrast build`: choose another --out")
    found: list[Path] = []
    for path in options.paths(tars):
        pile = open_pile(path)
        if not isinstance(pile, TarPile):
            raise CollectionError(f"{path} holds no webdataset tars: captions are read from their .txt and .json")
        found += [pile.root / name for name in pile.tars]
    known = shipped()
    with progress_bar("counting words", len(found)) as progress:
        counts = count_words(found, (*known.words, *known.same), progress)
    told = as_file(counts, gamma=gamma, tars=found)
    with atomic_write(out) as file:
        file.write(json.dumps(told, indent=1, ensure_ascii=False).encode())
    complain(f"{counted(counts.captions, 'caption')}, {counted(len(told['concepts']), 'word')}")
    if counts.forgotten:
        complain(f"note: pairs that were rare were forgotten {counted(counts.forgotten, 'time')}, to stay in memory")
    show(out)
