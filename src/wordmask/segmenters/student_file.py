"""A student as one file: safetensors, with its names and the shape of its network among the metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import safe_open
from torch import Tensor

from wordmask.files import Writer, atomic_write
from wordmask.names.vocabulary import Vocabulary, VocabularyError
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import WeightsError, read_metadata, read_state_dict, write_state_dict

FORMAT, OPEN_FORMAT = "wordmask-student/1", "wordmask-open-student/1"
_SETTINGS = TypeAdapter(DeepLabSettings)


@dataclass(frozen=True)
class Student:
    """A network and what its classes are called: class i is `vocabulary.names[i]`."""

    network: DeepLabV3Plus
    vocabulary: Vocabulary
    metadata: Mapping[str, str]
    """How it came about."""


def write_student(
    path: str | Path,
    network: DeepLabV3Plus,
    vocabulary: Vocabulary,
    metadata: Mapping[str, str] | None = None,
    *,
    write: Writer = atomic_write,
) -> None:
    """Whole or not at all; equal students give equal bytes."""
    if len(vocabulary) != network.classes:
        raise WeightsError(f"{path}: {len(vocabulary)} names for a network of {network.classes} classes")
    _write(path, network.state_dict(), network.settings, vocabulary, metadata, write)


def halve_student(source: str | Path, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the same student in half the bytes, as it ships: it is single again once it is read."""
    student = read_student(source)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in student.network.state_dict().items()
    }
    _write(path, state, student.network.settings, student.vocabulary, {**student.metadata, **metadata})


def _write(
    path: str | Path,
    state: Mapping[str, Tensor],
    settings: DeepLabSettings,
    vocabulary: Vocabulary,
    metadata: Mapping[str, str] | None,
    write: Writer = atomic_write,
) -> None:
    written = {
        **(metadata or {}),
        "format": FORMAT,
        "names": json.dumps(dict(zip(vocabulary.names, vocabulary.phrases, strict=True)), ensure_ascii=False),
        "network": _SETTINGS.dump_json(settings).decode(),
    }
    write_state_dict(path, state, written, write=write)


def is_student_file(path: str | Path, kind: str = FORMAT) -> bool:
    """Return whether `write_student` wrote this, or what writes another `kind` of students; a published checkpoint is a
    pickle of torch's.
    """
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":
            return False
    try:
        with safe_open(path, framework="pt") as tensors:
            return (tensors.metadata() or {}).get("format") == kind
    except Exception as error:  # a file cut short; safetensors says how
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error


def read_student(path: str | Path) -> Student:
    """On the CPU, in evaluation mode."""
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} is no student: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    try:
        names = json.loads(metadata["names"])
        vocabulary = Vocabulary.of({name: {"instead": phrases} for name, phrases in names.items()})
        settings = _SETTINGS.validate_json(metadata["network"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, VocabularyError) as error:
        why = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is damaged: its names or its network cannot be read ({why})") from error
    what, state = f"student {path}", read_state_dict(path)
    check_numbers(settings.backbone_options, state, what)
    network = built_from(lambda: DeepLabV3Plus(len(vocabulary), settings), state, what=what)
    beside = {key: value for key, value in metadata.items() if key not in ("format", "names", "network")}
    return Student(network.eval(), vocabulary, beside)
