"""`wordmask saliency`: pictures and folders in, grey maps and overlays out."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wordmask import saliency
from wordmask.cli import complain
from wordmask.commands.places import PlaceError, Places
from wordmask.commands.progress import progress_bar
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
    missing = [image for image in images if not image.exists()]
    if len(missing) == len(images):
        raise SaliencyError(f"there is no {' and no '.join(map(str, missing))}")
    method = saliency.load(**load)
    failures: list[WordmaskError] = []

    def on_bad(error: WordmaskError) -> None:
        failures.append(error)
        complain(f"left out: {error}")

    done = skipped = 0

    def wanted() -> Iterator[Path]:
        nonlocal skipped
        for picture in places.pictures(on_bad):
            try:
                target = places.target(picture)
            except PlaceError as error:
                on_bad(error)
                continue
            if skip_done and target.exists():
                skipped += 1
            else:
                yield picture

    with progress_bar(f"looking in {method.precision}", places.count()) as progress:
        for seen in method.look_many(wanted(), batch_size=batch_size, on_bad=on_bad, max_pixels=max_pixels):
            target = places.target(Path(seen.source))
            drawn = places.overlay_of(target) if overlay else None
            try:
                places.begin()
                _write(seen, target, drawn)
            except WordmaskError as error:
                on_bad(error)
                continue
            done += 1
            progress(skipped + done + len(failures), places.count())
            print(_line(seen, target, drawn) if json_lines else target, flush=json_lines)
    if failures:
        raise SaliencyError(f"{len(failures)} of {done + len(failures)} could not be done; they are named above")
    if not done and not skipped:
        raise SaliencyError(f"no pictures found in {', '.join(map(str, images))}")


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
