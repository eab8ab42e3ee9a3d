"""What a run was asked for, kept beside its labels, so that labels of another are not mixed with them."""

import json
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from wordmask import segmenters
from wordmask._version import __version__
from wordmask.compute import AUTO, Compute, Precision
from wordmask.fingerprints import digest_of, file_digest
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Job
from wordmask.names.contrast import Concepts
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.images import pixel_limit
from wordmask.runs.claim import SETTINGS_OF_LABELS, STATE
from wordmask.runs.records import WAY_OUT, WIDE, explained, keep_settings
from wordmask.segmenters.base import Segmenter
from wordmask.text_files import read_json, shown

FREE = ("review", "max_pixels", "only")
"""What may change from start to start: more of the pictures that were left out as too large may be read, or others of
the folder than those that were chosen."""
ONLY_FOR = {"val": ("yolo",), "pictures": ("yolo", "voc")}
"""Settings that the files of other formats do not hang on."""
BEFORE = {"files": {}, "val": 0.0, "pictures": "link", "min_score": 0.0, "drop_absent": 0.0, "contrast": "none"}
"""What was done before there were such settings."""
NO_FILES = ("method", "preset", "device", "precision")


def claim(path: Path, job: Job, batch_size: int, *, has_labels: bool) -> None:
    """Keep the settings, or make sure that the labels that are there were made with the same ones."""
    if not has_labels:
        path.unlink(missing_ok=True)
    keep_settings(
        path,
        _settings(job, batch_size),
        holds=f"{job.out} holds labels",
        error=LabelError,
        free={*FREE, *(key for key, formats in ONLY_FOR.items() if not {*job.settings.formats} & {*formats})},
        before=BEFORE,
        explain=partial(_explained, job),
    )


def settle_precision(job: Job, segmenter: Segmenter | None) -> tuple[Job, Segmenter | None, str | None]:
    """Return a job that says what it computes with, the segmenter where one is loaded, and what there is to be told.

    Where the job leaves that open, labels that are there decide, so that all are made in one way; else what the
    segmenter is fastest in.
    """
    load = job.load
    if load.get("precision", AUTO) != AUTO or "onnx" in load:
        return job, segmenter, None
    compute = Compute(load.get("device", AUTO), AUTO)
    there = _recorded(job.out / STATE / SETTINGS_OF_LABELS)
    if there is None:
        if compute.is_open and segmenter is None:
            segmenter = segmenters.load(**load)
        precision = compute.precision if segmenter is None else segmenter.precision
        told = f"labelling in {precision}, which is the fastest here" if compute.is_open else None
        return replace(job, load=load | {"precision": precision}), segmenter, told
    kept = there.get("precision")
    if kept not in get_args(Precision):
        return job, segmenter, None  # of a version that left it to every start
    job = replace(job, load=load | {"precision": kept})
    if segmenter is not None and segmenter.precision != kept:
        segmenter = segmenters.load(**job.load)
    told = None if compute.precision == kept else f"going on in {kept}, in which the labels in {job.out} were begun"
    return job, segmenter, told


def recorded_method(out: Path) -> str | None:
    """Return the method that labels which are there were made with."""
    found = _recorded(out / STATE / SETTINGS_OF_LABELS)
    return None if found is None or not isinstance(found.get("method"), str) else str(found["method"])


def _recorded(path: Path) -> dict[str, Any] | None:
    """Return what labels that are there were loaded with. What is wrong with the file, `claim` says."""
    if not path.exists():
        return None
    found = read_json(path, way_out=f"{WAY_OUT} to have all made anew")
    own = found.get("segmenter") if isinstance(found, dict) else None
    return own if isinstance(own, dict) else None


def _explained(job: Job, key: str, old: Any, new: Any) -> str:
    table, _, own = key.partition(".")
    if table == "files" and own:
        return f"made with another content of {own} ({job.load.get(own)}), which has been written anew: bring it back"
    if key == "names" and [*(old or []), BACKGROUND] == new:
        return f"made with names {shown(old, WIDE)}, with no room for others: say --fill to go on so"
    if key == "phrases" and len(old or []) == len(job.vocabulary.names):
        return f"made with names that are read in other words: say --names {shown(_typed(job, old), WIDE)} to go on so"
    if key == "dropped" and new is None:
        return f"converted, and {shown(old, WIDE)} dropped from them: label what they were converted from, and convert"
    if key == "contrast" and old == "none":
        return "made with nothing that the names raced against: say --contrast none to go on so"
    return explained(key, old, new)


def _typed(job: Job, phrases: list[list[str]]) -> str:
    """Return names that are read as these phrases, as the command line has them; those that were made are not typed."""
    told = ((name, own) for name, own in zip(job.vocabulary.names, phrases, strict=True) if own)
    return ", ".join(name if own == [name] else f"{name}: {{instead: [{', '.join(own)}]}}" for name, own in told)


def _contrast(job: Job) -> Any:
    """Return what decides on the rivals: nothing does where no background was added and none are given."""
    if isinstance(job.contrast, str):
        return job.contrast if job.vocabulary.has_made_room else "none"
    if isinstance(job.contrast, Concepts):
        return digest_of(json.dumps({name: list(words) for name, words in sorted(job.contrast.words.items())}))
    return list(job.contrast) if not isinstance(job.contrast, Path) else file_digest(job.contrast)


def _settings(job: Job, batch_size: int) -> dict[str, Any]:
    return {
        "folder": os.fsdecode(job.folder.resolve()),
        "names": job.vocabulary.names,
        "phrases": job.vocabulary.phrases,
        "contrast": _contrast(job),
        "segmenter": {key: str(value) for key, value in job.load.items() if key != "device"},
        "files": {key: file_digest(value) for key, value in job.load.items() if _is_file(key, value)},
        **asdict(job.settings),
        "batch_size": batch_size,
        "max_pixels": pixel_limit(job.max_pixels),
        "version": __version__,
        **({} if job.only is None else {"only": True}),
        **job.inherited,
    }


def _is_file(key: str, value: object) -> bool:
    return key not in NO_FILES and isinstance(value, str | Path) and Path(value).is_file()
