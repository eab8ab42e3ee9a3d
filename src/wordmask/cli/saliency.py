"""`wordmask saliency`: foreground of pictures, without a name."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options


def saliency(
    images: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder, or a .png file if there is one picture.")] = Path(
        "saliency"
    ),
    method: Annotated[str, typer.Option(help="found, selfmask, seed or spectral.")] = "found",
    refine: Annotated[
        str, typer.Option(help="none, solver (the bilateral solver), or found (its mask, cleaned up).")
    ] = "none",
    overlay: Annotated[bool, typer.Option(help="Also write the foreground drawn over the picture.")] = True,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 8,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Leave out pictures whose maps are there: go on after a stop.")
    ] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest picture that is decoded.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a picture.")] = False,
) -> None:
    """Find what stands out in pictures: a grey map each, white where foreground is.

    Example: `wordmask saliency photo.jpg --method found --refine solver --out maps`
    """
    from wordmask.commands.saliency import run

    load = options.segmenter(method, preset, weights, device, precision, settings)
    if "refine" in load:
        raise typer.BadParameter("--set refine=... is an option of its own: --refine")
    run(
        images=options.paths(images),
        out=out,
        load=load | {"refine": refine},
        overlay=overlay,
        skip_done=skip_done,
        batch_size=batch_size,
        max_pixels=max_pixels,
        json_lines=json,
    )
