"""`wordmask export`: a segmenter as an ONNX file."""

import json
from pathlib import Path
from typing import Any

import typer

from wordmask import segmenters
from wordmask.console import show
from wordmask.extras import need
from wordmask.names.lists import parse_names
from wordmask.runs.marks import NETWORK, WORDS, check_output


def run(*, out: Path, names: str | None, int8: bool, load: dict[str, Any], as_json: bool) -> None:
    if out.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"--out {out} must end in .onnx")
    vocabulary = None if names is None else parse_names(names)
    need("onnx", "onnxruntime", "onnxscript")
    smaller, words = out.with_suffix(".int8.onnx"), out.with_suffix(".names.npz")
    check_output(out, NETWORK)
    if int8:
        check_output(smaller, NETWORK)
    if vocabulary is not None:
        check_output(words, WORDS)
    from wordmask.export import compare, export, quantise, write_words

    segmenter = segmenters.load(**load)
    agreement = export(segmenter, out)
    rows = [_row(out, agreement.difference, agreement.same)]
    if int8:
        quantise(out, smaller)
        found = compare(segmenter, smaller)
        rows.append(_row(smaller, found.difference, found.same))
    if vocabulary is not None:
        write_words(segmenter, vocabulary, words)
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
