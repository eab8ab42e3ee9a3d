"""NamedMask (Shin, Xie and Albanie, "NamedMask: Distilling Segmenters from Complementary Foundation Models", 2022).

A student segments by the names that it was distilled for, in one pass of a plain network: those of a file that
`wordmask distill` wrote, or those of a published checkpoint.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.compute import Compute, Precision
from wordmask.encoders.inference import USUAL, for_inference
from wordmask.encoders.precision import Sample, confirmed, settled
from wordmask.encoders.samples import whole_sample
from wordmask.masks.segmentation import Segmentation, label_type
from wordmask.names.lists import read_names
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.pictures.accelerator import on_device
from wordmask.pictures.images import size_with_longer_side, size_with_shorter_side, to_tensor
from wordmask.pictures.reduced import Picture, Reduced, pixels_of, size_of
from wordmask.pictures.windows import label_dtype, upsample_argmax, upsample_shares
from wordmask.plugins import named
from wordmask.refinement.by_name import NameRefinement, refine_names
from wordmask.segmenters.base import MissingWeightsError, Seen, Segmenter, SegmenterError
from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus
from wordmask.segmenters.head import HeadNetwork
from wordmask.segmenters.student_file import (
    FORMAT,
    HEAD_FORMAT,
    OPEN_FORMAT,
    Student,
    StudentNetwork,
    is_student_file,
    read_student,
    reading,
)
from wordmask.segmenters.student_file import read_names as read_written_names
from wordmask.segmenters.student_int8 import Made, RoundedStudent, roughly_in_int8
from wordmask.text_files import counted
from wordmask.weights.addresses import Address, resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import read_metadata, read_state_dict

LAST_LAYER = "classifier.classifier.3.weight"
TIMED_SIDE = 224
"""Of the picture on which precisions are compared: the smaller, the more weighs what does not hang on its size."""
PIXELS_PER_PASS = 2_000_000
"""Pictures of one size go through the network together up to so many pixels: more take memory and gain no time."""
PRESET = "preset"
"""The key of a student's metadata that says which preset it was distilled by."""
NOTE = "note"
"""The key of a student's metadata that says what whoever reads figures of it must know."""
OPEN_STUDENT = "wordmask.segmenters.open_student:OpenStudent"
"""What students are that answer to any names."""
EXPERT = "namedmask-expert-"
"""What the catalogue calls the published experts, before their names."""
ALSO_CALLED = {
    "aeroplane": ("airplane",),
    "couch": ("sofa",),
    "donut": ("doughnut",),
    "doughnut": ("donut",),
    "motorbike": ("motorcycle",),
    "motorcycle": ("motorbike",),
    "sofa": ("couch",),
    "tvmonitor": ("tv monitor", "tv/monitor"),
}
"""The benchmarks spell the same things differently."""


@dataclass(frozen=True)
class NamedMaskSettings:
    """student: the address of its weights, unless `weights` gives another.

    benchmark, names, names_file: what a published checkpoint's classes are called, background first: as in a benchmark,
    as listed here, or as listed in a file. A student that was distilled here knows its names itself.
    longer_side, shorter_side: pictures are looked at with their longer side of so many pixels (the paper does so on
    ImageNet-S), or with their shorter side of so many and the longer side at most `longer_side`; by default at their
    own size. most_pixels: a larger picture is looked at smaller, as memory grows with it.
    refine: what makes the names' scores follow the picture's edges.
    backbones: where the frozen encoders of a light head are, if no longer where its file says.
    """

    student: Address | None = None
    benchmark: str | None = None
    names: tuple[str, ...] | None = None
    names_file: Path | None = None
    longer_side: PositiveInt | None = None
    shorter_side: PositiveInt | None = None
    most_pixels: Annotated[int, Field(ge=1024)] = 4_000_000
    refine: NameRefinement = "none"
    backbones: tuple[str, ...] | None = None

    def size(self, height: int, width: int, zoom: float = 1) -> tuple[int, int]:
        """Return the size at which a picture is given to a network that looks at it so many times as large."""
        if self.shorter_side is not None:
            height, width = size_with_shorter_side(height, width, self.shorter_side, self.longer_side)
        elif self.longer_side is not None:
            height, width = size_with_longer_side(height, width, self.longer_side)
        most = self.most_pixels / zoom**2
        if height * width > most:
            scale = (most / (height * width)) ** 0.5
            height, width = max(1, int(height * scale)), max(1, int(width * scale))
        return height, width


