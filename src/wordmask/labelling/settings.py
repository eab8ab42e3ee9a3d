"""What a labelling run is asked for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from wordmask.errors import WordmaskError

FORMATS = ("coco", "yolo", "voc", "png", "label-studio")
MIN_AREA = 32
"""Pixels. Smaller specks are seldom what anybody means by an object, and COCO itself calls 32 x 32 small."""
TOLERANCE = 1.0
"""Pixels: about the width of the stairs that a slanting edge makes."""
VAL = 0.1
"""The share of pictures that a model trained on them is validated on, where nobody says otherwise."""


class LabelError(WordmaskError):
    """A folder that cannot be labelled, or not so."""


def _formats(given: str) -> str:
    """Return formats in one way of writing them, so that a run that goes on knows them again."""
    wanted = [own.strip() for own in given.split(",")]
    unknown = [own for own in wanted if own not in FORMATS]
    if unknown:
        raise ValueError(f"no format is called {unknown[0]!r}; choose of {', '.join(FORMATS)}")
    return ",".join(own for own in FORMATS if own in wanted)


@dataclass(frozen=True)
class LabelSettings:
    """format: one, or several with commas between them. min_area: parts with fewer pixels are left out.

    tolerance: how far, in pixels, a polygon may leave the mask's edge; for YOLO, and for COCO with polygons.
    coco_masks: "rle" is exact; polygons are read by more tools.
    url_prefix: what Label Studio finds the pictures under; their path in the folder is added.
    val: for YOLO, the share of pictures that are kept for validation, chosen by their content; 0 for none.
    pictures: for YOLO and VOC, how the pictures come to lie beside their labels.
    review: how many pictures review.html shows, those of which the segmenter was least sure.
    min_score, drop_absent: see `Seen.segment`.
    """

    format: Annotated[str, AfterValidator(_formats)] = "coco"
    min_area: PositiveInt = MIN_AREA
    tolerance: Annotated[float, Field(ge=0, le=100)] = TOLERANCE
    coco_masks: Literal["rle", "polygons"] = "rle"
    url_prefix: str = "/data/local-files/?d="
    val: Annotated[float, Field(ge=0, lt=1)] = VAL
    pictures: Literal["copy", "link", "hardlink"] = "copy"
    review: NonNegativeInt = 5000
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    drop_absent: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def formats(self) -> tuple[str, ...]:
        return tuple(self.format.split(","))


def why_refused(error: ValidationError) -> str:
    """Return in a line which of these settings is refused, as the option that gives it, and why."""
    first = error.errors()[0]
    why = first["msg"].removeprefix("Value error, ")
    return f"--{str(first['loc'][0]).replace('_', '-')} {first['input']!r}: {why[:1].lower()}{why[1:]}"
