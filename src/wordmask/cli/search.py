"""`wordmask search`: the pictures of a collection that are most like a phrase."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options


def search(
    phrases: Annotated[list[str], typer.Argument(help="What to look for, each in words of its own.")],
    collection: Annotated[
        Path,
        typer.Option(help="A folder of embeddings, a run of `distill`, or pictures, which are embedded first."),
    ],
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many pictures for each.")] = 10,
    preset: options.Preset = "paper",
    clip: Annotated[
        str | None, typer.Option(help="ARCHITECTURE/TAG of an open_clip model, in place of the preset's.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Where the pictures are, if the collection does not say.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also write the pictures on one page (.html).")] = None,
    device: options.Device = "auto",
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget pictures that were embedded before and are no longer there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a picture.")] = False,
) -> None:
    """Find the pictures that are most like a phrase, by CLIP.

    Example: `wordmask search "a red bus" --collection pictures --top 20`
    """
    from wordmask.commands.search import run

    run(
        phrases,
        collection=collection,
        top=top,
        preset=preset,
        clip=clip,
        image_root=image_root,
        sheet=sheet,
        device=device,
        as_json=json,
        prune=prune,
    )