IMAGENET_S_SIDE = 1024
PRESETS = {
    "paper": NamedMaskSettings("namedmask-voc2012", "voc"),
    "voc2012": NamedMaskSettings("namedmask-voc2012", "voc"),
    "coco": NamedMaskSettings("namedmask-coco2017", "coco-object"),
    "coca": NamedMaskSettings("namedmask-coca", "coca"),
    "cityscapes_object": NamedMaskSettings("namedmask-cityscapes-object", "cityscapes-object"),
    "imagenet_s50": NamedMaskSettings("namedmask-imagenet-s50", longer_side=IMAGENET_S_SIDE),
    "imagenet_s300": NamedMaskSettings("namedmask-imagenet-s300", longer_side=IMAGENET_S_SIDE),
    "imagenet_s919": NamedMaskSettings("namedmask-imagenet-s919", longer_side=IMAGENET_S_SIDE),
}


def benchmark_names(benchmark: str) -> tuple[str, ...]:
    """Return a benchmark's names in the order of its labels."""
    lists = json.loads(files("wordmask").joinpath("data/benchmark-classes.json").read_text(encoding="utf-8"))
    if benchmark not in lists:
        raise SegmenterError(f"no benchmark is called {benchmark!r}; choose one of {', '.join(lists)}")
    return tuple(lists[benchmark]["names"])


