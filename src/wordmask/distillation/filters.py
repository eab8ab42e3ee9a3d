"""What keeps a picture out of an archive. The next best one takes its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass as settings

from wordmask.collection.embedding_folder import EmbeddingFolder
from wordmask.collection.references import ImageRef
from wordmask.distillation.records import DistillationError
from wordmask.extras import need
from wordmask.pictures.image_files import ImageReadError, image_size

LAION_UNSAFE = 0.5
"""Of `punsafe`, above which LAION's safe mode hides a picture."""
LAION_SAFE_WORDS = ("UNLIKELY",)
"""Of the older column NSFW, whose other values are UNSURE, NSFW and, where it was not told, nothing."""
OPENCV = "opencv"
"""In place of a model of faces: the detector that comes with opencv-python."""
FACE_SCORE = 0.7
"""Of YuNet, above which a face is one: half-way between what it thinks possible (0.5) and OpenCV's own, strict 0.9."""
FACE_SIDE = 640
"""What a picture's longer side is brought to for YuNet, which looks for faces of 10 to 300 pixels."""

MOST_VERDICTS = 2**20
"""On pictures with faces or without, remembered for other names."""


class FilterError(DistillationError):
    """This filter cannot work here."""


@settings(frozen=True, config=ConfigDict(extra="forbid"))
class FilterSettings:
    """Each is off unless it is set; whatever is on is reported with counts.

    duplicates: pictures whose embedding is this close to a better one of the same name (0.94 where clip-retrieval hides
    those of LAION-5B).
    faces: "opencv" for the detector that comes with opencv-python, or the path of a YuNet model (.onnx).
    unsafe: by LAION's columns `punsafe` or `NSFW`. unsafe_names: pictures that are more like one of these phrases than
    like the name they were found for. smallest_side: in pixels. least_similarity: to the name.
    """

    duplicates: Annotated[float, Field(gt=0, lt=1)] | None = None
    faces: str | None = None
    unsafe: bool = False
    unsafe_names: tuple[str, ...] = ()
    smallest_side: PositiveInt | None = None
    least_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None


@dataclass(frozen=True)
class Look:
    """What somebody found who has opened a picture: its size, and the first of the filters `of_picture` that drops it,
    by its label; "" for none.
    """

    size: tuple[int, int] | None  # (H, W)
    dropped_by: str


@dataclass
class Candidate:
    """A picture in question: what is known of it without opening it, and what is found by opening it.

    look: what was found before.
    """

    row: int
    similarity: float
    vector: np.ndarray  # (D,) of length 1
    told: dict[str, Any]
    ref: ImageRef | None
    root: Path
    look: Look | None = None

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """(H, W) from the file's header, which is there and readable then; else None."""
        if self.look is not None:
            return self.look.size
        if self.ref is None:
            return None
        try:
            return image_size(self.ref.bytes_of(self.root))
        except ImageReadError:
            return None

    def open(self) -> np.ndarray | None:
        try:
            return None if self.ref is None else self.ref.open(self.root)
        except ImageReadError:
            return None


@dataclass(frozen=True)
class Filter:
    """drops(candidate, kept): kept are the vectors (m, D) of the better pictures of the same name, where it `compares`.

    ends: whatever is less similar than a picture that it drops, it drops as well. of_picture: whether it drops a
    picture for every name or for none.
    """

    label: str
    drops: Callable[[Candidate, Sequence[np.ndarray]], bool]
    compares: bool = False
    ends: bool = False
    of_picture: bool = False

    def drop(self, candidate: Candidate, kept: Sequence[np.ndarray]) -> bool:
        """Return whether a picture is dropped, of one that was looked at by what was found. Filters are asked in their
        order, and none after one that drops.
        """
        if self.of_picture and candidate.look is not None:
            return candidate.look.dropped_by == self.label
        return self.drops(candidate, kept)


