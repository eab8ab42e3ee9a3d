"""The one result type that everything here speaks."""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.files import atomic_write, is_special
from wordmask.masks.instances import Instance, coco_of, detections_of, find_instances
from wordmask.masks.overlay import draw_overlay, save_drawn
from wordmask.masks.palette import Colour, colours_of
from wordmask.masks.run_lengths import count_labels, encoded_labels, encoded_mask, mean_scores
from wordmask.names.vocabulary import BACKGROUND, NAMES_SHOWN, clean_name
from wordmask.pictures.image_files import ImageReadError, first_line, opened
from wordmask.pictures.images import DEFAULT_MAX_PIXELS, ImageSource, read_image
from wordmask.runs import marks
from wordmask.text_files import counted, shown

if TYPE_CHECKING:
    from fiftyone import Detections as FiftyOneDetections
    from supervision import Detections
    from torch import Tensor

NAMES_KEY = "wordmask:names"
"""The PNG text chunk that holds the names, as JSON."""
PALETTE_SIZE = 256
PNG_MAX_NAMES = 2**16
"""A PNG's pixel holds 16 bits at most."""
PNG_MODES = ("P", "I;16", "I")
"""Palette and 16 bits of grey, which earlier versions of Pillow read as I."""
MOST_INLINE = 768
"""Pixels of a side that a notebook is given."""
MAX_LABEL_PIXELS = 2**30
"""What `load` reads unless told otherwise: 1 GB in memory, of a file that may be a thousandth of that."""


