"""`wordmask models`: which weights there are."""

import json
from itertools import groupby
from typing import Annotated

import typer

from wordmask.weights import catalogue


def models(
    kind: Annotated[str | None, typer.Option(help="Only one kind: clip, dino, saliency, segmenter, ...")] = None,
    fetch: Annotated[list[str] | None, typer.Option(help="Download the weights of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the published weights: where they come from, their licence and size, and which are on this machine.

    Example: `wordmask models --kind clip` or `wordmask models --fetch clip-dinoiser`
    """
    if fetch:
        from wordmask.weights.addresses import resolve

        for name in fetch:
            print(resolve(catalogue.find(name).name, progress=True))
        return
    entries = [entry for entry in catalogue.CATALOGUE if kind is None or entry.kind == kind]
    if not entries:
        kinds = sorted({entry.kind for entry in catalogue.CATALOGUE})
        raise catalogue.CatalogueError(f"no weights of the kind {kind!r}; the kinds are {', '.join(kinds)}")
    rows = [catalogue.as_row(entry) for entry in entries]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_list(entries, [row["local"] is not None for row in rows])


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    return f"~{count / 1e6:.0f} MB" if count >= 5e5 else f"~{count / 1e3:.0f} kB"


def _print_list(entries: list[catalogue.Weight], here: list[bool]) -> None:
    width = max(len(entry.name) for entry in entries)
    licences = max(len(entry.licence) for entry in entries)
    for kind, group in groupby(zip(entries, here, strict=True), key=lambda pair: pair[0].kind):
        print(f"{kind}")
        for entry, is_here in group:
            size = _size(entry.bytes)
            mark = "here" if is_here else "-"
            print(f"  {entry.name:{width}}  {size:>8}  {entry.licence:{licences}}  {mark:4}  {entry.source}")
    print("\n~ about, ? not known. `wordmask models --fetch NAME` downloads; WORDMASK_CACHE says where to.")
