"""Segmenters whose network is an ONNX file that `export` wrote."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.methods import Declared
from wordmask.names.text_embeddings import TextEmbeddings
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.images import to_tensor
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.namedmask import NOTE, NamedMask, NamedMaskSettings
from wordmask.segmenters.open_vocabulary import OpenVocabularySegmenter
from wordmask.text_files import counted

FORMAT = "wordmask-onnx/1"
METADATA = "wordmask"
PIXELS, WORDS, LOGITS, FEATURES, OBJECTNESS = "pixels", "words", "logits", "features", "objectness"
"""The inputs and outputs of graphs."""
IN_THE_FILE = ("student", "benchmark", "names", "names_file", "backbones")
"""Settings of a student that say which it is."""


class ExportError(WordmaskError):
    """A segmenter that has no ONNX form, a file that is none, or one that does not do what the segmenter does."""


def open_session(path: str | Path, threads: int | None = None) -> Any:
    """On the processor. `threads` None leaves it to the runtime."""
    need("onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise ExportError(f"there is no ONNX file {path}; `wordmask export --out {path}` writes one")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class for every way of failing
        raise ExportError(f"{path} cannot be read as ONNX: {str(error).strip().splitlines()[0][:200]}") from error


class Told(BaseModel):
    """What `export` told about the network in the file.

    names: a student's, each with its phrases. settings: all that it was exported with. fixed: those of them that are in
    the graph. text_fingerprint: of the tower that reads the words.
    """

    method: str
    preset: str
    outputs: list[str]
    settings: dict[str, Any]
    names: dict[str, list[str]] | None = None
    patch_size: int | None = None
    text_fingerprint: str | None = None
    fixed: dict[str, Any] | None = None
    zoom: float = 1.0
    note: str | None = None


def read_told(session: Any, path: str | Path) -> Told:
    try:
        data = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        if data["format"] != FORMAT:
            raise ExportError(f"{path} is in the format {data['format']!r}, and {FORMAT!r} is what can be read")
        told = Told(**data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(
            f"{path} was not written by `wordmask export`: its {where}: {first['msg'].lower()}"
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{path} was not written by `wordmask export`") from error
    there = [output.name for output in session.get_outputs()]
    if lacking := [name for name in told.outputs if name not in there]:
        raise ExportError(f"{path} was not written by `wordmask export`: its network has no output {lacking[0]!r}")
    return told


def method_in(path: str | Path) -> str:
    """Return the method that a file of `export` is of."""
    return read_told(open_session(path), path).method


class _OnProcessor(Declared):
    """A method whose network is an ONNX file: it has none of torch's, and stays where it is."""

    def to(self, device: str | torch.device) -> Self:
        if torch.device(device).type != "cpu":
            raise ExportError(
                f"an ONNX file runs on the processor, not on {str(device)!r}: load the method without onnx"
            )
        return self


class OnnxOpenVocabulary(_OnProcessor, OpenVocabularySegmenter):
    """The words and the scores are the original's; its picture side is the file."""

    def __init__(self, original: OpenVocabularySegmenter, session: Any, told: Told):
        super().__init__(original.embed, original.sliding, background_threshold=original.background_threshold)
        self.method = original.method  # type: ignore[misc]
        self.preset = original.preset
        self.patch_size = original.patch_size
        self.lposs = original.lposs
        self._original, self._session = original, session
        self._kept = [name for name in told.outputs if name != LOGITS]
        self._no_words = np.zeros((1, original.embed.encoder.embedding_size), np.float32)

    def read(self, windows: Tensor) -> tuple[Tensor, ...]:
        feed = {PIXELS: windows.numpy(), WORDS: self._no_words}
        return tuple(torch.from_numpy(found) for found in self._session.run(self._kept, feed))

    def score(self, features: tuple[Tensor, ...], text: TextEmbeddings) -> Tensor:
        return self._original.score(features, text)


