"""`wordmask segment`: masks of pictures, now."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask import segmenters
from wordmask.cli import inputs, options
from wordmask.console import complain, show
from wordmask.segmenters import DEFAULT_METHOD

if TYPE_CHECKING:
    from wordmask.masks.segmentation import Segmentation
    from wordmask.runs.marks import Source

FORMATS = ("png", "json")


def segment(
    images: inputs.Pictures = None,
    from_list: inputs.FromList = None,
    null: inputs.Null = False,
    names: options.Names = None,
    names_file: options.NamesFile = None,
    fill: options.Fill = False,
    contrast: options.Contrast = "auto",
    min_score: options.MinScore = 0.0,
    drop_absent: options.DropAbsent = 0.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder (masks, or comparisons); for one picture also a .png or .json file (.jpg or .png to "
            "compare), or - for stdout; for a film .mp4 (masks over it) or .mkv (labels).",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="png: palette labels; json: COCO run lengths; with --compare jpg or png. By default as --out."
        ),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Also write the masks drawn over the picture.")] = True,
    method: Annotated[
        str, typer.Option(help="The segmenter, by its paper; several with --compare, parted by commas.")
    ] = DEFAULT_METHOD,
    compare: Annotated[
        bool, typer.Option("--compare", help="Draw several methods side by side instead of writing masks.")
    ] = False,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runtime: options.Runtime = "torch",
    onnx: options.Onnx = Path("wordmask.onnx"),
    batch_size: options.BatchSize = 8,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Leave out pictures whose results are there: go on after a stop.")
    ] = False,
    max_pixels: options.MaxPixels = None,
    every: options.Every = None,
    as_json: options.JsonLines = False,
) -> None:
    """Segment pictures by names. What none of them names is background, unless --fill says otherwise.

    A student of `wordmask distill` brings its own names.

    Example: `wordmask segment photo.jpg --names "dog, cat" --out masks`

    From a pipe into a pipe: `cat photo.jpg | wordmask segment - --names dog --out - > masks.png`

    Of a list: `find photos -name "*.jpg" -print0 | wordmask segment --from-list - -0 --names dog`

    A film, as a film of masks (extra `films`): `wordmask segment film.mp4 --names "dog" --out film-masks.mp4`

    Several methods on one sheet, settings of one of them behind colons:
    `wordmask segment photo.jpg --names "dog, cat" --method "maskclip, maskclip:refine=pamr, clip-diy" --compare`
    """
    from wordmask.cli.batch_job import BatchJob, MasksJob, tell_of_room
    from wordmask.cli.films import only_film, segment_film
    from wordmask.cli.places import FILE_SUFFIXES, Places, format_of
    from wordmask.runs.marks import MASKS

    if out == Path(inputs.STDIN) and (as_json or compare):
        raise typer.BadParameter("--out - writes masks to stdout: leave out --json and --compare")
    with inputs.given_pictures(images, from_list, null=null) as given:
        film = None if compare else only_film(given.paths, every)
        vocabulary = options.vocabulary(names, names_file, method="" if compare else method, fill=fill)
        on_onnx = options.runtime(runtime, onnx)
        asked: dict[str, Any] = {
            "fill": True,  # what room there is to be, the vocabulary has
            "contrast": options.contrast(contrast),
            "min_score": min_score,
            "drop_absent": drop_absent,
        }
        reading: dict[str, Any] = {"batch_size": batch_size, "max_pixels": max_pixels}
        if compare:
            from wordmask.cli.compare import compare_methods, places_of_sheets

            if on_onnx:
                raise typer.BadParameter(
                    "--runtime is for one method; to compare, write METHOD:onnx=FILE behind --method"
                )
            loads = _of_each(method, preset, weights, device, precision, settings)
            places = places_of_sheets(given.paths, out or Path("comparisons"), format, roots=given.roots)
            assert vocabulary is not None  # as no method was named that could bring its own
            sheets = BatchJob(places, skip_done=skip_done, called=given.called)
            compare_methods(sheets, loads, vocabulary, asked, reading, as_json=as_json)
            return
        if "," in method:
            raise typer.BadParameter(f"--method {method!r} names several: add --compare to see them side by side")
        load = options.segmenter(method, preset, weights, device, precision, settings) | on_onnx
        if film is not None:
            masks = out or film.with_name(f"{film.stem}-masks.mp4")
            segment_film(film, masks, load, vocabulary, asked, every=every, as_json=as_json, **reading)
            return
        out = out or Path("masks")
        suffix = format_of(out, format, FORMATS, FILE_SUFFIXES)
        if is_piped := out == Path(inputs.STDIN):
            out, overlay = given.for_stdout(suffix), False
        places = Places(given.paths, out, suffix, verb="segment", kind=MASKS, overlays=overlay, roots=given.roots)
        segmenter = None
        if vocabulary is None:  # the student's own
            segmenter = segmenters.load(**load)
            vocabulary = segmenter.vocabulary  # type: ignore[attr-defined]
        job = MasksJob(places, vocabulary, skip_done=skip_done, called=given.called)
        job.need_some()
        segmenter = segmenter or segmenters.load(**load)
        tell_of_room(vocabulary)
        with job.progress(f"segmenting in {segmenter.precision}"):
            for result in segmenter.segment_many(job.pictures(), vocabulary, on_bad=job.leave_out, **asked, **reading):
                target = places.target(Path(str(result.source)))
                named = replace(result, source=given.name_of(result.source))
                save = partial(_save, named, target, places.overlay_of(target) if overlay else None)
                if job.write(str(result.source), target, save) and not is_piped:
                    show(_row(named, target) if as_json else target)
        if skip_done:
            complain(job.told_of_skipped())
        job.finish()
        if is_piped:
            inputs.to_stdout(out)


def _row(result: "Segmentation", target: Path) -> str:
    return json.dumps({"image": result.source, "names": result.names, "pixels": result.pixels, "out": str(target)})


def _of_each(
    methods: str, preset: str, weights: str | None, device: str, precision: str, settings: list[str] | None
) -> dict[str, dict[str, Any]]:
    """ "maskclip, maskclip:refine=pamr" -> for every title the arguments of `wordmask.load`.

    `settings` are those of all methods; what stands behind a method's colons is its own, and goes before them.
    """
    loads: dict[str, dict[str, Any]] = {}
    for given in re.split(r",(?![^\[]*\])", methods):  # lists in brackets stay whole
        method, _, settings_of_its_own = given.partition(":")
        method = method.strip()
        own = [part.strip() for part in re.split(r":(?=\s*[\w.]+=)", settings_of_its_own) if part.strip()]
        title = ", ".join([method, *own])
        if not method:
            raise typer.BadParameter(f"--method {methods!r} holds an empty name")
        if title in loads:
            raise typer.BadParameter(f"--method {methods!r} holds {title!r} twice")
        loads[title] = options.segmenter(method, preset, weights, device, precision, [*(settings or []), *own])
    if weights is not None and len(loads) > 1:
        raise typer.BadParameter("--weights is one method's file; methods that are compared each bring their own")
    return loads


def _save(result: "Segmentation", target: Path, overlay: Path | None, of: "Source") -> None:
    """Write the overlay first and the masks last, so that a picture with masks is done."""
    if overlay is not None:
        result.save_overlay(overlay, of=of)
    result.save(target, of=of)
