"""A person's masks from Label Studio's JSON export: brushes and polygons."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.corrections.file import Corrections, CorrectionsError
from wordmask.corrections.pictures import Known, Pictures
from wordmask.corrections.polygons import filled
from wordmask.text_files import counted, shown

CHANNELS = 4
"""A brush counts as an RGBA picture."""


def looks_like_label_studio(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(task, dict) and "data" in task for task in data)


def from_label_studio(path: Path, data: Any, images: Path) -> Corrections:
    """Return each task's last annotation that was not cancelled. data: what the file holds. images: the folder of the
    pictures.
    """
    if not looks_like_label_studio(data):
        raise CorrectionsError(f"{path}: is no export of Label Studio: export as JSON")
    pictures, found, missing, untouched, others = Pictures(images), [], 0, 0, 0
    for task in data:
        try:
            annotations = [own for own in task.get("annotations") or [] if not own.get("was_cancelled")]
            urls = [value for value in task["data"].values() if isinstance(value, str)]
        except (TypeError, AttributeError) as error:
            raise CorrectionsError(f"{path}: a task is no task of Label Studio: export as JSON") from error
        if not annotations:
            untouched += 1
            continue
        known = next(filter(None, map(pictures.find_url, urls)), None)
        if known is None:
            missing += 1
            continue
        masks = []
        for result in annotations[-1].get("result") or []:
            try:
                own = list(_masks(path, result, known))
            except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
                why = f"{error} is missing" if isinstance(error, KeyError) else error
                raise CorrectionsError(
                    f"{path}: a mask of {shown(known.path)}: {why}; mend it there and export again"
                ) from error
            others += not own
            masks += own
        found.append(known.corrected(masks))
    notes = [f"left out: {counted(missing, 'picture')} of {path} not in {images}"] if missing else []
    notes += [f"left out: {counted(untouched, 'task')} of {path} without annotations"] if untouched else []
    notes += [f"left out: {counted(others, 'result')} of {path}, neither brushes nor polygons"] if others else []
    return Corrections(tuple(found), tuple(notes))


def _masks(path: Path, result: Any, known: Known) -> Iterator[tuple[str, np.ndarray]]:
    value, kind = result["value"], result["type"]
    if kind not in ("brushlabels", "polygonlabels"):
        return
    known.check_size(path, (result["original_height"], result["original_width"]))
    if result.get("image_rotation"):
        raise ValueError("it was turned in Label Studio: turn it back")
    if kind == "brushlabels":
        mask = decode_brush(value["rle"], known.size)
    else:
        height, width = known.size
        corners = [[x * width / 100, y * height / 100] for x, y in value["points"]]
        mask = filled([[float(number) for corner in corners for number in corner]], known.size)
    for name in value[kind]:
        yield str(name), mask


def decode_brush(code: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) bool of rle-pack's bytes, whose alpha is more than half; raise ValueError for others.

    A stream of bits: how many bytes (32), the bits of a value less one (5), four lengths' bits less one (4 each); then
    for each run 1, for single values 0, which length it has (2), that less one, and the value or the values.
    """
    if not isinstance(code, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in code):
        raise ValueError("its brush is no list of bytes")
    bits = _Bits(bytes(code))
    count, value_bits = bits.take(32), bits.take(5) + 1
    widths = [bits.take(4) + 1 for _ in range(4)]
    if count != CHANNELS * size[0] * size[1]:
        raise ValueError(f"its brush is not of {size[1]} x {size[0]} pixels")
    if value_bits != 8:
        raise ValueError(f"its brush has values of {value_bits} bits, not 8")
    flat = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        is_run = bits.take(1)
        length = bits.take(widths[bits.take(2)]) + 1
        if place + length > count:
            raise ValueError("its brush goes on beyond the picture")
        if is_run:
            flat[place : place + length] = bits.take(8)
        else:
            flat[place : place + length] = bits.take_bytes(length)
        place += length
    mask: np.ndarray = flat.reshape(*size, CHANNELS)[..., 3] > 127
    return mask


class _Bits:
    def __init__(self, content: bytes):
        self._bits = np.unpackbits(np.frombuffer(content, np.uint8))
        self._at = 0

    def take(self, width: int) -> int:
        """Read a number of so many bits, the most significant first."""
        number = 0
        for bit in self._next(width).tolist():
            number = number << 1 | bit
        return number

    def take_bytes(self, count: int) -> np.ndarray:
        return np.packbits(self._next(8 * count))

    def _next(self, width: int) -> np.ndarray:
        found = self._bits[self._at : self._at + width]
        if len(found) < width:
            raise ValueError("its brush is cut short")
        self._at += width
        return found
