"""Corrections from wherever a person made them: the review's own file, COCO, Label Studio, label maps."""

from pathlib import Path
from typing import Literal, get_args

from wordmask.corrections.coco import from_coco, looks_like_coco
from wordmask.corrections.file import MOST_BYTES, Corrections, CorrectionsError, parse_corrections
from wordmask.corrections.label_studio import from_label_studio, looks_like_label_studio
from wordmask.corrections.png import from_png
from wordmask.text_files import TextFileError, read_json, shown

Format = Literal["coco", "label-studio", "png"]
FORMATS: tuple[str, ...] = get_args(Format)


def corrections_from(
    path: Path, images: Path, *, format: str | None = None, names_file: Path | None = None
) -> Corrections:
    """Read corrections of the pictures below `images`. format: of another tool's; told by the content where it is None.

    names_file: for label maps that do not hold their names.
    """
    if format is not None and format not in FORMATS:
        raise CorrectionsError(f"no format of corrections is called {shown(format)}; choose of {', '.join(FORMATS)}")
    if path.is_dir() and format in (None, "png"):
        return _some(path, images, from_png(path, images, names_file))
    if format == "png":
        raise CorrectionsError(f"{path} is no folder of label maps: name the folder, or another format")
    if names_file is not None:
        raise CorrectionsError(f"--names-file {names_file} is for label maps (png): leave it out")
    try:
        data = read_json(path, most_bytes=MOST_BYTES, way_out="save or export it again")
    except TextFileError as error:
        raise CorrectionsError(str(error)) from error
    if format == "coco" or (format is None and looks_like_coco(data)):
        return _some(path, images, from_coco(path, data, images))
    if format == "label-studio" or looks_like_label_studio(data):
        return _some(path, images, from_label_studio(path, data, images))
    return parse_corrections(path, data)


def _some(path: Path, images: Path, found: Corrections) -> Corrections:
    if not len(found):
        why = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise CorrectionsError(
            f"{path} says nothing of any picture in {images}{why}: name another file, or their folder"
        )
    return found
