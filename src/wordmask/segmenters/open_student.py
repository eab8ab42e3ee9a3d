"""Students whose last layer is the space of CLIP's texts: they answer to names that they were never distilled for.

The network of NamedMask's students with D + 1 channels in place of one for each name: D are a feature in that space,
which is held against texts by cosines, and the last says how much a place is background.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.clip_building import clip_at
from wordmask.files import Writer, atomic_write
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.contrast import Concepts, Contrast, rivals, shipped
from wordmask.names.prompts import Templates, templates
from wordmask.names.text_embeddings import TextEmbedder, TextEmbeddings, TextEncoder, far_from_names
from wordmask.names.vocabulary import Rivals, Vocabulary
from wordmask.pictures.reduced import Picture
from wordmask.segmenters.base import MissingWeightsError, Seen, SegmenterError
from wordmask.segmenters.deeplab import TEXTS, DeepLabSettings, told_of
from wordmask.segmenters.namedmask import PRESET, NamedMask, NamedMaskSettings, SeenByStudent
from wordmask.segmenters.open_deeplab import OpenDeepLab, is_deep
from wordmask.segmenters.student_file import OPEN_FORMAT, Student, read_names, reading, write_names
from wordmask.weights.addresses import resolve
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import WeightsError, read_metadata, read_state_dict, write_state_dict

VECTORS = f"{TEXTS}vectors"
"""The texts of the names that it was distilled for, (P, D), among the network's tensors."""
OWN = ("format", "names", "network", "tower", "temperature")
_SETTINGS = TypeAdapter(DeepLabSettings)


def ground_logits(output: Tensor, temperature: float) -> Tensor:
    """(B, D + 1, h, w) -> background's (B, 1, h, w), of the size that differences of the others have."""
    return output[:, -1:] / temperature**0.5


def open_logits(output: Tensor, text: TextEmbeddings, temperature: float) -> Tensor:
    """(B, D + 1, h, w) -> (B, 1 + K, h, w): background's, then those of the names of `text`, cosines by temperature."""
    return torch.cat([ground_logits(output, temperature), text.cosines(output[:, :-1]) / temperature], dim=1)


@dataclass(frozen=True)
class TextTower:
    """The CLIP whose text tower reads names: its address, what it is known by, and the prompts (`TEMPLATE_SETS`)."""

    clip: str
    clip_weights: str | None
    templates: str
    fingerprint: str


_TOWER = TypeAdapter(TextTower)


@dataclass(frozen=True)
class OpenStudentFile:
    """vocabulary: background and the names that it was distilled for; vectors (P, D): of all their phrases but
    background's, one after the other.
    """

    network: OpenDeepLab
    vocabulary: Vocabulary
    vectors: Tensor
    tower: TextTower
    temperature: float
    metadata: Mapping[str, str]


def write_open_student(path: str | Path, student: OpenStudentFile, *, write: Writer = atomic_write) -> None:
    """Whole or not at all; equal students give equal bytes."""
    written = {
        **student.metadata,
        "format": OPEN_FORMAT,
        "names": write_names(student.vocabulary),
        "network": json.dumps(told_of(student.network.settings), separators=(",", ":")),
        "tower": json.dumps(asdict(student.tower), ensure_ascii=False),
        "temperature": repr(student.temperature),
    }
    write_state_dict(path, {**student.network.state_dict(), VECTORS: student.vectors}, written, write=write)


def read_open_student(path: str | Path) -> OpenStudentFile:
    """On the CPU, in evaluation mode."""
    metadata = read_metadata(path)
    if metadata.get("format") != OPEN_FORMAT:
        raise WeightsError(f"{path} is no open student: its format is {metadata.get('format')!r}, not {OPEN_FORMAT!r}")
    state = dict(read_state_dict(path))
    with reading(path):
        vocabulary = read_names(metadata["names"])
        settings = _SETTINGS.validate_json(metadata["network"])
        tower = _TOWER.validate_json(metadata["tower"])
        temperature = float(metadata["temperature"])
        vectors = state.pop(VECTORS)
        phrases, dimensions = vectors.shape
        if not 0 < temperature < inf:
            raise ValueError(f"its temperature is {temperature}")
        if phrases != len(vocabulary.without_background().all_phrases):
            raise ValueError("its texts are not those of its names")
    what = f"student {path}"
    check_numbers(settings.backbone_options, state, what)
    network = built_from(lambda: OpenDeepLab(dimensions + 1, settings, is_deep=is_deep(state)), state, what=what)
    beside = {key: value for key, value in metadata.items() if key not in OWN}
    return OpenStudentFile(network.eval(), vocabulary, vectors.float(), tower, temperature, beside)


