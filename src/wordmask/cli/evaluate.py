"""`wordmask evaluate`: a segmenter against a benchmark."""

from typing import Annotated

import typer

from wordmask.cli import options


def evaluate(
    benchmark: Annotated[str, typer.Option(help="world (things and background) or world-stuff.")] = "world",
    split: Annotated[str | None, typer.Option(help="Of the world: single, multi, pairs, all.")] = None,
    method: options.Method = "maskclip",
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    batch_size: options.BatchSize = 8,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a segmenter on a benchmark: mIoU, pixel accuracy, every name's IoU.

    Example: `wordmask evaluate --benchmark world --split single --method maskclip --preset world`
    """
    from wordmask.commands.evaluate import run

    run(
        benchmark=benchmark,
        split=split,
        load=options.segmenter(method, preset, weights, device, precision, settings),
        batch_size=batch_size,
        as_json=json,
    )
