"""One file a paper, behind one interface. A new paper is one file here and one line in `METHODS`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.extras import need
from wordmask.methods import Method, MethodError, check_method, load_method

if TYPE_CHECKING:
    from wordmask.segmenters.base import Segmenter

DEFAULT_METHOD = "clip-dinoiser"
"""Of every verb: the best of the methods that take any names, by the papers and on the built-in world."""
DEFAULT_PRESET = "paper"
METHODS = {
    "maskclip": Method(
        "Zhou et al., ECCV 2022",
        "wordmask.segmenters.maskclip",
        "MaskClip",
        "MaskClipSettings",
        about="CLIP's patches, each by its nearest name",
    ),
    "clip-diy": Method(
        "Wysoczańska et al., WACV 2024",
        "wordmask.segmenters.clip_diy",
        "ClipDiy",
        "ClipDiySettings",
        about="CLIP on windows of several sizes, times what is an object",
    ),
    "clip-dinoiser": Method(
        "Wysoczańska et al., ECCV 2024",
        "wordmask.segmenters.clip_dinoiser",
        "ClipDinoiser",
        "ClipDinoiserSettings",
        about="CLIP's patches, pooled where DINO sees one thing",
    ),
    "reco": Method(
        "Shin et al., NeurIPS 2022",
        "wordmask.segmenters.reco",
        "ReCo",
        "ReCoSettings",
        about="names learnt from an archive of pictures",
    ),
    "selfmask-clip": Method(
        "NamedMask's baseline",
        "wordmask.segmenters.saliency_clip",
        "SaliencyClip",
        "SaliencyClipSettings",
        about="one mask of what is salient, named by CLIP",
    ),
    "namedmask": Method(
        "Shin et al., CVPRW 2023",
        "wordmask.segmenters.namedmask",
        "NamedMask",
        "NamedMaskSettings",
        about="a student of `wordmask distill`, by its own names",
    ),
}


def listing() -> str:
    """Return every method with what it does, a line each, in Markdown."""
    rows = [
        f"- {name}: {method.about} ({method.paper}){'; the default' if name == DEFAULT_METHOD else ''}"
        for name, method in METHODS.items()
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
    **settings: Any,
) -> "Segmenter":
    """A segmenter by the name of its paper.

    preset: whose backbones and settings to start from; `settings` change single ones.
    weights: a file or a URL in place of the preset's weights.
    device: "auto" takes an accelerator where there is one.
    precision: "auto" is bf16 where the device multiplies it natively, and fp32 elsewhere; "fp32" gives the papers'
    figures. What was chosen is the segmenter's `precision`.
    onnx: a file that `wordmask export` wrote of the same method and preset; the network runs from it, on the processor.
    What is in the file cannot be chosen beside it: an argument that says otherwise is refused.
    """
    if onnx is not None:
        return _load_onnx(onnx, method, preset, weights, device, precision, settings)
    segmenter: Segmenter = load_method(
        "method",
        METHODS,
        method,
        preset=preset,
        weights=weights,
        device=device,
        precision=precision,
        settings=settings,
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
    from wordmask.export import load_onnx

    if method != "namedmask":
        original = load(method, preset=preset, weights=weights, device="cpu", precision="fp32", **settings)
        return load_onnx(onnx, original)
    check_method("method", METHODS, method, preset=preset, settings=settings)
    if weights is not None:
        raise MethodError(f"{onnx} holds the student's weights: leave out weights={weights}")
    student = load_onnx(onnx, settings=settings)
    if preset not in (DEFAULT_PRESET, student.preset):
        raise MethodError(f"{onnx} was exported from the preset {student.preset!r}, not {preset!r}: leave preset out")
    return student
