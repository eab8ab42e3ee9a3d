"""A person's masks from label maps: PNGs called as their pictures, whose numbers stand for names."""

import re
from pathlib import Path

import numpy as np

from wordmask.corrections.file import Correction, Corrections, CorrectionsError
from wordmask.corrections.pictures import Known, Pictures
from wordmask.masks.segmentation import Segmentation, SegmentationError
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.image_files import ImageReadError, opened
from wordmask.text_files import TextFileError, counted, read_text, shown

VOID = "void"
"""The name of numbers of which nobody claims anything. Here they are of no name."""
_NUMBERED = re.compile(r"(\d{1,5})[\s:,]+(.+)")


def from_png(folder: Path, images: Path, names_file: Path | None = None) -> Corrections:
    """Read `folder/NAME.png` for the picture NAME of the folder `images`; folders below count.

    names_file: a name a line, the first is number 0; or "number name". Without it the maps must hold their names, as
    those of `wordmask segment` and `wordmask label --format png` do.
    """
    names = None if names_file is None else _read_names(names_file)
    maps = sorted(folder.rglob("*.png"))
    if not maps:
        raise CorrectionsError(f"{folder} holds no label maps (*.png): name the folder that does")
    pictures, found, missing = Pictures(images), [], 0
    for path in maps:
        known = pictures.find_stem(path.relative_to(folder).with_suffix("").as_posix())
        if known is None:
            missing += 1
            continue
        found.append(_read_map(path, known, names))
    notes = (f"left out: {counted(missing, 'label map')} of {folder}, of no picture in {images}",) if missing else ()
    return Corrections(tuple(found), notes)


def _read_map(path: Path, known: Known, names: dict[int, str] | None) -> Correction:
    if names is None:
        try:
            segmentation = Segmentation.load(path, max_pixels=known.size[0] * known.size[1])
        except SegmentationError as error:
            raise CorrectionsError(f"{error}; or say --names-file, if its numbers stand for names") from error
        known.check_size(path, segmentation.size)
        return known.corrected([(name, segmentation.mask(name)) for name in _named(segmentation.names)])
    try:
        with opened(path, str(path)) as image:
            known.check_size(path, (image.height, image.width))
            if image.format != "PNG" or image.mode not in ("P", "L", "I;16", "1"):
                raise CorrectionsError(
                    f"{path}: is {image.format} in mode {image.mode}: save label maps as PNG, in grey or with a palette"
                )
            numbers = np.array(image).astype(np.int64)
    except ImageReadError as error:
        raise CorrectionsError(str(error)) from error
    except OSError as error:
        raise CorrectionsError(f"{path}: is corrupt or cut short ({error}): write it again, or take it out") from error
    unknown = set(np.unique(numbers).tolist()) - names.keys()
    if unknown:
        raise CorrectionsError(
            f"{path}: holds the number {min(unknown)}, for which the names' file has no name: add it there"
        )
    by_name: dict[str, np.ndarray] = {}
    for number, name in names.items():
        if name in _named([name]):
            by_name[name] = by_name.get(name, np.zeros(known.size, bool)) | (numbers == number)
    return known.corrected(list(by_name.items()))


def _named(names: list[str]) -> list[str]:
    return [name for name in names if name.casefold() not in (BACKGROUND, VOID)]


def _read_names(path: Path) -> dict[int, str]:
    try:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except TextFileError as error:
        raise CorrectionsError(str(error)) from error
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return {int(found[1]): found[2] for found in numbered if found}
    if not lines:
        raise CorrectionsError(f"{shown(str(path))}: holds no names: write one a line")
    return dict(enumerate(lines))
