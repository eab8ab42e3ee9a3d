"""What becomes an ONNX graph of each segmenter: from pictures, and for open vocabularies words, to logits.

Pictures are (B, 3, H, W) float32 in [0, 1], of any size; normalising and padding to whole patches are in the graph.
Words are text embeddings, an input, so that names stay free. Features are an output of their own: whoever keeps them
asks for other names without the network, as `look` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.encoders.clip_dense import CLIP_DINOISER
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.clip_dinoiser import GUIDING_BLOCK, TINY, ClipDinoiser
from wordmask.segmenters.maskclip import MaskClip
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.onnx_file import FEATURES, LOGITS, OBJECTNESS, PIXELS, WORDS, ExportError
from wordmask.segmenters.open_student import OpenStudent
from wordmask.segmenters.open_vocabulary import COSINE_SCALE


class Graph(nn.Module):
    """`inputs` and `outputs` are the graph's names, in the order of `forward`.

    fixed: settings that are in the graph, and cannot be others where it is run.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed: tuple[str, ...] = ()


class MaskClipGraph(Graph):
    inputs, outputs = (PIXELS, WORDS), (LOGITS, FEATURES)
    fixed = ("residual", "key_smoothing")

    def __init__(self, segmenter: MaskClip):
        super().__init__()
        if segmenter.settings.key_smoothing:
            raise ExportError("key smoothing works on the names' scores, after the network: export without it")
        self.visual = segmenter.clip.model.visual
        self.clip, self.reading = segmenter.clip, segmenter.settings.reading

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), (P, D) -> logits (B, P, h, w), features (B, D, h, w)"""
        reader = self.clip._dense_reader()
        dense = reader(self.clip.statistics.normalise(pixels), reading=self.reading)
        return logits_of(dense.values, words), dense.values


class ClipDinoiserGraph(Graph):
    inputs, outputs = (PIXELS, WORDS), (LOGITS, FEATURES, OBJECTNESS)
    fixed = ("affinity", "affinity_threshold", "background")

    def __init__(self, segmenter: ClipDinoiser):
        super().__init__()
        settings = segmenter.settings
        if segmenter.heads is None or settings.affinity != "trained" or settings.background != "trained":
            raise ExportError("CLIP-DINOiser is exported with its trained affinity and background")
        self.visual, self.heads = segmenter.clip.model.visual, segmenter.heads
        self.clip, self.threshold = segmenter.clip, settings.affinity_threshold

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, ...]:
        """... and objectness (B, 1, h, w) in [0, 1]"""
        reader = self.clip._dense_reader()
        dense = reader(self.clip.statistics.normalise(pixels), reading=CLIP_DINOISER, ln_2=[GUIDING_BLOCK])
        guiding = dense.ln_2[GUIDING_BLOCK]
        affinity = self.heads.affinity(guiding)  # (B, N, N)
        weights = torch.where(affinity < self.threshold, affinity.new_zeros(()), affinity)
        # Equation 1 for a whole batch: the segmenter goes picture by picture, which a graph of any batch cannot.
        pooled = dense.values.flatten(2) @ weights.transpose(1, 2) / (weights.sum(dim=2)[:, None] + TINY)
        features = pooled.view_as(dense.values)
        return logits_of(features, words), features, self.heads.objectness(guiding).sigmoid()


class StudentGraph(Graph):
    inputs, outputs = (PIXELS,), (LOGITS,)

    def __init__(self, segmenter: NamedMask):
        super().__init__()
        self.network = segmenter.network
        self.statistics = segmenter.network.statistics

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> logits (B, classes, h, w), on the network's own grid"""
        return (self.network.classify(self.network.features(self.statistics.normalise(pixels))),)


def graph_of(segmenter: Segmenter) -> Graph:
    if getattr(segmenter, "precision", "fp32") != "fp32" or _is_half(segmenter):
        raise ExportError("export in fp32; --int8 makes the file smaller")
    if isinstance(segmenter, MaskClip):
        return MaskClipGraph(segmenter).eval()
    if isinstance(segmenter, ClipDinoiser):
        return ClipDinoiserGraph(segmenter).eval()
    if isinstance(segmenter, OpenStudent):
        raise ExportError(
            "a student of an open vocabulary has no ONNX form: distil one of your names (closed) for that"
        )
    if isinstance(segmenter, NamedMask):
        return StudentGraph(segmenter).eval()
    raise ExportError(
        f"{segmenter.method} has no ONNX form; there is one of maskclip, clip-dinoiser and namedmask's students"
    )


def _is_half(segmenter: Segmenter) -> bool:
    clip = getattr(segmenter, "clip", None)
    return clip is not None and clip.dtype != torch.float32


def logits_of(features: Tensor, words: Tensor) -> Tensor:
    return COSINE_SCALE * torch.einsum("pd,bdhw->bphw", words, F.normalize(features, dim=1))
