"""One file a paper, behind one interface. A new paper is one file here and one line in `METHODS`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.registry import Method, MethodError, load_method

if TYPE_CHECKING:
    from wordmask.segmenters.base import Segmenter

METHODS = {
    "maskclip": Method("Zhou et al., ECCV 2022", "wordmask.segmenters.maskclip", "MaskClip", "MaskClipSettings"),
    "clip-diy": Method("Wysoczańska et al., WACV 2024", "wordmask.segmenters.clip_diy", "ClipDiy", "ClipDiySettings"),
    "clip-dinoiser": Method(
        "Wysoczańska et al., ECCV 2024", "wordmask.segmenters.clip_dinoiser", "ClipDinoiser", "ClipDinoiserSettings"
    ),
    "reco": Method("Shin et al., NeurIPS 2022", "wordmask.segmenters.reco", "ReCo", "ReCoSettings"),
    "selfmask-clip": Method(
        "NamedMask's baseline",
        "wordmask.segmenters.saliency_clip",
        "SaliencyClip",
        "SaliencyClipSettings",
    ),
    "namedmask": Method("Shin et al., CVPRW 2023", "wordmask.segmenters.namedmask", "NamedMask", "NamedMaskSettings"),
}


def load(
    method: str,
    *,
    preset: str = "paper",
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
    """
    if onnx is not None:
        if precision not in ("auto", "fp32"):
            raise MethodError(f"{onnx} computes in fp32, not in {precision!r}: leave precision at auto")
        from wordmask.export import load_onnx

        if method == "namedmask":
            return load_onnx(onnx)
        original = load(method, preset=preset, weights=weights, device="cpu", precision="fp32", **settings)
        return load_onnx(onnx, original)
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