class OnnxStudent(_OnProcessor, NamedMask):
    """A student that is all in its file, names included."""

    zoom = 1.0  # the graph's own, in place of what is derived from a network of torch's

    def __init__(self, session: Any, vocabulary: Vocabulary, settings: NamedMaskSettings, zoom: float):
        self.precision, self.zoom = "fp32", zoom
        self.vocabulary, self.settings, self.metadata = vocabulary, settings, {}
        self._session = session
        self._learn_names(vocabulary)

    def _learn_names(self, vocabulary: Vocabulary) -> None:
        self._class_of = {p.casefold(): i for i, own in enumerate(vocabulary.phrases) for p in own}
        self._class_of |= {name.casefold(): i for i, name in enumerate(vocabulary.names)}

    def _read(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
        batch = torch.stack([to_tensor(image, size) for image in images])
        return torch.from_numpy(self._session.run([LOGITS], {PIXELS: batch.numpy()})[0])

    @property
    def keeps_features(self) -> bool:
        return False


def load_onnx(
    path: str | Path,
    original: Segmenter | None = None,
    *,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Segmenter:
    """Return a segmenter that runs the file's network.

    original: for open vocabularies the segmenter that was exported, whose text tower reads the names.
    settings: of a student, in place of those that it was exported with.
    """
    session = open_session(path, threads)
    told = read_told(session, path)
    if told.names is not None:
        return _student(path, session, told, told.names, settings or {})
    if not isinstance(original, OpenVocabularySegmenter) or original.method != told.method:
        raise ExportError(f"{path} holds a {told.method}: give the same method, whose text tower reads the names")
    _check_same(path, told, original)
    return OnnxOpenVocabulary(original, session, told)


def _student(
    path: str | Path, session: Any, told: Told, names: Mapping[str, list[str]], settings: Mapping[str, Any]
) -> OnnxStudent:
    vocabulary = Vocabulary.of({name: {"instead": phrases} for name, phrases in names.items()})
    classes = next(output.shape[1] for output in session.get_outputs() if output.name == LOGITS)
    if isinstance(classes, int) and classes != len(vocabulary):
        told_of, made_for = counted(len(vocabulary), "name"), counted(classes, "class", "classes")
        raise ExportError(f"{path} tells {told_of}, and its network has {made_for}")
    for key in settings:
        if key in IN_THE_FILE:
            raise ExportError(f"{path} holds a student and its names: {key} cannot be chosen beside it; leave it out")
    known = {field.name for field in fields(NamedMaskSettings)} - set(IN_THE_FILE)
    kept = {key: value for key, value in told.settings.items() if key in known}
    try:
        chosen = NamedMaskSettings(**(kept | dict(settings)))
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(
            f"{path}: {first['loc'][0]}={first['input']!r} cannot be used: {first['msg'].lower()}"
        ) from error
    student = OnnxStudent(session, vocabulary, chosen, told.zoom)
    student.preset = told.preset
    student.metadata = {} if told.note is None else {NOTE: told.note}
    return student


def _check_same(path: str | Path, told: Told, original: OpenVocabularySegmenter) -> None:
    again = f"give what was exported (preset {told.preset}), or export anew"
    if told.text_fingerprint is None or told.fixed is None:
        raise ExportError(f"{path} does not tell which text tower reads its words: export it anew")
    if original.patch_size != told.patch_size:
        raise ExportError(
            f"{path} has patches of {told.patch_size} pixels and this {told.method} of {original.patch_size}: {again}"
        )
    if original.embed.encoder.text_fingerprint != told.text_fingerprint:
        raise ExportError(f"{path} was exported with another text tower than this {told.method}'s: {again}")
    chosen = getattr(original, "settings", None)
    for key, value in told.fixed.items():
        if (own := getattr(chosen, key, None)) != value:
            raise ExportError(f"{path} computes with {key}={value}, not with {key}={own}: {again}")
