"""Dense targets: what every pixel of a picture is to be called, how sure that is, and what teaches nothing.

A shard is three files: `NAME.arrow`, masks as `MaskTable` reads them, one for every name that a picture shows;
`NAME.sure`, a row for every picture; and, where an open student is to learn from them, `NAME.features`, the teacher's
own features. What is background has no mask: it is what no mask covers.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from wordmask.collection.references import ImageRef
from wordmask.distillation.records import DistillationError, MaskRecord, MaskTable, read_shard, write_masks
from wordmask.fingerprints import digest_of_files
from wordmask.masks.run_lengths import encoded_labels, encoded_mask, mean_scores
from wordmask.masks.segmentation import label_type
from wordmask.runs.parts import write_part

SURE, FEATURES = ".sure", ".features"
SURE_SIDE = 128
"""Cells of the longer side of what is kept of confidences: a teacher's own grid is no finer, but on small pictures."""
STEPS = 255
"""Of a confidence between 0 and 1, rounded up, so that what reaches a threshold never falls below it."""
SURE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("digest", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("first", pa.int32()),  # of its masks, a row of NAME.arrow
        ("masks", pa.int32()),
        ("confidence", pa.binary()),  # (rows, columns) bytes, compressed by zlib
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("unknown", pa.binary()),  # run lengths of what teaches nothing, however sure; none if empty
        ("features", pa.list_(pa.int64())),  # where they begin in NAME.features, and their shape (D, h, w)
    ]
)
SHARDS_KEPT = 16


@dataclass(frozen=True)
class Target:
    """labels (H, W): 0 is background, names count from 1. confidence (h, w) uint8, of a grid that spreads over the
    picture. unknown (H, W) bool: what teaches nothing. features (D, h, w) float16, of length 1 in CLIP's space. digest:
    of the picture's content.
    """

    image: ImageRef
    labels: np.ndarray
    confidence: np.ndarray
    unknown: np.ndarray | None = None
    features: np.ndarray | None = None
    digest: str | None = None

    def sure(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]"""
        if self.confidence.shape == self.labels.shape:
            return self.confidence.astype(np.float32) / STEPS
        grid = torch.from_numpy(self.confidence.astype(np.float32))[None, None] / STEPS
        found = F.interpolate(grid, self.labels.shape, mode="bilinear", align_corners=False)[0, 0]
        sure: np.ndarray = found.clamp(max=1).numpy()  # in floats, the mean of ones may be more
        return sure

    def ignored(self, least: float, share: float) -> np.ndarray:
        """Return what a student is not to learn, (H, W) bool: what is not known, what is less sure than `least`, and of
        what is left no more than `share` of the picture, the least sure of it.
        """
        ignored = np.zeros(self.labels.shape, bool) if self.unknown is None else self.unknown.copy()
        if not least and not share:
            return ignored
        sure = self.sure()
        ignored |= sure < least
        if count := int(share * sure.size):
            ignored |= sure < np.partition(sure, count, axis=None)[count]
        return ignored


def confidence_of(scores: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Return what is kept of scores (H, W) in [0, 1], the means of cells where a picture is large; all of 1 where a
    method has none.
    """
    if scores is None:
        return np.full((1, 1), STEPS, np.uint8)
    longer = max(size)
    if longer > SURE_SIDE:
        small = tuple(max(1, round(side * SURE_SIDE / longer)) for side in size)
        scores = F.interpolate(torch.from_numpy(scores)[None, None].float(), small, mode="area")[0, 0].numpy()
    return np.ceil(np.clip(scores, 0, 1) * STEPS).astype(np.uint8)


def write_targets(path: Path, targets: Sequence[Target], *, first: int, root: Path, names: Sequence[str]) -> None:
    """One shard. first: the number of its first picture. names: without background, in the order of labels."""
    records: list[MaskRecord] = []
    rows: list[dict[str, Any]] = []
    place = 0
    with write_part(path.with_suffix(FEATURES)) as file:
        for rank, target in enumerate(targets, start=first):
            own = _records(target, rank, names)
            where = None
            if target.features is not None:
                where = [place, *target.features.shape]
                place += file.write(np.ascontiguousarray(target.features, dtype="<f2").tobytes())
            rows.append(_row(target, len(records), len(own), where))
            records += own
    table = pa.Table.from_pylist(rows, schema=SURE_SCHEMA)
    with write_part(path.with_suffix(SURE)) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    write_masks(path, records, root=root, names=names)


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """Return all files of a shard."""
    return path, path.with_suffix(SURE), path.with_suffix(FEATURES)


def _records(target: Target, rank: int, names: Sequence[str]) -> list[MaskRecord]:
    """Return a mask for every name that is there, whose score is how sure its pixels are in the mean."""
    sure = mean_scores(target.labels, target.sure(), len(names) + 1)
    return [
        MaskRecord(names[label - 1], rank, target.image, _as_bytes(rle), float(sure[label]), float("nan"))
        for label, rle in sorted(encoded_labels(target.labels).items())
        if label
    ]


