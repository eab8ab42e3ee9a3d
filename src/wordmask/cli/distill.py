"""`wordmask distill`: a segmenter of one's own, from names and unlabelled pictures."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options


def distill(
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", help="A file of names: one a line; YAML or JSON, also with synonyms; YOLO's data.yaml."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Unlabelled pictures: a folder, a list file, webdataset tars, or an embedding folder.",
            callback=options.local,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of this, and every other setting.")] = None,
    preset: Annotated[str | None, typer.Option(help="Whose networks and settings: paper, imagenet-s or world.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything that is drawn by lot.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, such as archive.size=50; may be repeated.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Go on without pictures that are no longer there; a run stops at them else.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Train a fast segmenter from nothing but names and unlabelled pictures (NamedMask).

    Started again, it goes on where it was; with other settings, it makes anew what follows from them.

    Example: `wordmask distill --names names.txt --images pictures --out run`
    """
    from wordmask.commands.distill import run

    run(
        names=names,
        images=images,
        out=out,
        config=config,
        preset=preset,
        seed=seed,
        device=device,
        pairs=settings or [],
        as_json=json,
        prune=prune,
    )
