"""`wordmask saliency`: pictures and folders in, grey maps and overlays out."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np

from wordmask import saliency
from wordmask.cli.batch_job import Errand
from wordmask.cli.places import Places
from wordmask.console import show
from wordmask.errors import WordmaskError
from wordmask.runs.marks import SALIENCY, source_of
from wordmask.saliency.base import SaliencyError, SaliencyMap


def run(
    *,
    images: list[Path],
    out: Path,
    load: dict[str, Any],
    overlay: bool,
    skip_done: bool,
    batch_size: int,
    max_pixels: int | None,
    json_lines: bool,
) -> None:
    if out.suffix.lower() == ".json" and not out.is_dir():
        raise SaliencyError(f"--out {out}: maps are written as .png, or into a folder")
    places = Places(images, out, "png", verb="saliency", kind=SALIENCY, overlays=overlay)
    errand = Errand(places, skip_done=skip_done, error=SaliencyError, done="done")
    method = saliency.load(**load)
    with errand.progress(f"looking in {method.precision}"):
        stream = method.look_many(
            errand.pictures(), batch_size=batch_size, on_bad=errand.leave_out, max_pixels=max_pixels
        )
        for seen in stream:
            target = places.target(Path(seen.source))
            drawn = places.overlay_of(target) if overlay else None
            try:
                places.begin()
                _write(seen, target, drawn)
            except WordmaskError as error:
                errand.leave_out(error, seen.source)
                continue
            errand.done += 1
            errand.tell_progress()
            show(_line(seen, target, drawn) if json_lines else target)
    errand.finish()


def _line(seen: SaliencyMap, target: Path, overlay: Path | None) -> str:
    row = {
        "image": seen.source,
        "size": list(seen.soft.shape),
        "foreground": int(np.count_nonzero(seen.mask)),
        "out": str(target),
        "overlay": str(overlay) if overlay is not None else None,
    }
    return json.dumps(row)


def _write(seen: SaliencyMap, target: Path, overlay: Path | None) -> None:
    """The overlay first and the map last, so that a picture with a map is done."""
    of = source_of(Path(seen.source), target)
    try:
        if overlay is not None:
            seen.save_overlay(overlay, of=of)
        seen.save(target, of=of)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise SaliencyError(f"{seen.source}: its name is too long to add to ({target.name}); rename it") from error
