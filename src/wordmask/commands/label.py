"""`wordmask label`: a folder of pictures becomes a data set."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from wordmask import segmenters
from wordmask.cli import complain
from wordmask.commands.progress import progress_bar
from wordmask.encoders.precision import pick_precision
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.registry import pick_device
from wordmask.vocabulary import Vocabulary


def run(
    *,
    folder: Path,
    vocabulary: Vocabulary | None,
    out: Path,
    settings: dict[str, Any],
    workers: int,
    load: dict[str, Any],
    batch_size: int,
    max_pixels: int | None,
    as_json: bool,
    prune: bool = False,
) -> None:
    try:
        chosen = LabelSettings(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"{option} {first['input']!r}: {first['msg'].lower()}") from error
    device = pick_device(load["device"])
    load = load | {"device": device, "precision": pick_precision(load["precision"], device)}
    segmenter = None
    if vocabulary is None:
        segmenter = segmenters.load(**load)
        vocabulary = segmenter.vocabulary  # type: ignore[attr-defined]
    job = Job(
        folder=folder,
        out=out,
        vocabulary=vocabulary,
        settings=chosen,
        load=load,
        max_pixels=max_pixels,
        threads=max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None,
    )
    with progress_bar(f"labelling in {load['precision']}", None) as progress:
        done = 0

        def on_progress(more: int) -> None:
            nonlocal done
            done += more
            progress(done, None)

        labels = label_folder(
            job,
            segmenter=segmenter if workers == 1 else None,
            workers=workers,
            batch_size=batch_size,
            on_bad=lambda error: complain(f"left out: {error}"),
            on_progress=on_progress,
            on_note=lambda note: complain(f"note: {note}"),
            prune=prune,
        )
    if as_json:
        print(json.dumps({"out": str(out), "format": chosen.format, **asdict(labels)}))
    else:
        left_out = f", {labels.left_out} left out (left-out.txt)" if labels.left_out else ""
        print(f"{out}: {labels.pictures} pictures, {labels.instances} masks{left_out}; look at {out / 'review.html'}")
