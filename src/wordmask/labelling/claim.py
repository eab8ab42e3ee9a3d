"""What a run was asked for, kept beside its labels, so that labels of another are not mixed with them."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wordmask._version import __version__
from wordmask.files import atomic_write
from wordmask.labelling.settings import LabelError
from wordmask.labelling.worker import Job
from wordmask.names.vocabulary import BACKGROUND
from wordmask.pictures.images import pixel_limit
from wordmask.text_files import read_json, shown

FREE = ("review", "max_pixels")
"""What may change from start to start: more of the pictures that were left out as too large may be read."""
ONLY_FOR = {"val": ("yolo",), "pictures": ("yolo", "voc")}
"""Settings that the files of other formats do not hang on."""
BEFORE = {"val": 0.0, "pictures": "link", "min_score": 0.0, "drop_absent": 0.0}
"""What was done before there were such settings."""
WIDE = 200
"""Characters of a setting in a message."""
NO_FILES = ("method", "preset", "device", "precision")


def claim(path: Path, job: Job, batch_size: int, *, has_labels: bool) -> None:
    """Keep the settings, or make sure that the labels that are there were made with the same ones."""
    settings = json.loads(json.dumps(_settings(job, batch_size)))
    if has_labels and path.exists():
        found = read_json(path, way_out="choose another --out, or delete that folder to have all labels made anew")
        if not isinstance(found, dict):
            raise LabelError(f"{path}: is damaged, it holds no settings; choose another --out")
        _compare(found, settings, path.parent.parent)
    with atomic_write(path) as file:
        file.write(json.dumps(settings, indent=1).encode())


def _settings(job: Job, batch_size: int) -> dict[str, Any]:
    return {
        "folder": os.fsdecode(job.folder.resolve()),
        "names": job.vocabulary.names,
        "phrases": job.vocabulary.phrases,
        "segmenter": {key: str(value) for key, value in job.load.items() if key != "device"},
        "files": {key: _fingerprint(value) for key, value in job.load.items() if _is_file(key, value)},
        **asdict(job.settings),
        "batch_size": batch_size,
        "max_pixels": pixel_limit(job.max_pixels),
        "version": __version__,
    }


def _compare(found: dict[str, Any], settings: dict[str, Any], out: Path) -> None:
    for key, value in settings.items():
        if key in FREE or settings["format"] not in ONLY_FOR.get(key, (settings["format"],)):
            continue
        if found.get(key, BEFORE.get(key)) == value:
            continue
        if key == "files":
            there = found.get(key) or {}
            changed = next(own for own in value.keys() | there.keys() if value.get(own) != there.get(own))
            raise LabelError(
                f"{out} holds labels made with another content of {changed} ({settings['segmenter'].get(changed)}): "
                "the file has been written anew since; use another --out, or delete it"
            )
        if key == "segmenter" and isinstance(there := found.get(key), dict):
            own = next(own for own in [*value, *there] if value.get(own) != there.get(own))
            raise LabelError(
                f"{out} holds labels made with {own} {shown(there.get(own), WIDE)}, not "
                f"{shown(value.get(own), WIDE)}: use the same segmenter, another --out, or delete it"
            )
        same = "use the same settings"
        if key == "names" and [*(found.get(key) or []), BACKGROUND] == value:
            same = "say --fill to go on without a background"
        raise LabelError(
            f"{out} holds labels made with {key} {shown(found.get(key, BEFORE.get(key)), WIDE)}, not "
            f"{shown(value, WIDE)}: {same}, another --out, or delete it"
        )


def _is_file(key: str, value: object) -> bool:
    return key not in NO_FILES and isinstance(value, str | Path) and Path(value).is_file()


def _fingerprint(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
