"""`wordmask export`: a segmenter as an ONNX file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask import segmenters
from wordmask.cli import options
from wordmask.console import show
from wordmask.extras import need
from wordmask.segmenters import DEFAULT_METHOD


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The .onnx file to write.")] = Path("wordmask.onnx"),
    names: options.Names = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also write a file with int8 weights beside it.")] = False,
    method: options.Method = DEFAULT_METHOD,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Write a segmenter's network as ONNX, for pictures of any size, and compare it with PyTorch.

    With --names, the names' embeddings are written beside it.

    Example: `wordmask export --out wordmask.onnx --int8`
    """
    from wordmask.runs.marks import NETWORK, WORDS, check_output

    if out.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"--out {out} must end in .onnx")
    vocabulary = None if names is None else options.names(names)
    need("onnx", "onnxruntime", "onnxscript")
    smaller, words = out.with_suffix(".int8.onnx"), out.with_suffix(".names.npz")
    check_output(out, NETWORK)
    if int8:
        check_output(smaller, NETWORK)
    if vocabulary is not None:
        check_output(words, WORDS)
    from wordmask import export as onnx

    segmenter = segmenters.load(**options.segmenter(method, preset, weights, "cpu", "fp32", settings))
    agreement = onnx.export(segmenter, out)
    rows = [_row(out, agreement.difference, agreement.same)]
    if int8:
        onnx.quantise(out, smaller)
        found = onnx.compare(segmenter, smaller)
        rows.append(_row(smaller, found.difference, found.same))
    if vocabulary is not None:
        onnx.write_words(segmenter, vocabulary, words)
        rows.append({"file": str(words), "bytes": words.stat().st_size})
    if as_json:
        show(json.dumps({"method": segmenter.method, "preset": segmenter.preset, "files": rows}))
        return
    for row in rows:
        line = f"{row['file']}: {row['bytes'] / 1e6:.1f} MB"
        if "difference" in row:
            line += f"; against PyTorch: outputs differ by {row['difference']:.2g}, "
            line += f"the same name on {100 * row['same']:.2f}%"
        show(line)


def _row(path: Path, difference: float, same: float) -> dict[str, Any]:
    return {"file": str(path), "bytes": path.stat().st_size, "difference": difference, "same": same}