def filters_of(
    chosen: FilterSettings, folder: EmbeddingFolder, embed_phrases: Callable[[Sequence[str]], np.ndarray]
) -> list[Filter]:
    """From cheap to dear. embed_phrases: texts -> unit vectors (P, D)."""
    filters = []
    if chosen.least_similarity is not None:
        least = chosen.least_similarity
        filters.append(Filter("unlike", lambda candidate, _: candidate.similarity < least, ends=True))
    if chosen.unsafe:
        filters.append(Filter("unsafe", _by_columns(folder), of_picture=True))
    if chosen.unsafe_names:
        unsafe = embed_phrases(chosen.unsafe_names)
        filters.append(Filter("unsafe by name", lambda c, _: bool((unsafe @ c.vector).max() > c.similarity)))
    filters.append(Filter("unreadable", lambda candidate, _: candidate.size is None, of_picture=True))
    if chosen.smallest_side is not None:
        side = chosen.smallest_side
        small = Filter("too small", lambda candidate, _: min(candidate.size or (0, 0)) < side, of_picture=True)
        filters.append(small)
    if chosen.duplicates is not None:
        closest = chosen.duplicates
        near = Filter(
            "near-duplicate", lambda c, kept: any(float(v @ c.vector) >= closest for v in kept), compares=True
        )
        filters.append(near)
    if chosen.faces is not None:
        filters.append(Filter("face", _by_faces(chosen.faces), of_picture=True))
    return filters


def _by_columns(folder: EmbeddingFolder) -> Callable[[Candidate, Sequence[np.ndarray]], bool]:
    if not folder.has_column("punsafe") and not folder.has_column("NSFW"):
        raise FilterError(
            f"{folder.folder} has neither a column punsafe nor NSFW, so archive.filters.unsafe cannot work: give "
            "phrases under archive.filters.unsafe_names instead"
        )

    def drops(candidate: Candidate, _: Sequence[np.ndarray]) -> bool:
        unsafe = candidate.told.get("punsafe")
        if unsafe is not None:
            return not float(unsafe) <= LAION_UNSAFE  # NaN is not known to be safe
        return candidate.told.get("NSFW") not in LAION_SAFE_WORDS

    return drops


def _by_faces(detector: str) -> Callable[[Candidate, Sequence[np.ndarray]], bool]:
    find = face_detector(detector)
    verdicts: dict[int, bool] = {}

    def drops(candidate: Candidate, _: Sequence[np.ndarray]) -> bool:
        if candidate.row not in verdicts:
            if len(verdicts) == MOST_VERDICTS:
                verdicts.clear()
            image = candidate.open()
            verdicts[candidate.row] = image is not None and find(image) > 0
        return verdicts[candidate.row]

    return drops


def face_detector(detector: str) -> Callable[[np.ndarray], int]:
    """Return a function from a picture (H, W, 3) uint8 to how many faces are in it."""
    need("cv2")
    import cv2

    if detector == OPENCV:
        return _haar(cv2)
    path = Path(detector).expanduser()
    if path.suffix != ".onnx" or not path.is_file():
        raise FilterError(
            f"archive.filters.faces={detector!r} is neither 'opencv' nor the file of a YuNet model (.onnx), "
            "which OpenCV's model zoo has as face_detection_yunet"
        )
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (FACE_SIDE, FACE_SIDE), score_threshold=FACE_SCORE)
    except cv2.error as error:
        raise FilterError(f"{path} is no YuNet model that OpenCV can read ({str(error).splitlines()[0]})") from error

    def find(image: np.ndarray) -> int:
        scale = FACE_SIDE / max(image.shape[:2])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        seen = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), size)
        network.setInputSize(size)
        _, faces = network.detect(seen)
        return 0 if faces is None else len(faces)

    return find


def _haar(cv2: Any) -> Callable[[np.ndarray], int]:
    """Viola and Jones's detector, whose frontal faces are a file of opencv-python's."""
    data = getattr(cv2, "data", None)
    path = Path(data.haarcascades) / "haarcascade_frontalface_default.xml" if data is not None else None
    if path is None or not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
        raise FilterError(
            f"this OpenCV ({cv2.__version__}) brings no face detector: give the path of a YuNet model (.onnx) as "
            "archive.filters.faces"
        )
    cascade = cv2.CascadeClassifier(str(path))

    def find(image: np.ndarray) -> int:
        grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        return len(cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5))

    return find