def _as_bytes(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(rle["size"]), "counts": rle["counts"].encode()}


def _row(target: Target, first: int, masks: int, features: list[int] | None) -> dict[str, Any]:
    height, width = target.labels.shape
    rows, columns = target.confidence.shape
    unknown = target.unknown
    return {
        **vars(target.image),
        "digest": target.digest,
        "height": height,
        "width": width,
        "first": first,
        "masks": masks,
        "confidence": zlib.compress(target.confidence.tobytes(), 6),
        "rows": rows,
        "columns": columns,
        "unknown": encoded_mask(unknown)["counts"].encode() if unknown is not None and unknown.any() else None,
        "features": features,
    }


class TargetTable:
    """All targets of a folder, picture by picture. Opening it costs two numbers a picture; a shard is read when one of
    its pictures is asked for, and the last few stay, without their features.
    """

    def __init__(self, folder: str | Path, *, shards: Sequence[Path] | None = None):
        self.folder = Path(folder)
        self._paths = sorted(self.folder.glob("*.arrow")) if shards is None else list(shards)
        self._masks = MaskTable(self.folder, shards=self._paths)  # which says what is wrong with a folder or a file
        self.names, self.root = self._masks.names, self._masks.root
        self._label_of = {name: label for label, name in enumerate(self.names, start=1)}
        counts = [len(_read(path.with_suffix(SURE), ["height"])) for path in self._paths]
        self._places = np.concatenate(
            [np.stack([np.full(count, number), np.arange(count)], axis=1) for number, count in enumerate(counts)]
        )
        self._shard = lru_cache(SHARDS_KEPT)(self._read_shard)

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> Any:
        return TargetTable, (self.folder,)

    def __getitem__(self, index: int) -> Target:
        number, place = self._places[index].tolist()
        masks, pictures = self._shard(number)
        row = pictures.slice(place, 1).to_pylist()[0]
        size = (row["height"], row["width"])
        labels = np.zeros(size, label_type(len(self.names) + 1))
        for own in masks.slice(row["first"], row["masks"]).to_pylist():
            labels[_decoded(own["counts"], size)] = self._label_of[own["name"]]
        confidence = np.frombuffer(zlib.decompress(row["confidence"]), np.uint8)
        return Target(
            image=ImageRef(row["path"], row["member"], row["offset"], row["length"]),
            labels=labels,
            confidence=confidence.reshape(row["rows"], row["columns"]),
            unknown=None if row["unknown"] is None else _decoded(row["unknown"], size),
            features=self._features(number, row["features"]),
            digest=row["digest"],
        )

    def seen_names(self) -> list[str]:
        """Return the names that some picture shows."""
        return [name for name in self.names if len(self._masks.rows(name))]

    def digests(self) -> list[str | None]:
        """Return those of all pictures' contents."""
        own: list[str | None] = []
        for path in self._paths:
            own += _read(path.with_suffix(SURE), ["digest"])["digest"].to_pylist()
        return own

    def images(self) -> list[ImageRef]:
        keys = ["path", "member", "offset", "length"]
        rows = (row for path in self._paths for row in _read(path.with_suffix(SURE), keys).to_pylist())
        return [ImageRef(*(row[key] for key in keys)) for row in rows]

    @property
    def fingerprint(self) -> str:
        """Changes whenever a label or a confidence does. Features come of the same look and are too many to be read."""
        return digest_of_files(own for path in self._paths for own in (path, path.with_suffix(SURE)))

    def open_image(self, image: ImageRef) -> np.ndarray:
        """(H, W, 3) uint8"""
        return image.open(self.root)

    def _features(self, number: int, where: list[int] | None) -> np.ndarray | None:
        if where is None:
            return None
        start, *shape = where
        path = self._paths[number].with_suffix(FEATURES)
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(2 * int(np.prod(shape)))
        if len(content) < 2 * int(np.prod(shape)):
            raise DistillationError(f"{path} is cut short: delete it and run again")
        return np.frombuffer(content, "<f2").reshape(shape)

    def _read_shard(self, number: int) -> tuple[pa.Table, pa.Table]:
        path = self._paths[number]
        return read_shard(path, ("name", "counts")), _read(path.with_suffix(SURE), SURE_SCHEMA.names)


def _decoded(counts: bytes, size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco_mask

    found: np.ndarray = coco_mask.decode({"size": list(size), "counts": counts}).astype(bool)
    return found


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            if not reader.schema.equals(SURE_SCHEMA):
                raise pa.ArrowInvalid("it has other columns")
            table = reader.read_all().select(list(columns))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DistillationError(f"{path} is no file of targets ({error}): delete it and run again") from error
    return table
