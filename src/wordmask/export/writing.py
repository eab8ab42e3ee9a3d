"""ONNX files: written, compared with PyTorch, and made small."""

import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wordmask._version import __version__
from wordmask.export.graphs import Graph, graph_of, logits_of
from wordmask.files import atomic_write, naming_a_full_disk
from wordmask.names.vocabulary import Vocabulary
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.namedmask import NamedMask
from wordmask.segmenters.onnx_file import FORMAT, LOGITS, METADATA, PIXELS, WORDS, ExportError, open_session
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter

OPSET = 17
"""Of ONNX, 2022: the first with layer normalisation, and read by every runtime in use."""
DIMENSIONS = {PIXELS: {0: "batch", 2: "height", 3: "width"}, WORDS: {0: "words"}}
EXAMPLE = (2, 3, 173, 211)
"""A batch that no network finds handy, so that nothing depends on a size that happens to fit."""
CHECKED = ((1, 160, 224), (3, 96, 96), (2, 131, 178))
"""Batch, height and width of the pictures that files are compared on."""
WORDS_CHECKED = 7
MOST_DIFFERENCE, LEAST_AGREEMENT = 1e-3, 0.999


@dataclass(frozen=True)
class Agreement:
    """An ONNX file against PyTorch on random pictures: the largest difference of any output, and the share of places
    with the same best name.
    """

    difference: float
    same: float

    @property
    def is_close(self) -> bool:
        return self.difference <= MOST_DIFFERENCE and self.same >= LEAST_AGREEMENT


def export(segmenter: Segmenter, path: str | Path) -> Agreement:
    """Write a segmenter's network, and compare what was written; a file that differs is not left there."""
    path = Path(path)
    graph = graph_of(segmenter)
    pixels = torch.rand(EXAMPLE)
    example = (pixels, torch.rand(WORDS_CHECKED, _width(segmenter))) if WORDS in graph.inputs else (pixels,)
    with _drafts_beside(path) as folder:
        draft = folder / "draft.onnx"
        _trace(graph, example, draft)
        data = _with_metadata(draft, _told(segmenter, graph))
        draft.write_bytes(data)
        agreement = compare(segmenter, draft)
    if not agreement.is_close:
        raise ExportError(
            f"{path}: not written, for it would differ from PyTorch: outputs by {agreement.difference:.2g} "
            f"(allowed {MOST_DIFFERENCE:g}), the same best name on {100 * agreement.same:.2f}% of places"
        )
    with atomic_write(path) as file:
        file.write(data)
    return agreement


@contextmanager
def _drafts_beside(path: Path) -> Iterator[Path]:
    """Yield a folder that goes again, on the disk where the file is to be: the libraries write to paths alone."""
    with naming_a_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wordmask-", dir=path.parent) as folder:
            yield Path(folder)


def _trace(graph: Graph, example: tuple[torch.Tensor, ...], path: Path) -> None:
    """By tracing: the exporter by torch.export writes graphs that agree as well, and takes ten times as long."""
    dynamic = {name: DIMENSIONS[name] for name in graph.inputs}
    dynamic |= {name: {0: "batch", 2: "rows", 3: "columns"} for name in graph.outputs}
    dynamic[LOGITS] = dynamic[LOGITS] | ({1: "words"} if WORDS in graph.inputs else {})
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its age, and of Python branches that our example has been chosen for
        torch.onnx.export(
            graph,
            example,
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )


def _with_metadata(path: Path, told: dict[str, Any]) -> bytes:
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "wordmask", __version__
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(told)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _told(segmenter: Segmenter, graph: Graph) -> dict[str, Any]:
    """Return what a program needs to know to use the file."""
    told: dict[str, Any] = {
        "format": FORMAT,
        "method": segmenter.method,
        "preset": segmenter.preset,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }
    if isinstance(segmenter, NamedMask):
        vocabulary = segmenter.vocabulary
        names = dict(zip(vocabulary.names, vocabulary.phrases, strict=True))
        told |= {"zoom": segmenter.zoom} if segmenter.zoom != 1 else {}
        told |= {"note": segmenter.note} if segmenter.note is not None else {}
        return told | {"names": names, "settings": _plain(asdict(segmenter.settings))}
    settings = getattr(segmenter, "settings", None)
    if isinstance(segmenter, OpenVocabularySegmenter) and settings is not None:
        chosen = _plain(asdict(settings))
        told |= {
            "patch_size": segmenter.patch_size,
            "text_fingerprint": segmenter.embed.encoder.text_fingerprint,
            "fixed": {key: chosen[key] for key in graph.fixed},
            "settings": chosen,
        }
    return told


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}


def _width(segmenter: Segmenter) -> int:
    assert isinstance(segmenter, OpenVocabularySegmenter)  # its graph takes words
    return segmenter.embed.encoder.embedding_size


def compare(segmenter: Segmenter, path: str | Path, *, seed: int = 0) -> Agreement:
    """Random pictures and words of several sizes, through PyTorch and through the file."""
    graph, session, dice = graph_of(segmenter), open_session(path), torch.Generator().manual_seed(seed)
    difference, same, places = 0.0, 0, 0
    for batch, height, width in CHECKED:
        inputs = [torch.rand(batch, 3, height, width, generator=dice)]
        if WORDS in graph.inputs:
            words = torch.randn(WORDS_CHECKED, _width(segmenter), generator=dice)
            inputs.append(torch.nn.functional.normalize(words, dim=1))
        wanted = _read_by(segmenter, graph, inputs)
        got = session.run(
            list(graph.outputs), {name: value.numpy() for name, value in zip(graph.inputs, inputs, strict=True)}
        )
        for own, other in zip(got, wanted, strict=True):
            difference = max(difference, float(np.abs(own - other).max()))
        same += int((got[0].argmax(axis=1) == wanted[0].argmax(axis=1)).sum())
        places += got[0][:, 0].size
    return Agreement(difference, same / places)


def _read_by(segmenter: Segmenter, graph: Graph, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Return the graph's outputs by the segmenter's own code, where it has such."""
    with torch.inference_mode():
        if not isinstance(segmenter, OpenVocabularySegmenter):
            return [output.numpy() for output in graph(*inputs)]
        kept = segmenter.read(inputs[0])
        return [logits_of(kept[0], inputs[1]).numpy(), *(features.numpy() for features in kept)]


def quantise(path: str | Path, smaller: str | Path) -> None:
    """Weights as int8, activations as they come: a quarter of the size. What it costs is for the user to measure."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _drafts_beside(Path(smaller)) as folder:
        draft = folder / "int8.onnx"
        # Matrix products alone: convolutions with int8 weights run slower on most processors, and the patches' one
        # is what everything else hangs on.
        quantize_dynamic(str(path), str(draft), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        data = draft.read_bytes()
    with atomic_write(smaller) as file:
        file.write(data)


def write_words(segmenter: Segmenter, names: Vocabulary | Sequence[str], path: str | Path) -> None:
    """Write a vocabulary's text embeddings for programs without a text tower: `names`, `vectors` (P, D), `owner` (P,).

    Vector p is a phrase of name `owner[p]`; a name's logit is that of its best phrase.
    """
    if not isinstance(segmenter, OpenVocabularySegmenter):
        raise ExportError(f"{segmenter.method} knows its own names: it takes no words")
    text = segmenter.embed(Vocabulary.of(names))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        names=np.array(text.vocabulary.names),
        vectors=text.vectors.numpy().astype(np.float32),
        owner=text.owner.numpy(),
    )
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