class SegmentationError(WordmaskError):
    """A name that is not there, or a file that cannot be written or read as a segmentation."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Which name each pixel bears.

    `scores` is how sure the segmenter was of it; on what scale is the segmenter's own affair.
    """

    labels: np.ndarray  # (H, W) integers, indices into names
    names: list[str]
    scores: np.ndarray | None = None  # (H, W) float32
    image: np.ndarray | None = field(default=None, repr=False)  # (H, W, 3) uint8, the picture itself
    source: str | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"labels must be integers (H, W), not {self.labels.dtype} {self.labels.shape}")
        wrong = _label_outside(self.labels, len(self.names))
        if wrong is not None:
            raise ValueError(
                f"label {wrong} found, but {counted(len(self.names), 'name')}: labels are indices into names"
            )
        if self.scores is not None and self.scores.shape != self.labels.shape:
            raise ValueError(f"scores {self.scores.shape} do not fit labels {self.labels.shape}")
        image = self.image
        if image is not None and (image.shape != (*self.labels.shape, 3) or image.dtype != np.uint8):
            raise ValueError(
                f"image {image.dtype} {image.shape} does not fit: uint8 {(*self.labels.shape, 3)} expected"
            )

    def __repr__(self) -> str:
        """Return one line: what it is of, and the names that are there, the largest first."""
        there = sorted((name for name, area in self.pixels.items() if area), key=self.pixels.__getitem__, reverse=True)
        shares = [f"{shown(name)} {100 * self.pixels[name] / self.labels.size:.0f}%" for name in there[:NAMES_SHOWN]]
        more = f" and {len(there) - NAMES_SHOWN} more" if len(there) > NAMES_SHOWN else ""
        source = "" if self.source is None else f"{shown(self.source)}, "
        size = f"{self.size[1]} x {self.size[0]}"
        return f"Segmentation({source}{size}: {', '.join(shares) or 'no pixels'}{more})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the overlay with its legend, no larger than a screen."""
        said = f"<p>{html.escape(repr(self))}</p>"
        if self.image is None or not self.labels.size:
            return said
        drawing = self.overlay()
        drawing.thumbnail((MOST_INLINE, MOST_INLINE))
        buffer = io.BytesIO()
        drawing.save(buffer, "JPEG", quality=90)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        return f'{said}<img src="data:image/jpeg;base64,{data}" alt="overlay"/>'

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        return self.labels.shape[0], self.labels.shape[1]

    @cached_property
    def colours(self) -> list[Colour]:
        return colours_of(self.names)

    @cached_property
    def pixels(self) -> dict[str, int]:
        """Return how many pixels bear each name."""
        counts = count_labels(self.labels, len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    @cached_property
    def mean_scores(self) -> dict[str, float]:
        """How sure the segmenter was of each name that is there, on the mean of its pixels; nothing without scores."""
        if self.scores is None:
            return {}
        means = mean_scores(self.labels, self.scores, len(self.names)).tolist()
        return {name: mean for (name, area), mean in zip(self.pixels.items(), means, strict=True) if area}

    def present(self, *, min_share: float = 0.0, min_score: float = 0.0) -> list[str]:
        """Return the names that are there, in their order.

        min_share: of the picture's pixels, that a name has at least. min_score: the mean over its pixels, likewise.
        """
        there = []
        for name, area in self.pixels.items():
            if not area or area < min_share * self.labels.size:
                continue
            if min_score and self.scores is not None and self.mean_scores[name] < min_score:
                continue
            there.append(name)
        return there

    def rejecting(self, min_score: float) -> "Segmentation":
        """Return the same with `background` wherever the score is below `min_score`."""
        background = next((i for i, name in enumerate(self.names) if name.casefold() == BACKGROUND), None)
        if background is None or self.scores is None:
            missing = "background among the names" if background is None else "scores"
            raise SegmentationError(f"this segmentation has no {missing}: nothing can be rejected")
        labels, scores = reject_unsure(self.labels, self.scores, background, min_score)
        return replace(self, labels=labels, scores=scores)

    def mask(self, name: str) -> np.ndarray:
        """(H, W) bool: where `name` is."""
        return self.labels == self._index(name)

    def rle(self, name: str) -> dict[str, Any]:
        """Return the mask of `name` as COCO's compressed run lengths: {"size": [H, W], "counts": text}."""
        return encoded_mask(self.mask(name))

    def rles(self) -> dict[str, dict[str, Any]]:
        """Return what `rle` gives, of every name that is there, in one pass over the labels."""
        codes = encoded_labels(self.labels)
        return {name: codes[label] for label, name in enumerate(self.names) if label in codes}

    def overlay(self, image: ImageSource | None = None, *, opacity: float = 0.55, legend: bool = True) -> Image.Image:
        """Return the names' colours over the picture, with a legend beneath. `background` is left clear.

        `image` is anything `read_image` takes, for a segmentation that does not hold its picture.
        """
        picture = self.image if image is None else self._read_picture(image)
        if picture is None:
            raise SegmentationError("this segmentation does not hold its picture: give overlay(image=...)")
        hidden = [i for i, name in enumerate(self.names) if name.casefold() == BACKGROUND]
        return draw_overlay(
            picture, self.labels, self.names, self.colours, hidden=hidden, opacity=opacity, legend=legend
        )

    def save_overlay(
        self,
        path: str | Path,
        image: ImageSource | None = None,
        *,
        opacity: float = 0.55,
        legend: bool = True,
        of: marks.Source | None = None,
    ) -> None:
        """Save what `overlay` draws, as .png, .jpg or .jpeg. JPEG holds sides of 65,500 pixels at most.

        of: as for `save`.
        """
        draw = partial(self.overlay, image, opacity=opacity, legend=legend)
        save_drawn(path, draw, SegmentationError, marks.Made(marks.OVERLAY, of))

    def save(self, path: str | Path, *, of: marks.Source | None = None) -> None:
        """Labels as PNG (a palette image with the names inside; 16 bits of grey beyond 256 names), or as JSON.

        The JSON holds COCO run lengths, and none for names that no pixel bears:
        {"image": source, "size": [H, W], "names", "masks": [{"name", "area", "rle"}]}.

        of: what the file is to say of its picture, which tells results of two pictures apart.
        """
        path = Path(path)
        if path.suffix.lower() == ".png":
            if len(self.names) > PNG_MAX_NAMES:
                raise SegmentationError(
                    f"{path}: {len(self.names)} names, and a PNG tells {PNG_MAX_NAMES} apart at most: save it as .json"
                )
            with atomic_write(path) as file:
                self._write_png(file, of)
        elif path.suffix.lower() == ".json":
            with atomic_write(path) as file:
                file.write(_json_bytes(self._as_json(of)))
        else:
            raise SegmentationError(f"{path}: masks are saved as .png or .json, not {path.suffix or 'without one'!r}")

    def to_png(self) -> bytes:
        """Return what `save` writes as .png."""
        buffer = io.BytesIO()
        self._write_png(buffer)
        return buffer.getvalue()

    def instances(self, *, min_area: int = 1) -> list[Instance]:
        """Return every connected part of `min_area` pixels or more, `background` aside."""
        return find_instances(self.labels, self.names, self.scores, min_area=min_area)

    def to_numpy(self) -> np.ndarray:
        """(names, H, W) bool: one mask a name, in the order of `names`."""
        masks: np.ndarray = self.labels == np.arange(len(self.names), dtype=self.labels.dtype)[:, None, None]
        return masks

    def to_torch(self) -> "Tensor":
        """(names, H, W) bool, a tensor: as `to_numpy`."""
        import torch

        return torch.from_numpy(self.to_numpy())

    def to_supervision(self, *, min_area: int = 1) -> "Detections":
        """Roboflow supervision's detections: one an instance of `min_area` pixels or more.

        `class_id` is the index into `names`, `data["class_name"]` the name.
        """
        need("supervision")
        found = self.instances(min_area=min_area)
        return detections_of(found, self.names, self.size, scored=self.scores is not None)

    def to_fiftyone(self, *, min_area: int = 1) -> "FiftyOneDetections":
        """FiftyOne's detections with masks: one an instance of `min_area` pixels or more."""
        from wordmask.masks import fiftyone

        return fiftyone.detections_of(self.instances(min_area=min_area), self.names, self.size)

    def to_coco(self, *, min_area: int = 1) -> dict[str, Any]:
        """COCO's JSON of this picture as a dictionary: images, categories, and an annotation an instance."""
        return coco_of(self.instances(min_area=min_area), self.names, self.size, self.source)

    @classmethod
    def load(cls, path: str | Path, *, max_pixels: int = MAX_LABEL_PIXELS) -> "Segmentation":
        """Read what `save` wrote, but for the picture and the scores, which no file holds.

        `max_pixels` is checked before anything is decoded; a small file may claim any size.
        """
        path = Path(path)
        return _from_json(path, max_pixels) if path.suffix.lower() == ".json" else _from_png(path, max_pixels)

    def _index(self, name: str) -> int:
        for wanted in (name, clean_name(name)):
            if wanted in self.names:
                return self.names.index(wanted)
        raise SegmentationError(f"{name!r} was not asked for; the names are {_list(self.names)}")

    def _read_picture(self, image: ImageSource) -> np.ndarray:
        # A picture as large as the labels is none too large, whatever limit there is for pictures nobody knows.
        picture = read_image(image, max_pixels=self.labels.size if self.labels.size > DEFAULT_MAX_PIXELS else None)
        if picture.shape[:2] != self.labels.shape:
            (height, width), (rows, columns) = picture.shape[:2], self.labels.shape
            raise SegmentationError(
                f"the picture has {width} x {height} pixels, the segmentation {columns} x {rows}: "
                "give the picture that was segmented"
            )
        return picture

    def _as_png(self) -> Image.Image:
        if len(self.names) > PALETTE_SIZE:
            return Image.fromarray(self.labels.astype(np.uint16))
        picture = Image.fromarray(self.labels.astype(np.uint8), mode=None)
        picture.putpalette([channel for colour in self.colours for channel in colour])
        return picture

    def _write_png(self, file: IO[bytes], of: marks.Source | None = None) -> None:
        text = marks.png_text(marks.MASKS, of)
        text.add_itxt(NAMES_KEY, _json_bytes(self.names).decode())
        self._as_png().save(file, "PNG", pnginfo=text)

    def _as_json(self, of: marks.Source | None) -> dict[str, Any]:
        masks = [{"name": name, "area": self.pixels[name], "rle": code} for name, code in self.rles().items()]
        told = {"image": self.source} if of is None else {"image": self.source, "of": asdict(of)}
        return {**told, "size": list(self.size), "names": self.names, "masks": masks}


def _json_bytes(data: object) -> bytes:
    """UTF-8 that reads well; half a surrogate pair, as in file names that are no UTF-8, becomes JSON's own escape."""
    return json.dumps(data, ensure_ascii=False).encode(errors="backslashreplace")


def _from_png(path: Path, max_pixels: int) -> Segmentation:
    try:
        with opened(path, str(path)) as file:
            _check_size(path, file.height, file.width, max_pixels)
            if file.format != "PNG" or file.mode not in PNG_MODES:
                raise ValueError(f"{file.format} of mode {file.mode}")
            names = _checked_names(json.loads(file.text[NAMES_KEY]))  # type: ignore[attr-defined]
            return Segmentation(_narrow(np.array(file), len(names)), names)
    except SegmentationError:
        raise
    except ImageReadError as error:
        raise SegmentationError(str(error)) from error
    except Exception as error:  # a decoder on damaged data raises whatever it likes
        raise SegmentationError(_not_ours(path, "PNG", error)) from error


def _from_json(path: Path, max_pixels: int) -> Segmentation:
    from pycocotools import mask as coco_mask

    if is_special(path):
        raise SegmentationError(f"{path}: is a pipe or a device, not a file")
    try:
        data = json.loads(path.read_bytes())
        names, (height, width), source = _checked_names(data["names"]), data["size"], data.get("image")
        if not all(type(side) is int and side >= 0 for side in (height, width)):
            raise ValueError(f"its size is {data['size']}")
        if not isinstance(source, str | None):
            raise ValueError(f"its image is {source!r}")
        _check_size(path, height, width, max_pixels)
        index = {name: label for label, name in enumerate(names)}
        labels, covered = np.zeros((height, width), dtype=label_type(len(names))), 0
        for entry in data["masks"]:
            if entry["rle"]["size"] != [height, width]:
                raise ValueError(f"the mask of {entry['name']!r} has another size")
            mask = coco_mask.decode(entry["rle"])
            # The decoder leaves what run lengths that end early do not reach as it finds the memory.
            if mask.size and (mask.max() > 1 or int(mask.sum()) != entry["area"]):
                raise ValueError(f"the mask of {entry['name']!r} does not have its area")
            labels[mask.astype(bool)] = index[entry["name"]]
            covered += entry["area"]
        if covered != labels.size:
            raise ValueError(f"its masks cover {covered} of {labels.size} pixels")
        return Segmentation(labels, names, source=source)
    except SegmentationError:
        raise
    except OSError as error:
        raise SegmentationError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a file from elsewhere may hold anything anywhere
        raise SegmentationError(_not_ours(path, "JSON", error)) from error


def _not_ours(path: Path, kind: str, error: Exception) -> str:
    return f"{path}: not a {kind} written by Segmentation.save ({type(error).__name__}: {first_line(error)})"


def _check_size(path: Path, height: int, width: int, limit: int) -> None:
    if height * width > limit:
        raise SegmentationError(
            f"{path}: has {width} x {height} pixels, above the limit of {limit}; to read it, pass a larger max_pixels"
        )


def _checked_names(names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its names are not a list of texts")
    return names


def _narrow(labels: np.ndarray, count: int) -> np.ndarray:
    """Labels in the smallest type that holds `count` of them."""
    wrong = _label_outside(labels, count)
    if wrong is not None:
        raise ValueError(f"label {wrong} found, but {counted(count, 'name')}")
    return labels.astype(label_type(count), copy=False)


def _label_outside(labels: np.ndarray, count: int) -> int | None:
    """Return a label that no name has, if there is one."""
    if not labels.size:
        return None
    least = 0 if labels.dtype.kind == "u" else int(labels.min())
    most = int(labels.max())
    return least if least < 0 else most if most >= count else None


def reject_unsure(
    labels: np.ndarray, scores: np.ndarray, background: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores (H, W) in which `background` has what another name scores below `threshold`.

    Background is as sure there as the best name is unsure.
    """
    unsure = (scores < threshold) & (labels != background)
    found = np.where(unsure, np.asarray(background, labels.dtype), labels)
    return found, np.where(unsure, 1 - scores, scores).astype(np.float32, copy=False)


def label_type(count: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest unsigned type for `count` labels."""
    return np.uint8 if count <= 2**8 else np.uint16 if count <= 2**16 else np.uint32


def _list(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
