"""`wordmask segment`: masks of pictures, now."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from wordmask.cli import options
from wordmask.segmenters import DEFAULT_METHOD


def segment(
    images: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    names: options.Names = None,
    names_file: options.NamesFile = None,
    fill: options.Fill = False,
    min_score: options.MinScore = 0.0,
    drop_absent: options.DropAbsent = 0.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder (masks, or comparisons), or a .png or .json file (.jpg or .png to compare) for one picture.",
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
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Largest picture that is decoded.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a picture.")] = False,
) -> None:
    """Segment pictures by names. What none of them names is background, unless --fill says otherwise.

    Example: `wordmask segment photo.jpg --names "dog, cat" --out masks`

    Several methods on one sheet, settings of one of them behind colons:
    `wordmask segment photo.jpg --names "dog, cat" --method "maskclip, maskclip:refine=pamr, clip-diy" --compare`
    """
    shared = {
        "images": options.paths(images),
        "vocabulary": options.vocabulary(names, names_file, method="" if compare else method, fill=fill),
        "choosing": {"min_score": min_score, "drop_absent": drop_absent},
        "format": format,
        "skip_done": skip_done,
        "batch_size": batch_size,
        "max_pixels": max_pixels,
        "json_lines": json,
    }
    if compare:
        from wordmask.cli.compare import run as run_comparison

        if options.runtime(runtime, onnx):
            raise typer.BadParameter("--runtime is for one method; to compare, write METHOD:onnx=FILE behind --method")
        loads = _of_each(method, preset, weights, device, precision, settings)
        run_comparison(**shared, out=out or Path("comparisons"), loads=loads)
        return
    if "," in method:
        raise typer.BadParameter(f"--method {method!r} names several: add --compare to see them side by side")
    from wordmask.commands.segment import run

    run(
        **shared,
        out=out or Path("masks"),
        overlay=overlay,
        load=options.segmenter(method, preset, weights, device, precision, settings) | options.runtime(runtime, onnx),
    )


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