class NamedMask(Segmenter):
    method = "namedmask"
    Settings = NamedMaskSettings
    presets = PRESETS
    has_weights = True
    has_labels = True
    """Whether classes are names."""

    def __init__(
        self,
        student: Student,
        settings: NamedMaskSettings | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
    ):
        compute = Compute(str(device), precision)
        self.network: StudentNetwork = student.network.eval().requires_grad_(False).to(compute.device)
        self._ready: StudentNetwork | None = None  # what computes: the network as it was when it first looked
        self._int8: Made | None = None
        self.vocabulary = student.vocabulary
        self.metadata = student.metadata
        self.settings = settings or NamedMaskSettings()
        self._statistics = self.network.statistics
        chosen = settled(compute, self._sample)
        sample = self._sample if compute.is_open else None
        # What computes is made when the student first looks, so that all that is confirmed here is what it is made of.
        chosen = confirmed(chosen, lambda chosen: self._rounded(), chosen, sample, lambda other: other)
        self.precision = chosen.precision
        names, phrases = student.vocabulary.names, student.vocabulary.phrases
        self._class_of = {phrase.casefold(): number for number, own in enumerate(phrases) for phrase in own}
        self._class_of |= {name.casefold(): number for number, name in enumerate(names)}

    @property
    def note(self) -> str | None:
        return self.metadata.get(NOTE)

    @classmethod
    def build(cls, settings: NamedMaskSettings, compute: Compute, *, weights: str | Path | None = None) -> Self:
        """weights: a file of `wordmask distill`'s, or another checkpoint in the published layout."""
        source = settings.student if weights is None else weights
        if source is None:
            raise MissingWeightsError(
                "student=None brings no student: distil one with `wordmask distill` and give "
                "weights=RUN/student/student.safetensors"
            )
        if cls is NamedMask and is_student_file(resolve(source, "student"), OPEN_FORMAT):
            opened: Self = named(OPEN_STUDENT).build(settings, compute, weights=weights)
            return opened
        student = load_student(source, settings)
        segmenter = cls(student, settings, device=compute.device, precision=compute.precision)
        if weights is not None and student.metadata:
            segmenter.preset = student.metadata.get(PRESET, cls.preset)  # whose student it is, not whose place it takes
        return segmenter

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {name: own for name, own in super().networks.items() if name != "_ready"}

    def to(self, device: str | torch.device) -> Self:
        self._ready = None
        return super().to(device)

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        size = self._size(height, width)
        needs_all = self.settings.refine != "none" or self.correction is not None
        return size if size[0] * size[1] < height * width and not needs_all else None

    @property
    def zoom(self) -> float:
        """Return how many times as large the network looks at pictures."""
        return self.network.settings.zoom

    def _size(self, height: int, width: int) -> tuple[int, int]:
        return self.settings.size(height, width, self.zoom)

    @torch.inference_mode()
    def look_many(self, images: Sequence[Picture], sources: Sequence[str]) -> list[Seen]:
        sizes = [self._size(*size_of(image)) for image in images]
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, size in enumerate(sizes):
            alike[size].append(index)
        kept: dict[int, Tensor] = {}
        for size, indices in alike.items():
            together = max(1, int(PIXELS_PER_PASS / (size[0] * size[1] * self.zoom**2)))
            for start in range(0, len(indices), together):
                part = indices[start : start + together]
                kept.update(zip(part, self._read([pixels_of(images[index]) for index in part], size), strict=True))
        return [
            self.seen_as(image, source, kept[index])
            for index, (image, source) in enumerate(zip(images, sources, strict=True))
        ]

    @torch.inference_mode()
    def see_again(self, kept: Mapping[str, Tensor], size: tuple[int, int], source: str) -> Seen:
        return self.seen_as(Reduced.gone(size), source, kept["kept"].to(self.device))

    def seen_as(self, picture: Picture, source: str, kept: Tensor) -> Seen:
        """Return a picture as this student has seen it. kept: what `_read` gave for it."""
        return SeenByStudent(self, picture, source, kept)

    def _read(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
        """Return what is kept of pictures: (B, c, h, w), logits or, where there are more names, what the last layer
        reads.
        """
        batch = torch.stack([to_tensor(image, size) for image in images])
        features = self._features(on_device(batch, self.device), self.precision)
        return features if self.keeps_features else self.network.classify(features)

    def _features(self, pictures: Tensor, precision: str) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> what the last layer reads (B, width, h, w)."""
        if self._ready is None:
            self._ready = ready(self.network, precision, self._int8, (pictures.shape[2], pictures.shape[3]))
        batch = self._statistics.normalise(pictures).to(self._ready.dtype)
        return self._ready.features(batch.contiguous(memory_format=torch.channels_last)).float()

    def _sample(self) -> Sample:
        return student_sample(self.network)

    def _rounded(self) -> RoundedStudent:
        """Return where its convolutions can be put in int8."""

        def place(made: Made | None) -> None:
            self._int8, self._ready = made, None

        @torch.inference_mode()
        def logits(pictures: Tensor) -> Tensor:
            return self.network.classify(self._features(pictures, "fp32"))

        return RoundedStudent(self.network, logits, place, has_labels=self.has_labels)

    @property
    def keeps_features(self) -> bool:
        return self.network.classes > self.network.width

    def logits(self, kept: Tensor) -> Tensor:
        """(c, h, w) -> (classes, h, w)"""
        return self.network.classify(kept[None])[0] if self.keeps_features else kept

    def class_of(self, name: str, phrases: Iterable[str]) -> int:
        """Return the class that this name, or else one of its phrases, is known by."""
        for phrase in (name, *phrases):
            if phrase.casefold() in self._class_of:
                return self._class_of[phrase.casefold()]
        if name.casefold() == BACKGROUND:
            raise SegmenterError(
                "this student was not distilled with a background: say fill (`--fill`), and every pixel bears one of "
                "the names"
            )
        known = ", ".join(self.vocabulary.names[:12]) + (", ..." if len(self.vocabulary) > 12 else "")
        raise SegmenterError(
            f"this student was not distilled for {name!r}: it knows {known}; ask for those, distil a student for more, "
            "or use a method that takes any name, such as clip-dinoiser"
        )


def ready(
    network: StudentNetwork, precision: str, int8: Made | None = None, size: tuple[int, int] = USUAL
) -> StudentNetwork:
    """Return a copy of a student that looks at pictures of its type, fast, and learns no more. int8: its convolutions
    that are. size: of the pictures that are to come.
    """
    if not isinstance(network, HeadNetwork):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return for_inference(network, DeepLabV3Plus.features, dtype, int8=int8, size=size)
    # It has no batch norms to fold, and its towers are as large as it is.
    return network if precision == "fp32" else deepcopy(network).to(torch.bfloat16)


def student_sample(network: StudentNetwork) -> Sample:
    """Return what is timed of a student: all of it, on a picture that is small for it."""
    size = (1, 3, TIMED_SIDE, TIMED_SIDE)

    def computing(precision: Precision) -> Callable[[Tensor], Tensor]:
        images = torch.randn(size, generator=torch.Generator().manual_seed(0))
        made = roughly_in_int8(network, images) if precision == "int8" else None
        return ready(network, precision, made, (TIMED_SIDE, TIMED_SIDE)).features

    return whole_sample(network.title, network, computing, size)


class SeenByStudent(Seen):
    """A picture's logits on the network's own grid."""

    def __init__(self, segmenter: NamedMask, picture: Picture, source: str, kept: Tensor):
        super().__init__(picture, source)
        self._segmenter = segmenter
        self._kept = kept  # (c, h, w)

    def kept(self) -> dict[str, Tensor]:
        return {"kept": self._kept}

    @torch.inference_mode()
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        """Where "background" is asked for, it is what the student calls so and whatever else was not asked for;
        without it, every pixel bears the best of the names asked for.
        """
        asked = vocabulary
        classes = self._classes(asked)
        logits = self._segmenter.logits(self._kept)  # (classes, h, w)
        chosen = logits if asked.background is not None else logits[torch.tensor(classes, device=logits.device)]
        found, sure = self._best(chosen)
        if asked.background is not None:
            meaning = np.full(len(logits), asked.background, label_type(len(asked)))
            meaning[classes] = np.arange(len(asked))
            found = meaning[found]
        return Segmentation(
            found.astype(label_type(len(asked)), copy=False), list(asked.names), sure, self._image, self.source
        )

    def _best(self, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Logits (c, h, w) -> the best of them at every pixel of the picture and its probability, (H, W) each."""
        labels, best = upsample_argmax(logits, self.size, dtype=label_dtype(len(logits)))
        found, refine = labels.cpu().numpy(), self._segmenter.settings.refine
        if refine == "none":
            return found, upsample_shares(logits, best).clamp(max=1).cpu().numpy()
        return refine_names(self.image, found, partial(chances, logits), refine)

    def _classes(self, asked: Vocabulary) -> list[int]:
        """Return the student's class for every name that is asked for."""
        own = [
            self._segmenter.class_of(name, phrases) for name, phrases in zip(asked.names, asked.phrases, strict=True)
        ]
        for number in own:
            if own.count(number) > 1:
                same = [name for name, other in zip(asked.names, own, strict=True) if other == number]
                raise SegmenterError(
                    f"{' and '.join(map(repr, same))} are one and the same to this student: ask for one"
                )
        return own


def chances(logits: Tensor, which: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Logits (c, h, w) -> the probabilities of some classes at a size, (k, H, W)."""
    own = F.interpolate(logits[list(which)][None], size=size, mode="bilinear", align_corners=False)[0]
    best = upsample_argmax(logits, size)[1]
    return (own - best).exp() * upsample_shares(logits, best)


def names_of_student(settings: NamedMaskSettings, weights: str | Path | None = None) -> Vocabulary | None:
    """Return a student's own names without its network; None where its file does not say them."""
    source = settings.student if weights is None else weights
    path = None if source is None else resolve(source, "student")
    if path is None or not is_student_file(path, FORMAT, HEAD_FORMAT, OPEN_FORMAT):
        return None
    with reading(path):
        return read_written_names(read_metadata(path)["names"])


def load_student(source: str | Path, settings: NamedMaskSettings) -> Student:
    """Return the student at an address: one of ours knows its names, a published one is told them by `settings`."""
    path = resolve(source, "student")
    if is_student_file(path):
        return read_student(path, settings.backbones)
    return read_published(path, str(source), settings)


def read_published(path: Path, source: str, settings: NamedMaskSettings) -> Student:
    """Return a checkpoint in the layout of the paper's: a bare state dict, whose names stand nowhere in it."""
    state = read_state_dict(path, strip=("module.",))
    if LAST_LAYER not in state or not state[LAST_LAYER].ndim:
        raise SegmenterError(f"{path} is no NamedMask checkpoint: it has no {LAST_LAYER}")
    classes = len(state[LAST_LAYER])
    names = _published_names(source, settings)
    if names is None:
        raise SegmenterError(
            f"{source} does not say what its {counted(classes, 'class', 'classes')} are called, nor does the package "
            "know: give names_file=FILE, one name a line in the order of the classes, background first"
        )
    if len(names) == classes - 1 and BACKGROUND not in [name.casefold() for name in names]:
        names = (BACKGROUND, *names)
    if len(names) != classes:
        raise SegmenterError(
            f"{source} has {counted(classes, 'class', 'classes')}, and was given {counted(len(names), 'name')}"
        )
    taken = {name.casefold() for name in names}
    vocabulary = Vocabulary.of(
        {name: [other for other in ALSO_CALLED.get(name, ()) if other not in taken] or None for name in names}
    )
    network = built_from(lambda: DeepLabV3Plus(classes, DeepLabSettings()), state, what=source)
    return Student(network.eval(), vocabulary, {})


def _published_names(source: str, settings: NamedMaskSettings) -> tuple[str, ...] | None:
    if settings.names is not None:
        return settings.names
    if settings.names_file is not None:
        return read_names(settings.names_file).names
    if source.startswith(EXPERT):
        return BACKGROUND, source.removeprefix(EXPERT).replace("-", " ")
    return None if settings.benchmark is None else benchmark_names(settings.benchmark)
