"""`wordmask export`: a segmenter as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.segmenters import DEFAULT_METHOD


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The .onnx file to write.")] = Path("wordmask.onnx"),
    names: Annotated[
        str | None, typer.Option(help="Also write the embeddings of these names, parted by commas, beside it.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also write a file with int8 weights beside it.")] = False,
    method: options.Method = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a segmenter's network as ONNX, for pictures of any size, and compare it with PyTorch.

    Example: `wordmask export --preset world --out wordmask.onnx --int8`
    """
    from wordmask.commands.export import run

    run(
        out=out,
        names=names,
        int8=int8,
        load=options.segmenter(method, preset, weights, "cpu", "fp32", settings),
        as_json=json,
    )
