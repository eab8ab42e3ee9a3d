"""One file a paper, behind one interface. A new paper is one file here and one entry of `wordmask.method_list`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.compute import Compute
from wordmask.extras import need
from wordmask.methods import DEFAULT_PRESET, MethodError, check_method, list_methods, load_method
from wordmask.regions import maker_of
from wordmask.segmenters.choosing import AUTO, settled

if TYPE_CHECKING:
    from wordmask.regions.base import RegionMaker
    from wordmask.segmenters.base import Segmenter

DEFAULT_METHOD = AUTO
"""Of every verb: the best of the methods that take any names whose weights can be had."""


def listing() -> str:
    """Return every method with what it does, a line each, in Markdown."""
    rows = [
        f"- {AUTO}: the best by published figures whose weights are here or can be had; the default",
        *(f"- {method.name}: {method.about} ({method.paper})" for method in list_methods("segmenter")),
    ]
    return "Methods:\n\n" + "\n".join(rows)


def load(
    method: str = DEFAULT_METHOD,
    *,
    preset: str = DEFAULT_PRESET,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    onnx: str | Path | None = None,
    correct: "str | RegionMaker | None" = None,
    **settings: Any,
) -> "Segmenter":
    """Return a segmenter by the name of its paper; "auto" is the best whose weights can be had, which stderr names.

    preset: whose backbones and settings to start from; `settings` change single ones.
    weights: a file, a URL or a name of the catalogue in place of the weights that the method learnt itself. Those of
    other networks have settings of their own, as `clip_weights`.
    device: "auto" takes an accelerator where there is one.
    precision: "auto" is what the network is fastest in on this machine, fp32, bf16 or int8: see docs/speed.md; "fp32"
    gives the papers' figures. What was chosen is the segmenter's `precision`.
    onnx: a file that `wordmask export` wrote of the same method and preset; the network runs from it, on the processor.
    What is in the file cannot be chosen beside it: an argument that says otherwise is refused.
    correct: what cuts pictures into regions, each of which takes the name that most of its pixels bear: a maker of
    `wordmask.regions` by its name, "module:function", or a function from a picture to a map; "none" where the method
    itself would do so.
    """
    segmenter: Segmenter
    if onnx is not None:
        segmenter = _load_onnx(onnx, method, preset, weights, device, precision, settings)
    else:
        method = settled(method, preset, weights)
        compute = partial(Compute, device, precision)
        segmenter = load_method("segmenter", method, preset=preset, weights=weights, compute=compute, settings=settings)
    if correct is not None:
        segmenter.correction = (
            None if correct == "none" else maker_of(correct, preset=preset, device=device, precision=precision)
        )
    return segmenter


def _load_onnx(
    onnx: str | Path,
    method: str,
    preset: str,
    weights: str | Path | None,
    device: str,
    precision: str,
    settings: dict[str, Any],
) -> "Segmenter":
    if precision not in ("auto", "fp32"):
        raise MethodError(f"{onnx} computes in fp32, not in {precision!r}: leave precision at auto")
    if device not in ("auto", "cpu"):
        raise MethodError(f"{onnx} runs on the processor, not on {device!r}: leave device at auto")
    need("onnxruntime")
    from wordmask.segmenters.onnx_file import load_onnx, method_in

    if method == AUTO:
        method = method_in(onnx)

    if method != "namedmask":
        original = load(method, preset=preset, weights=weights, device="cpu", precision="fp32", **settings)
        return load_onnx(onnx, original)
    check_method("segmenter", method, preset=preset, settings=settings)
    if weights is not None:
        raise MethodError(f"{onnx} holds the student's weights: leave out weights={weights}")
    student = load_onnx(onnx, settings=settings)
    if preset not in (DEFAULT_PRESET, student.preset):
        raise MethodError(f"{onnx} was exported from the preset {student.preset!r}, not {preset!r}: leave preset out")
    return student
