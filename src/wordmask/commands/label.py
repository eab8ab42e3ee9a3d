"""`wordmask label`: a folder of pictures becomes a data set."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from wordmask import segmenters
from wordmask.cli.batch_job import tell_of_room
from wordmask.console import LeftOut, complain, show
from wordmask.console.progress import progress_bar
from wordmask.encoders.precision import pick_precision
from wordmask.labelling import Job, LabelSettings, label_folder
from wordmask.labelling.claim import ONLY_FOR
from wordmask.methods import pick_device
from wordmask.names.vocabulary import Vocabulary
from wordmask.pictures.left_out import LEFT_OUT


def run(
    *,
    folder: Path,
    vocabulary: Vocabulary | None,
    fill: bool,
    out: Path,
    settings: dict[str, Any],
    workers: int,
    load: dict[str, Any],
    batch_size: int,
    max_pixels: int | None,
    as_json: bool,
    prune: bool = False,
) -> None:
    settings = {name: value for name, value in settings.items() if value is not None}
    for name, formats in ONLY_FOR.items():
        if name in settings and settings["format"] not in formats:
            raise typer.BadParameter(f"--{name} is for --format {' and '.join(formats)}, not {settings['format']}")
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
        vocabulary, fill = segmenter.vocabulary, True  # type: ignore[attr-defined]
    job = Job(
        folder=folder,
        out=out,
        vocabulary=vocabulary,
        settings=chosen,
        load=load,
        max_pixels=max_pixels,
        fill=fill,
        threads=max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None,
    )
    left_out = LeftOut(f"{out / LEFT_OUT} lists them")
    has_begun = False

    def on_progress(done: int, total: int | None) -> None:
        nonlocal has_begun
        if not has_begun:  # what is refused needs no notes
            tell_of_room(vocabulary)
        has_begun = True
        progress(done, total)

    with progress_bar(f"labelling in {load['precision']}", None) as progress:
        labels = label_folder(
            job,
            segmenter=segmenter if workers == 1 else None,
            workers=workers,
            batch_size=batch_size,
            on_bad=left_out,
            on_progress=on_progress,
            on_note=lambda note: complain(f"note: {note}"),
            prune=prune,
        )
    left_out.finish()
    if as_json:
        show(json.dumps({"out": str(out), "format": chosen.format, **asdict(labels)}))
        return
    told = f"{out}: {labels.pictures} pictures, {labels.instances} masks"
    missing = [f"{labels.left_out} left out"] if labels.left_out else []
    missing += [f"{sum(labels.passed_over.values())} passed over"] if labels.passed_over else []
    told += f", {' and '.join(missing)} ({LEFT_OUT})" if missing else ""
    show(f"{told}; look at {out / 'review.html'}")
