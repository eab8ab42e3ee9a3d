"""A folder of `wordmask label` as a dataset of FiftyOne, a picture at a time."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wordmask.extras import need
from wordmask.labelling.corrected import applied_in, as_corrected
from wordmask.labelling.ledger import Ledger, Row, explained
from wordmask.labelling.settings import LabelError
from wordmask.masks.fiftyone import from_boxes
from wordmask.runs.claim import SETTINGS_OF_LABELS, STATE
from wordmask.text_files import read_json

if TYPE_CHECKING:
    from fiftyone import Dataset, Sample

FIELD = "wordmask"


def to_fiftyone(labels: str | Path, *, name: str | None = None, field: str = FIELD) -> "Dataset":
    """Return a new dataset with the pictures and masks of a folder that `wordmask label` wrote, in whatever format,
    as a person's corrections have left them.

    It lies in FiftyOne's own database until it is deleted, or for ever with `dataset.persistent = True`.

    name: the dataset's. field: where the masks stand in each of its samples; `FIELD_unsure` beside it is how unsure
    the segmenter was of the picture, from 0 to 1.
    """
    samples = samples_of(labels, field=field)
    from fiftyone import Dataset

    dataset = Dataset(name)
    dataset.add_samples(samples)
    return dataset


def samples_of(labels: str | Path, *, field: str = FIELD) -> "Iterator[Sample]":
    """Return the samples of that dataset, made as they are asked for."""
    need("fiftyone")
    state, folder = Path(labels) / STATE, _folder_of(Path(labels))
    if not (state / "ledger.sqlite").is_file():
        raise LabelError(f"{labels}: no folder of `wordmask label`")
    return _samples(state, folder, field)


def _samples(state: Path, folder: Path, field: str) -> "Iterator[Sample]":
    from fiftyone import Sample

    ledger = state / "ledger.sqlite"
    with explained(ledger), closing(Ledger(ledger, read_only=True)) as kept:
        for row in as_corrected(kept.rows(), applied_in(state)):
            path, masks = str(folder / row.picture), from_boxes(_parts(row), row.size)
            yield Sample(filepath=path, **{field: masks, f"{field}_unsure": row.unsure})


def _parts(row: Row) -> Iterator[tuple[str, tuple[int, int, int, int], np.ndarray, float | None]]:
    from pycocotools import mask as coco_mask

    for part in row.parts:
        x, y, w, h = part.box
        whole = coco_mask.decode({"size": list(row.size), "counts": part.rle.encode()})
        yield part.name, part.box, whole[y : y + h, x : x + w].astype(bool), part.score


def _folder_of(labels: Path) -> Path:
    """Return where the pictures lie."""
    file = labels / STATE / SETTINGS_OF_LABELS
    if not file.is_file():
        raise LabelError(f"{labels}: no folder of `wordmask label`")
    told: Any = read_json(file)
    folder = told.get("folder") if isinstance(told, dict) else None
    if not isinstance(folder, str):
        raise LabelError(f"{file}: does not say where the pictures lie; label them again")
    return Path(folder)
