"""`wordmask evaluate`: a segmenter, or a saliency method, against a benchmark."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.benchmarks import BENCHMARKS
from wordmask.cli import options
from wordmask.segmenters import DEFAULT_METHOD


def evaluate(
    benchmark: Annotated[str, typer.Option(help=f"One of {', '.join(BENCHMARKS)}.")] = "world",
    split: Annotated[
        str | None,
        typer.Option(help="Of the benchmark, by default the one that papers report. World: single, multi, ..."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of the data sets; the world needs none.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only so many, evenly spread.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only see whether the data are there and as they should be.")
    ] = (False),
    method: Annotated[
        str, typer.Option(help="The segmenter, by its paper; or a saliency method: found, selfmask, ...")
    ] = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="Measure borders too: boundary IoU.")] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, ...; several parted by commas share the work, with --out.")
    ] = "auto",
    precision: options.StatedPrecision = "fp32",
    batch_size: options.BatchSize = 8,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder for every picture's scores, the result and a page; goes on there."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU.

    Example: `wordmask evaluate --benchmark world --split single --preset world`
    or `wordmask evaluate --benchmark voc --root data --method clip-dinoiser --out runs/voc`
    """
    from wordmask.commands.evaluate import check_data, run

    opening = {"name": benchmark, "split": split, "root": root, "pictures": pictures}
    if check:
        check_data(opening, as_json=json)
        return
    devices = [name.strip() for name in device.split(",")]
    if len(devices) > 1 and out is None:
        raise typer.BadParameter(f"--device {device} shares the work through a folder: give --out")
    run(
        opening=opening,
        load=options.segmenter(method, preset, weights, devices[0], precision, settings),
        devices=devices,
        batch_size=batch_size,
        boundary=boundary,
        out=out,
        as_json=json,
    )
