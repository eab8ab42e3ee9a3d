"""A person's masks from COCO's instances JSON: run lengths, compressed or not, and polygons."""

from pathlib import Path
from typing import Any

import numpy as np

from wordmask.corrections.file import Corrections, CorrectionsError
from wordmask.corrections.pictures import Known, Pictures
from wordmask.corrections.polygons import filled
from wordmask.corrections.run_lengths import checked_lengths, lengths_of, mask_of
from wordmask.text_files import counted, shown


def looks_like_coco(data: Any) -> bool:
    return isinstance(data, dict) and {"images", "annotations", "categories"} <= data.keys()


def from_coco(path: Path, data: Any, images: Path) -> Corrections:
    """Return the masks of every picture that has some. data: what the file holds. images: where the pictures are."""
    if not looks_like_coco(data):
        raise CorrectionsError(
            f"{path}: is no COCO file: it lacks images, annotations or categories; export it as COCO instances"
        )
    try:
        names = {each["id"]: str(each["name"]) for each in data["categories"]}
        told = {each["id"]: (str(each["file_name"]), (each["height"], each["width"])) for each in data["images"]}
        own: dict[Any, list[Any]] = {}
        for each in data["annotations"]:
            own.setdefault(each["image_id"], []).append(each)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorrectionsError(f"{path}: its images, categories or annotations lack {error}: export it anew") from error
    pictures, found, missing = Pictures(images), [], 0
    for number, annotations in own.items():
        if number not in told:
            raise CorrectionsError(
                f"{path}: an annotation is of image {shown(number)}, which is not in it: take it out, or export it anew"
            )
        name, size = told[number]
        known = pictures.find(name)
        if known is None:
            missing += 1
            continue
        known.check_size(path, size)
        found.append(known.corrected([_mask(path, each, names, known) for each in annotations]))
    untouched = len(told) - len(own)
    notes = [f"left out: {counted(missing, 'picture')} of {path} not in {images}"] if missing else []
    notes += [f"left out: {counted(untouched, 'picture')} of {path} without masks"] if untouched else []
    return Corrections(tuple(found), tuple(notes))


def _mask(path: Path, annotation: Any, names: dict[Any, str], known: Known) -> tuple[str, np.ndarray]:
    try:
        name = names[annotation["category_id"]]
        return name, _filled(annotation["segmentation"], known.size)
    except (KeyError, ValueError, TypeError) as error:
        why = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        raise CorrectionsError(f"{path}: a mask of {shown(known.path)}: {why}; mend it or take it out") from error


def _filled(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return filled(segmentation, size)
    if list(segmentation["size"]) != list(size):
        raise ValueError(f"its run lengths are of another size, {shown(segmentation['size'])}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        return mask_of(lengths_of(counts, size), size)
    if not isinstance(counts, list) or not all(type(number) is int and 0 <= number < 2**40 for number in counts):
        raise ValueError("its run lengths are neither a text nor a list of numbers")
    return mask_of(checked_lengths(np.array(counts, np.int64), size), size)
