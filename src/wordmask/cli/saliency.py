"""`wordmask saliency`: foreground of pictures, without a name."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wordmask import saliency as methods
from wordmask.cli import inputs, options
from wordmask.console import show

if TYPE_CHECKING:
    from wordmask.runs.marks import Source
    from wordmask.saliency.base import SaliencyMap


def saliency(
    images: inputs.Pictures = None,
    from_list: inputs.FromList = None,
    null: inputs.Null = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder, or a .png file if there is one picture.")] = Path(
        "saliency"
    ),
    method: Annotated[str, typer.Option(help="found, selfmask, seed or spectral.")] = "found",
    refine: Annotated[
        str, typer.Option(help="none, solver (the bilateral solver), or found (its mask, cleaned up).")
    ] = "none",
    overlay: Annotated[bool, typer.Option(help="Also write the foreground drawn over the picture.")] = True,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 8,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Leave out pictures whose maps are there: go on after a stop.")
    ] = False,
    max_pixels: options.MaxPixels = None,
    as_json: options.JsonLines = False,
) -> None:
    """Find what stands out in pictures: a grey map each, white where foreground is.

    Example: `wordmask saliency photo.jpg --method found --refine solver --out maps`
    """
    from wordmask.cli.batch_job import BatchJob
    from wordmask.cli.places import Places
    from wordmask.runs.marks import SALIENCY
    from wordmask.saliency.base import SaliencyError

    load = options.segmenter(method, preset, weights, device, precision, settings)
    if "refine" in load:
        raise typer.BadParameter("--set refine=... is an option of its own: --refine")
    if out.suffix.lower() == ".json" and not out.is_dir():
        raise SaliencyError(f"--out {out}: maps are written as .png, or into a folder")
    with inputs.given_pictures(images, from_list, null=null) as given:
        places = Places(given.paths, out, "png", verb="saliency", kind=SALIENCY, overlays=overlay, roots=given.roots)
        job = BatchJob(places, skip_done=skip_done, error=SaliencyError, done="done", called=given.called)
        job.need_some()
        looking = methods.load(**load, refine=refine)
        with job.progress(f"looking in {looking.precision}"):
            stream = looking.look_many(
                job.pictures(), batch_size=batch_size, on_bad=job.leave_out, max_pixels=max_pixels
            )
            for seen in stream:
                target = places.target(Path(seen.source))
                drawn = places.overlay_of(target) if overlay else None
                if job.write(seen.source, target, partial(_save, seen, target, drawn)):
                    named = replace(seen, source=given.name_of(seen.source))
                    show(_line(named, target, drawn) if as_json else target)
        job.finish()


def _line(seen: "SaliencyMap", target: Path, overlay: Path | None) -> str:
    row = {
        "image": seen.source,
        "size": list(seen.soft.shape),
        "foreground": int(seen.mask.sum()),
        "out": str(target),
        "overlay": str(overlay) if overlay is not None else None,
    }
    return json.dumps(row)


def _save(seen: "SaliencyMap", target: Path, overlay: Path | None, of: "Source") -> None:
    """Write the overlay first and the map last, so that a picture with a map is done."""
    if overlay is not None:
        seen.save_overlay(overlay, of=of)
    seen.save(target, of=of)