class OpenStudent(NamedMask):
    """Answers to any names. Those that it was distilled for it knows itself; for others it reads CLIP's text tower."""

    network: OpenDeepLab
    has_labels = False
    reads: Callable[[TextEncoder, Templates], TextEmbedder] = TextEmbedder
    """What makes `text`; a service's is shared by threads, and keeps what clients ask for off the disk."""

    def __init__(
        self,
        student: OpenStudentFile,
        settings: NamedMaskSettings | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
    ):
        own = Student(student.network, student.vocabulary, student.metadata)
        super().__init__(own, settings, device=device, precision=precision)
        self.tower, self.temperature = student.tower, student.temperature
        told = student.vocabulary.without_background()
        self._own_words = {name.casefold(): own for name, own in zip(told.names, told.phrases, strict=True)}
        self._known = {own.casefold(): vector for own, vector in zip(told.all_phrases, student.vectors, strict=True)}

    @classmethod
    def build(cls, settings: NamedMaskSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        source = settings.student if weights is None else weights
        if source is None:
            raise MissingWeightsError("an open student is a file of `wordmask distill`: give weights=FILE")
        student = read_open_student(resolve(source, "student"))
        segmenter = cls(student, settings, device=compute.device, precision=compute.precision)
        segmenter.preset = student.metadata.get(PRESET, cls.preset)
        return segmenter

    @property
    def keeps_features(self) -> bool:
        return True

    @property
    def concepts(self) -> Concepts | None:
        return shipped()

    def rivals(self, contrast: Contrast, vocabulary: Vocabulary) -> Rivals:
        """Those that a user gives. What it has learnt to be background needs no others."""
        return rivals(contrast, vocabulary, usual=None)

    @cached_property
    def text(self) -> TextEmbedder:
        """What reads names that it was not distilled for."""
        encoder = clip_at(self.tower.clip, self.tower.clip_weights, PLAIN)
        if encoder.text_fingerprint != self.tower.fingerprint:
            raise SegmenterError(
                f"this student reads names by the text tower of {self.tower.clip}, and what is there now is another "
                "one: give it the weights back that it was distilled with"
            )
        return self.reads(encoder, templates(self.tower.templates))

    def embed_names(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """Read names, none of which is background; one that it was distilled for, and that nobody words otherwise, in
        its own words.
        """
        vocabulary = replace(vocabulary, phrases=tuple(map(self._words_of, vocabulary.names, vocabulary.phrases)))
        phrases = vocabulary.all_phrases
        known = self._known  # which does not grow: a service is asked for any number of names
        missing = tuple(dict.fromkeys(phrase for phrase in phrases if phrase.casefold() not in known))
        if missing:
            found = self.text.read(Vocabulary(missing, tuple((phrase,) for phrase in missing)))
            assert found is not None  # nobody stops asking
            known = known | {phrase.casefold(): vector for phrase, vector in found.items()}
        owner = torch.tensor([label for label, own in enumerate(vocabulary.phrases) for _ in own])
        vectors = torch.stack([known[phrase.casefold()] for phrase in phrases])
        return TextEmbeddings(vocabulary, vectors, owner)

    def _words_of(self, name: str, phrases: tuple[str, ...]) -> tuple[str, ...]:
        return self._own_words.get(name.casefold(), phrases) if phrases == (name,) else phrases

    def others(self, asked: TextEmbeddings) -> TextEmbeddings | None:
        """Return the names that it was distilled for and that nobody asks for, but for those that may be other words
        for what is asked: where background is asked for, they are part of it.
        """
        own = self.vocabulary.without_background()
        phrases = {phrase.casefold() for phrase in (*asked.vocabulary.all_phrases, *asked.vocabulary.names)}
        rest = own.only(
            [
                label
                for label, words in enumerate(own.phrases)
                if not phrases & {word.casefold() for word in (own.names[label], *words)}
            ]
        )
        if not len(rest):
            return None
        told = self.embed_names(rest)
        is_name = torch.arange(len(asked.vectors) + len(told.vectors)) < len(asked.vectors)
        far = far_from_names(torch.cat([asked.vectors, told.vectors]), is_name, ~is_name)[len(asked.vectors) :]
        stays = [label for label in range(len(rest)) if bool(far[told.owner == label].all())]
        return self.embed_names(rest.only(stays)) if stays else None

    def seen_as(self, picture: Picture, source: str, kept: Tensor) -> Seen:
        return SeenByOpenStudent(self, picture, source, kept)


class SeenByOpenStudent(SeenByStudent):
    """A picture as the network has it before names come, (width, h, w) on its own grid."""

    _segmenter: OpenStudent

    @torch.inference_mode()
    def in_text_space(self) -> Tensor:
        return F.normalize(self._segmenter.network.classify(self._kept[None])[0, :-1].float(), dim=0)

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        """Where "background" is asked for, it is what the student takes for it, and names of its own that nobody asked
        for; without it, every pixel bears the best of the names.
        """
        segmenter, background = self._segmenter, vocabulary.background
        output = segmenter.network.classify(self._kept[None]).float()
        labels = [label for label in range(len(vocabulary)) if label != background]
        logits, meaning = output.new_zeros(1, 0, *output.shape[2:]), list(labels)
        if labels:
            text = segmenter.embed_names(vocabulary.only(labels))
            logits = open_logits(output, text, segmenter.temperature)[:, 1:]
        if background is not None:
            others = segmenter.others(text) if labels else None
            if others is None:
                beside = ground_logits(output, segmenter.temperature)
            else:
                beside = open_logits(output, others, segmenter.temperature)
            logits = torch.cat([logits, beside], dim=1)
            meaning += [background] * beside.shape[1]
        named, sure = self._best(logits[0])
        result = np.array(meaning, label_type(len(vocabulary)))[named]
        return Segmentation(result, list(vocabulary.names), sure, self._image, self.source)
