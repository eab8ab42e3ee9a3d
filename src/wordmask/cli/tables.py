"""`wordmask tables`: the papers' tables, ours beside the published figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask.cli import options


def tables(
    name: Annotated[str | None, typer.Argument(help="Which table; without it, all are listed.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of the data sets; the world needs none.")] = None,
    world: Annotated[
        bool, typer.Option("--world", help="Measure the world's columns of a paper's table, also without --root.")
    ] = False,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only so many pictures of each benchmark.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only rows whose label holds this; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the table as this HTML file.")] = None,
    out_dir: Annotated[
        Path, typer.Option(help="Keeps every figure below NAME/: a table that was stopped goes on.")
    ] = Path("runs/tables"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget figures that were kept, measure anew.")] = False,
    weights: Annotated[
        list[str] | None, typer.Option(help="METHOD=FILE or URL in place of its presets' weights; may be repeated.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Pictures that ReCo learns names from, or a run of `wordmask distill`.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="namedmask-world: the folder of what is distilled. [runs/namedmask-world]")
    ] = None,
    names: Annotated[str | None, typer.Option(help='namedmask-world: only these things, "dog, cat".')] = None,
    collection: Annotated[
        int | None, typer.Option(min=1, help="namedmask-world: how many unlabelled pictures are drawn. [12000]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="namedmask-world: of every student; experts take a tenth.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="namedmask-world: KEY=VALUE as of `distill`; may be repeated.")
    ] = None,
    device: options.Device = "auto",
    precision: options.StatedPrecision = "fp32",
    batch_size: options.BatchSize = 8,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a paper's table and print it beside the published figures. What is missing is named, not skipped.

    Without --root a paper's table shows its published figures at once, and says what data it needs.

    `namedmask-world` distils what it measures: started again, it goes on where it was.

    Example: `wordmask tables world --pictures 40` or `wordmask tables clip-diy-1 --root data`
    """
    from wordmask.commands.tables import list_tables, run

    if name is None:
        list_tables(as_json=json)
        return
    run(
        name,
        root=root,
        pictures=pictures,
        only=only or [],
        out=out,
        out_dir=out_dir,
        fresh=fresh,
        weights=dict(map(_method_and_file, weights or [])),
        archive=archive,
        world=world,
        distilling=_distilling(runs=runs, names=names, collection=collection, steps=steps, settings=settings),
        device=device,
        precision=precision,
        batch_size=batch_size,
        as_json=json,
    )


def _distilling(*, names: str | None, settings: list[str] | None, **others: Any) -> dict[str, Any]:
    """What was said, and nothing else."""
    from wordmask.names.lists import parse_names

    told = {key: value for key, value in others.items() if value is not None}
    if names is not None:
        told["names"] = parse_names(names).without_background().names
    return told | ({"settings": tuple(settings)} if settings else {})


def _method_and_file(pair: str) -> tuple[str, str]:
    method, equals, file = pair.partition("=")
    if not (method and equals and file):
        raise typer.BadParameter(
            f"--weights takes METHOD=FILE, such as namedmask=run/student/student.safetensors, not {pair!r}"
        )
    return method, file
